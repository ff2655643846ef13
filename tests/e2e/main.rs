//! The built binary with real Prometheus, Alertmanager and a browser.
