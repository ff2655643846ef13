//! Programs of the system, started on ports of their own and ended when dropped.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a start may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);
/// How long an orderly end may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// Where programs are that are not in everybody's path.
const MORE_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/lib/postgresql/15/bin"];

/// The program's path; `None`, and a word about it, where it is not installed.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(MORE_FOLDERS.iter().map(PathBuf::from));
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.filter_map(Result::ok).map(|version| version.path().join("bin")));
    }
    let found = folders.iter().map(|folder| folder.join(program)).find(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{program} is not installed: run scripts/setup-tests"
        );
        eprintln!("skipped: {program} is not installed; scripts/setup-tests installs it");
    }
    found
}

/// A port of loopback, over IPv4 and IPv6, that is free now.
pub(crate) fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if TcpListener::bind(("::1", port)).is_ok() {
            return port;
        }
    }
}

/// A program that runs.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Starts it, and waits until it listens on a port of loopback.
    pub(crate) fn listening(command: &mut Command, port: u16) -> Self {
        Self::listening_at(command, (Ipv4Addr::LOCALHOST, port).into())
    }

    pub(crate) fn listening_at(command: &mut Command, address: SocketAddr) -> Self {
        Self::start(command).until_listening(command, address)
    }

    /// Starts it with what it says in a file, and waits until it listens on a port of loopback.
    pub(crate) fn listening_with_log(command: &mut Command, port: u16, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let again = file.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(file).stderr(again).spawn().unwrap();
        Self(child).until_listening(command, (Ipv4Addr::LOCALHOST, port).into())
    }

    /// Ends it at once, without a chance to say goodbye.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn until_listening(self, command: &Command, address: SocketAddr) -> Self {
        let mut running = self;
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            assert!(Instant::now() < end, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).ok();
        let end = Instant::now() + FAREWELL;
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() > end {
                self.0.kill().ok();
                self.0.wait().ok();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
