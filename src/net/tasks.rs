//! What a protocol's library wants to spawn, polled by whoever waits for the answer.
//!
//! Nothing outlives an exchange that is dropped, and no task is left that nobody tracks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use hyper::rt::Executor;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tasks that are kept here and polled in place.
#[derive(Clone, Default)]
pub(in crate::net) struct Tasks(Arc<Mutex<Vec<Task>>>);

impl Tasks {
    pub(in crate::net) fn advance(&self, cx: &mut Context<'_>) {
        let mut running = std::mem::take(&mut *self.lock());
        running.retain_mut(|task| task.as_mut().poll(cx).is_pending());
        let mut kept = self.lock();
        let started_meanwhile = !kept.is_empty();
        running.append(&mut kept);
        *kept = running;
        if started_meanwhile {
            cx.waker().wake_by_ref();
        }
    }

    pub(in crate::net) fn add(&self, task: Task) {
        self.lock().push(task);
    }

    /// Drops the tasks, which may hold on to what holds them.
    pub(in crate::net) fn clear(&self) {
        drop(std::mem::take(&mut *self.lock()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Task>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.add(Box::pin(task));
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tasks")
    }
}
