//! Are we the blind one? Asks the references, from time to time and whenever something is about to get worse; while none
//! of them answers, nothing is blamed on a target.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use prometheus::{IntGaugeVec, Registry};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::owner::Order;
use crate::clock;
use crate::config::Reference;
use crate::model::family;
use crate::net::{Deadline, IpPreference, Net, Stopwatch, dial};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// Until the second look when the first one met nobody.
const SOON: Duration = Duration::from_secs(1);
/// Looks do not follow closer than this, whatever is asked for.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a reference may take to accept a connection.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Looks in a row at which nothing answered before we call ourselves blind.
const MISSES: u32 = 2;

/// Watches the references of the configuration in force.
pub(super) struct Lookout {
    net: Arc<Net>,
    references: watch::Receiver<Vec<Reference>>,
    doubt: Arc<Notify>,
    orders: mpsc::Sender<Order>,
    up: IntGaugeVec,
}

impl Lookout {
    pub(super) fn new(
        net: Arc<Net>,
        references: watch::Receiver<Vec<Reference>>,
        doubt: Arc<Notify>,
        orders: mpsc::Sender<Order>,
        registry: &Registry,
    ) -> Self {
        Self { net, references, doubt, orders, up: family::REFERENCE_UP.int_gauges(registry) }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut next = Instant::now();
        let mut misses = 0;
        let mut blind = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(next) => {}
                () = self.doubt.notified() => {}
                changed = self.references.changed() => {
                    let guarded = !self.references.borrow_and_update().is_empty();
                    if changed.is_err() || self.orders.send(Order::Guarded(guarded)).await.is_err() {
                        return;
                    }
                    self.up.reset();
                }
            }
            let answered = self.look().await;
            misses = if answered { 0 } else { misses + 1 };
            next = Instant::now() + if (1..MISSES).contains(&misses) { SOON } else { EVERY };
            let now_blind = misses >= MISSES;
            if now_blind == blind {
                sleep_until(Instant::now() + PAUSE).await;
                continue;
            }
            blind = now_blind;
            if blind {
                tracing::error!("no reference answers: this watchpost is blind");
            } else {
                tracing::info!("a reference answers: this watchpost sees again");
            }
            if self.orders.send(Order::Blind(blind)).await.is_err() {
                return;
            }
        }
    }

    /// Whether any reference answers. Without references nobody can tell, and we trust ourselves.
    async fn look(&mut self) -> bool {
        let references = self.references.borrow_and_update().clone();
        let began = clock::now();
        let mut asked: FuturesUnordered<_> =
            references.iter().map(|reference| self.ask(reference)).collect();
        let mut seen = references.is_empty();
        while let Some(answered) = asked.next().await {
            if answered && !seen {
                seen = true;
                // Nobody listens any more when it ends.
                self.orders.send(Order::Seen(began)).await.ok();
            }
        }
        seen
    }

    async fn ask(&self, reference: &Reference) -> bool {
        let deadline = Deadline::after(TIMEOUT);
        let mut watch = Stopwatch::default();
        let preference = IpPreference::default();
        let to = (reference.host.as_str(), Some(reference.port));
        let resolved = self.net.resolver.resolve(to, preference, deadline, &mut watch).await;
        let answered = match resolved {
            Ok(ip) => match dial(ip, reference.port, None, deadline, &mut watch).await {
                Ok(_) => true,
                // A refusal is an answer too: packets travel there and back.
                Err(answer) => answer.reason() == Some("connect_refused"),
            },
            Err(_) => false,
        };
        self.up.with_label_values(&[&reference.text]).set(i64::from(answered));
        answered
    }
}
