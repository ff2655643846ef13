//! The `exporter` prober: every way in which something else may answer on an exporter's port.

use std::io::Write as _;

use serde_json::{Value, json};
use watchpost::model::{Outcome, Phase, family};

use super::support::peer::Peer;
use super::support::run::{has, labels, mistakes, probe, reason};
use super::support::web::{Web, ok, response};

const GOOD: &str = "# TYPE process_start_time_seconds gauge\n\
    process_start_time_seconds 1.7e9\n\
    node_exporter_build_info{version=\"1.8.2\"} 1\n\
    go_build_info{version=\"x\"} 1\n\
    # TYPE up gauge\nup{job=\"a\"} 1\nup{job=\"b\"} 0\n\
    # TYPE rt histogram\nrt_bucket{le=\"+Inf\"} 2\nrt_sum 1\nrt_count 2\n";

async fn exporter(body: impl AsRef<[u8]>, headers: &[&str]) -> Web {
    Web::saying(response("200 OK", headers, body)).await
}

async fn check(web: &Web, rules: Value) -> Outcome {
    probe(json!({"prober": "exporter", "timeout": "2s", "exporter": rules}), web.url("/metrics"))
        .await
}

#[tokio::test]
async fn a_good_exposition_tells_its_facts() {
    let web = exporter(GOOD, &["Content-Type: text/plain; version=0.0.4"]).await;
    let outcome = check(
        &web,
        json!({
            "require_metrics": [
                "process_start_time_seconds", "rt",
                {"name": "up", "labels": {"job": "a"}, "min": 1},
            ],
            "expect_exporter": "node-exporter",
        }),
    )
    .await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    for (family, value) in [
        (&family::PROBE_EXPORTER_VALID, 1.0),
        (&family::PROBE_EXPORTER_SAMPLES, 8.0),
        (&family::PROBE_EXPORTER_START_TIME, 1.7e9),
        (&family::PROBE_HTTP_STATUS_CODE, 200.0),
    ] {
        assert_eq!(outcome.fact(family), Some(value), "{}", family.name);
    }
    assert_eq!(labels(&outcome, &family::PROBE_EXPORTER_INFO, "version"), ["1.8.2"]);
    assert!(web.last().contains("accept: application/openmetrics-text"), "{}", web.last());
    assert!(web.last().contains("accept-encoding: gzip"), "{}", web.last());
}

#[tokio::test]
async fn compressed_expositions_are_read() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(GOOD.as_bytes()).unwrap();
    let web = exporter(encoder.finish().unwrap(), &["Content-Encoding: gzip"]).await;
    let outcome = check(&web, json!({})).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!(outcome.fact(&family::PROBE_EXPORTER_SAMPLES), Some(8.0));
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_named() {
    let web = exporter(GOOD, &[]).await;
    for (rules, wanted, word) in [
        (json!({"require_metrics": ["up", "down"]}), "metrics_missing", "down"),
        (
            json!({"require_metrics": [{"name": "up", "labels": {"job": "c"}}]}),
            "metrics_missing",
            "up{job=\"c\"}",
        ),
        (json!({"require_metrics": [{"name": "up", "min": 1}]}), "metric_out_of_bounds", "up"),
        (json!({"min_samples": 9}), "metric_out_of_bounds", "9 and above"),
        (json!({"max_samples": 3}), "metric_out_of_bounds", "3 and below"),
        (json!({"expect_exporter": "mysqld_exporter"}), "wrong_exporter", "node_exporter"),
    ] {
        let outcome = check(&web, rules.clone()).await;
        assert_eq!(reason(&outcome), wanted, "{rules}");
        assert!(outcome.answer.to_string().contains(word), "{rules}: {}", outcome.answer);
    }
}

#[tokio::test]
async fn a_taken_port_is_named_by_what_answers() {
    let page = "<!DOCTYPE html><html>";
    for (answer, wanted) in [
        (response("200 OK", &["Content-Type: text/html"], page), "exposition_invalid"),
        (ok(page), "exposition_invalid"),
        (response("200 OK", &["Content-Type: application/json"], "{}"), "exposition_invalid"),
        (ok("up 1\nnot a metric at all\n"), "exposition_invalid"),
        (ok(""), "metric_out_of_bounds"),
        (response("404 Not Found", &[], page), "http_status"),
        (response("401 X", &[], page), "auth_refused"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "protocol_error"),
    ] {
        let web = Web::saying(answer).await;
        let outcome = check(&web, json!({})).await;
        assert_eq!(reason(&outcome), wanted, "{}", outcome.answer);
        if wanted == "http_status" {
            assert!(!has(&outcome, &family::PROBE_EXPORTER_VALID));
        }
    }
    let web = exporter(page, &["Content-Type: text/html"]).await;
    assert!(check(&web, json!({})).await.answer.to_string().contains("web page"));
}

#[tokio::test]
async fn a_deadlock_in_gather_is_no_response() {
    let peer = Peer::new(|mut stream| async move {
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
    })
    .await;
    let spec = json!({"prober": "exporter", "timeout": "300ms"});
    let outcome = probe(spec, format!("http://{}/metrics", peer.address)).await;
    assert_eq!(reason(&outcome), "no_response");
    assert_eq!(outcome.phase, Some(Phase::Processing));
}

#[tokio::test]
async fn the_beginning_of_an_exposition_is_not_called_valid_nor_counted() {
    let cut =
        &b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 900\r\n\r\nup 1\n"[..];
    let web = Web::saying(cut).await;
    let outcome = check(&web, json!({})).await;
    assert_eq!(reason(&outcome), "body_truncated");
    assert_eq!(outcome.fact(&family::PROBE_EXPORTER_VALID), Some(0.0));
    assert_eq!(outcome.fact(&family::PROBE_EXPORTER_SAMPLES), None);
}

#[tokio::test]
async fn openmetrics_needs_its_end() {
    let kind = "Content-Type: application/openmetrics-text; version=1.0.0";
    let web = exporter("up 1\n", &[kind]).await;
    assert_eq!(reason(&check(&web, json!({})).await), "exposition_invalid");
    assert_eq!(reason(&check(&web, json!({"format": "text"})).await), "pass");
    let web = exporter("up 1\n# EOF\n", &[kind]).await;
    assert_eq!(reason(&check(&web, json!({})).await), "pass");
}

#[test]
fn mistakes_are_found_at_load() {
    for (rules, key) in [
        (json!({"min_samples": 5, "max_samples": 4}), "exporter.min_samples"),
        (
            json!({"require_metrics": [{"name": "a", "min": 2, "max": 1}]}),
            "exporter.require_metrics",
        ),
    ] {
        let found = mistakes(json!({"prober": "exporter", "exporter": rules}));
        assert!(found.iter().any(|m| m.key == key), "{found:?}");
    }
    let found = mistakes(json!({"prober": "exporter", "http": {"body": "a", "body_file": "b"}}));
    assert!(found.iter().any(|m| m.key == "http.body_file"), "{found:?}");
}
