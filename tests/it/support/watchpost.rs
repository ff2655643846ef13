//! The built binary, started on a port of its own and ended when dropped.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything here may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running watchpost.
pub(crate) struct Watchpost {
    child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
}

impl Watchpost {
    /// Starts it with a configuration and waits until it is ready.
    pub(crate) fn start(config: &Path) -> Self {
        Self::start_with(config, &[])
    }

    pub(crate) fn start_with(config: &Path, arguments: &[&str]) -> Self {
        Self::start_in(config, arguments, &[])
    }

    /// [`Watchpost::start_with`], with variables in its environment.
    pub(crate) fn start_in(config: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchpost"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .args(arguments)
            .envs(variables.iter().copied());
        Self::spawn(&mut command)
    }

    /// Starts this command, which becomes a watchpost, and waits until it is ready.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (ready, listening) = std::sync::mpsc::channel();
        let (kept, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(address) = listening_on(&line) {
                    ready.send(address.to_owned()).ok();
                }
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let Ok(address) = listening.recv_timeout(PATIENCE) else {
            child.kill().ok();
            panic!("it is not ready:\n{}", log.lock().unwrap());
        };
        Self { child, address, log }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The value of a series on `/metrics`: the line that begins with `name` and has every one of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let page = get(&self.url("/metrics")).await.1;
        sample(&page, name, labels)
    }

    /// Asks until a metric has a value that pleases.
    pub(crate) async fn until(
        &self,
        name: &str,
        labels: &[&str],
        pleases: impl Fn(f64) -> bool,
    ) -> f64 {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(name, labels).await;
            if let Some(value) = value.filter(|value| pleases(*value)) {
                return value;
            }
            assert!(
                Instant::now() < end,
                "{name}{labels:?} is {value:?}\n{}\n{}",
                get(&self.url("/metrics")).await.1,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The first address of the line that says that it is ready, as logfmt or JSON.
fn listening_on(line: &str) -> Option<&str> {
    let rest = line.contains("is ready").then(|| line.split("listen").nth(1)).flatten()?;
    rest.trim_start_matches(['=', '"', ':']).split([' ', '"']).next()
}

impl Drop for Watchpost {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The value of the first line of an exposition with this name and all of these labels.
pub(crate) fn sample(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = page.lines().find(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|l| line.contains(l))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Status and body of a GET.
pub(crate) async fn get(url: &str) -> (u16, String) {
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Runs the binary to its end: exit code, standard output, standard error.
pub(crate) fn run(arguments: &[&str]) -> (i32, String, String) {
    run_in(Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
}

pub(crate) fn run_in(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_watchpost"))
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    let status = child.wait().unwrap();
    (status.code().unwrap_or(-1), reader.join().unwrap(), errors)
}
