//! `watchpost snippet`: what to paste elsewhere.

use std::process::ExitCode;

use super::args::{SnippetArgs, SnippetKind};
use super::print;

pub(super) fn run(args: &SnippetArgs) -> ExitCode {
    let text = match args.kind {
        SnippetKind::Prometheus => prometheus(&args.address),
    };
    print(&text);
    ExitCode::SUCCESS
}

/// The scrape job.
pub(super) fn prometheus(address: &str) -> String {
    format!(
        r"# prometheus.yml: results of all probes, and watchpost's own numbers.
scrape_configs:
  - job_name: watchpost
    # Results carry job (the probe), instance (the target), module and watchpost: keep them as they are.
    honor_labels: true
    scrape_interval: 15s
    static_configs:
      - targets: ['{address}']
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_labels() {
        let text = prometheus("wp:9115");
        assert!(text.contains("honor_labels: true"));
        assert!(text.contains("'wp:9115'"));
    }
}
