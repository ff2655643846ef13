//! What watches and alerts: Prometheis, Alertmanagers, Grafana.

use std::io;

use super::serve::{Reply, Request};
use super::{Estate, Says, down};

pub(super) async fn start(estate: &mut Estate) -> io::Result<()> {
    alertmanagers(estate).await?;
    prometheis(estate).await?;
    grafana(estate).await
}

/// Two of three are down.
async fn alertmanagers(estate: &mut Estate) -> io::Result<()> {
    let ready = |address: std::net::SocketAddr| format!("http://{address}/-/ready");
    let first = ready(estate.servers.web(|_| Reply::ok("OK")).await?);
    estate.add("alertmanager", "healthy", first, Says::Up);
    let second = ready(estate.servers.nobody()?);
    estate.add("alertmanager", "second-is-gone", second, down("connect_refused", "connect"));
    let busy = |_: &Request| Reply::new("503 Service Unavailable", &[], "");
    let third = ready(estate.servers.web(busy).await?);
    estate.add("alertmanager", "third-is-unavailable", third, Says::Down("http_status", None));
    Ok(())
}

/// One of three is silent; one sees a target down that we see up, one the reverse.
async fn prometheis(estate: &mut Estate) -> io::Result<()> {
    let healthy = estate.healthy_exporter().to_owned();
    let gone = estate.target_of("exporters", "gone").to_owned();
    let views = [
        (
            "healthy",
            "sees-down-what-we-see-up",
            targets(&healthy, "down"),
            Says::Down("json_mismatch", None),
        ),
        ("healthy-too", "sees-up-what-we-see-down", targets(&gone, "up"), Says::Up),
    ];
    for (incident, view, targets, says) in views {
        let answer = move |request: &Request| match request.path() {
            "/-/ready" => Reply::ok("Prometheus Server is Ready.\n"),
            "/api/v1/targets?state=active" => Reply::json("200 OK", &targets),
            _ => Reply::not_found(),
        };
        let address = estate.servers.web(answer).await?;
        estate.add("prometheus", incident, format!("http://{address}/-/ready"), Says::Up);
        let api = format!("http://{address}/api/v1/targets?state=active");
        estate.add("prometheus-targets", view, api, says);
    }
    let silent = estate.servers.web(|_| Reply::silence()).await?;
    let target = format!("http://{silent}/-/ready");
    estate.add("prometheus", "silent", target, down("no_response", "processing"));
    Ok(())
}

fn targets(scrape_url: &str, health: &str) -> String {
    format!(
        "{{\"status\":\"success\",\"data\":{{\"activeTargets\":[{{\"labels\":{{\"job\":\"node\"}},\
         \"scrapePool\":\"node\",\"scrapeUrl\":\"{scrape_url}\",\"lastError\":\"\",\"health\":\"{health}\"}}],\
         \"droppedTargets\":[]}}}}"
    )
}

/// Up, and its data source is dead.
async fn grafana(estate: &mut Estate) -> io::Result<()> {
    let answer = |request: &Request| match request.path() {
        "/api/health" => Reply::json("200 OK", "{\"database\":\"ok\",\"version\":\"11.3.0\"}"),
        "/api/datasources/uid/logs/health" => Reply::json(
            "200 OK",
            "{\"message\":\"Data source successfully connected.\",\"status\":\"OK\"}",
        ),
        "/api/datasources/uid/prometheus/health" => Reply::json(
            "400 Bad Request",
            "{\"message\":\"dial tcp 10.0.0.7:9090: connect: connection refused\",\"status\":\"ERROR\"}",
        ),
        _ => Reply::json("404 Not Found", "{\"message\":\"Data source not found\"}"),
    };
    let address = estate.servers.web(answer).await?;
    let source = |uid: &str| format!("http://{address}/api/datasources/uid/{uid}/health");
    estate.add("grafana", "healthy", format!("http://{address}/api/health"), Says::Up);
    estate.add("grafana-datasources", "healthy", source("logs"), Says::Up);
    let dead = Says::Down("json_mismatch", None);
    estate.add("grafana-datasources", "data-source-is-dead", source("prometheus"), dead);
    Ok(())
}
