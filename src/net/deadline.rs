//! The end of a run's budget.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// When a run must be over. Every wait of a run goes through [`Deadline::limit`].
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
}

/// The budget is used up; it was `budget` when the wait began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    pub budget: Duration,
}

/// As long as a run can last: a clock cannot tell of times without end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Deadline {
    pub fn after(budget: Duration) -> Self {
        Self { at: Instant::now() + budget.min(LONGEST) }
    }

    pub fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    pub const fn at(self) -> Instant {
        self.at
    }

    /// This deadline, or one `budget` from now, whichever comes first.
    #[must_use]
    pub fn at_most(self, budget: Duration) -> Self {
        Self { at: self.at.min(Self::after(budget).at) }
    }

    /// Waits for `work` until the budget is used up.
    pub async fn limit<T>(self, work: impl Future<Output = T>) -> Result<T, Expired> {
        let budget = self.left();
        timeout_at(self.at, work).await.map_err(|_| Expired { budget })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_the_budget_and_says_what_it_was() {
        let deadline = Deadline::after(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let expired = deadline.limit(std::future::pending::<()>()).await;
        assert_eq!(expired, Err(Expired { budget: Duration::from_secs(3) }));
        assert_eq!(deadline.left(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_without_end_is_no_panic() {
        assert_eq!(Deadline::after(Duration::MAX).left(), LONGEST);
        let soon = Deadline::after(Duration::from_secs(5));
        assert_eq!(soon.at_most(Duration::MAX).left(), Duration::from_secs(5));
    }
}
