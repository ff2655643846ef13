//! A small estate on loopback with every incident that a prober can meet, and the configuration that watches it.

mod certificates;
mod exporters;
mod names;
mod pipeline;
mod serve;
mod services;
mod transport;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serve::Servers;

/// Modules, in the words that an operator would use.
const MODULES: &str = include_str!("modules.yml");

/// What watchpost must say about one target.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) probe: &'static str,
    /// The value of the label `incident`.
    pub(crate) incident: &'static str,
    pub(crate) target: String,
    pub(crate) says: Says,
}

/// A status; for a trouble its reason, and the phase where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    Up,
    Degraded(&'static str, Option<&'static str>),
    Down(&'static str, Option<&'static str>),
}

/// Down, in a phase.
pub(crate) const fn down(reason: &'static str, phase: &'static str) -> Says {
    Says::Down(reason, Some(phase))
}

/// A probe of the estate.
struct Probe {
    name: &'static str,
    module: &'static str,
    min_up: Option<usize>,
}

const fn probe(name: &'static str, module: &'static str) -> Probe {
    Probe { name, module, min_up: None }
}

const PROBES: &[Probe] = &[
    probe("exporters", "node_exporter"),
    probe("any-exporter", "any_exporter"),
    probe("health", "health"),
    probe("config-api", "config_api"),
    probe("reports-api", "api_with_token"),
    probe("frontends", "frontend"),
    probe("checkout", "in_time"),
    probe("certificates", "certificate"),
    probe("dns", "dns_www"),
    Probe { min_up: Some(2), ..probe("alertmanager", "ready") },
    Probe { min_up: Some(2), ..probe("prometheus", "ready") },
    probe("prometheus-targets", "prometheus_targets"),
    probe("grafana", "grafana"),
    probe("grafana-datasources", "grafana_datasource"),
];

/// Probes of the estate as a whole, with the status that `min_up` makes of their members.
pub(crate) const GROUPS: &[(&str, &str)] = &[("alertmanager", "down"), ("prometheus", "degraded")];
/// The probe whose targets come from a file that is going to be emptied.
pub(crate) const DISCOVERED: &str = "discovered";

/// Servers, and the folder of the configuration that watches them.
#[derive(Debug)]
pub(crate) struct Estate {
    folder: PathBuf,
    scenarios: Vec<Scenario>,
    servers: Servers,
}

impl Estate {
    /// Starts everything, and writes the configuration into `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let mut estate =
            Self { folder: folder.to_owned(), scenarios: Vec::new(), servers: Servers::default() };
        exporters::start(&mut estate).await?;
        services::start(&mut estate).await?;
        transport::start(&mut estate).await?;
        pipeline::start(&mut estate).await?;
        estate.write()?;
        Ok(estate)
    }

    /// The configuration of the watchpost that sees everything.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("watchpost.yml")
    }

    /// The configuration of a watchpost whose own network is dead.
    pub(crate) fn blind_config(&self) -> PathBuf {
        self.folder.join("blind.yml")
    }

    pub(crate) fn scenarios(&self) -> &[Scenario] {
        &self.scenarios
    }

    /// What happens when the generator of the discovery file breaks: a valid file without targets.
    pub(crate) fn empty_discovery(&self) -> io::Result<()> {
        let new = self.folder.join("targets.new");
        fs::write(&new, "[]\n")?;
        fs::rename(new, self.folder.join("targets.json"))
    }

    fn add(
        &mut self,
        probe: &'static str,
        incident: &'static str,
        target: impl Into<String>,
        says: Says,
    ) {
        self.scenarios.push(Scenario { probe, incident, target: target.into(), says });
    }

    fn write(&self) -> io::Result<()> {
        let ca_file = self.folder.join("ca.pem").display().to_string();
        let mut text = MODULES.replace("CA_FILE", &ca_file);
        text.push_str("\nprobes:\n");
        for probe in PROBES {
            self.write_probe(probe, &mut text);
        }
        // The exporters again, from a file.
        let healthy = self.healthy_exporter();
        let discovered = format!(
            "  - name: {DISCOVERED}\n    module: node_exporter\n    interval: 2s\n    timeout: 1s\n    \
             file_sd_configs: [{{ files: [targets.json] }}]\n"
        );
        text.push_str(&discovered);
        fs::write(self.folder.join("targets.json"), format!("[{{\"targets\":[{healthy:?}]}}]\n"))?;
        fs::write(self.config(), text)?;
        fs::write(self.blind_config(), self.blind())
    }

    fn write_probe(&self, probe: &Probe, text: &mut String) {
        let Probe { name, module, min_up } = probe;
        let min_up = min_up.map(|n| format!("    min_up: {n}\n")).unwrap_or_default();
        // Writing to a `String` cannot fail.
        write!(
            text,
            "  - name: {name}\n    module: {module}\n    interval: 2s\n    timeout: 1s\n{min_up}    targets:\n"
        )
        .ok();
        for scenario in self.scenarios.iter().filter(|s| s.probe == *name) {
            let Scenario { target, incident, .. } = scenario;
            writeln!(text, "      - {{ target: {target:?}, labels: {{ incident: {incident} }} }}")
                .ok();
        }
    }

    /// The same dead exporter, and a reference that no packet reaches: TCP does not go to the broadcast address.
    fn blind(&self) -> String {
        let gone = self.target_of("exporters", "gone");
        format!(
            "watchpost: {{ id: demo-blind }}\nreferences: ['255.255.255.255:9']\n\
             modules: {{ exporter: {{ prober: exporter }} }}\n\
             probes:\n  - {{ name: exporters, module: exporter, interval: 2s, failure_threshold: 5, targets: ['{gone}'] }}\n"
        )
    }

    fn healthy_exporter(&self) -> &str {
        self.target_of("exporters", "healthy")
    }

    fn target_of(&self, probe: &str, incident: &str) -> &str {
        let mut all = self.scenarios.iter();
        let found = all.find(|s| s.probe == probe && s.incident == incident);
        found.map(|s| s.target.as_str()).expect("the estate has this scenario")
    }
}
