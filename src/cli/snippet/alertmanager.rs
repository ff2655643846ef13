//! Route and receiver of the Watchdog, with the timing that really repeats every minute.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::quoted;
use crate::deadman::timing::{PEER_TIMEOUT, RESEND_DELAY, RouteTiming, Shown};
use crate::deadman::{Spec, WatchdogSpec};

/// Where things are.
pub(super) struct Place<'a> {
    /// Of watchpost, as Alertmanager reaches it.
    pub(super) address: &'a str,
    /// Of the key, on Alertmanager's machine.
    pub(super) credentials_file: Option<&'a str>,
}

/// What a Prometheus does when nobody says anything else, or what the configuration says of it.
fn timing(watchdog: &WatchdogSpec) -> RouteTiming {
    let told = watchdog.timing().unwrap_or(RouteTiming {
        scrape_interval: Duration::from_secs(15),
        evaluation_interval: Duration::from_secs(15),
        resend_delay: RESEND_DELAY,
        group_wait: Duration::ZERO,
        group_interval: Duration::ZERO,
        repeat_interval: Duration::ZERO,
        peers: watchdog.alertmanagers.len().max(1),
        peer_timeout: PEER_TIMEOUT,
    });
    told.fastest()
}

/// A whole `alertmanager.yml`, of which the marked parts are to be taken over.
pub(super) fn text(watchdogs: &[Arc<Spec>], place: &Place<'_>) -> String {
    let mut text = HEAD.to_owned();
    let mut receivers = String::from(RECEIVERS);
    let pairs = || watchdogs.iter().filter_map(|spec| Some((spec, spec.watchdog.as_ref()?)));
    for (index, (spec, watchdog)) in pairs().enumerate() {
        let shares =
            pairs().skip(index + 1).any(|(_, later)| later.alertname == watchdog.alertname);
        route(&mut text, spec, watchdog, shares);
        receiver(&mut receivers, spec, place);
    }
    text.push_str(&receivers);
    text.push_str("  # END watchpost\n");
    text
}

const HEAD: &str = "\
# alertmanager.yml: the way of the Watchdog to watchpost. Keep your own root and receivers; take over what is marked.
# `watchpost lint alertmanager.yml` says whether the whole works and how soon a failure of it is known.
route:
  receiver: people # yours
  routes:
    # BEGIN watchpost: before all other routes, without mute_time_intervals, and for nobody else.
";
const RECEIVERS: &str = "    # END watchpost
receivers:
  - name: people # yours
  # BEGIN watchpost
";

fn route(text: &mut String, spec: &Spec, watchdog: &WatchdogSpec, shares: bool) {
    let timing = timing(watchdog);
    let alertname = watchdog.alertname.replace('\\', "\\\\").replace('"', "\\\"");
    let matchers = [format!("alertname=\"{alertname}\""), "origin=\"watchpost\"".to_owned()];
    let [alert, origin] = matchers.map(|matcher| quoted(&matcher));
    // Writing to a `String` cannot fail.
    write!(
        text,
        "    - receiver: {receiver}
      matchers: [{alert}, {origin}]
{shared}      # Each source for itself, so that none hides another.
      group_by: ['...']
      group_wait: 0s
      # Repeats every {period} in a cluster of {peers}. A repeat_interval equal to group_interval would double that.
      group_interval: {group}
      repeat_interval: {repeat}
",
        receiver = receiver_name(spec),
        shared = if shares { "      continue: true # the next route is for the same alert\n" } else { "" },
        period = timing.period().map_or_else(String::new, |period| Shown(period).to_string()),
        peers = timing.peers,
        group = Shown(timing.group_interval),
        repeat = Shown(timing.repeat_interval),
    )
    .ok();
}

fn receiver(text: &mut String, spec: &Spec, place: &Place<'_>) {
    let url = quoted(&door(place.address, &spec.name));
    let own = format!("/etc/alertmanager/watchpost-{}", file_name(&spec.name));
    let file = quoted(place.credentials_file.unwrap_or(&own));
    write!(
        text,
        "  - name: {receiver}
    webhook_configs:
      - url: {url}
        # The end of the alert is no beat: it tells that the rule is gone.
        send_resolved: true
        http_config:
          authorization:
            # The same key as the deadman's key_file.
            credentials_file: {file}
",
        receiver = receiver_name(spec),
    )
    .ok();
}

/// The URL that Alertmanager posts to.
fn door(address: &str, name: &str) -> String {
    let base =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let plain = format!("{}/alertmanager/{name}", base.trim_end_matches('/'));
    let Ok(mut url) = url::Url::parse(&base) else { return plain };
    if let Ok(mut steps) = url.path_segments_mut() {
        steps.pop_if_empty().extend(["alertmanager", name]);
    }
    url.into()
}

fn receiver_name(spec: &Spec) -> String {
    quoted(&format!("watchpost-{}", spec.name))
}

/// A name that a file can have.
fn file_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.chars().map(|c| if fits(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, watchdog: &str) -> Arc<Spec> {
        let text = format!(r#"{{"name":"{name}","watchdog":{watchdog}}}"#);
        Arc::new(serde_json::from_str(&text).unwrap())
    }

    const PLACE: Place<'_> = Place { address: "wp:9115", credentials_file: None };

    #[test]
    fn the_route_repeats_every_minute() {
        let text = text(&[spec("alerting", "{}")], &PLACE);
        for part in [
            "receiver: 'watchpost-alerting'",
            r#"matchers: ['alertname="Watchdog"', 'origin="watchpost"']"#,
            "group_interval: 1m\n      repeat_interval: 50s\n",
            "Repeats every 1m ",
            "url: 'http://wp:9115/alertmanager/alerting'",
            "credentials_file: '/etc/alertmanager/watchpost-alerting'",
            "send_resolved: true",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("continue:"), "{text}");
    }

    #[test]
    fn replicas_shorten_the_repeat_interval() {
        let three = spec("a", r#"{"alertmanagers":["http://1","http://2","http://3"]}"#);
        let text = text(&[three], &PLACE);
        assert!(text.contains("repeat_interval: 20s"), "{text}");
        assert!(text.contains("Repeats every 1m in a cluster of 3"), "{text}");
    }

    #[test]
    fn names_are_quoted_where_they_stand() {
        let place = Place { address: "https://wp/x/", credentials_file: Some("/run/k") };
        let both = text(&[spec("it's a b", "{}"), spec("c", "{}")], &place);
        assert!(both.contains("url: 'https://wp/x/alertmanager/it''s%20a%20b'"), "{both}");
        assert!(both.contains("receiver: 'watchpost-it''s a b'"), "{both}");
        assert_eq!(both.matches("continue: true").count(), 1, "{both}");
    }
}
