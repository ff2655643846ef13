//! The built binary beyond blackbox_exporter: overrides of a module by request, by target and by discovery; sockets of
//! every kind that it is started with.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::peer::Peer;
use crate::support::watchpost::{PATIENCE, Watchpost, get, run, sample};
use crate::support::web::{Web, ok, response};

const MODULES: &str = "\
modules:
  open:
    prober: http
    timeout: 20s
    allow_overrides: [method, timeout, valid_status_codes, fail_if_body_not_matches_regexp, headers.X-Scope, follow_redirects]
    http: { preferred_ip_protocol: ip4, headers: { X-Scope: one, X-Api-Key: hunter2 } }
  closed: { prober: http, http: { preferred_ip_protocol: ip4 } }
";

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watchpost.yml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

async fn web() -> Web {
    Web::new(|request| {
        if request.starts_with("GET /gone") {
            response("410 Gone", &[], "gone")
        } else {
            ok("fine")
        }
    })
    .await
}

#[tokio::test]
async fn a_request_sets_what_the_module_allows_and_nothing_else() {
    let web = web().await;
    let (_folder, path) = written(MODULES);
    let watchpost = Watchpost::start(&path);
    let ask = |module: &str, path: &str, rest: &str| {
        let target = web.url(path);
        let url = watchpost.url(&format!("/probe?module={module}&target={target}{rest}"));
        async move { get(&url).await }
    };
    let success = |page: &str| sample(page, "probe_success", &[]);

    let (_, page) = ask("open", "/gone", "").await;
    assert_eq!(success(&page), Some(0.0));
    for codes in ["410", "4xx", "%5B200,%22410%22%5D", "400-499"] {
        let rest = format!("&override_valid_status_codes={codes}");
        let (status, page) = ask("open", "/gone", &rest).await;
        assert_eq!((status, success(&page)), (200, Some(1.0)), "{codes}: {page}");
    }
    let rest = "&override_method=POST&override_header_X_Scope=two%20three&foreign=1";
    let (_, page) = ask("open", "/", rest).await;
    assert_eq!(success(&page), Some(1.0));
    let request = web.last().to_ascii_lowercase();
    assert!(request.starts_with("post / "), "{request}");
    assert!(request.contains("x-scope: two three\r\n"), "{request}");
    assert!(request.contains("x-api-key: hunter2\r\n"), "{request}");
    let (_, page) = ask("open", "/", "&override_fail_if_body_not_matches_regexp=^fine$").await;
    assert_eq!(success(&page), Some(1.0));
    let (_, page) = ask("open", "/", "&override_fail_if_body_not_matches_regexp=bad").await;
    assert!(page.contains("reason=\"body_mismatch\""), "{page}");
    let (_, page) = ask("open", "/", "&override_timeout=250ms").await;
    assert_eq!(sample(&page, "probe_timeout_seconds", &[]), Some(0.25));
    // What the next one asks is not touched by it.
    ask("open", "/", "").await;
    assert!(web.last().starts_with("GET / "), "{}", web.last());

    let before = web.requests().len();
    for (module, rest, says) in [
        ("closed", "&override_method=POST", "module \"closed\" allows no overrides"),
        ("open", "&override_body=x", "does not allow \"body\" to be overridden, only method"),
        ("open", "&override_header_X_Api_Key=x", "does not allow \"headers.x-api-key\""),
        ("open", "&override_basic_auth=x", "does not allow \"basic_auth\""),
        ("open", "&override_proxy_url=http://127.0.0.1", "does not allow \"proxy_url\""),
        ("open", "&override_=x", "does not allow \"\""),
        ("open", "&override_method=GET&override_method=PUT", "\"method\" is overridden twice"),
        ("open", "&override_timeout=soon", "timeout: \"soon\" is not a duration"),
        ("open", "&override_method=A%20B", "method: \"A B\" is no HTTP method"),
        ("open", "&override_fail_if_body_not_matches_regexp=(", "fail_if_body_not_matches_regexp"),
        ("open", "&override_header_X_Scope=a%0Ab", "headers.x-scope: "),
        ("open", &format!("&override_method={}", "x".repeat(5000)), "longer than 4096 bytes"),
    ] {
        let (status, text) = ask(module, "/", rest).await;
        assert_eq!(status, 400, "{rest}: {text}");
        assert!(text.contains(says) && !text.contains("hunter2"), "{rest}: {text}");
    }
    assert_eq!(web.requests().len(), before, "a refused request asks nobody");
    let (_, page) = ask("open", "/", "&override_method=HEAD&debug=true").await;
    assert!(page.contains("# by the parameter override_method: \"HEAD\""), "{page}");
    assert!(!page.contains("hunter2"), "{page}");
    // Ever other values are made anew and do not pile up.
    for turn in 0..300 {
        let rest = format!("&override_header_X_Scope=v{turn}");
        assert_eq!(success(&ask("open", "/", &rest).await.1), Some(1.0));
    }
}

#[tokio::test]
async fn an_override_leads_nobody_out_of_the_list_of_what_may_be_asked() {
    let inside = Web::saying(ok("in")).await;
    let outside = Peer::at("127.0.0.2:0", |_| async {}).await;
    let location = format!("Location: http://{}/", outside.address);
    let bouncing = Web::saying(response("302 Found", &[&location], "")).await;
    let (_folder, path) = written(&format!(
        "watchpost: {{ probe_allow: [127.0.0.1] }}\n{}",
        MODULES
            .replace("http: { preferred_ip_protocol: ip4, h", "http: { follow_redirects: false, h")
    ));
    let watchpost = Watchpost::start(&path);
    let url = |target: &str, rest: &str| {
        watchpost.url(&format!("/probe?module=open&target={target}&{rest}"))
    };
    assert_eq!(get(&url(&inside.url("/"), "override_method=GET")).await.0, 200);
    let direct = format!("http://{}/", outside.address);
    assert_eq!(get(&url(&direct, "override_method=GET")).await.0, 403);
    let (_, page) = get(&url(&bouncing.url("/"), "override_follow_redirects=true")).await;
    assert!(page.contains("reason=\"not_allowed\""), "{page}");
    assert_eq!(outside.accepted(), 0);
}

#[tokio::test]
async fn targets_and_discovery_set_what_the_module_allows() {
    let web = web().await;
    let (gone, fine) = (web.url("/gone"), web.url("/"));
    let (folder, path) = written(&format!(
        "{MODULES}
probes:
  - name: p
    module: open
    interval: 200ms
    targets:
      - {{ target: '{gone}', overrides: {{ valid_status_codes: [410], method: GET }} }}
      - {{ target: '{gone}', overrides: {{ timeout: 100ms }} }}
    file_sd_configs: [{{ files: [found.yml] }}]
"
    ));
    let found = format!(
        "- targets: ['{fine}']\n  labels: {{ kind: good, __override_method: PUT }}\n\
         - targets: ['{fine}']\n  labels: {{ kind: bad, __override_body: x }}\n"
    );
    std::fs::write(folder.path().join("found.yml"), found).unwrap();
    let watchpost = Watchpost::start(&path);
    let instance = format!("instance=\"{gone}\"");
    let is = |wanted: f64| move |value: f64| value == wanted;
    watchpost.until("probe_success", &["kind=\"good\""], is(1.0)).await;
    let bad = ["kind=\"bad\"", "reason=\"setup\""];
    watchpost.until("probe_failure_info", &bad, is(1.0)).await;
    // Two checks of one address, told apart by what is set otherwise.
    let end = Instant::now() + PATIENCE;
    let page = loop {
        let page = get(&watchpost.url("/metrics")).await.1;
        let lines = page
            .lines()
            .filter(|line| line.starts_with("probe_success{") && line.contains(instance.as_str()));
        let mut values: Vec<&str> = lines.filter_map(|line| line.rsplit(' ').next()).collect();
        values.sort_unstable();
        if values == ["0", "1"] {
            break page;
        }
        assert!(Instant::now() < end, "{page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(
        page.lines()
            .any(|line| { line.starts_with("probe_timeout_seconds{") && line.ends_with(" 0.1") })
    );
    assert!(web.requests().iter().any(|request| request.starts_with("PUT / ")));
}

#[tokio::test]
async fn it_listens_wherever_it_is_told_to() {
    let (_folder, path) = written(MODULES);
    let flags = ["--web.listen-address=[::1]:0", "--web.listen-address", "localhost:0"];
    let watchpost = Watchpost::start_with(&path, &flags);
    let end = Instant::now() + PATIENCE;
    let log = loop {
        let log = watchpost.log();
        if log.contains("is ready") || Instant::now() > end {
            break log;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let ready = log.lines().find(|line| line.contains("is ready")).unwrap();
    let listen = ready.split("listen=").nth(1).unwrap().trim_start_matches('"');
    let addresses: Vec<&str> = listen.split('"').next().unwrap().split(' ').collect();
    assert_eq!(addresses.len(), 3, "{ready}");
    for address in addresses {
        let (status, text) = get(&format!("http://{address}/-/healthy")).await;
        assert_eq!((status, text.as_str()), (200, "Healthy"), "{address}");
    }
    let file = format!("--config.file={}", path.display());
    for (address, says) in [
        ("vsock://:9115", "vsock is not available"),
        ("127.0.0.1", "cannot listen on 127.0.0.1"),
        (":http-alt-no", "cannot listen on"),
    ] {
        let flag = format!("--web.listen-address={address}");
        let (code, _, errors) = run(&[&file, &flag]);
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains(says), "{address}: {errors}");
    }
}

#[test]
fn every_flag_of_blackbox_exporter_is_taken_in_every_form() {
    let (_folder, path) = written(MODULES);
    let file = format!("--config.file={}", path.display());
    let valued = [
        ("--config.auto-reload-interval", "5"),
        ("--timeout-offset", "0.25"),
        ("--timeout-offset", "-1"),
        ("--history.limit", "0"),
        ("--log.level", "debug"),
        ("--log.format", "json"),
        ("--log.prober", "error"),
        ("--web.listen-address", ":0"),
        ("--web.config.file", ""),
        ("--web.external-url", "http://a.example/x"),
        ("--web.route-prefix", "/x"),
    ];
    for (flag, value) in valued {
        let joined = format!("{flag}={value}");
        for form in [&[flag, value][..], &[&joined]] {
            let arguments: Vec<&str> =
                [&file, "--config.check"].into_iter().chain(form.iter().copied()).collect();
            let (code, _, errors) = run(&arguments);
            assert_eq!(code, 0, "{form:?}: {errors}");
        }
    }
    for flag in ["config.enable-auto-reload", "web.systemd-socket", "config.check"] {
        let (on, off) = (format!("--{flag}"), format!("--no-{flag}"));
        let check = if flag == "config.check" { "--log.level=info" } else { "--config.check" };
        let (code, _, errors) = run(&[&file, &off, &on, check]);
        assert_eq!(code, 0, "{on}: {errors}");
        if flag != "config.check" {
            let (code, _, errors) = run(&[&file, &on, &off, check]);
            assert_eq!(code, 0, "{off}: {errors}");
        }
        let (code, ..) = run(&[&file, &format!("{on}=true"), check]);
        assert_eq!(code, 1, "{on}=true");
    }
}

#[test]
fn flags_come_from_a_file_too() {
    let (folder, path) = written(MODULES);
    let flags = folder.path().join("flags");
    let text = format!("# our flags\n--config.file={}\n--config.check\n", path.display());
    std::fs::write(&flags, text).unwrap();
    let at = format!("@{}", flags.display());
    for arguments in [&[at.as_str()][..], &["run", &at, "--log.level", "debug"]] {
        let (code, _, errors) = run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {errors}");
    }
    let (code, _, errors) = run(&["@/nowhere/flags"]);
    assert_eq!(code, 1);
    assert!(errors.starts_with("error: @/nowhere/flags: No such file"), "{errors}");
    // It is read, and not passed over.
    std::fs::write(&flags, "--config.file=/nowhere/blackbox.yml\n--config.check\n").unwrap();
    let (code, _, errors) = run(&[&at]);
    assert_eq!(code, 1);
    assert!(errors.contains("/nowhere/blackbox.yml"), "{errors}");
}

/// The sockets stand at its standard input and output, from where a shell puts them where systemd would.
fn activated(config: &Path, sockets: [TcpListener; 2]) -> std::process::Child {
    let [first, second] = sockets.map(|socket| Stdio::from(OwnedFd::from(socket)));
    let script = "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\" 3<&0 4<&1 </dev/null >/dev/null";
    Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_watchpost")])
        .arg(format!("--config.file={}", config.display()))
        .args(["--web.systemd-socket", "--web.external-url=http://a.example/"])
        .stdin(first)
        .stdout(second)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn sockets_that_systemd_bound_are_taken() {
    let (_folder, path) = written(MODULES);
    let sockets =
        [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::1]:0").unwrap()];
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let mut child = activated(&path, sockets);
    let end = Instant::now() + PATIENCE;
    for address in addresses {
        loop {
            let answer = reqwest::Client::new()
                .get(format!("http://{address}/-/ready"))
                .timeout(Duration::from_secs(5))
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                break;
            }
            assert!(Instant::now() < end, "{address} does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
