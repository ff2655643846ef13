//! From outcomes over the ledger and the board to the page that Prometheus reads.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use watchpost::app::ledger::{Finished, Ledger, Recorded};
use watchpost::board::Board;
use watchpost::metrics::exposition::{Encoding, Writer};
use watchpost::metrics::{Identity, Shown, render_outcome, render_own, render_results};
use watchpost::model::{
    Answer, Check, CheckId, Disabled, Fact, Fault, Labels, Notify, Outcome, Phase, ProbePolicy,
    Stamp, Status, Target, Thresholds, Unknown, family,
};
use watchpost::probe::exposition::{Format, Limits, Reader, Sample};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(5);

struct Estate {
    board: Arc<Board>,
    ledger: Ledger,
    now: Stamp,
}

impl Estate {
    fn new() -> Self {
        let board = Board::new();
        let identity = Identity { watchpost: "w1".into(), region: Some("eu".into()) };
        let ledger = Ledger::new(board.clone(), identity);
        let now = Stamp::new(Timestamp::from_second(1_800_000_000).unwrap(), INTERVAL);
        Self { board, ledger, now }
    }

    fn with(checks: Vec<Arc<Check>>) -> Self {
        let mut estate = Self::new();
        let applied = estate.ledger.apply(checks, estate.now);
        assert!(applied.changes.checks.is_empty() && applied.removed.is_empty());
        estate
    }

    fn pass_time(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    fn record(&mut self, id: CheckId, answer: Answer) -> Recorded {
        self.finish(id, outcome(self.now, answer), false)
    }

    fn finish(&mut self, id: CheckId, outcome: Outcome, early: bool) -> Recorded {
        self.ledger.record(Finished { id, outcome, early }, self.now)
    }

    fn status(&self, id: CheckId) -> Status {
        self.board.get(id).unwrap().load().status_at(self.now)
    }

    fn group(&self, probe: &str) -> Status {
        self.board.snapshot().group(probe).unwrap().status
    }

    fn page(&self) -> String {
        self.page_in(Encoding::Text004)
    }

    fn page_in(&self, encoding: Encoding) -> String {
        let scrape = self.board.begin_scrape();
        let views = self.board.snapshot().views();
        let mut writer = Writer::new(encoding);
        render_results(&Shown { views: &views, now: self.now, scrape }, &mut writer);
        String::from_utf8(writer.finish()).unwrap()
    }
}

fn policy(name: &str) -> ProbePolicy {
    ProbePolicy {
        name: name.into(),
        module: "http_2xx".into(),
        prober: "http",
        phases: &family::PROBE_HTTP_DURATION,
        interval: INTERVAL,
        timeout: TIMEOUT,
        thresholds: Thresholds::default(),
        retry_interval: Some(Duration::from_secs(5)),
        min_up: None,
        pipeline: false,
        notify: Notify::default(),
        histogram: Arc::from([]),
    }
}

fn check_of(policy: &Arc<ProbePolicy>, target: &str, labels: &[(&str, &str)]) -> Arc<Check> {
    let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let labels = Labels::try_new(labels).unwrap();
    Arc::new(Check::new(policy.clone(), Target::plain(target), &labels))
}

fn check(target: &str) -> Arc<Check> {
    check_of(&Arc::new(policy("web")), target, &[])
}

fn outcome(started: Stamp, answer: Answer) -> Outcome {
    Outcome {
        started,
        took: Duration::from_millis(250),
        timeout: TIMEOUT,
        phases: vec![(Phase::Resolve, Duration::from_millis(50))],
        phase: (answer != Answer::Pass).then_some(Phase::Processing),
        address: None,
        facts: vec![Fact::new(&family::PROBE_HTTP_STATUS_CODE, 200.0)],
        answer,
    }
}

fn refused() -> Answer {
    Answer::Fail(Fault::HttpStatus { code: 503 })
}

fn without_help(page: &str) -> Vec<&str> {
    page.lines().filter(|line| !line.starts_with('#')).collect()
}

fn lines_of<'p>(page: &'p str, name: &str) -> Vec<&'p str> {
    let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    page.lines().filter(is_of).collect()
}

const BASE: &str = r#"instance="a:1",job="web",module="http_2xx",probe_region="eu",watchpost="w1""#;

#[test]
fn before_the_first_run_there_is_a_status_and_counters_and_no_result() {
    let estate = Estate::with(vec![check("a:1")]);
    let page = estate.page();
    assert!(lines_of(&page, "probe_success").is_empty());
    assert!(lines_of(&page, "probe_last_run_timestamp_seconds").is_empty());
    assert_eq!(lines_of(&page, "probe_runs_total").len(), 4);
    assert!(page.contains(&format!("probe_status{{{BASE},status=\"unknown\"}} 1\n")));
    assert!(page.contains(&format!("probe_status{{{BASE},status=\"up\"}} 0\n")));
    assert!(page.contains("# TYPE probe_run_duration_seconds summary\n"));
}

#[test]
fn one_page_as_a_whole() {
    let mut estate = Estate::with(vec![check("a:1")]);
    let id = check("a:1").id;
    drop(estate.record(id, Answer::Pass));
    estate.pass_time(INTERVAL);
    drop(estate.record(id, refused()));
    estate.page();
    estate.page();
    let page = estate.page();
    let expected = [
        "probe_success{B} 0",
        "probe_duration_seconds{B} 0.25",
        "probe_timeout_seconds{B} 5",
        "probe_interval_seconds{B} 30",
        "probe_status{B,status=\"up\"} 0",
        "probe_status{B,status=\"degraded\"} 0",
        "probe_status{B,status=\"down\"} 1",
        "probe_status{B,status=\"unknown\"} 0",
        "probe_status{B,status=\"paused\"} 0",
        "probe_status_since_timestamp_seconds{B} 1.80000003e+09",
        "probe_failure_info{B,reason=\"http_status\",phase=\"processing\"} 1",
        "probe_runs_total{B,result=\"pass\"} 1",
        "probe_runs_total{B,result=\"warn\"} 0",
        "probe_runs_total{B,result=\"fail\"} 1",
        "probe_runs_total{B,result=\"unknown\"} 0",
        "probe_retries_total{B} 0",
        "probe_failures_total{B,reason=\"http_status\"} 1",
        "probe_run_duration_seconds_sum{B} 0.5",
        "probe_run_duration_seconds_count{B} 2",
        "probe_last_run_timestamp_seconds{B} 1.80000003e+09",
        "probe_last_success_timestamp_seconds{B} 1.8e+09",
        "probe_http_duration_seconds{B,phase=\"resolve\"} 0.05",
        "probe_http_status_code{B} 200",
    ];
    let expected = expected.map(|line| line.replace("{B", &format!("{{{BASE}")));
    assert_eq!(without_help(&page), expected);
}

#[test]
fn a_first_failure_is_an_increase() {
    let mut estate = Estate::with(vec![check("a:1")]);
    let id = check("a:1").id;
    estate.page();
    drop(estate.record(id, refused()));
    let value = |page: String| lines_of(&page, "probe_failures_total")[0].ends_with(" 0");
    assert!(value(estate.page()), "the scrape after the first failure shows 0");
    assert!(!value(estate.page()));
}

#[test]
fn a_stale_result_is_absent_and_its_counters_stay() {
    let mut estate = Estate::with(vec![check("a:1")]);
    let id = check("a:1").id;
    drop(estate.record(id, Answer::Pass));
    // Nobody ticks: the owner itself may be the one that hangs.
    estate.pass_time(INTERVAL * 2 + TIMEOUT + Duration::from_secs(1));
    let page = estate.page();
    assert!(lines_of(&page, "probe_success").is_empty());
    assert!(lines_of(&page, "probe_http_status_code").is_empty());
    assert!(page.contains(&format!("probe_status{{{BASE},status=\"unknown\"}} 1\n")));
    assert!(page.contains(&format!("probe_runs_total{{{BASE},result=\"pass\"}} 1\n")));
    assert_eq!(lines_of(&page, "probe_last_success_timestamp_seconds").len(), 1);
    let changes = estate.ledger.tick(estate.now);
    assert_eq!(changes.checks[0].unknown, Some(Unknown::Stale));
    assert!(estate.ledger.tick(estate.now).checks.is_empty());
}

#[test]
fn early_runs_are_counted_apart() {
    let mut policy = policy("web");
    policy.thresholds.failure = 2;
    let check = check_of(&Arc::new(policy), "a:1", &[]);
    let mut estate = Estate::with(vec![check.clone()]);
    let recorded = estate.record(check.id, refused());
    assert_eq!(recorded.retry_in, Some(Duration::from_secs(5)));
    let recorded = estate.finish(check.id, outcome(estate.now, refused()), true);
    assert_eq!((recorded.changes.checks[0].to, recorded.retry_in), (Status::Down, None));
    let page = estate.page();
    assert!(page.contains(&format!("probe_runs_total{{{BASE},result=\"fail\"}} 1\n")));
    assert!(page.contains(&format!("probe_retries_total{{{BASE}}} 1\n")));
    assert!(page.contains(&format!("probe_run_duration_seconds_count{{{BASE}}} 1\n")));
}

#[test]
fn a_reload_keeps_counters_and_status_and_takes_over_labels() {
    let mut estate = Estate::with(vec![check("a:1"), check("b:1")]);
    let id = check("a:1").id;
    drop(estate.record(id, Answer::Pass));
    drop(estate.record(check("b:1").id, refused()));
    let edited = check_of(&Arc::new(policy("web")), "a:1", &[("team", "x")]);
    let applied = estate.ledger.apply(vec![edited, check("c:1")], estate.now);
    assert_eq!(applied.added, 1);
    let (gone, status) = &applied.removed[0];
    assert_eq!((gone.target.address.as_str(), *status), ("b:1", Status::Down));
    assert_eq!(estate.status(id), Status::Up);
    let page = estate.page();
    assert!(!page.contains("b:1"));
    let labels =
        r#"{instance="a:1",job="web",module="http_2xx",probe_region="eu",team="x",watchpost="w1","#;
    assert!(page.contains(&format!("probe_runs_total{labels}result=\"pass\"}} 1\n")), "{page}");
    let late = estate.record(check("b:1").id, Answer::Pass);
    assert!(!late.is_known && late.changes.checks.is_empty());
}

#[test]
fn a_buckets_edit_begins_the_histogram_anew() {
    let mut estate = Estate::with(vec![check("a:1"), check("b:1")]);
    let id = check("a:1").id;
    drop(estate.record(id, Answer::Pass));
    let mut bucketed = policy("web");
    bucketed.histogram = Arc::from([0.1, 0.5, 1.0]);
    let bucketed = check_of(&Arc::new(bucketed), "a:1", &[]);
    drop(estate.ledger.apply(vec![bucketed, check("b:1")], estate.now));
    drop(estate.record(id, Answer::Pass));
    let page = estate.page_in(Encoding::OpenMetrics100);
    assert!(page.contains("# TYPE probe_run_duration_seconds histogram\n"));
    let counts: Vec<_> = lines_of(&page, "probe_run_duration_seconds_bucket")
        .iter()
        .map(|line| line.rsplit_once("le=").unwrap().1)
        .collect();
    let expected = ["\"0.1\"} 0", "\"0.5\"} 1", "\"1.0\"} 1", "\"+Inf\"} 1", "\"+Inf\"} 0"];
    assert_eq!(counts, expected, "the check without bounds has one bucket");
}

#[test]
fn labels_of_targets_give_way_to_those_of_families() {
    let policy = Arc::new(policy("web"));
    let labels = [("status", "s"), ("phase", "p"), ("exported_phase", "q"), ("le", "l")];
    let check = check_of(&policy, "a:1", &labels);
    let mut estate = Estate::with(vec![check.clone()]);
    let mut outcome = outcome(estate.now, refused());
    outcome.facts.push(Fact::info(&family::PROBE_EXPECT_INFO, [("job".into(), "x".into())]));
    drop(estate.finish(check.id, outcome, false));
    let page = estate.page();
    for line in without_help(&page) {
        let mut names: Vec<_> = line.split(['{', ',']).skip(1).collect();
        for name in &mut names {
            *name = name.split('=').next().unwrap();
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{line}");
    }
    assert!(page.contains(r#"exported_exported_phase="p""#), "{page}");
    assert!(page.contains(r#"exported_job="x""#));
    assert!(lines_of(&page, "probe_success")[0].contains(r#",status="s","#));
}

#[test]
fn checks_that_look_alike_are_told_apart() {
    let policy = Arc::new(policy("web"));
    let named = |name: &str| {
        let mut target = Target::plain("a:1");
        target.hostname = Some(name.to_owned());
        Arc::new(Check::new(policy.clone(), target, &Labels::default()))
    };
    let estate = Estate::with(vec![named("x"), named("y"), check("b:1")]);
    let page = estate.page();
    let mut lines = lines_of(&page, "probe_retries_total");
    assert!(lines.iter().any(|line| line.contains(&format!("check=\"{}\"", named("x").id))));
    lines.dedup();
    assert_eq!(lines.len(), 3);
}

#[test]
fn enough_members_of_a_probe_decide_and_the_missing_are_named() {
    let mut quorum = policy("am");
    quorum.min_up = Some(2);
    let quorum = Arc::new(quorum);
    let checks: Vec<_> = ["1", "2", "3"].map(|target| check_of(&quorum, target, &[])).into();
    let ids: Vec<_> = checks.iter().map(|check| check.id).collect();
    let mut estate = Estate::with(checks);
    for id in &ids {
        drop(estate.record(*id, Answer::Pass));
    }
    assert_eq!(estate.group("am"), Status::Up);
    let recorded = estate.record(ids[1], refused());
    let change = &recorded.changes.groups[0];
    assert_eq!((change.from, change.to), (Status::Up, Status::Degraded));
    let missing: Vec<_> = change.missing.iter().map(|(c, _)| c.target.address.as_str()).collect();
    assert_eq!(missing, ["2"]);
    let recorded = estate.record(ids[2], refused());
    assert_eq!(recorded.changes.groups[0].to, Status::Down);
    assert!(!estate.board.snapshot().group("am").unwrap().has_enough());
    let news = estate.board.changes();
    assert_eq!(news[0].statuses(), (Status::Degraded, Status::Down));
    assert_eq!(news.len(), 8, "five of checks and three of their probe");
}

#[test]
fn what_was_held_while_blind_is_asked_again_with_sight() {
    let mut estate = Estate::with(vec![check("a:1")]);
    let id = check("a:1").id;
    drop(estate.record(id, Answer::Pass));
    assert!(estate.ledger.set_blind(true, estate.now).is_empty());
    let recorded = estate.record(id, refused());
    assert!(recorded.changes.checks.is_empty() && recorded.retry_in.is_none());
    assert_eq!(estate.board.get(id).unwrap().load().held, Some(Status::Down));
    assert!(estate.page().contains(&format!("probe_success{{{BASE}}} 0\n")), "as measured");
    let in_flight = outcome(estate.now, refused());
    estate.pass_time(Duration::from_secs(1));
    assert_eq!(estate.ledger.set_blind(false, estate.now), [id]);
    assert_eq!(estate.board.get(id).unwrap().load().held, None);
    assert!(estate.finish(id, in_flight, false).changes.checks.is_empty());
    assert_eq!(estate.record(id, refused()).changes.checks[0].to, Status::Down);
}

#[test]
fn nothing_gets_worse_before_a_reference_has_answered() {
    let mut estate = Estate::with(vec![check("a:1")]);
    let id = check("a:1").id;
    drop(estate.ledger.guard(true, estate.now));
    assert_eq!(estate.record(id, Answer::Pass).changes.checks[0].to, Status::Up);
    assert!(!estate.ledger.is_in_doubt());
    let before = estate.now;
    estate.pass_time(Duration::from_secs(1));
    assert!(estate.record(id, refused()).changes.checks.is_empty());
    assert!(estate.ledger.is_in_doubt());
    // An answer to what was asked before says nothing about now.
    assert!(estate.ledger.seen(before, estate.now).checks.is_empty());
    let asked = estate.now;
    estate.pass_time(Duration::from_secs(1));
    // Another failure meanwhile does not make it wait longer.
    assert!(estate.record(id, refused()).changes.checks.is_empty());
    let changes = estate.ledger.seen(asked, estate.now);
    assert_eq!(changes.checks[0].to, Status::Down);
    assert!(changes.checks[0].fault.is_some());
    assert!(!estate.ledger.is_in_doubt());
    assert_eq!(estate.board.get(id).unwrap().load().held, None);
}

#[test]
fn what_was_in_doubt_is_blamed_on_nobody_when_no_reference_answers() {
    let mut estate = Estate::with(vec![check("a:1")]);
    let id = check("a:1").id;
    drop(estate.ledger.guard(true, estate.now));
    drop(estate.record(id, Answer::Pass));
    assert!(estate.record(id, refused()).changes.checks.is_empty());
    assert!(estate.ledger.set_blind(true, estate.now).is_empty());
    assert!(!estate.ledger.is_in_doubt());
    assert!(estate.ledger.seen(estate.now, estate.now).checks.is_empty());
    assert_eq!(estate.ledger.set_blind(false, estate.now), [id]);
    assert_eq!(estate.status(id), Status::Up);
    // What recovers by itself leaves no doubt.
    drop(estate.record(id, refused()));
    drop(estate.record(id, Answer::Pass));
    assert!(!estate.ledger.is_in_doubt());
    // Without references there is nobody to ask.
    drop(estate.record(id, refused()));
    assert_eq!(estate.ledger.guard(false, estate.now).checks[0].to, Status::Down);
}

#[test]
fn what_speaks_of_a_blind_time_makes_nothing_worse() {
    let mut estate = Estate::with(vec![check("a:1")]);
    let id = check("a:1").id;
    drop(estate.record(id, Answer::Pass));
    let blind = outcome(estate.now, refused());
    let changes = estate.ledger.hold(id, blind, None, estate.now);
    assert!(changes.checks.is_empty());
    assert_eq!(estate.status(id), Status::Up);
    assert_eq!(estate.record(id, refused()).changes.checks[0].to, Status::Down);
}

#[test]
fn a_disabled_target_is_paused_until_its_day() {
    let mut target = Target::plain("a:1");
    let until = Some("2027-01-16".parse().unwrap());
    target.disabled = Some(Disabled { until, reason: "not launched".into() });
    let check = Arc::new(Check::new(Arc::new(policy("web")), target, &Labels::default()));
    let mut estate = Estate::with(vec![check.clone()]);
    assert_eq!(estate.status(check.id), Status::Paused);
    estate.now.wall = "2027-01-15T23:59:59Z".parse().unwrap();
    assert!(estate.ledger.tick(estate.now).checks.is_empty());
    estate.pass_time(Duration::from_secs(1));
    assert_eq!(estate.ledger.tick(estate.now).checks[0].to, Status::Unknown);
}

#[test]
fn a_pause_by_hand_outlives_a_reload() {
    let mut estate = Estate::with(vec![check("a:1")]);
    let id = check("a:1").id;
    assert_eq!(estate.ledger.set_paused("web", true, estate.now).checks[0].to, Status::Paused);
    assert!(estate.ledger.set_paused("web", true, estate.now).checks.is_empty());
    drop(estate.ledger.apply(vec![check("a:1")], estate.now));
    assert!(estate.ledger.tick(estate.now).checks.is_empty());
    assert_eq!(estate.status(id), Status::Paused);
    assert_eq!(estate.ledger.set_paused("web", false, estate.now).checks[0].to, Status::Unknown);
}

/// What was paused when the process ended and is no more would otherwise stay so for ever.
#[test]
fn a_pause_from_before_a_restart_holds_only_if_it_is_said_again() {
    let mut estate = Estate::new();
    let id = check("a:1").id;
    estate.ledger.restore(id, Status::Paused, estate.now);
    drop(estate.ledger.apply(vec![check("a:1")], estate.now));
    assert_eq!(estate.status(id), Status::Unknown);
    let recorded = estate.record(id, Answer::Pass);
    assert_eq!(recorded.changes.checks[0].to, Status::Up);
}

#[test]
fn a_status_from_before_a_restart_goes_on() {
    let mut estate = Estate::new();
    let id = check("a:1").id;
    estate.ledger.restore(id, Status::Down, estate.now);
    drop(estate.ledger.apply(vec![check("a:1")], estate.now));
    assert_eq!(estate.status(id), Status::Down);
    let recorded = estate.record(id, Answer::Pass);
    assert_eq!(recorded.changes.checks[0].from, Status::Down);
}

#[test]
fn what_was_restored_and_exists_no_more_is_known() {
    let mut estate = Estate::new();
    for target in ["a:1", "b:1"] {
        estate.ledger.restore(check(target).id, Status::Down, estate.now);
    }
    drop(estate.ledger.apply(vec![check("a:1")], estate.now));
    assert_eq!(estate.ledger.take_unclaimed(), [(check("b:1").id, Status::Down)]);
    assert!(estate.ledger.take_unclaimed().is_empty());
}

#[test]
fn a_probe_that_is_down_when_its_rule_comes_is_a_change() {
    let mut estate = Estate::with(vec![check("a:1"), check("b:1")]);
    for target in ["a:1", "b:1"] {
        assert!(estate.record(check(target).id, refused()).changes.groups.is_empty());
    }
    let mut quorum = policy("web");
    quorum.min_up = Some(1);
    let quorum = Arc::new(quorum);
    let checks = ["a:1", "b:1"].map(|target| check_of(&quorum, target, &[]));
    let applied = estate.ledger.apply(checks.to_vec(), estate.now);
    assert_eq!(applied.changes.groups[0].to, Status::Down);
    let applied = estate.ledger.apply(Vec::new(), estate.now);
    let (policy, status) = &applied.removed_probes[0];
    assert_eq!((&*policy.name, *status), ("web", Status::Down));
    assert!(estate.board.snapshot().groups().is_empty());
    assert!(estate.page().is_empty());
}

#[test]
fn restarts_of_an_exporter_are_counted() {
    let mut estate = Estate::with(vec![check("a:1")]);
    let id = check("a:1").id;
    for start in [1e9, 1e9 + 1.0, 1e9 + 60.0, 1e9 + 120.0] {
        let mut outcome = outcome(estate.now, Answer::Pass);
        outcome.facts.push(Fact::new(&family::PROBE_EXPORTER_START_TIME, start));
        drop(estate.finish(id, outcome, false));
    }
    assert!(estate.page().contains(&format!("probe_exporter_restarts_total{{{BASE}}} 2\n")));
}

#[test]
fn passes_do_not_push_failures_out_of_the_history() {
    let mut estate = Estate::with(vec![check("a:1")]);
    let id = check("a:1").id;
    drop(estate.record(id, refused()));
    for _ in 0..100 {
        drop(estate.record(id, Answer::Pass));
    }
    let cell = estate.board.get(id).unwrap();
    assert_eq!(cell.history().recent().len(), 32);
    let failed = cell.history().failed();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].reason.unwrap().label(), "http_status");
    assert_eq!(failed[0].took, Duration::from_millis(250));
    assert!(cell.load().last_failure.is_some());
}

#[test]
fn one_outcome_alone_looks_like_blackbox() {
    let mut outcome = outcome(Stamp::new(Timestamp::UNIX_EPOCH, TIMEOUT), refused());
    outcome.phases.push((Phase::Connect, Duration::ZERO));
    outcome.facts.insert(0, Fact::new(&family::PROBE_TLS_CIPHER_INFO, 1.0));
    let mut writer = Writer::new(Encoding::Text004);
    render_outcome(&outcome, &family::PROBE_HTTP_DURATION, &mut writer);
    let page = String::from_utf8(writer.finish()).unwrap();
    let expected = [
        "probe_duration_seconds 0.25",
        "probe_failure_info{phase=\"processing\",reason=\"http_status\"} 1",
        "probe_http_duration_seconds{phase=\"connect\"} 0",
        "probe_http_duration_seconds{phase=\"resolve\"} 0.05",
        "probe_http_status_code 200",
        "probe_success 0",
        "probe_timeout_seconds 5",
        "probe_tls_cipher_info 1",
    ];
    assert_eq!(without_help(&page), expected);
    assert_eq!(page.matches("# TYPE probe_http_duration_seconds gauge").count(), 1);
}

#[test]
fn our_own_numbers_have_the_table_s_types() {
    let registry = prometheus::Registry::new();
    let info = family::BUILD_INFO.int_gauges(&registry);
    info.with_label_values(&["1", "1.90"]).set(1);
    family::CHANGES.counters(&registry).with_label_values(&["up"]).inc();
    family::SCHEDULE_LATENESS.histogram(&registry, &[0.5, 1.0]).observe(0.7);
    let page = |encoding| {
        let mut writer = Writer::new(encoding);
        render_own(&registry, &mut writer);
        String::from_utf8(writer.finish()).unwrap()
    };
    let text = page(Encoding::Text004);
    let expected = [
        "watchpost_build_info{rustversion=\"1.90\",version=\"1\"} 1",
        "watchpost_schedule_lateness_seconds_bucket{le=\"0.5\"} 0",
        "watchpost_schedule_lateness_seconds_bucket{le=\"1\"} 1",
        "watchpost_schedule_lateness_seconds_bucket{le=\"+Inf\"} 1",
        "watchpost_schedule_lateness_seconds_sum 0.7",
        "watchpost_schedule_lateness_seconds_count 1",
        "watchpost_status_changes_total{to=\"up\"} 1",
    ];
    assert_eq!(without_help(&text), expected);
    let openmetrics = page(Encoding::OpenMetrics100);
    assert!(openmetrics.contains("# TYPE watchpost_build info\n"));
    assert!(openmetrics.contains("# TYPE watchpost_status_changes counter\n"));
    assert!(openmetrics.contains("_bucket{le=\"1.0\"} 1\n"));
}

/// Both pages must be ones that our own reader, which judges as Prometheus does, takes as they are.
#[test]
fn every_page_is_one_that_prometheus_would_take() {
    let policy = Arc::new(policy("web"));
    let odd = check_of(&policy, "http://é/?q=\"\\", &[("team", "a\nb"), ("reason", "r")]);
    let mut estate = Estate::with(vec![check("a:1"), odd.clone()]);
    for id in [check("a:1").id, odd.id] {
        drop(estate.record(id, refused()));
    }
    for (encoding, format) in
        [(Encoding::Text004, Format::Text), (Encoding::OpenMetrics100, Format::OpenMetrics)]
    {
        let page = estate.page_in(encoding);
        let mut reader = Reader::new(format, Limits::default());
        let mut sink = |_: Sample<'_>| {};
        reader.feed(page.as_bytes(), &mut sink).unwrap();
        let summary = reader.finish(&mut sink).unwrap();
        assert!(summary.samples > 30, "{summary:?}");
    }
}
