//! What rooms have in common: a secret URL that takes a message as JSON.

use serde::Deserialize;
use serde_json::Value;

use super::exchange::{Outlet, Reply};
use super::{Delivery, Sent};
use crate::model::{Mistakes, Secret};
use crate::net::SecretSource;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
}

#[derive(Debug)]
pub(super) struct Hook {
    url: SecretSource,
}

impl Hook {
    pub(super) fn build(spec: Spec, mistakes: &mut Mistakes) -> Option<Self> {
        SecretSource::require("url", spec.url, spec.url_file, mistakes).map(|url| Self { url })
    }

    pub(super) async fn post(
        &self,
        outlet: &Outlet,
        delivery: &Delivery<'_>,
        body: &Value,
    ) -> Result<Reply, Sent> {
        let url = self.url.read().await?;
        let headers = reqwest::header::HeaderMap::new();
        outlet.post(url.reveal(), headers, body, delivery.now.wall).await
    }
}
