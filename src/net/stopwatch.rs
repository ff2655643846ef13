//! Measures the phases of a run.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Phase;

/// Adds up time by phase. A phase that is entered twice (a second hop) is summed.
#[derive(Debug, Default)]
pub struct Stopwatch {
    phases: Vec<(Phase, Duration)>,
    running: Option<(Phase, Instant)>,
    last: Option<Phase>,
}

impl Stopwatch {
    /// Ends the phase that is running and begins `phase`.
    pub fn enter(&mut self, phase: Phase) {
        self.stop();
        self.touch(phase);
        self.running = Some((phase, Instant::now()));
        self.last = Some(phase);
    }

    /// Ends the phase that is running.
    pub fn stop(&mut self) {
        if let Some((phase, since)) = self.running.take() {
            self.add(phase, since.elapsed());
        }
    }

    /// Makes `phase` appear, with zero if it is never entered.
    pub fn touch(&mut self, phase: Phase) {
        self.add(phase, Duration::ZERO);
    }

    /// Drops what was measured of `phase`: it is not to be told of.
    pub fn forget(&mut self, phase: Phase) {
        self.stop();
        self.phases.retain(|(p, _)| *p != phase);
    }

    /// Adds time that was measured elsewhere.
    pub fn add(&mut self, phase: Phase, took: Duration) {
        match self.phases.iter_mut().find(|(p, _)| *p == phase) {
            Some((_, sum)) => *sum += took,
            None => self.phases.push((phase, took)),
        }
    }

    /// The phase that was entered last, still running or not.
    pub const fn last(&self) -> Option<Phase> {
        self.last
    }

    pub fn took(&self, phase: Phase) -> Option<Duration> {
        self.phases.iter().find(|(p, _)| *p == phase).map(|(_, took)| *took)
    }

    /// The phases in the order in which they first appeared.
    pub fn finish(mut self) -> Vec<(Phase, Duration)> {
        self.stop();
        self.phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn hops_are_summed_and_order_is_kept() {
        let mut watch = Stopwatch::default();
        for seconds in [1, 2] {
            watch.enter(Phase::Connect);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            watch.enter(Phase::Processing);
        }
        watch.touch(Phase::Transfer);
        assert_eq!(watch.last(), Some(Phase::Processing));
        assert_eq!(
            watch.finish(),
            [
                (Phase::Connect, Duration::from_secs(3)),
                (Phase::Processing, Duration::ZERO),
                (Phase::Transfer, Duration::ZERO)
            ]
        );
    }
}
