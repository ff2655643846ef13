//! Asks a running watchpost over HTTP.

use std::process::ExitCode;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;

use super::{Exit, complain, environment};
use crate::net::{self, http_client};

/// How long a running watchpost may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Carries the key of `watchpost: {api_key_file: …}`.
const API_KEY: &str = "x-api-key";

/// An error without its URL, with what led to it.
pub(super) fn causes(error: reqwest::Error) -> String {
    net::causes(&error.without_url())
}

/// A runtime for one verb.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => Ok(runtime.block_on(work)),
        Err(error) => {
            complain(&format!("error: cannot start: {error}"));
            Err(ExitCode::from(Exit::FAILED))
        }
    }
}

/// The body of a GET of `path` at `address`, which is `host:port` or a URL.
pub(super) fn get(address: &str, path: &str) -> Result<String, ExitCode> {
    exchange(address, path, |client, url| client.get(url))
}

/// The answer to a POST of `body`, with a key where there is one.
pub(super) fn post(
    address: &str,
    path: &str,
    body: &serde_json::Value,
    key: Option<&str>,
) -> Result<String, ExitCode> {
    exchange(address, path, |client, url| {
        let request = client.post(url).json(body);
        match key {
            // `Authorization` may be taken by a user of --web.config.file.
            Some(key) => request.header(API_KEY, key),
            None => request,
        }
    })
}

fn exchange(
    address: &str,
    path: &str,
    make: impl FnOnce(&Client, &str) -> RequestBuilder,
) -> Result<String, ExitCode> {
    let base =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let url = format!("{}{path}", base.trim_end_matches('/'));
    // A password may stand in it.
    let address = base.rsplit_once('@').map_or(base.as_str(), |(_, shown)| shown);
    let answered = block_on(async {
        let names = environment::net().resolver;
        let client = http_client(&names).timeout(TIMEOUT).no_proxy().build()?;
        let answer = make(&client, &url).send().await?;
        let status = answer.status();
        Ok::<_, reqwest::Error>((status, answer.text().await?))
    })?;
    match answered {
        Ok((status, body)) if status.is_success() => Ok(body),
        Ok((status, body)) => {
            complain(&format!("error: {address}{path} answers {status}: {}", body.trim_end()));
            Err(ExitCode::from(Exit::FAILED))
        }
        Err(error) => {
            complain(&format!("error: no watchpost answers at {address}: {}", causes(error)));
            Err(ExitCode::from(Exit::FAILED))
        }
    }
}

/// What a watchpost answered, read.
pub(super) fn parse<T: DeserializeOwned>(body: &str) -> Result<T, ExitCode> {
    serde_json::from_str(body).map_err(|error| {
        complain(&format!("error: the answer is not one of this version of watchpost: {error}"));
        ExitCode::from(Exit::FAILED)
    })
}
