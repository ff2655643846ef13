//! `/metrics`: the results of every check, then our own numbers.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::write::GzEncoder;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::Site;
use crate::clock;
use crate::metrics::exposition::{Encoding, Writer};
use crate::metrics::{Shown, render_own, render_results};

/// A page may be this part of the last one longer without another buffer.
const SPARE: usize = 16;

pub(super) async fn show(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let encoding = Encoding::negotiate(accept);
    let gzip = accepts_gzip(&headers);
    if is_prometheus(&headers) {
        let now = u64::try_from(clock::boot().as_millis()).unwrap_or(u64::MAX);
        site.scraped.store(now, Ordering::Relaxed);
    }
    site.scrapes.with_label_values(&["/metrics"]).inc();
    // Rendering is work, not waiting: it has no place on the threads that answer health checks.
    let rendering = tokio::task::spawn_blocking(move || {
        let timer = site.rendering("/metrics").start_timer();
        let page = render(&site, encoding);
        timer.observe_duration();
        if gzip { compress(&page) } else { Ok(page) }
    });
    match rendering.await {
        Ok(Ok(body)) => answer(encoding, gzip, body),
        _ => failed(),
    }
}

/// A small page, compressed here and now if the client accepts it.
pub(super) fn respond(headers: &HeaderMap, encoding: Encoding, page: Vec<u8>) -> Response {
    if !accepts_gzip(headers) {
        return answer(encoding, false, page);
    }
    compress_here(&page).map_or_else(|_| failed(), |body| answer(encoding, true, body))
}

fn failed() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "rendering failed\n").into_response()
}

fn answer(encoding: Encoding, gzip: bool, body: Vec<u8>) -> Response {
    let mut response = ([(header::CONTENT_TYPE, encoding.content_type())], body).into_response();
    response
        .headers_mut()
        .insert(header::VARY, header::HeaderValue::from_static("accept, accept-encoding"));
    if gzip {
        let value = header::HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, value);
    }
    response
}

fn render(site: &Site, encoding: Encoding) -> Vec<u8> {
    // The number is drawn before the snapshot is taken: see `FailureCount::born`.
    let scrape = site.board.begin_scrape();
    let views = site.board.snapshot().views();
    let now = clock::now();
    // What is shown is remembered: it is evidence when it comes back through Prometheus and Alertmanager.
    let shown = site.beats().map(|beats| beats.board().clocks().issue(now));
    site.clock.set(shown.unwrap_or_else(|| now.unix_seconds()));
    // A buffer that grows on the way is copied again and again.
    let expected = site.page_bytes.load(Ordering::Relaxed);
    let space = Vec::with_capacity(expected + expected / SPARE);
    let mut writer = Writer::append_to(space, encoding);
    render_results(&Shown { views: &views, now, scrape }, &mut writer);
    site.probing.forget_removed();
    render_own(&site.registry, &mut writer);
    let page = writer.finish();
    site.page_bytes.store(page.len(), Ordering::Relaxed);
    page
}

thread_local! {
    /// One made anew is a quarter of a megabyte that is cleared first, for a page of some kilobytes.
    static KEPT: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
}

/// The frame around deflated bytes (RFC 1952): no name, no time, compressed fast, on a system that is not told.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// Room beside half of a page, for one that is small or does not yield.
const COMPRESSED_SPARE: usize = 64;

/// As [`compress`], with what this thread keeps for it.
fn compress_here(page: &[u8]) -> io::Result<Vec<u8>> {
    KEPT.with_borrow_mut(|deflate| {
        deflate.reset();
        let room = page.len() / 2 + COMPRESSED_SPARE;
        let mut out = Vec::with_capacity(GZIP_HEADER.len() + room);
        out.extend_from_slice(&GZIP_HEADER);
        loop {
            let taken = usize::try_from(deflate.total_in()).unwrap_or(page.len());
            let rest = page.get(taken..).unwrap_or_default();
            if deflate.compress_vec(rest, &mut out, FlushCompress::Finish)? == Status::StreamEnd {
                break;
            }
            out.reserve(room);
        }
        let mut check = Crc::new();
        check.update(page);
        out.extend_from_slice(&check.sum().to_le_bytes());
        out.extend_from_slice(&check.amount().to_le_bytes());
        Ok(out)
    })
}

fn compress(page: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 8), Compression::fast());
    encoder.write_all(page)?;
    encoder.finish()
}

/// Whether gzip is named and not refused with `q=0`.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let Some(accepted) = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    accepted.split(',').any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = parameters
            .trim()
            .strip_prefix("q=")
            .is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Whether a scraper asks, and not a person or our own probe of ourselves.
fn is_prometheus(headers: &HeaderMap) -> bool {
    headers.contains_key("x-prometheus-scrape-timeout-seconds")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    #[test]
    fn pages_of_any_size_are_compressed_one_after_another() {
        let noise = |size: u32| {
            let words = (0..size).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
            words.flatten().collect::<Vec<u8>>()
        };
        for page in [Vec::new(), b"probe_success 1\n".repeat(500), noise(3), noise(100_000)] {
            let mut back = Vec::new();
            let packed = compress_here(&page).unwrap();
            MultiGzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
            assert!(back == page, "{} bytes", page.len());
        }
    }

    #[test]
    fn gzip_must_be_named() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, header::HeaderValue::from_static(value));
            accepts_gzip(&headers)
        };
        assert!(with("gzip"));
        assert!(with("br, gzip;q=0.5"));
        assert!(!with("gzip;q=0"));
        assert!(!with("br"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
