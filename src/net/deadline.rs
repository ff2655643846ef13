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

impl Deadline {
    pub fn after(budget: Duration) -> Self {
        Self { at: Instant::now() + budget }
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
        Self { at: self.at.min(Instant::now() + budget) }
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
}
