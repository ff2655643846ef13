//! Flags and paths of blackbox_exporter, taken by the built binary.

use std::path::PathBuf;

use crate::support::watchpost::{Watchpost, get, run};

fn config() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blackbox.yml");
    std::fs::write(&path, "modules: { tcp: { prober: tcp } }\n").unwrap();
    (folder, path)
}

#[tokio::test]
async fn paths_stand_below_the_prefix() {
    let (_folder, path) = config();
    for flag in ["--web.route-prefix=/foo/", "--web.external-url=http://p.example/foo"] {
        let watchpost = Watchpost::start_with(&path, &[flag]);
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let client = client.build().unwrap();
        let rows = [
            ("/foo/", 200),
            ("/foo", 301),
            ("/", 302),
            ("/foo/metrics", 200),
            ("/foo/-/healthy", 200),
            ("/foo/config", 200),
            ("/foo/probe?module=none&target=x", 400),
            ("/foo/logs", 400),
            ("/metrics", 404),
            ("/probe?module=tcp&target=x", 404),
            ("/foobar", 404),
        ];
        for (path, status) in rows {
            let response = client.get(watchpost.url(path)).send().await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{flag} {path}");
            if path == "/foo" {
                assert_eq!(response.headers()["location"], "/foo/");
            }
            if path == "/" && flag.contains("external") {
                assert_eq!(response.headers()["location"], "http://p.example/foo");
            }
        }
    }
}

#[tokio::test]
async fn an_existing_unit_file_starts_it() {
    let (_folder, path) = config();
    let arguments = [
        "--timeout-offset",
        "-1",
        "--history.limit",
        "7",
        "--log.prober=loud",
        "--log.format=logfmt",
        "--no-config.check",
        "--no-web.systemd-socket",
        "--web.config.file=",
        "--probe.histogram",
    ];
    let watchpost = Watchpost::start_with(&path, &arguments);
    assert!(watchpost.log().contains("loud"), "{}", watchpost.log());
    let url = watchpost.url("/probe?module=tcp&target=127.0.0.1:1");
    let request =
        reqwest::Client::new().get(url).header("X-Prometheus-Scrape-Timeout-Seconds", "4");
    let page = request.send().await.unwrap().text().await.unwrap();
    assert!(page.contains("probe_timeout_seconds 5\n"), "{page}");
    let (_, page) = get(&watchpost.url("/metrics")).await;
    for series in [
        "blackbox_exporter_config_last_reload_successful 1\n",
        "blackbox_exporter_config_last_reload_success_timestamp_seconds 1",
        "blackbox_exporter_build_info{",
        "blackbox_module_unknown_total 0\n",
        "watchpost_probe_request_duration_seconds_count{module=\"tcp\"} 1\n",
    ] {
        assert!(page.contains(series), "{series}\n{page}");
    }
    assert!(page.contains("goos=\"linux\""), "{page}");
}

#[test]
fn exit_codes_are_blackbox_exporter_s() {
    let (folder, path) = config();
    let file = format!("--config.file={}", path.display());
    let bad_web = folder.path().join("web.yml");
    std::fs::write(&bad_web, "basic_auth_users:\n  ali: not-a-hash\n").unwrap();
    let web = format!("--web.config.file={}", bad_web.display());
    let rows: [(&[&str], i32); 11] = [
        (&["--help"], 0),
        (&["--help-long"], 0),
        (&["--version"], 0),
        (&[&file, "--config.check"], 0),
        // The web configuration is not read then.
        (&[&file, "--config.check", &web], 0),
        (&["--config.check", "--config.file=/nonexistent.yml"], 1),
        (&["--no-such-flag"], 1),
        (&["stray"], 1),
        (&[&file, "--log.level=loud"], 1),
        (&[&file, "--web.listen-address=127.0.0.1:0", "--web.external-url='x'"], 1),
        (&[&file, "--web.systemd-socket"], 1),
    ];
    for (arguments, code) in rows {
        let (found, _, errors) = run(arguments);
        assert_eq!(found, code, "{arguments:?}: {errors}");
    }
    let (code, _, errors) = run(&[&file, "--web.listen-address=127.0.0.1:0", &web]);
    assert_eq!(code, 1);
    assert!(errors.contains("web.yml:2:") && !errors.contains("not-a-hash"), "{errors}");
}
