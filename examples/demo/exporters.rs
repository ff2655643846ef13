//! Exporters, and what else may answer on an exporter's port.

use std::io;

use watchpost::clock;

use super::serve::{Reply, Request};
use super::{Estate, Says, down};

/// How often the unlucky exporter starts anew, in seconds.
const RESTART_EVERY: u64 = 3;
/// Somebody else's metrics.
const OTHER: &str = "\
# TYPE redis_exporter_build_info gauge
redis_exporter_build_info{version=\"1.67.0\"} 1
# TYPE redis_up gauge
redis_up 1
";

pub(super) async fn start(estate: &mut Estate) -> io::Result<()> {
    let started = seconds();
    let healthy = metrics_of(estate, move || exposition(started)).await?;
    estate.add("exporters", "healthy", healthy, Says::Up);
    let gone = url(estate.servers.nobody()?);
    estate.add("exporters", "gone", gone, down("connect_refused", "connect"));
    taken_ports(estate).await?;
    // A new start time every few seconds, as a process in a crash loop has.
    let restarting =
        metrics_of(estate, || exposition(seconds() / RESTART_EVERY * RESTART_EVERY)).await?;
    estate.add("exporters", "restarting", restarting, Says::Up);
    deadlocked(estate).await
}

/// The port answers, and it is somebody else.
async fn taken_ports(estate: &mut Estate) -> io::Result<()> {
    let page = |_: &Request| Reply::html("<!doctype html><title>nginx</title><h1>It works</h1>");
    let web = estate.servers.web(page).await?;
    estate.add("exporters", "a-web-page", url(web), down("exposition_invalid", "transfer"));
    let other_at = metrics_of(estate, || OTHER.to_owned()).await?;
    estate.add(
        "exporters",
        "another-exporter",
        other_at.clone(),
        Says::Down("wrong_exporter", None),
    );
    estate.add("any-exporter", "another-exporter", other_at, Says::Down("metrics_missing", None));
    let not_found = estate.servers.web(|_| Reply::not_found()).await?;
    estate.add("exporters", "another-path", url(not_found), Says::Down("http_status", None));
    let ssh = estate.servers.banner("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").await?;
    estate.add("exporters", "an-ssh-server", url(ssh), Says::Down("protocol_error", None));
    let silent = estate.servers.banner("").await?;
    estate.add("exporters", "silent", url(silent), down("no_response", "processing"));
    Ok(())
}

/// `/health` answers, and a lock is held for ever while metrics are gathered.
async fn deadlocked(estate: &mut Estate) -> io::Result<()> {
    let answer = |request: &Request| match request.path() {
        "/health" => Reply::json("200 OK", "{\"status\":\"ok\"}"),
        _ => Reply::silence(),
    };
    let address = estate.servers.web(answer).await?;
    estate.add("health", "metrics-deadlock", format!("http://{address}/health"), Says::Up);
    estate.add("exporters", "metrics-deadlock", url(address), down("no_response", "processing"));
    Ok(())
}

/// A server with `/metrics`, whose text is made anew for each scrape.
async fn metrics_of(
    estate: &mut Estate,
    text: impl Fn() -> String + Send + Sync + 'static,
) -> io::Result<String> {
    let answer = move |request: &Request| match request.path() {
        "/metrics" => {
            Reply::new("200 OK", &[("Content-Type", "text/plain; version=0.0.4")], text())
        }
        _ => Reply::not_found(),
    };
    estate.servers.web(answer).await.map(url)
}

fn exposition(started: u64) -> String {
    format!(
        "# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.\n\
         # TYPE node_cpu_seconds_total counter\n\
         node_cpu_seconds_total{{cpu=\"0\",mode=\"idle\"}} 12345.6\n\
         # TYPE node_exporter_build_info gauge\n\
         node_exporter_build_info{{version=\"1.8.2\",revision=\"f1e0e8360aa60b6cb5e5cc1560bed348fc2c1895\"}} 1\n\
         # TYPE process_start_time_seconds gauge\n\
         process_start_time_seconds {started}\n"
    )
}

fn seconds() -> u64 {
    u64::try_from(clock::now().wall.as_second()).expect("it is after 1970")
}

fn url(address: std::net::SocketAddr) -> String {
    format!("http://{address}/metrics")
}
