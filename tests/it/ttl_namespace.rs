//! The prober `icmp` across a router, in network namespaces of its own: a hop limit that is used up on the way, and
//! replies that stop in the middle of a run. Needs root.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::watchpost::PATIENCE;

const MODULES: &str = "\
modules:
  plain: { prober: icmp, timeout: 10s, icmp: { preferred_ip_protocol: ip4 } }
  short: { prober: icmp, timeout: 10s, icmp: { preferred_ip_protocol: ip4, ttl: 1 } }
  lossy: { prober: icmp, timeout: 8s, icmp: { preferred_ip_protocol: ip4, count: 12, interval: 250ms } }
  strict: { prober: icmp, timeout: 8s, icmp: { preferred_ip_protocol: ip4, count: 12, interval: 250ms, max_loss: 0.01 } }
";
const FAR: &str = "10.203.2.2";

/// Two hosts with a router between them.
struct Network {
    names: [String; 3],
    _folder: tempfile::TempDir,
    config: PathBuf,
}

impl Network {
    fn new(tag: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: no network namespaces, nothing is tried");
            return None;
        }
        let names = ["a", "r", "b"].map(|role| format!("wp{}{tag}{role}", std::process::id()));
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("watchpost.yml");
        std::fs::write(&config, MODULES).unwrap();
        let network = Self { names, _folder: folder, config };
        let [a, r, b] = &network.names;
        for name in &network.names {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        ip(&["-n", a, "link", "add", "near", "type", "veth", "peer", "name", "left", "netns", r]);
        ip(&["-n", b, "link", "add", "far", "type", "veth", "peer", "name", "right", "netns", r]);
        for (name, link, address) in [
            (a, "near", "10.203.1.2/24"),
            (r, "left", "10.203.1.1/24"),
            (r, "right", "10.203.2.1/24"),
            (b, "far", "10.203.2.2/24"),
        ] {
            ip(&["-n", name, "address", "add", address, "dev", link]);
            ip(&["-n", name, "link", "set", link, "up"]);
        }
        ip(&["-n", a, "route", "add", "default", "via", "10.203.1.1"]);
        ip(&["-n", b, "route", "add", "default", "via", "10.203.2.1"]);
        shell(r, "echo 1 > /proc/sys/net/ipv4/ip_forward");
        Some(network)
    }

    fn start(&self, module: &str, target: &str) -> Child {
        Command::new("ip")
            .args(["netns", "exec", &self.names[0], env!("CARGO_BIN_EXE_watchpost"), "probe"])
            .args(["--output", "json", "--module", module, "--config.file"])
            .arg(Path::new(&self.config))
            .arg(target)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn probe(&self, module: &str, target: &str) -> Value {
        finish(self.start(module, target))
    }

    /// Echo requests that the far host has got.
    fn echoes(&self) -> u64 {
        let table = shell(&self.names[2], "grep ^Icmp: /proc/net/snmp");
        let mut lines = table.lines();
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|name| name == "InEchos").unwrap();
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }

    /// Runs a module whose replies stop once some of its requests have been answered.
    fn probe_cut_off(&self, module: &str) -> Value {
        let far = &self.names[2];
        shell(far, "echo 0 > /proc/sys/net/ipv4/icmp_echo_ignore_all");
        let before = self.echoes();
        let child = self.start(module, FAR);
        let end = Instant::now() + PATIENCE;
        while self.echoes() < before + 3 {
            assert!(Instant::now() < end, "nothing arrives");
            std::thread::sleep(Duration::from_millis(10));
        }
        shell(far, "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all");
        finish(child)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status().ok();
        }
    }
}

fn finish(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn shell(name: &str, script: &str) -> String {
    let output = Command::new("ip")
        .args(["netns", "exec", name, "sh", "-c", script])
        .output()
        .expect("the package iproute2 is needed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} in {name}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is needed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {errors}", arguments.join(" "));
}

fn fact(outcome: &Value, name: &str) -> f64 {
    let facts = outcome["facts"].as_array().unwrap();
    let fact = facts.iter().find(|fact| fact["name"] == name);
    fact.unwrap_or_else(|| panic!("no {name} in {outcome:#}"))["value"].as_f64().unwrap()
}

#[test]
fn a_hop_limit_that_is_used_up_is_told_with_the_router_that_said_so() {
    let Some(network) = Network::new("t") else { return };
    let outcome = network.probe("plain", FAR);
    assert_eq!(outcome["result"], "pass", "{outcome:#}");
    assert_eq!(fact(&outcome, "probe_icmp_reply_hop_limit"), 63.0);
    let outcome = network.probe("short", FAR);
    assert_eq!(outcome["reason"], "ttl_exceeded", "{outcome:#}");
    assert_eq!(outcome["detail"], "hop limit used up at 10.203.1.1");
    assert!(outcome["duration_seconds"].as_f64().unwrap() < 5.0, "{outcome:#}");
    // The router itself is one hop away.
    assert_eq!(network.probe("short", "10.203.1.1")["result"], "pass");
    // Nobody has this address on the far side.
    let outcome = network.probe("plain", "10.203.2.77");
    assert_eq!(outcome["reason"], "connect_unreachable", "{outcome:#}");
}

#[test]
fn replies_that_stop_are_a_loss() {
    let Some(network) = Network::new("l") else { return };
    let outcome = network.probe_cut_off("lossy");
    assert_eq!(outcome["result"], "pass", "{outcome:#}");
    let loss = fact(&outcome, "probe_icmp_loss_ratio");
    assert!(loss > 0.0 && loss < 1.0, "{outcome:#}");
    assert_eq!(fact(&outcome, "probe_icmp_packets_sent"), 12.0);
    let received = fact(&outcome, "probe_icmp_packets_received");
    assert!((loss - (12.0 - received) / 12.0).abs() < 1e-9, "{outcome:#}");
    assert!(fact(&outcome, "probe_icmp_jitter_seconds") >= 0.0);
    let outcome = network.probe_cut_off("strict");
    assert_eq!(outcome["reason"], "no_reply", "{outcome:#}");
}
