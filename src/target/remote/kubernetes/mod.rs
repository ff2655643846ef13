//! Prometheus's Kubernetes service discovery: objects of a cluster are targets.
//!
//! The API server is asked for the whole list in the rhythm of `refresh_interval`. There is no watch: a list that is
//! half a minute old is soon enough for something that is asked every half minute, and it cannot fall behind unnoticed.

mod objects;

use std::collections::BTreeSet;

use reqwest::Url;
use serde::{Deserialize, Deserializer, de};

use self::objects::{Page, groups};
use super::access::{Access, Credentials, Written, parse_url};
use super::{BasicAuth, MIN_REFRESH, Question, Remote, Template, TlsFiles};
use crate::model::{Authorization, Mistakes, Period, Secret, mistake, shown_url};
use crate::net::{Resolver, SecretSource};
use crate::target::{FileGroup, MAX_TARGETS};

/// The API server as pods see it.
const IN_CLUSTER: &str = "https://kubernetes.default.svc";
/// Files that the kubelet puts into a pod, and rotates.
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const CA_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// Objects of one page.
const PAGE: usize = 500;
/// The most pages of one list.
const MAX_PAGES: usize = MAX_TARGETS / PAGE;

/// An item of `kubernetes_sd_configs:`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSd {
    pub role: Role,
    /// Default: the cluster that we run in, with the pod's own token and CA.
    pub api_server: Option<String>,
    #[serde(default)]
    pub namespaces: Namespaces,
    #[serde(default)]
    pub selectors: Vec<Selector>,
    /// Default 30s.
    #[serde(default = "default_refresh")]
    pub refresh_interval: Period,
    /// What is asked, with `{}` for what was found.
    #[serde(default)]
    pub target: Template,
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub tls_config: Option<TlsFiles>,
    pub proxy_url: Option<Secret>,
    #[serde(default = "yes")]
    pub follow_redirects: bool,
}

/// Which objects are targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Service,
    Ingress,
    Pod,
    EndpointSlice,
    Node,
}

/// Where objects are looked for; everywhere when nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespaces {
    #[serde(default)]
    pub own_namespace: bool,
    #[serde(default)]
    pub names: Vec<String>,
}

/// Which objects of a role are meant, in the API server's notation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    pub role: Role,
    pub label: Option<String>,
    pub field: Option<String>,
}

const fn default_refresh() -> Period {
    Period::from_secs(30)
}

const fn yes() -> bool {
    true
}

const ROLES: [(&str, Role); 5] = [
    ("service", Role::Service),
    ("ingress", Role::Ingress),
    ("pod", Role::Pod),
    ("endpointslice", Role::EndpointSlice),
    ("node", Role::Node),
];

impl Role {
    fn label(self) -> &'static str {
        let row = ROLES.iter().find(|(_, role)| *role == self);
        row.map(|(label, _)| *label).expect("every role has a row")
    }

    /// Group with version, and the objects' name in paths.
    const fn path(self) -> (&'static str, &'static str) {
        match self {
            Self::Service => ("api/v1", "services"),
            Self::Ingress => ("apis/networking.k8s.io/v1", "ingresses"),
            Self::Pod => ("api/v1", "pods"),
            Self::EndpointSlice => ("apis/discovery.k8s.io/v1", "endpointslices"),
            Self::Node => ("api/v1", "nodes"),
        }
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let row = ROLES.iter().find(|(label, _)| *label == text);
        row.map(|(_, role)| *role).ok_or_else(|| {
            let hint = match text.as_str() {
                "endpoints" => "write endpointslice, which has taken its place in Kubernetes",
                _ => "write service, ingress, pod, endpointslice or node",
            };
            de::Error::custom(mistake(format_args!("{text:?} is no role"), hint))
        })
    }
}

/// A list of objects that can be asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Api {
    server: Url,
    access: Access,
    role: Role,
    namespaces: Namespaces,
    label_selector: Option<String>,
    field_selector: Option<String>,
}

impl KubernetesSd {
    pub fn build(self, mistakes: &mut Mistakes) -> Option<Remote> {
        let in_cluster = self.api_server.is_none();
        let server = self.api_server.as_deref().unwrap_or(IN_CLUSTER);
        let server = parse_url("api_server", server, mistakes);
        let access = Written {
            basic_auth: self.basic_auth,
            authorization: self.authorization,
            tls_config: self.tls_config,
            proxy_url: self.proxy_url,
            follow_redirects: self.follow_redirects,
        };
        let mut access = access.build(mistakes);
        if in_cluster {
            access.tls.ca_file.get_or_insert_with(|| CA_FILE.to_owned());
            access.credentials.get_or_insert_with(|| Credentials::Scheme {
                scheme: "Bearer".to_owned(),
                secret: SecretSource::File(TOKEN_FILE.into()),
            });
        }
        for (index, selector) in self.selectors.iter().enumerate() {
            if selector.role != self.role {
                let what = format!("the selector is for {}", selector.role.label());
                let hint = format!("this source has the role {}", self.role.label());
                mistakes.error(&format!("selectors.{index}.role"), what, hint);
            }
        }
        let join = |part: fn(&Selector) -> Option<&String>| {
            let all: Vec<&str> =
                self.selectors.iter().filter_map(part).map(String::as_str).collect();
            (!all.is_empty()).then(|| all.join(","))
        };
        let api = Api {
            server: server?,
            access,
            role: self.role,
            label_selector: join(|selector| selector.label.as_ref()),
            field_selector: join(|selector| selector.field.as_ref()),
            namespaces: self.namespaces,
        };
        Some(Remote {
            mechanism: "kubernetes",
            name: api.name(),
            question: Question::Kubernetes(api),
            template: self.target,
            refresh: self.refresh_interval.get().max(MIN_REFRESH),
        })
    }
}

impl Api {
    /// Tells it from the other sources of a probe.
    fn name(&self) -> String {
        let mut name = self.role.label().to_owned();
        if self.namespaces.own_namespace {
            name.push_str(" own_namespace");
        }
        let more = [
            (!self.namespaces.names.is_empty()).then(|| self.namespaces.names.join(",")),
            self.label_selector.clone(),
            self.field_selector.clone(),
            (self.server.as_str().trim_end_matches('/') != IN_CLUSTER)
                .then(|| shown_url(self.server.as_str())),
        ];
        for part in more.into_iter().flatten() {
            name.push(' ');
            name.push_str(&part);
        }
        name
    }

    pub(super) async fn ask(&self, names: &Resolver) -> Result<Vec<FileGroup>, String> {
        let client = self.access.client(names).await?;
        let mut found = Vec::new();
        for namespace in self.namespaces().await? {
            let mut next = String::new();
            for number in 1.. {
                let url = self.url(namespace.as_deref(), &next);
                let body = self.access.get(&client, url, &[]).await?;
                let page: Page =
                    serde_json::from_slice(&body).map_err(|wrong| wrong.to_string())?;
                found.extend(groups(self.role, page.items)?);
                next = page.metadata.next;
                if next.is_empty() {
                    break;
                }
                if number == MAX_PAGES {
                    return Err(format!("more than {MAX_PAGES} pages of {PAGE} objects"));
                }
            }
        }
        Ok(found)
    }

    /// The namespaces to look in; all of them at once where none is named, and for nodes, which are in none.
    async fn namespaces(&self) -> Result<Vec<Option<String>>, String> {
        let mut names: BTreeSet<String> = self.namespaces.names.iter().cloned().collect();
        if self.namespaces.own_namespace {
            let own = tokio::fs::read_to_string(NAMESPACE_FILE).await;
            let own = own.map_err(|error| format!("cannot read {NAMESPACE_FILE}: {error}"))?;
            names.insert(own.trim().to_owned());
        }
        if names.is_empty() || self.role == Role::Node {
            return Ok(vec![None]);
        }
        Ok(names.into_iter().map(Some).collect())
    }

    fn url(&self, namespace: Option<&str>, next: &str) -> Url {
        let (group, objects) = self.role.path();
        let mut url = self.server.clone();
        {
            let mut path = url.path_segments_mut().expect("an http URL has a path");
            path.pop_if_empty().extend(group.split('/'));
            if let Some(namespace) = namespace {
                path.extend(["namespaces", namespace]);
            }
            path.push(objects);
        }
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("limit", &PAGE.to_string());
            let more = [
                ("labelSelector", self.label_selector.as_deref()),
                ("fieldSelector", self.field_selector.as_deref()),
                ("continue", Some(next).filter(|next| !next.is_empty())),
            ];
            for (key, value) in more {
                if let Some(value) = value {
                    query.append_pair(key, value);
                }
            }
        }
        url
    }
}
