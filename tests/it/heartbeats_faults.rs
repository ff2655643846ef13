//! Heartbeats when something is wrong: at the service, with us, in the configuration, in the other region.

use rustix::process::Signal;

use crate::heartbeats::{CHECK, Estate, UUID, cronitor, gate, healthchecks, no_more_beats, ping};
use crate::notify_delivery::until;
use crate::support::fakes::{Fake, Incident, Reply, Service, TELEMETRY_KEY};
use crate::support::watchpost::{get, run};

/// Each fault by its name, and a service that works goes on beside them.
#[tokio::test(flavor = "multi_thread")]
async fn services_that_fail_are_told_apart_and_do_not_disturb_the_others() {
    let estate = Estate::start().await;
    let good = Service::healthchecks(&[CHECK]).await;
    let portal = Fake::start(|_| Reply::Redirect("http://127.0.0.1:1/login".into())).await;
    let page = Fake::start(|_| Reply::text(200, "<html>Please log in</html>")).await;
    let limited = Fake::start(|_| Reply::Later(429, "31536000".into())).await;
    let broken = Fake::start(|_| Reply::text(503, "")).await;
    let hanging = Fake::start(|_| Reply::Hang).await;
    let unknown = Fake::start(|_| Reply::text(404, "not found")).await;
    let rows = [
        ("portal", portal.url.as_str(), "redirected"),
        ("page", page.url.as_str(), "unexpected_body"),
        ("limited", limited.url.as_str(), "rate_limited"),
        ("broken", broken.url.as_str(), "server_error"),
        ("hanging", hanging.url.as_str(), "timeout"),
        ("unknown", unknown.url.as_str(), "refused"),
        ("nobody", "http://127.0.0.1:1", "network"),
    ];
    let mut beats: Vec<String> = rows
        .iter()
        .map(|(name, url, _)| {
            format!(
                "name: {name}, interval: 5s, timeout: 1s, healthchecks: {{ url: '{url}/{CHECK}' }}"
            )
        })
        .collect();
    beats.push(healthchecks("good", &good, CHECK));
    let watchpost = estate.run(&estate.config(&beats), &[]);
    ping(&watchpost, "").await;
    for (name, _, result) in rows {
        let labels = [format!("heartbeat=\"{name}\""), format!("result=\"{result}\"")];
        let labels = labels.each_ref().map(String::as_str);
        watchpost.until("watchpost_heartbeat_sends_total", &labels, |v| v >= 1.0).await;
        let accepted = [labels[0], "result=\"accepted\""];
        let count = watchpost.metric("watchpost_heartbeat_sends_total", &accepted).await;
        assert_eq!(count, Some(0.0), "{name}");
        // The evidence holds: that is another metric.
        let open = watchpost.metric("watchpost_heartbeat_open", &labels[..1]).await;
        assert_eq!(open, Some(1.0), "{name}");
    }
    let before = good.beats(CHECK);
    until("beats of the good one", || good.beats(CHECK) >= before + 2).await;
    // A redirect was not followed, and what nobody will take was not tried again within the same beat.
    assert!(portal.count() <= good.http.count() + 2, "{}", portal.count());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_adds_removes_and_keeps() {
    let estate = Estate::start().await;
    let service = Service::healthchecks(&["a", "b", "c"]).await;
    let of = |name: &str| healthchecks(name, &service, name);
    let watchpost = estate.run(&estate.config(&[of("a"), of("b")]), &[]);
    ping(&watchpost, "").await;
    until("beats", || service.beats("a") >= 1 && service.beats("b") >= 1).await;
    let path = estate.folder.path().join("w.yml");
    std::fs::write(path, estate.config(&[of("b"), of("c")])).unwrap();
    let answer = reqwest::Client::new().post(watchpost.url("/-/reload")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let sent = "watchpost_heartbeat_last_sent_timestamp_seconds";
    assert!(watchpost.metric(sent, &["heartbeat=\"b\""]).await.is_some(), "it was not begun anew");
    until("a beat of the new one", || service.beats("c") >= 1).await;
    let gone = service.beats("a");
    let before = service.beats("b");
    until("more beats of what stayed", || service.beats("b") >= before + 2).await;
    assert_eq!(service.beats("a"), gone);
    let page = get(&watchpost.url("/metrics")).await.1;
    assert!(!page.contains("heartbeat=\"a\""), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_by_the_blind() {
    let estate = Estate::start().await;
    let service = Service::healthchecks(&[CHECK]).await;
    let config = estate.config(&[healthchecks("pipeline", &service, CHECK)]);
    let config = format!("references: ['no-such-host.invalid:443']\n{config}");
    let watchpost = estate.run(&config, &[]);
    watchpost.until("watchpost_blind", &[], |v| v == 1.0).await;
    ping(&watchpost, "").await;
    gate(&watchpost, "deadman:alerting", 1.0).await;
    gate(&watchpost, "probe:part", 1.0).await;
    gate(&watchpost, "references", 0.0).await;
    no_more_beats(&service).await;
    assert_eq!(service.beats(CHECK), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pager_that_refuses_is_no_evidence() {
    let estate = Estate::start().await;
    let service = Service::healthchecks(&[CHECK]).await;
    let beat = healthchecks("pipeline", &service, CHECK);
    let other = "7f0c1f1e-8b67-4c5f-9d43-0b5a2d0b7f13";
    let config = estate.config(&[beat]).replace(
        "probes:",
        &format!("  - {{ name: other, interval: 1h, grace: 1h, uuid: {other}, notify: [oncall] }}\nprobes:"),
    );
    let watchpost = estate.run(&config, &[]);
    ping(&watchpost, "").await;
    until("a beat", || service.beats(CHECK) >= 1).await;
    // The key was revoked, which nobody knows until there is something to tell.
    estate.pagerduty.set_keys(&[]);
    assert_eq!(get(&watchpost.url(&format!("/ping/{other}/fail"))).await.0, 200);
    gate(&watchpost, "receiver:oncall", 0.0).await;
    let why = ["gate=\"receiver:oncall\"", "reason=\"undelivered\""];
    watchpost.until("watchpost_heartbeat_gate_closed_info", &why, |v| v == 1.0).await;
    no_more_beats(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_shard_beats() {
    let estate = Estate::start().await;
    let service = Service::healthchecks(&[CHECK]).await;
    let config = estate.config(&[healthchecks("pipeline", &service, CHECK)]);
    let watchpost = estate.run(&config, &["--shard=2/2"]);
    assert!(
        watchpost.log().contains("only the first shard sends heartbeats"),
        "{}",
        watchpost.log()
    );
    let page = get(&watchpost.url("/metrics")).await.1;
    assert!(!page.contains("watchpost_heartbeat_open{"), "{page}");
    assert!(!page.contains("job=\"part\""), "the pipeline belongs to the first shard: {page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_can_be_tried_by_hand() {
    let estate = Estate::start().await;
    let (good, forgetful) = (Service::cronitor(&["m"]).await, Service::cronitor(&["m"]).await);
    let portal = Fake::start(|_| Reply::Redirect("http://127.0.0.1:1/".into())).await;
    let config = estate.config(&[
        cronitor("good", &good, TELEMETRY_KEY, "m"),
        cronitor("wrong key", &forgetful, "a-wrong-one", "m"),
        cronitor("misspelt", &good, TELEMETRY_KEY, "n"),
        format!("name: portal, http: {{ url: '{}/' }}", portal.url),
    ]);
    let path = estate.folder.path().join("w.yml");
    std::fs::write(&path, config).unwrap();
    let file = format!("--config.file={}", path.display());
    let rows = [
        ("good", 0, "recorded: yes, 20"),
        ("wrong key", 1, "recorded: NO"),
        ("misspelt", 1, "was not there before"),
        ("portal", 1, "redirected"),
    ];
    for (name, code, text) in rows {
        let (found, output, errors) = run(&["heartbeat", "test", name, &file, "--wait=1s"]);
        assert_eq!(found, code, "{name}: {output}{errors}");
        assert!(output.contains(text), "{name}: {output}{errors}");
        assert!(!format!("{output}{errors}").contains(TELEMETRY_KEY), "{output}{errors}");
    }
    assert_eq!(good.beats("m"), 1);
    let (code, _, errors) = run(&["heartbeat", "test", "goood", &file]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("known: good"), "{errors}");
}

/// Two watchposts, the one a dead man's switch of the other: who falls silent is paged by the one that is left.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_region_pages_when_this_one_dies() {
    let (here, there) = (Estate::start().await, Estate::start().await);
    let pagerduty = &there.pagerduty;
    let other = there.run(
        &format!(
            "watchpost: {{ id: there }}\n\
             receivers:\n  - {{ name: oncall, resolve_after: 1s, pagerduty: {{ routing_key: k1, url: '{}' }} }}\n\
             deadman:\n  - {{ name: region-here, interval: 6s, grace: 6s, key: a-key-between-regions-0123, uuid: {UUID}, notify: [oncall] }}\n",
            pagerduty.url()
        ),
        &[],
    );
    let url = other.url("/ping/a-key-between-regions-0123/region-here");
    let config = format!(
        "watchpost: {{ id: here }}\nmodules: {{ open: {{ prober: tcp }} }}\n\
         probes:\n  - {{ name: part, module: open, interval: 1s, pipeline: true, targets: ['{}'] }}\n\
         heartbeats:\n  - {{ name: there, interval: 5s, timeout: 2s, healthchecks: {{ url: '{url}' }}, when: [{{ probe: part }}] }}\n",
        here.address
    );
    let mut one = here.run(&config, &[]);
    let beats = ["deadman=\"region-here\"", "result=\"success\""];
    other.until("watchpost_deadman_beats_total", &beats, |v| v >= 3.0).await;
    assert_eq!(pagerduty.opened(), 0);
    one.signal(Signal::KILL);
    one.wait();
    drop(one);
    until("a page about the region that died", || pagerduty.open() == 1).await;
    let history = pagerduty.history();
    let Some(Incident::Opened { summary, .. }) = history.last() else { panic!("{history:?}") };
    assert!(summary.contains("region-here"), "{summary}");
    let _again = here.run(&config, &[]);
    until("the end", || pagerduty.open() == 0).await;
}
