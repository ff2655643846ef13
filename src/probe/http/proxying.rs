//! Which proxy a module goes through.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::spec::ProxyUrl;
use crate::model::{Mistakes, Secret};
use crate::net::http::{EnvProxies, Link, NoProxy, Proxy};

/// The four proxy keys, which `http` and `oauth2` share.
#[derive(Debug, Default)]
pub(super) struct Proxying {
    way: Way,
    /// More headers for CONNECT.
    pub(super) connect_headers: Vec<(String, Secret)>,
}

#[derive(Debug, Default)]
enum Way {
    #[default]
    Direct,
    Fixed(Proxy, Option<NoProxy>),
    Environment,
}

/// The keys as written.
pub(super) struct ProxyKeys {
    pub(super) url: Option<ProxyUrl>,
    pub(super) no_proxy: Option<String>,
    pub(super) from_environment: Option<bool>,
    pub(super) connect_header: Option<BTreeMap<String, Vec<Secret>>>,
}

impl Proxying {
    pub(super) fn build(keys: ProxyKeys, mistakes: &mut Mistakes) -> Self {
        let url = keys.url.and_then(|url| url.0);
        let no_proxy = keys.no_proxy.filter(|list| !list.is_empty());
        let environment = keys.from_environment.unwrap_or(false);
        let headers = keys.connect_header.unwrap_or_default();
        if environment && url.is_some() {
            mistakes.error(
                "proxy_from_environment",
                "proxy_from_environment and proxy_url exclude each other",
                "keep one of them",
            );
        }
        if environment && no_proxy.is_some() {
            mistakes.error(
                "no_proxy",
                "proxy_from_environment and no_proxy exclude each other",
                "set NO_PROXY in the environment",
            );
        }
        if url.is_none() && !environment {
            check_unused(no_proxy.is_some(), !headers.is_empty(), mistakes);
        }
        let connect_headers: Vec<(String, Secret)> = headers
            .into_iter()
            .flat_map(|(name, values)| values.into_iter().map(move |v| (name.clone(), v)))
            .collect();
        for (name, value) in &connect_headers {
            if ::http::HeaderName::from_bytes(name.as_bytes()).is_err()
                || ::http::HeaderValue::from_str(value.reveal()).is_err()
            {
                mistakes.error(
                    "proxy_connect_header",
                    format!("{name:?} cannot be sent as a header"),
                    "use a header's name and a value of one line",
                );
            }
        }
        let way = match url {
            Some(proxy) => Way::Fixed(proxy, no_proxy.as_deref().map(NoProxy::parse)),
            None if environment => Way::Environment,
            None => Way::Direct,
        };
        Self { way, connect_headers }
    }

    pub(super) const fn is_configured(&self) -> bool {
        !matches!(self.way, Way::Direct)
    }

    /// The proxy for a link; `ip` is its address where that is known.
    pub(super) fn choose<'a>(
        &'a self,
        link: &Link,
        ip: Option<IpAddr>,
        environment: &'a EnvProxies,
    ) -> Option<&'a Proxy> {
        match &self.way {
            Way::Direct => None,
            Way::Environment => environment.choose(link, ip),
            Way::Fixed(proxy, no_proxy) => {
                let exempt = no_proxy.as_ref().is_some_and(|list| list.exempts(link, ip));
                (!exempt).then_some(proxy)
            }
        }
    }
}

/// Keys that mean nothing without a proxy.
fn check_unused(no_proxy: bool, headers: bool, mistakes: &mut Mistakes) {
    if no_proxy {
        mistakes.error("no_proxy", "no_proxy without proxy_url", "set proxy_url or drop no_proxy");
    }
    if headers {
        mistakes.error(
            "proxy_connect_header",
            "proxy_connect_header without a proxy",
            "set proxy_url or proxy_from_environment",
        );
    }
}
