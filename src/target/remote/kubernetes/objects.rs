//! What of Kubernetes's objects is needed, and the targets that they are.
//!
//! Labels of the results are `namespace` and the object's kind with its name, such as `service="shop"`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Role;
use crate::target::FileGroup;

/// The kubelet's port where a node does not say.
const KUBELET_PORT: u16 = 10250;

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) metadata: ListMeta,
    /// `null` for none, in some versions.
    pub(super) items: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ListMeta {
    /// Where the next page begins; empty on the last one.
    #[serde(default, rename = "continue")]
    pub(super) next: String,
}

/// What every object has.
#[derive(Debug, Deserialize)]
struct Object {
    metadata: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: String,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    #[serde(rename = "port")]
    number: Option<u16>,
    #[serde(rename = "containerPort")]
    container: Option<u16>,
    protocol: Option<String>,
}

impl Port {
    fn is_tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    }
}

#[derive(Debug, Deserialize)]
struct Service {
    spec: ServiceSpec,
}

#[derive(Debug, Deserialize)]
struct ServiceSpec {
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
struct Ingress {
    spec: IngressSpec,
}

#[derive(Debug, Deserialize)]
struct IngressSpec {
    tls: Option<Vec<IngressTls>>,
    rules: Option<Vec<IngressRule>>,
}

#[derive(Debug, Deserialize)]
struct IngressTls {
    hosts: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct IngressRule {
    host: Option<String>,
    http: Option<IngressPaths>,
}

#[derive(Debug, Deserialize)]
struct IngressPaths {
    paths: Vec<IngressPath>,
}

#[derive(Debug, Deserialize)]
struct IngressPath {
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Pod {
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Deserialize)]
struct PodSpec {
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
struct Container {
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    ip: String,
}

#[derive(Debug, Deserialize)]
struct Slice {
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
}

#[derive(Debug, Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Node {
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeStatus {
    addresses: Vec<NodeAddress>,
    daemon_endpoints: DaemonEndpoints,
}

#[derive(Debug, Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DaemonEndpoints {
    kubelet_endpoint: KubeletEndpoint,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KubeletEndpoint {
    #[serde(rename = "Port")]
    port: u16,
}

/// The targets of these objects. One that cannot be understood refuses the list: half a list would silently watch half.
pub(super) fn groups(role: Role, items: Option<Vec<Value>>) -> Result<Vec<FileGroup>, String> {
    let items = items.unwrap_or_default();
    match role {
        Role::Service => each(items, |meta, it: Service| (service(meta, &it), "service", None)),
        Role::Ingress => each(items, |_, it: Ingress| (ingress(&it), "ingress", None)),
        Role::Pod => each(items, |_, it: Pod| (pod(&it), "pod", None)),
        Role::EndpointSlice => each(items, |meta, it: Slice| {
            let labels = meta.labels.as_ref();
            let owner = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
            (slice(&it), "service", owner.cloned())
        }),
        Role::Node => each(items, |_, it: Node| (node(&it), "node", None)),
    }
}

/// A group for each object, under the label of its kind with its name, or with the name of what it belongs to.
fn each<T: DeserializeOwned>(
    items: Vec<Value>,
    targets_of: impl Fn(&Meta, T) -> (Vec<String>, &'static str, Option<String>),
) -> Result<Vec<FileGroup>, String> {
    let groups = items.into_iter().map(|item| {
        let name = item.pointer("/metadata/name").map(ToString::to_string).unwrap_or_default();
        let wrong = |wrong: serde_json::Error| format!("object {name}: {wrong}");
        let Object { metadata } = Object::deserialize(&item).map_err(wrong)?;
        let object = serde_json::from_value(item).map_err(wrong)?;
        let (targets, kind, owner) = targets_of(&metadata, object);
        let named = owner.unwrap_or(metadata.name);
        let mut labels = BTreeMap::from([(kind.to_owned(), named)]);
        labels.extend(metadata.namespace.map(|name| ("namespace".to_owned(), name)));
        Ok(FileGroup { targets, labels: Some(labels) })
    });
    groups.collect()
}

fn service(meta: &Meta, service: &Service) -> Vec<String> {
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    let ports = service.spec.ports.iter().flatten().filter(|port| port.is_tcp());
    let ports = ports.filter_map(|port| port.number);
    ports.map(|port| format!("{}.{namespace}.svc:{port}", meta.name)).collect()
}

/// One URL for each path of each host. A host with a star in it has no address.
fn ingress(ingress: &Ingress) -> Vec<String> {
    let secured: Vec<&str> = ingress
        .spec
        .tls
        .iter()
        .flatten()
        .flat_map(|tls| tls.hosts.iter().flatten())
        .map(String::as_str)
        .collect();
    let mut urls = Vec::new();
    for rule in ingress.spec.rules.iter().flatten() {
        let Some(host) = rule.host.as_deref().filter(|host| !host.contains('*')) else { continue };
        let wildcard = || host.split_once('.').map(|(_, domain)| format!("*.{domain}"));
        let is_secured = secured.contains(&host)
            || wildcard().is_some_and(|wildcard| secured.contains(&wildcard.as_str()));
        let scheme = if is_secured { "https" } else { "http" };
        let paths = rule.http.iter().flat_map(|http| &http.paths);
        let paths = paths.map(|path| path.path.as_deref().unwrap_or("/"));
        let mut paths: Vec<&str> = paths.filter(|path| path.starts_with('/')).collect();
        if paths.is_empty() {
            paths.push("/");
        }
        urls.extend(paths.into_iter().map(|path| format!("{scheme}://{host}{path}")));
    }
    urls
}

/// One for each declared port, or the address alone. A pod that has run to its end is none.
fn pod(pod: &Pod) -> Vec<String> {
    let ip = &pod.status.ip;
    if ip.is_empty() || matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
        return Vec::new();
    }
    let containers = pod.spec.containers.iter();
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let ports = ports.filter(|port| port.is_tcp()).filter_map(|port| port.container);
    let targets: Vec<String> = ports.map(|port| with_port(ip, port)).collect();
    if targets.is_empty() { vec![ip.clone()] } else { targets }
}

fn slice(slice: &Slice) -> Vec<String> {
    let ports = slice.ports.iter().flatten().filter(|port| port.is_tcp());
    let ports: Vec<u16> = ports.filter_map(|port| port.number).collect();
    let endpoints = slice.endpoints.iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint.conditions.ready.unwrap_or(true));
    let addresses = ready.flat_map(|endpoint| &endpoint.addresses);
    addresses.flat_map(|ip| ports.iter().map(|port| with_port(ip, *port))).collect()
}

fn node(node: &Node) -> Vec<String> {
    let port = node.status.daemon_endpoints.kubelet_endpoint.port;
    let port = if port == 0 { KUBELET_PORT } else { port };
    let by_kind = |kind| node.status.addresses.iter().find(|address| address.kind == kind);
    let kinds = ["InternalIP", "ExternalIP", "Hostname"];
    let address = kinds.into_iter().find_map(by_kind);
    address.map(|address| with_port(&address.address, port)).into_iter().collect()
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(role: Role, item: Value) -> (Vec<String>, Vec<(String, String)>) {
        let mut groups = groups(role, Some(vec![item])).unwrap();
        let group = groups.remove(0);
        (group.targets, group.labels.unwrap().into_iter().collect())
    }

    #[test]
    fn services_have_their_name_in_the_cluster() {
        let (targets, labels) = found(
            Role::Service,
            json!({"metadata": {"name": "shop", "namespace": "web"}, "spec": {"ports": [
                {"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}, {"port": 443}]}}),
        );
        assert_eq!(targets, ["shop.web.svc:80", "shop.web.svc:443"]);
        let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(labels, [text("namespace", "web"), text("service", "shop")]);
        let (none, _) = found(Role::Service, json!({"metadata": {"name": "x"}, "spec": {}}));
        assert_eq!(none, [""; 0]);
    }

    #[test]
    fn ingresses_are_urls() {
        let rule = |host: &str, paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(|path| json!({"path": path})).collect();
            json!({"host": host, "http": {"paths": paths}})
        };
        let (targets, _) = found(
            Role::Ingress,
            json!({"metadata": {"name": "i", "namespace": "web"}, "spec": {
            "tls": [{"hosts": ["shop.example", "*.wild.example"]}],
            "rules": [
                rule("shop.example", &["/", "/api"]), rule("plain.example", &[]),
                rule("a.wild.example", &["/x"]), rule("*.star.example", &["/"]),
                {"http": {"paths": [{"path": "/"}]}},
            ]}}),
        );
        assert_eq!(
            targets,
            [
                "https://shop.example/",
                "https://shop.example/api",
                "http://plain.example/",
                "https://a.wild.example/x"
            ]
        );
    }

    #[test]
    fn pods_slices_and_nodes_have_addresses() {
        let pod = |phase: &str, ip: &str, ports: Value| {
            json!({"metadata": {"name": "p", "namespace": "web"},
                "spec": {"containers": [{"name": "c", "ports": ports}]},
                "status": {"phase": phase, "podIP": ip}})
        };
        let ports = json!([{"containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]);
        assert_eq!(
            found(Role::Pod, pod("Running", "fd00::1", ports.clone())).0,
            ["[fd00::1]:8080"]
        );
        assert_eq!(found(Role::Pod, pod("Running", "10.0.0.1", Value::Null)).0, ["10.0.0.1"]);
        assert_eq!(found(Role::Pod, pod("Succeeded", "10.0.0.1", ports.clone())).0, [""; 0]);
        assert_eq!(found(Role::Pod, pod("Pending", "", ports)).0, [""; 0]);
        let (targets, labels) = found(
            Role::EndpointSlice,
            json!({"metadata": {"name": "shop-x1", "namespace": "web",
                    "labels": {"kubernetes.io/service-name": "shop"}},
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                    {"addresses": ["10.0.0.3"]}],
                "ports": [{"port": 80}]}),
        );
        assert_eq!(targets, ["10.0.0.1:80", "10.0.0.3:80"]);
        assert!(labels.contains(&("service".to_owned(), "shop".to_owned())));
        let node = json!({"metadata": {"name": "n1"}, "status": {
            "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.1.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}});
        let (targets, labels) = found(Role::Node, node);
        assert_eq!(targets, ["10.1.0.1:10250"]);
        assert_eq!(labels, [("node".to_owned(), "n1".to_owned())]);
    }

    #[test]
    fn an_object_that_is_not_understood_is_named() {
        let item = json!({"metadata": {"name": "odd"}, "spec": {"ports": [{"port": "many"}]}});
        let wrong = groups(Role::Service, Some(vec![item])).unwrap_err();
        assert!(wrong.starts_with("object \"odd\": "), "{wrong}");
        assert!(groups(Role::Service, None).unwrap().is_empty());
    }
}
