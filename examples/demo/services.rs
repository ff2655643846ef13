//! Services: health endpoints, APIs, front ends.

use std::io;
use std::time::Duration;

use super::serve::{Reply, Request};
use super::{Estate, Says, down};

/// Longer than the module allows, shorter than its timeout.
const TOO_SLOW: Duration = Duration::from_millis(600);
/// Bytes that are promised and do not come.
const PROMISED: usize = 100_000;

pub(super) async fn start(estate: &mut Estate) -> io::Result<()> {
    health(estate).await?;
    accounts(estate).await?;
    reports(estate).await?;
    frontends(estate).await?;
    checkout(estate).await
}

async fn health(estate: &mut Estate) -> io::Result<()> {
    let ok = estate.servers.web(|_| Reply::json("200 OK", "{\"status\":\"ok\"}")).await?;
    estate.add("health", "healthy", format!("http://{ok}/health"), Says::Up);
    let full = |_: &Request| Reply::json("503 Service Unavailable", "{\"status\":\"draining\"}");
    let unavailable = estate.servers.web(full).await?;
    let target = format!("http://{unavailable}/health");
    estate.add("health", "unavailable", target, Says::Down("http_status", None));
    let lame = |_: &Request| Reply::json("200 OK", "{\"status\":\"degraded\",\"db\":\"timeout\"}");
    let degraded = estate.servers.web(lame).await?;
    let target = format!("http://{degraded}/health");
    estate.add("health", "says-degraded", target, Says::Down("json_mismatch", None));
    Ok(())
}

/// Healthy, and the API that it is there for is gone.
async fn accounts(estate: &mut Estate) -> io::Result<()> {
    let answer = |request: &Request| match request.path() {
        "/health/" => Reply::json("200 OK", "{\"status\":\"ok\"}"),
        _ => Reply::not_found(),
    };
    let address = estate.servers.web(answer).await?;
    estate.add("health", "without-its-api", format!("http://{address}/health/"), Says::Up);
    let target = format!("http://{address}/api/config");
    estate.add("config-api", "without-its-api", target, Says::Down("http_status", None));
    Ok(())
}

/// The token was rotated, and one replica does not know yet.
async fn reports(estate: &mut Estate) -> io::Result<()> {
    let answer = |old_is_good: bool| {
        move |request: &Request| {
            let known = request.has("authorization: Bearer the-token-of-last-year");
            if known && old_is_good {
                return Reply::json("200 OK", "{}");
            }
            let header = [("WWW-Authenticate", "Bearer error=\"invalid_token\"")];
            Reply::new("401 Unauthorized", &header, "")
        }
    };
    let old = estate.servers.web(answer(true)).await?;
    estate.add("reports-api", "healthy", format!("http://{old}/reports"), Says::Up);
    let rotated = estate.servers.web(answer(false)).await?;
    let target = format!("http://{rotated}/reports");
    estate.add("reports-api", "credentials-rotated", target, Says::Down("auth_refused", None));
    Ok(())
}

async fn frontends(estate: &mut Estate) -> io::Result<()> {
    let shop = |_: &Request| Reply::html("<title>Shop</title><h1>Welcome</h1>");
    let healthy = estate.servers.web(shop).await?;
    estate.add("frontends", "healthy", format!("http://{healthy}/"), Says::Up);
    let soft = |_: &Request| Reply::html("<title>Page not found</title><h1>Oops</h1>");
    let soft_404 = estate.servers.web(soft).await?;
    let target = format!("http://{soft_404}/spring-sale");
    estate.add("frontends", "soft-404", target, Says::Down("body_mismatch", None));
    let circle = |request: &Request| {
        let next = if request.path() == "/login" { "/" } else { "/login" };
        Reply::new("302 Found", &[("Location", next)], "")
    };
    let circling = estate.servers.web(circle).await?;
    let target = format!("http://{circling}/");
    estate.add("frontends", "redirect-loop", target, Says::Down("redirect_loop", None));
    let half = |_: &Request| Reply::stalled("<title>Shop</title>", PROMISED);
    let stalled = estate.servers.web(half).await?;
    let target = format!("http://{stalled}/");
    estate.add("frontends", "slow-body", target, down("body_timeout", "transfer"));
    Ok(())
}

async fn checkout(estate: &mut Estate) -> io::Result<()> {
    let fast = estate.servers.web(|_| Reply::ok("ok")).await?;
    estate.add("checkout", "healthy", format!("http://{fast}/"), Says::Up);
    let slow = estate.servers.web(|_| Reply::ok("ok").after(TOO_SLOW)).await?;
    estate.add("checkout", "too-slow", format!("http://{slow}/"), Says::Down("too_slow", None));
    Ok(())
}
