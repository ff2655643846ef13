//! `icmp`: does a host answer echo requests, how soon, and how many of them?
//!
//! One request is upstream's question. With `count` several are sent, and loss and jitter are told; the verdict is then
//! a matter of `max_loss`.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::tcp::source_address;
use super::{Ask, Blocks, Report, Verdict, address};
use crate::model::{Answer, Fault, Mistakes, Period, Phase, Unknown, family};
use crate::net::icmp::{EchoOptions, EchoSocket, Heard, MAX_DATA_BYTES, next_sequence};
use crate::net::{Deadline, IpFamily, IpPreference};

/// What a request carries; its beginning where less is asked for, zeros behind it where more is.
const TEXT: &[u8; 28] = b"watchpost blackbox echo test";
const DEFAULT_TTL: i64 = 64;
const DEFAULT_INTERVAL: Duration = Duration::from_millis(200);
/// The most requests of one run.
const MAX_COUNT: u32 = 1000;

/// The block `icmp:` of a module.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Default `ip6`.
    pub preferred_ip_protocol: Option<IpFamily>,
    /// Default true.
    pub ip_protocol_fallback: Option<bool>,
    /// The address to ask from.
    pub source_ip_address: Option<String>,
    /// Bytes of data; 0, the default, is 28.
    pub payload_size: Option<i64>,
    /// Forbid fragments. IPv4 only: in IPv6 routers never make any.
    #[serde(default)]
    pub dont_fragment: bool,
    /// The hop limit of requests, 0 to 255. Default 64; 0 leaves it to the system.
    pub ttl: Option<i64>,
    /// Ours: how many requests are sent. Default 1.
    pub count: Option<u32>,
    /// Ours: the time between two requests, default 200ms. It is shortened where needed for all of them to be sent in
    /// the first half of a run's time, so that the last has its chance too.
    pub interval: Option<Period>,
    /// Ours: the share of requests, 0 to 1, that may go without a reply. Default: one reply is enough.
    pub max_loss: Option<f64>,
}

#[derive(Debug)]
pub struct Prober {
    preference: IpPreference,
    source: Option<String>,
    data: Vec<u8>,
    options: EchoOptions,
    count: u32,
    interval: Duration,
    max_loss: Option<f64>,
    /// Why no run can succeed.
    broken: Option<Box<str>>,
}

impl Prober {
    #[expect(clippy::unnecessary_wraps, reason = "the table's contract")]
    pub(super) fn build(blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
        let spec = blocks.icmp.take().unwrap_or_default();
        let mut broken = None;
        mistakes.within("icmp", |mistakes| spec.check(&mut broken, mistakes));
        let size = spec.payload_size.unwrap_or_default();
        let size = usize::try_from(size).unwrap_or_default().min(MAX_DATA_BYTES);
        let mut data = TEXT.to_vec();
        if size > 0 {
            data.resize(size, 0);
        }
        let ttl = u8::try_from(spec.ttl.unwrap_or(DEFAULT_TTL)).ok().filter(|ttl| *ttl > 0);
        Some(Self {
            preference: IpPreference {
                family: spec.preferred_ip_protocol.unwrap_or(IpFamily::V6),
                fallback: spec.ip_protocol_fallback.unwrap_or(true),
            },
            source: spec.source_ip_address,
            data,
            options: EchoOptions { ttl, dont_fragment: spec.dont_fragment },
            count: spec.count.unwrap_or(1),
            interval: spec.interval.map_or(DEFAULT_INTERVAL, Period::get),
            max_loss: spec.max_loss,
            broken,
        })
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        for phase in [Phase::Resolve, Phase::Setup, Phase::Rtt] {
            report.watch.touch(phase);
        }
        let target = ask.target.address.as_str();
        let bare = target.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let to = (bare.unwrap_or(target), None);
        let ip = address::resolve(ask, to, self.preference, report).await?;
        let source = source_address(self.source.as_deref())?;
        if let Some(why) = &self.broken {
            return Err(Unknown::Setup(why.clone()).into());
        }
        report.watch.enter(Phase::Setup);
        let socket = EchoSocket::open(ip, source, self.options)?;
        let kind = if socket.is_raw() { "raw" } else { "unprivileged" };
        report.note(|| format!("asking over a {kind} socket"));
        report.watch.enter(Phase::Rtt);
        let budget = ask.deadline.left();
        let round = self.exchange(&socket, ask.deadline).await;
        // The phase is the time of a round trip, not of the waiting.
        report.watch.forget(Phase::Rtt);
        report.watch.add(Phase::Rtt, round.mean());
        self.tell(&round, report);
        self.judge(round, budget)
    }

    async fn exchange(&self, socket: &EchoSocket, deadline: Deadline) -> Round {
        let mut round = Round::default();
        let gaps = self.count.saturating_sub(1).max(1);
        let interval = self.interval.min(deadline.left() / 2 / gaps);
        for turn in 1..=self.count {
            let sequence = next_sequence();
            round.requests.push(Request { sequence, sent: Instant::now(), took: None });
            match socket.send(sequence, &self.data, deadline).await {
                Ok(Ok(())) => {}
                Ok(Err(Answer::Unknown(ours))) => round.unasked(ours),
                Ok(Err(answer)) => round.fail_last(answer),
                Err(_) => {
                    round.unasked(Unknown::Setup("a request could not be sent in time".into()));
                    return round;
                }
            }
            let until = if turn < self.count { deadline.at_most(interval) } else { deadline };
            self.listen(socket, until, turn == self.count, &mut round).await;
        }
        round
    }

    /// Takes what comes until then; at the end of a round only as long as something is awaited.
    async fn listen(&self, socket: &EchoSocket, until: Deadline, last: bool, round: &mut Round) {
        while !(last && round.is_settled()) {
            match socket.hear(&self.data, until).await {
                Ok(heard) => round.take(heard),
                Err(_) => return,
            }
        }
    }

    fn tell(&self, round: &Round, report: &mut Report) {
        if let Some(hops) = round.hop_limit {
            report.set(&family::PROBE_ICMP_REPLY_HOP_LIMIT, f64::from(hops));
        }
        for request in &round.requests {
            report.note(|| match request.took {
                Some(Ok(took)) => format!("reply to {} in {took:?}", request.sequence),
                Some(Err(())) => format!("request {} was not delivered", request.sequence),
                None => format!("no reply to {}", request.sequence),
            });
        }
        if self.count < 2 {
            return;
        }
        report.set(&family::PROBE_ICMP_SENT, f64::from(round.sent()));
        report.set(&family::PROBE_ICMP_RECEIVED, f64::from(round.received()));
        if round.sent() > 0 {
            report.set(&family::PROBE_ICMP_LOSS_RATIO, share(round.lost(), round.sent()));
        }
        if let Some(jitter) = round.jitter() {
            report.set(&family::PROBE_ICMP_JITTER, jitter.as_secs_f64());
        }
    }

    /// Requests that we could not send count neither way: the answer is what holds whether they would have been replied to
    /// or not. Where that leaves two answers, we could not ask.
    fn judge(&self, round: Round, budget: Duration) -> Verdict {
        let (lost, received) = (round.lost(), round.received());
        let unsent = u32::try_from(round.unsent.len()).unwrap_or(u32::MAX);
        let all = round.sent().saturating_add(unsent);
        let passes = |received: u32, lost: u32| {
            received > 0 && self.max_loss.is_none_or(|max| share(lost, all) <= max)
        };
        if passes(received, lost.saturating_add(unsent)) {
            return Ok(());
        }
        if passes(received.saturating_add(unsent), lost)
            && let Some(ours) = round.unsent.into_iter().next_back()
        {
            return Err(ours.into());
        }
        Err(round.trouble.unwrap_or_else(|| Fault::NoReply { sent: lost, budget }.into()))
    }
}

impl Spec {
    fn check(&self, broken: &mut Option<Box<str>>, mistakes: &mut Mistakes) {
        let size = self.payload_size.unwrap_or_default();
        if size < 0 {
            mistakes.error("payload_size", "a payload has no negative size", "use 0 for 28 bytes");
        }
        if usize::try_from(size).is_ok_and(|size| size > MAX_DATA_BYTES) {
            let what = format!("no packet has room for {size} bytes");
            let hint = format!("use {MAX_DATA_BYTES} at most");
            mistakes.warning("payload_size", format!("{what}: no run can succeed"), hint);
            *broken = Some(what.into());
        }
        if !(0..=255).contains(&self.ttl.unwrap_or_default()) {
            mistakes.error("ttl", "a hop limit lies between 0 and 255", "leave it out for 64");
        }
        if self.count.is_some_and(|count| !(1..=MAX_COUNT).contains(&count)) {
            let what = format!("between 1 and {MAX_COUNT} requests can be sent");
            mistakes.error("count", what, "leave it out for one");
        }
        if self.max_loss.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            mistakes.error("max_loss", "a share lies between 0 and 1", "write 0.2 for a fifth");
        }
        if self.count.unwrap_or(1) == 1 && (self.interval.is_some() || self.max_loss.is_some()) {
            let key = if self.interval.is_some() { "interval" } else { "max_loss" };
            mistakes.warning(key, "it means nothing for a single request", "set count");
        }
    }
}

/// A request, and what became of it: the time to its reply, or word that it was not delivered.
#[derive(Debug)]
struct Request {
    sequence: u16,
    sent: Instant,
    took: Option<Result<Duration, ()>>,
}

/// All requests of a run.
#[derive(Debug, Default)]
struct Round {
    requests: Vec<Request>,
    hop_limit: Option<u8>,
    /// The last trouble that somebody told of.
    trouble: Option<Answer>,
    /// Why requests could not be sent, for reasons of our own. They are not among `requests`.
    unsent: Vec<Unknown>,
}

fn share(part: u32, all: u32) -> f64 {
    f64::from(part) / f64::from(all.max(1))
}

impl Round {
    fn take(&mut self, heard: Heard) {
        let open = |wanted: Option<u16>| {
            move |request: &&mut Request| {
                request.took.is_none() && wanted.is_none_or(|number| number == request.sequence)
            }
        };
        match heard {
            Heard::Reply { sequence, hop_limit } => {
                let found = self.requests.iter_mut().find(open(Some(sequence)));
                let Some(request) = found else { return };
                request.took = Some(Ok(request.sent.elapsed()));
                self.hop_limit = hop_limit.or(self.hop_limit);
            }
            Heard::Refused { sequence, fault } => {
                let found = self.requests.iter_mut().find(open(sequence));
                let Some(request) = found else { return };
                request.took = Some(Err(()));
                self.trouble = Some(fault.into());
            }
        }
    }

    /// The last request was never made, and the target has no part in it.
    fn unasked(&mut self, ours: Unknown) {
        self.requests.pop();
        self.unsent.push(ours);
    }

    /// The last request cannot reach the target.
    fn fail_last(&mut self, trouble: Answer) {
        if let Some(request) = self.requests.last_mut() {
            request.took = Some(Err(()));
        }
        self.trouble = Some(trouble);
    }

    /// Whether nothing more is awaited.
    fn is_settled(&self) -> bool {
        self.requests.iter().all(|request| request.took.is_some())
    }

    fn sent(&self) -> u32 {
        u32::try_from(self.requests.len()).unwrap_or(u32::MAX)
    }

    fn times(&self) -> impl Iterator<Item = Duration> {
        self.requests.iter().filter_map(|request| request.took?.ok())
    }

    fn received(&self) -> u32 {
        u32::try_from(self.times().count()).unwrap_or(u32::MAX)
    }

    /// Sent, and without a reply.
    fn lost(&self) -> u32 {
        self.sent().saturating_sub(self.received())
    }

    fn mean(&self) -> Duration {
        self.times().sum::<Duration>() / self.received().max(1)
    }

    /// The mean difference between round trips that follow each other.
    fn jitter(&self) -> Option<Duration> {
        let times: Vec<Duration> = self.times().collect();
        let differences = times.windows(2).map(|pair| pair[0].abs_diff(pair[1]));
        let count = u32::try_from(times.len().checked_sub(1)?).ok().filter(|count| *count > 0)?;
        Some(differences.sum::<Duration>() / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(millis: &[Option<u64>]) -> Round {
        let request = |(sequence, took): (usize, &Option<u64>)| Request {
            sequence: u16::try_from(sequence).unwrap(),
            sent: Instant::now(),
            took: took.map(|millis| Ok(Duration::from_millis(millis))),
        };
        Round { requests: millis.iter().enumerate().map(request).collect(), ..Round::default() }
    }

    fn prober(max_loss: Option<f64>) -> Prober {
        let spec = Spec { max_loss, count: Some(4), ..Spec::default() };
        let mut blocks = Blocks { icmp: Some(spec), ..Blocks::default() };
        Prober::build(&mut blocks, &mut Mistakes::default()).unwrap()
    }

    #[test]
    fn numbers_of_a_round() {
        let lossy = round(&[Some(10), None, Some(14), Some(8)]);
        assert_eq!((lossy.sent(), lossy.received()), (4, 3));
        assert_eq!(lossy.lost(), 1);
        assert_eq!(lossy.jitter(), Some(Duration::from_millis(5)));
        assert_eq!(round(&[Some(3), None]).jitter(), None);
        assert_eq!(round(&[]).jitter(), None);
        assert_eq!(round(&[None]).mean(), Duration::ZERO);
    }

    #[test]
    fn loss_is_judged_by_its_limit() {
        let rows = [
            (None, &[Some(1), None, None, None][..], true),
            (None, &[None, None], false),
            (Some(0.25), &[Some(1), Some(1), Some(1), None], true),
            (Some(0.25), &[Some(1), Some(1), None, None], false),
            (Some(1.0), &[None, None], false),
            (Some(0.0), &[Some(1), Some(1)], true),
        ];
        for (max_loss, took, passes) in rows {
            let verdict = prober(max_loss).judge(round(took), Duration::from_secs(5));
            assert_eq!(verdict.is_ok(), passes, "{max_loss:?} {took:?}");
            if let Err(answer) = verdict {
                assert_eq!(answer.reason(), Some("no_reply"));
            }
        }
    }

    #[test]
    fn what_could_not_be_sent_is_no_loss() {
        const REPLY: Option<u64> = Some(1);
        let rows = [
            // One reply is enough, and a request that was not made might have had it.
            (None, &[REPLY, None, None][..], 1, None),
            (None, &[None, None, None], 1, Some("no_descriptors")),
            (None, &[], 4, Some("no_descriptors")),
            (Some(0.5), &[REPLY, REPLY], 2, None),
            (Some(0.25), &[REPLY, REPLY, REPLY], 1, None),
            (Some(0.25), &[REPLY, REPLY], 2, Some("no_descriptors")),
            (Some(0.25), &[REPLY, REPLY, None], 1, Some("no_descriptors")),
            // Too many are lost, whatever would have become of the others.
            (Some(0.25), &[REPLY, None, None], 1, Some("no_reply")),
            (Some(0.25), &[None, None, None], 1, Some("no_reply")),
        ];
        for (max_loss, took, unsent, wanted) in rows {
            let mut round = round(took);
            for _ in 0..unsent {
                round.requests.push(Request { sequence: 99, sent: Instant::now(), took: None });
                round.unasked(Unknown::NoDescriptors);
            }
            assert_eq!(round.sent() as usize, took.len());
            let verdict = prober(max_loss).judge(round, Duration::from_secs(5));
            let reason = verdict.as_ref().err().and_then(Answer::reason);
            assert_eq!(reason, wanted, "{max_loss:?} {took:?} {unsent}");
        }
    }

    #[test]
    fn what_somebody_said_outweighs_silence() {
        let mut round = round(&[None]);
        let from = "192.0.2.254".parse().unwrap();
        let fault = Fault::TtlExceeded { from };
        round.take(Heard::Refused { sequence: Some(9), fault: fault.clone() });
        assert!(!round.is_settled());
        round.take(Heard::Refused { sequence: None, fault });
        assert!(round.is_settled());
        let answer = prober(None).judge(round, Duration::from_secs(5)).unwrap_err();
        assert_eq!(answer.reason(), Some("ttl_exceeded"));
    }

    #[test]
    fn a_reply_counts_once() {
        let mut round = round(&[None, None]);
        for _ in 0..2 {
            round.take(Heard::Reply { sequence: 1, hop_limit: Some(61) });
        }
        assert_eq!((round.received(), round.hop_limit), (1, Some(61)));
    }
}
