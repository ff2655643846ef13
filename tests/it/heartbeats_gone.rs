//! Heartbeats when what they stand on is gone: the book, DNS, the evidence for so long that the service is told. And that
//! they return.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType};
use rustix::process::Signal;
use tokio::net::TcpListener;

use crate::faults_disk::{Tmpfs, mount};
use crate::heartbeats::{CHECK, Estate, cronitor, gate, healthchecks, no_more_beats, ping};
use crate::notify_delivery::until;
use crate::support::dns::{NameServer, answer, bytes};
use crate::support::fakes::{Service, TELEMETRY_KEY};
use crate::support::watchpost::{Watchpost, get};

/// The gate's metric and the page say this.
async fn says_why(watchpost: &Watchpost, name: &str, reason: &str, words: &str) {
    let labels = [format!("gate=\"{name}\""), format!("reason=\"{reason}\"")];
    let labels = labels.each_ref().map(String::as_str);
    watchpost.until("watchpost_heartbeat_gate_closed_info", &labels, |v| v >= 1.0).await;
    let page = get(&watchpost.url("/")).await.1;
    assert!(page.contains(words) && !page.contains("beating"), "{words}: {page}");
    let log = watchpost.log();
    let said = ["beat withheld", "no beat yet"].iter().any(|it| log.contains(it));
    assert!(said && log.contains(&format!("{name}: ")), "{log}");
}

async fn beats_again(service: &Service, watchpost: &Watchpost) {
    let before = service.beats(CHECK);
    until("a beat after the return", || service.beats(CHECK) > before).await;
    let page = get(&watchpost.url("/")).await.1;
    assert!(page.contains("beating"), "{page}");
}

/// Nobody writes to the door meanwhile: watchpost finds out by itself.
#[tokio::test(flavor = "multi_thread")]
async fn f7_a_full_disk_stops_our_beat_until_there_is_room() {
    let Some(disk) = Tmpfs::mount() else { return };
    let estate = Estate::start().await;
    let service = Service::healthchecks(&[CHECK]).await;
    let config = estate.config(&[healthchecks("pipeline", &service, CHECK)]);
    let watchpost = estate.run_in(&disk.path().join("book"), &config);
    ping(&watchpost, "").await;
    until("a beat", || service.beats(CHECK) >= 1).await;
    disk.fill();
    gate(&watchpost, "book", 0.0).await;
    says_why(&watchpost, "book", "book_broken", "the book cannot be written").await;
    no_more_beats(&service).await;
    disk.make_room();
    gate(&watchpost, "book", 1.0).await;
    beats_again(&service, &watchpost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f7_a_read_only_disk_stops_our_beat_until_it_is_writable() {
    let Some(disk) = Tmpfs::mount() else { return };
    let estate = Estate::start().await;
    let service = Service::healthchecks(&[CHECK]).await;
    let config = estate.config(&[healthchecks("pipeline", &service, CHECK)]);
    let book = disk.path().join("book");
    let mut first = estate.run_in(&book, &config);
    ping(&first, "").await;
    until("a beat", || service.beats(CHECK) >= 1).await;
    first.signal(Signal::TERM);
    first.wait();
    assert!(mount(&["-o", "remount,ro"], disk.path()));
    let second = estate.run_in(&book, &config);
    // The evidence of before is read, and is not enough.
    gate(&second, "deadman:alerting", 1.0).await;
    says_why(&second, "book", "book_broken", "the book cannot be written").await;
    no_more_beats(&service).await;
    assert!(mount(&["-o", "remount,rw"], disk.path()));
    gate(&second, "book", 1.0).await;
    beats_again(&service, &second).await;
}

/// What cannot be looked up is not known to work, however well it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_does_not_answer_stops_our_beat_until_it_does() {
    let estate = Estate::start().await;
    let service = Service::healthchecks(&[CHECK]).await;
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = Arc::clone(&gone);
    let names = NameServer::udp(move |query: &Message| {
        if is_gone.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let is_v4 = query.queries[0].query_type() == RecordType::A;
        let address = RData::A("127.0.0.1".parse().unwrap());
        vec![bytes(&answer(query, is_v4.then_some(address)))]
    })
    .await;
    let resolver = format!(
        "modules: {{ open: {{ prober: tcp, timeout: 1s, resolver: {{ servers: ['{}'], use_hosts_file: false, timeout: 500ms, attempts: 1 }} }} }}",
        names.address
    );
    let port = estate.address.rsplit(':').next().unwrap();
    let config = estate
        .config(&[healthchecks("pipeline", &service, CHECK)])
        .replace("modules: { open: { prober: tcp, timeout: 1s } }", &resolver)
        .replace(
            &format!("targets: ['{}']", estate.address),
            &format!("targets: ['part.example:{port}']"),
        );
    let watchpost = estate.run(&config, &[]);
    ping(&watchpost, "").await;
    until("a beat", || service.beats(CHECK) >= 1).await;
    gone.store(true, Ordering::SeqCst);
    gate(&watchpost, "probe:part", 0.0).await;
    says_why(&watchpost, "probe:part", "down", "part.example").await;
    let reason = ["job=\"part\"", "reason=\"resolve_timeout\""];
    watchpost.until("probe_failure_info", &reason, |v| v >= 1.0).await;
    no_more_beats(&service).await;
    gone.store(false, Ordering::SeqCst);
    beats_again(&service, &watchpost).await;
}

/// The service's own name cannot be looked up: the evidence holds, and that the beat does not arrive is another matter.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_name_is_not_found_is_told_from_missing_evidence() {
    let estate = Estate::start().await;
    let beat = format!(
        "name: lost, interval: 5s, timeout: 2s, healthchecks: {{ url: 'http://no-such-service.invalid/{CHECK}' }}"
    );
    let watchpost = estate.run(&estate.config(&[beat]), &[]);
    ping(&watchpost, "").await;
    let failed = ["heartbeat=\"lost\"", "result=\"network\""];
    let timed_out = ["heartbeat=\"lost\"", "result=\"timeout\""];
    let family = "watchpost_heartbeat_sends_total";
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        let count = watchpost.metric(family, &failed).await.unwrap_or_default()
            + watchpost.metric(family, &timed_out).await.unwrap_or_default();
        if count >= 1.0 {
            break;
        }
        assert!(Instant::now() < end, "{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(watchpost.metric("watchpost_heartbeat_open", &failed[..1]).await, Some(1.0));
    let page = get(&watchpost.url("/")).await.1;
    assert!(page.contains("not accepted"), "{page}");
}

/// Once for each time that the evidence is gone; and what comes after it is a beat.
#[tokio::test(flavor = "multi_thread")]
async fn fail_after_tells_the_service_once_and_the_beat_comes_back() {
    let mut estate = Estate::start().await;
    let checks = Service::healthchecks(&[CHECK]).await;
    let monitors = Service::cronitor(&[CHECK]).await;
    let eager = ", fail_after: 6s, warm_up: 1s";
    let config = estate.config(&[
        healthchecks("checks", &checks, CHECK) + eager,
        cronitor("monitors", &monitors, TELEMETRY_KEY, CHECK) + eager,
    ]);
    let watchpost = estate.run(&config, &[]);
    ping(&watchpost, "").await;
    let failures = || (checks.monitor(CHECK).failures, monitors.monitor(CHECK).failures);
    let beats = || (checks.beats(CHECK), monitors.beats(CHECK));
    until("beats", || beats().0 >= 1 && beats().1 >= 1).await;
    for round in 1..=2 {
        estate.part = None;
        gate(&watchpost, "probe:part", 0.0).await;
        let told = Instant::now();
        // Not before its time.
        assert_eq!(failures(), (round - 1, round - 1));
        until("both were told", || failures() == (round, round)).await;
        assert!(told.elapsed() >= Duration::from_secs(4), "{:?}", told.elapsed());
        let why = |service: &Service| {
            let last = service
                .http
                .ledger()
                .into_iter()
                .rfind(|it| it.path.ends_with("/fail") || it.path.contains("state=fail"));
            let last = last.unwrap();
            format!("{} {}", last.path, String::from_utf8_lossy(&last.body))
        };
        assert!(why(&checks).contains("probe:part"), "{}", why(&checks));
        assert!(why(&monitors).contains("part"), "{}", why(&monitors));
        no_more_beats(&checks).await;
        assert_eq!(failures(), (round, round), "once is enough");
        let before = beats();
        estate.part = Some(TcpListener::bind(&estate.address).await.unwrap());
        until("both beat again", || beats().0 > before.0 && beats().1 > before.1).await;
    }
    let log = watchpost.log();
    assert!(log.contains("the service was told that it failed"), "{log}");
}
