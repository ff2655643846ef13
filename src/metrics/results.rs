//! The results of every check: one page of all families in the order of the table.
//!
//! Gauges of a result are those of the last run, and absent when it is stale or did not measure them. Counters, the
//! status and the times of the last runs are there as long as the check is.
//!
//! `probe_run_duration_seconds` has one type on a page: it is a histogram as soon as one check asks for buckets; checks
//! that ask for none then have the bucket `+Inf` alone. Otherwise it is a summary.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::exposition::{self, Encoding, Writer, rendered_labels};
use super::number;
use super::page::{Section, kind_of};
use crate::model::{
    Check, Fact, FactLabels, Family, Outcome, Phase, RESERVED_LABELS, RunResult, Stamp, Status,
    View, family,
};

/// Who we are, on every result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub watchpost: Arc<str>,
    pub region: Option<Arc<str>>,
}

/// What a page shows: the board as of `now`.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    pub views: &'a [Arc<View>],
    pub now: Stamp,
    /// The number of this scrape. It was drawn before `views` were taken.
    pub scrape: u64,
}

/// The labels of every series of a check, sorted. `apart` is added as `check` where they alone do not tell two checks
/// apart.
pub fn check_labels(check: &Check, identity: &Identity, apart: Option<&str>) -> Arc<str> {
    let mut pairs: Vec<(&str, &str)> = check.labels.iter().collect();
    pairs.push(("job", &check.policy.name));
    pairs.push(("instance", &check.target.address));
    pairs.push(("module", &check.policy.module));
    pairs.push(("watchpost", &identity.watchpost));
    pairs.extend(identity.region.as_deref().map(|region| ("probe_region", region)));
    if let Some(id) = apart {
        pairs.retain(|(name, _)| *name != APART_LABEL);
        pairs.push((APART_LABEL, id));
    }
    pairs.sort_unstable();
    rendered_labels(pairs).into()
}

const APART_LABEL: &str = "check";

/// Writes every family that has samples.
pub fn render_results(shown: &Shown<'_>, writer: &mut Writer) {
    let rows: Vec<Row<'_>> = shown.views.iter().map(|view| Row::new(view, shown)).collect();
    let measured = Measured::collect(&rows);
    for (at, family) in family::RESULTS.iter().copied().enumerate() {
        if std::ptr::eq(family, &raw const family::PROBE_RUN_DURATION) {
            durations(&rows, writer);
            continue;
        }
        let mut section = Section::of_kind(writer, family, kind_of(family.kind));
        match KEPT.iter().find(|(kept, _)| std::ptr::eq(*kept, family)) {
            Some((_, write)) => rows.iter().for_each(|row| write(row, &mut section)),
            None => measured.write(at, &rows, &mut section),
        }
    }
}

/// One check on the page.
struct Row<'a> {
    view: &'a View,
    /// The last result, unless it is stale.
    fresh: Option<&'a Outcome>,
    success: Option<bool>,
    status: Status,
    since: Stamp,
    scrape: u64,
}

type Write = fn(&Row<'_>, &mut Section<'_>);

/// Families that every result has or that are kept across runs; all others are facts and phases.
static KEPT: &[(&Family, Write)] = &[
    (&family::PROBE_SUCCESS, |row, section| {
        row.kept(section, row.success.map(|is_success| f64::from(u8::from(is_success))));
    }),
    (&family::PROBE_DURATION, |row, section| {
        row.gauge(section, |outcome| outcome.took.as_secs_f64());
    }),
    (&family::PROBE_TIMEOUT, |row, section| {
        row.gauge(section, |outcome| outcome.timeout.as_secs_f64());
    }),
    (&family::PROBE_INTERVAL, |row, section| {
        // What is told by others has no interval.
        let interval = row.view.check.policy.interval;
        row.kept(section, (interval < Duration::MAX).then_some(interval.as_secs_f64()));
    }),
    (&family::PROBE_STATUS, statuses),
    (&family::PROBE_STATUS_SINCE, |row, section| {
        row.kept(section, Some(row.since.unix_seconds()));
    }),
    (&family::PROBE_FAILURE_INFO, failure_info),
    (&family::PROBE_RUNS, runs),
    (&family::PROBE_RETRIES, |row, section| {
        row.kept(section, Some(number_of(row.view.tally.retries)));
    }),
    (&family::PROBE_FAILURES, failures),
    (&family::PROBE_LAST_RUN, |row, section| {
        row.kept(section, row.view.last_run().map(Stamp::unix_seconds));
    }),
    (&family::PROBE_LAST_SUCCESS, |row, section| {
        row.kept(section, row.view.last_success.map(Stamp::unix_seconds));
    }),
    (&family::PROBE_EXPORTER_RESTARTS, |row, section| {
        row.kept(section, row.view.tally.restarts.map(number_of));
    }),
];

impl<'a> Row<'a> {
    fn new(view: &'a View, shown: &Shown<'_>) -> Self {
        let fresh = view.fresh(shown.now);
        let success = view.success(shown.now);
        let (status, since) = (view.status_at(shown.now), view.since_at(shown.now));
        Self { view, fresh, success, status, since, scrape: shown.scrape }
    }

    fn gauge(&self, section: &mut Section<'_>, value: impl Fn(&Outcome) -> f64) {
        self.kept(section, self.fresh.map(value));
    }

    fn kept(&self, section: &mut Section<'_>, value: Option<f64>) {
        if let Some(value) = value {
            section.sample(&[&self.view.labels], value);
        }
    }

    /// The check's labels beside labels called `names`. Where a target has a label of such a name, the target's becomes
    /// `exported_…`: the same name twice would cost the whole page.
    fn labels_beside<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Cow<'a, str> {
        let mut labels = Cow::Borrowed(&*self.view.labels);
        let own = &self.view.check.labels;
        for name in names {
            if own.get(name).is_some() || name == APART_LABEL {
                labels = Cow::Owned(renamed(&labels, name));
            }
        }
        labels
    }
}

/// Whether rendered labels have one called `name`. Within a value no quote stands without a backslash before it, so
/// `name="` is always a label.
fn has_label(labels: &str, name: &str) -> bool {
    labels.match_indices(name).any(|(at, _)| is_label_at(labels, at, name.len()))
}

fn is_label_at(labels: &str, at: usize, length: usize) -> bool {
    let (before, rest) = labels.split_at_checked(at).unwrap_or_default();
    let follows = rest.get(length..).is_some_and(|rest| rest.starts_with("=\""));
    follows && (before.is_empty() || before.ends_with("\","))
}

fn renamed(labels: &str, name: &str) -> String {
    let mut new_name = format!("exported_{name}");
    while has_label(labels, &new_name) {
        new_name.insert_str(0, "exported_");
    }
    let at = labels.match_indices(name).find(|(at, _)| is_label_at(labels, *at, name.len()));
    let Some((before, rest)) = at.and_then(|(at, _)| labels.split_at_checked(at)) else {
        return labels.to_owned();
    };
    format!("{before}{new_name}{}", rest.get(name.len()..).unwrap_or_default())
}

static STATUS_LABELS: LazyLock<[Box<str>; 5]> =
    LazyLock::new(|| Status::ALL.map(|status| rendered_labels([("status", status.label())])));

static RESULT_LABELS: LazyLock<[Box<str>; 4]> =
    LazyLock::new(|| RunResult::ALL.map(|result| rendered_labels([("result", result.label())])));

fn statuses(row: &Row<'_>, section: &mut Section<'_>) {
    let labels = row.labels_beside(["status"]);
    for (status, label) in Status::ALL.into_iter().zip(&*STATUS_LABELS) {
        section.sample(&[&labels, label], f64::from(u8::from(status == row.status)));
    }
}

fn runs(row: &Row<'_>, section: &mut Section<'_>) {
    let labels = row.labels_beside(["result"]);
    for (result, label) in RunResult::ALL.into_iter().zip(&*RESULT_LABELS) {
        section.sample(&[&labels, label], number_of(row.view.tally.runs(result)));
    }
}

fn failures(row: &Row<'_>, section: &mut Section<'_>) {
    if row.view.tally.failures.is_empty() {
        return;
    }
    let labels = row.labels_beside(["reason"]);
    for failure in &*row.view.tally.failures {
        let is_new = row.scrape <= failure.born + 1;
        let value = if is_new { 0.0 } else { number_of(failure.count) };
        let reason = rendered_labels([("reason", failure.reason.label())]);
        section.sample(&[&labels, &reason], value);
    }
}

fn failure_info(row: &Row<'_>, section: &mut Section<'_>) {
    let Some(outcome) = row.fresh else { return };
    let Some(reason) = outcome.answer.reason() else { return };
    let reason = rendered_labels([("reason", reason)]);
    let labels = row.labels_beside(["reason", "phase"]);
    section.sample(&[&labels, &reason, outcome.phase.map_or("", phase_label)], 1.0);
}

fn durations(rows: &[Row<'_>], writer: &mut Writer) {
    let any_buckets = rows.iter().any(|row| !row.view.check.policy.histogram.is_empty());
    let kind = if any_buckets { exposition::Kind::Histogram } else { exposition::Kind::Summary };
    let mut bounds = BoundLabels::new(writer.encoding());
    let mut section = Section::of_kind(writer, &family::PROBE_RUN_DURATION, kind);
    for row in rows {
        let labels = if any_buckets { row.labels_beside(["le"]) } else { row.labels_beside([]) };
        if any_buckets {
            buckets(row, &labels, &mut bounds, &mut section);
        }
        section.suffixed("_sum", &[&labels], row.view.tally.took.sum);
        section.suffixed("_count", &[&labels], number_of(row.view.tally.took.count));
    }
}

fn buckets(row: &Row<'_>, labels: &str, bounds: &mut BoundLabels, section: &mut Section<'_>) {
    let took = &row.view.tally.took;
    let mut sum = 0;
    for (label, count) in bounds.of(&row.view.check.policy.histogram).iter().zip(&took.buckets) {
        sum += count;
        section.suffixed("_bucket", &[labels, label], number_of(sum));
    }
    section.suffixed("_bucket", &[labels, "le=\"+Inf\""], number_of(took.count));
}

/// The labels of upper bounds. Most checks that follow each other share theirs.
struct BoundLabels {
    encoding: Encoding,
    bounds: Arc<[f64]>,
    labels: Vec<String>,
}

impl BoundLabels {
    fn new(encoding: Encoding) -> Self {
        Self { encoding, bounds: Arc::from([]), labels: Vec::new() }
    }

    fn of(&mut self, bounds: &Arc<[f64]>) -> &[String] {
        if !Arc::ptr_eq(&self.bounds, bounds) {
            self.bounds = bounds.clone();
            self.labels = bounds.iter().map(|bound| bound_label(*bound, self.encoding)).collect();
        }
        &self.labels
    }
}

/// OpenMetrics wants `1.0` where text has `1`.
pub(super) fn bound_label(bound: f64, encoding: Encoding) -> String {
    let mut text = Vec::new();
    number::push(&mut text, bound);
    let is_whole = text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-');
    if encoding == Encoding::OpenMetrics100 && is_whole {
        text.extend_from_slice(b".0");
    }
    format!("le=\"{}\"", String::from_utf8(text).expect("numbers are ASCII"))
}

/// Facts and phases by family: one walk over all outcomes instead of one for each family.
struct Measured<'a> {
    /// For each family of the table: the row, and what was measured.
    by_family: Vec<Vec<(usize, Value<'a>)>>,
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Fact(&'a Fact),
    Phase(Phase, f64),
}

impl<'a> Measured<'a> {
    fn collect(rows: &[Row<'a>]) -> Self {
        let mut by_family = vec![Vec::new(); family::RESULTS.len()];
        for (number, row) in rows.iter().enumerate() {
            let Some(outcome) = row.fresh else { continue };
            let slot = place_of(row.view.check.policy.phases).and_then(|at| by_family.get_mut(at));
            if let Some(slot) = slot {
                let phases = outcome.phases.iter();
                slot.extend(phases.map(|(p, t)| (number, Value::Phase(*p, t.as_secs_f64()))));
            }
            for fact in &outcome.facts {
                let slot = place_of(fact.family).and_then(|at| by_family.get_mut(at));
                if let Some(slot) = slot {
                    slot.push((number, Value::Fact(fact)));
                }
            }
        }
        Self { by_family }
    }

    fn write(&self, family: usize, rows: &[Row<'_>], section: &mut Section<'_>) {
        for (row, value) in &self.by_family[family] {
            let row = &rows[*row];
            match value {
                Value::Phase(phase, seconds) => {
                    let labels = row.labels_beside(["phase"]);
                    section.sample(&[&labels, phase_label(*phase)], *seconds);
                }
                Value::Fact(fact) => write_fact(row, fact, section),
            }
        }
    }
}

fn write_fact(row: &Row<'_>, fact: &Fact, section: &mut Section<'_>) {
    match &fact.labels {
        FactLabels::None => section.sample(&[&row.view.labels], fact.value),
        FactLabels::One(name, value) => {
            let labels = row.labels_beside([*name]);
            section.sample(&[&labels, &rendered_labels([(*name, &**value)])], fact.value);
        }
        FactLabels::Many(pairs) => {
            let labels = row.labels_beside(pairs.iter().map(|(name, _)| &**name));
            let own = pairs.iter().map(|(name, value)| (unreserved(name), value));
            let own: Vec<_> = own.collect();
            let own = rendered_labels(own.iter().map(|(name, value)| (&**name, &***value)));
            section.sample(&[&labels, &own], fact.value);
        }
    }
}

/// Names in such a fact may come from the configuration; ours are ours.
fn unreserved(name: &str) -> Cow<'_, str> {
    if RESERVED_LABELS.contains(&name) {
        Cow::Owned(format!("exported_{name}"))
    } else {
        Cow::Borrowed(name)
    }
}

/// Addresses of the families of the table, sorted, with their places in it.
static PLACES: LazyLock<Vec<(usize, usize)>> = LazyLock::new(|| {
    let table = family::RESULTS.iter().enumerate();
    let mut places: Vec<_> = table.map(|(at, family)| (address_of(family), at)).collect();
    places.sort_unstable();
    places
});

/// A family is a static: its address is its identity, and comparing that is cheaper than comparing names.
fn place_of(family: &'static Family) -> Option<usize> {
    let places = &*PLACES;
    let found = places.binary_search_by_key(&address_of(family), |(address, _)| *address);
    match found {
        Ok(at) => places.get(at).map(|(_, place)| *place),
        Err(_) => family::RESULTS.iter().position(|known| known.name == family.name),
    }
}

fn address_of(family: &'static Family) -> usize {
    std::ptr::from_ref(family).addr()
}

const fn phase_label(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolve => "phase=\"resolve\"",
        Phase::Connect => "phase=\"connect\"",
        Phase::Tls => "phase=\"tls\"",
        Phase::Processing => "phase=\"processing\"",
        Phase::Transfer => "phase=\"transfer\"",
        Phase::Request => "phase=\"request\"",
        Phase::Setup => "phase=\"setup\"",
        Phase::Rtt => "phase=\"rtt\"",
        Phase::Check => "phase=\"check\"",
    }
}

#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
fn number_of(count: u64) -> f64 {
    count as f64
}
