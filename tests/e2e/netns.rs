//! A network of a test's own: hosts, cables with latency, and cuts.
//!
//! The test runs once more as the first process of a world of namespaces (users, network, mounts, processes). Everything
//! in it is nameless outside: it needs no root where user namespaces are allowed, two such worlds never meet, and whatever
//! happens to the test, the kernel takes the whole world away with its first process.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::program::{PATIENCE, installed};

/// Says, inside, which test this world was made for.
const INSIDE: &str = "WATCHPOST_TEST_WORLD";
/// No test in a world of its own may take longer.
const LIMIT: Duration = Duration::from_secs(240);
/// Ways to make a world: without rights where user namespaces are allowed, else as root.
const WAYS: [&[&str]; 2] = [&["--user", "--map-root-user"], &[]];
const NAMESPACES: [&str; 5] = ["--net", "--mount", "--pid", "--fork", "--kill-child"];
const PROGRAMS: [&str; 4] = ["unshare", "nsenter", "ip", "python3"];
const NEEDED: &str = "this test makes network namespaces, and may not. It needs one of these:\n\
    \x20 - user namespaces: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=1000, on Ubuntu also\n\
    \x20   kernel.apparmor_restrict_unprivileged_userns=0; in a container also --security-opt seccomp=unconfined\n\
    \x20 - root with CAP_SYS_ADMIN and CAP_NET_ADMIN; for a container: --cap-add SYS_ADMIN --cap-add NET_ADMIN";

/// Runs `body` in a world of its own. `test` is the test's name with its module, as `cargo test` prints it.
pub(crate) fn apart<T: Future<Output = ()>>(test: &str, body: impl FnOnce(World) -> T) {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(body(World::new()));
    }
    if PROGRAMS.iter().all(|program| installed(program).is_some()) {
        run_inside(test);
    }
}

fn run_inside(test: &str) {
    let way =
        WAYS.into_iter().find(|way| unshare(way).arg("true").output().unwrap().status.success());
    let way = way.expect(NEEDED);
    let mut command = unshare(way);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    command.env(INSIDE, test).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Its end tells the world that nobody waits for it any more.
    let _alive = child.stdin.take();
    let (ended, end) = channel();
    let pipes = [collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap())];
    thread::spawn(move || ended.send(pipes.map(|pipe| pipe.join().unwrap())));
    let said = match end.recv_timeout(LIMIT) {
        Ok(said) => said.concat(),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            child.kill().ok();
            format!("it took longer than {LIMIT:?}\n{}", end.recv().unwrap_or_default().concat())
        }
    };
    let status = child.wait().unwrap();
    assert!(status.success() && said.contains("1 passed"), "inside: {status}\n{said}");
}

fn unshare(way: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(way).args(NAMESPACES);
    command
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The namespace of the test itself is the hub: bridges are here, and it has an address on each.
pub(crate) struct World {
    relays: Vec<Child>,
    plugs: usize,
}

#[expect(clippy::unused_self, reason = "hosts and bridges can be made in a world only")]
impl World {
    fn new() -> Self {
        thread::spawn(|| {
            std::io::stdin().read_to_end(&mut Vec::new()).ok();
            std::process::exit(1);
        });
        run("mount", "-t tmpfs tmpfs /run");
        run("ip", "link set lo up");
        Self { relays: Vec::new(), plugs: 0 }
    }

    /// A network, with the hub's own address in it, such as `10.0.1.1/24`.
    pub(crate) fn bridge(&self, name: &str, address: &str) {
        run("ip", &format!("link add {name} type bridge"));
        run("ip", &format!("addr add {address} dev {name}"));
        run("ip", &format!("link set {name} up"));
    }

    pub(crate) fn host(&self, name: &str) -> Host {
        run("ip", &format!("netns add {name}"));
        let host = Host { name: name.to_owned() };
        host.run("ip", "link set lo up");
        host
    }

    /// A cable from a host to a network, on which everything takes `latency` each way.
    pub(crate) fn plug(
        &mut self,
        host: &Host,
        bridge: &str,
        address: &str,
        latency: Duration,
    ) -> Cable {
        let (n, name) = (self.plugs, &host.name);
        self.plugs += 1;
        run("ip", &format!("link add h{n} type veth peer name e{n} netns {name}"));
        host.run("ip", &format!("addr add {address} dev e{n}"));
        host.run("ip", &format!("link set e{n} up"));
        let mut end = format!("h{n}");
        if !latency.is_zero() {
            run("ip", &format!("link add r{n} type veth peer name b{n}"));
            for device in [format!("h{n}"), format!("r{n}")] {
                run("ip", &format!("link set {device} up"));
            }
            self.relays.push(relay(&format!("h{n}"), &format!("r{n}"), latency));
            end = format!("b{n}");
        }
        run("ip", &format!("link set {end} master {bridge}"));
        let cable = Cable { device: end };
        cable.join();
        cable
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for relay in &mut self.relays {
            relay.kill().ok();
            relay.wait().ok();
        }
    }
}

fn relay(left: &str, right: &str, latency: Duration) -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/relay.py");
    let mut child = Command::new(installed("python3").unwrap())
        .args([script, left, right, &latency.as_secs_f64().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// A machine with interfaces, routes and ports of its own.
pub(crate) struct Host {
    name: String,
}

impl Host {
    /// A program that will run there; its process is the program's.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    pub(crate) fn run(&self, program: &str, arguments: &str) {
        passes(self.command(program).args(arguments.split(' ')));
    }

    /// A socket there, used from here: a socket stays in the namespace in which it was made.
    pub(crate) fn listen(&self, address: &str) -> TcpListener {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let address: SocketAddr = address.parse().unwrap();
        let made = thread::spawn(move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            TcpListener::bind(address).unwrap()
        });
        let listener = made.join().unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }
}

/// Where a host is plugged in.
pub(crate) struct Cable {
    device: String,
}

impl Cable {
    pub(crate) fn cut(&self) {
        run("ip", &format!("link set {} down", self.device));
    }

    pub(crate) fn join(&self) {
        run("ip", &format!("link set {} up", self.device));
    }
}

fn run(program: &str, arguments: &str) {
    passes(Command::new(program).args(arguments.split(' ')));
}

fn passes(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_cable_has_latency_and_can_be_cut() {
    apart("netns::a_cable_has_latency_and_can_be_cut", |mut world| async move {
        world.bridge("front", "10.0.1.1/24");
        let host = world.host("far");
        let latency = Duration::from_millis(50);
        let cable = world.plug(&host, "front", "10.0.1.2/24", latency);
        let _listener = host.listen("10.0.1.2:80");
        let address = "10.0.1.2:80".parse().unwrap();
        let connect = |limit| std::net::TcpStream::connect_timeout(&address, limit);
        connect(PATIENCE).unwrap();
        // Neighbours know each other by now: there and back again.
        let began = std::time::Instant::now();
        connect(PATIENCE).unwrap();
        assert!(began.elapsed() >= 2 * latency, "{:?}", began.elapsed());
        cable.cut();
        connect(Duration::from_millis(500)).unwrap_err();
        cable.join();
        connect(PATIENCE).unwrap();
    });
}
