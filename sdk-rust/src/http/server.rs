//! The life of a server: accept, drain, say that it is drained.

use std::future::{Future, IntoFuture, pending};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::time::Duration;

use dutch_master_protocol::message::Address;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::either::Either;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{debug, warn};

use super::acceptor::{Accepted, Acceptor};
use super::answer::{NotePeer, note_peer};
use super::connection::{self, Phase};
use super::{ACCEPT_PAUSE, CUT_MARGIN, HttpService, IDLE_GRACE, LINGER_TIMEOUT};
use crate::listener::Listener;
use crate::order::{Order, Reason};
use crate::worker::Worker;

/// Serves HTTP/1 and HTTP/2 (without TLS) on `listener` by a hyper service, until there is an order to go and everything is drained.
///
/// It says `listening` and `close` to the master, and `disconnect` when this was the worker's last server. Standalone, it serves until the process ends.
///
/// # Errors
/// When awaited: the listener is of no use.
pub fn serve<S>(worker: &Worker, listener: Listener, service: S) -> Serve<S> {
    Serve { serving: Serving::begin(worker), listener, service, note_peer, idle_grace: IDLE_GRACE }
}

/// A server that [`serve`] made; await it.
#[must_use = "a server does nothing unless it is awaited"]
#[derive(Debug)]
pub struct Serve<S> {
    serving: Serving,
    listener: Listener,
    service: S,
    note_peer: NotePeer,
    idle_grace: Duration,
}

impl<S> Serve<S> {
    /// How long idle connections stay after an order to go. Longer than the pause that clients make between two requests, or their own idle timeout if that is known; [`IDLE_GRACE`] if not set.
    pub fn idle_grace(self, idle_grace: Duration) -> Serve<S> {
        Serve { idle_grace, ..self }
    }

    /// Requests carry where they come from in another form than [`PeerAddress`](super::PeerAddress).
    #[cfg(feature = "axum")]
    pub(crate) fn note_peer(self, note_peer: NotePeer) -> Serve<S> {
        Serve { note_peer, ..self }
    }
}

impl<S: HttpService> IntoFuture for Serve<S> {
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<S: HttpService> Serve<S> {
    async fn run(self) -> io::Result<()> {
        let Serve { serving, listener, service, note_peer, idle_grace } = self;
        let worker = &serving.worker;
        let (key, address): (String, Option<Address>) = (listener.key().to_owned(), listener.address().cloned());
        let mut acceptor = Acceptor::new(listener, worker.pool_size())?;
        worker.listening(address);
        let beating = AbortOnDropHandle::new(tokio::spawn(beat(worker.clone())));

        let (connections, unfinished) = (TaskTracker::new(), TaskTracker::new());
        let phase = watch::Sender::new(Phase::Serving);
        let take = |accepted: Accepted| {
            if let Either::Left(tcp) = &accepted.0 {
                let _ = tcp.set_nodelay(true); // Not worth a connection.
            }
            let token = unfinished.token();
            connections.spawn(connection::run(accepted, (service.clone(), note_peer), worker.clone(), phase.subscribe(), idle_grace, token));
        };

        let order = accept_until_ordered(worker, &mut acceptor, || connections.len(), take).await;
        drop(beating);
        debug!(reason = ?order.reason, connections = connections.len(), "draining");
        phase.send_replace(Phase::Draining);
        if matches!(order.reason, Reason::Stop | Reason::Orphaned) {
            // Nobody else may be left to take them.
            acceptor.accept_queue().into_iter().for_each(take);
        } else {
            drop(acceptor);
        }
        worker.close(&key);
        connections.close();
        drain(worker, order, &connections, &unfinished, &phase).await;
        Ok(())
    }
}

/// Signs of life, the first one at once: a task like those of the connections, so that it stands still when no thread has time for them. As often as the master wants, which may be another one next time.
async fn beat(worker: Worker) {
    while let Some(every) = worker.heartbeat_interval() {
        worker.beat();
        sleep(every).await;
    }
}

async fn accept_until_ordered(worker: &Worker, acceptor: &mut Acceptor, load: impl Fn() -> usize, take: impl Fn(Accepted)) -> Order {
    let mut ordered = pin!(worker.ordered());
    loop {
        tokio::select! {
            biased;
            order = &mut ordered => return order,
            accepted = acceptor.accept(&load) => match accepted {
                Ok(accepted) => take(accepted),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::select! {
                        order = &mut ordered => return order,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
        // The other workers' turn: they share the queue.
        tokio::task::yield_now().await;
    }
}

/// Waits until every connection has ended, or the order's deadline comes near.
async fn drain(worker: &Worker, order: Order, connections: &TaskTracker, unfinished: &TaskTracker, phase: &watch::Sender<Phase>) {
    let mut orders = worker.orders();
    let mut cut = cut_before(worker.order().unwrap_or(order).deadline, Instant::now());
    loop {
        let last_call = cut.checked_sub(LINGER_TIMEOUT).unwrap_or(cut);
        tokio::select! {
            biased;
            () = connections.wait() => return,
            deadline = moved(&mut orders) => cut = cut_before(deadline, Instant::now()),
            () = sleep_until(cut) => break,
            () = sleep_until(last_call), if *phase.borrow() < Phase::LastCall => { phase.send_replace(Phase::LastCall); }
        }
    }
    let cut = unfinished.len();
    warn!(connections = cut, "the time to drain is over: connections are cut");
    worker.cut(cut.try_into().unwrap_or(u32::MAX));
    phase.send_replace(Phase::Cut);
    // At once, save for a handler that blocks its thread.
    let _ = timeout(CUT_MARGIN, connections.wait()).await;
}

fn cut_before(deadline: std::time::Instant, now: Instant) -> Instant {
    let deadline = Instant::from_std(deadline);
    let margin = CUT_MARGIN.min(deadline.saturating_duration_since(now) / 2);
    deadline.checked_sub(margin).unwrap_or(deadline)
}

/// Waits for an earlier deadline.
async fn moved(orders: &mut Option<watch::Receiver<Option<Order>>>) -> std::time::Instant {
    let Some(orders) = orders else { return pending().await };
    loop {
        if orders.changed().await.is_err() {
            return pending().await;
        }
        if let Some(order) = *orders.borrow_and_update() {
            return order.deadline;
        }
    }
}

/// Counts a server of a worker. When an order made the last one end, the worker is drained.
#[derive(Debug)]
struct Serving {
    worker: Worker,
}

impl Serving {
    fn begin(worker: &Worker) -> Serving {
        worker.servers.fetch_add(1, Ordering::Relaxed);
        Serving { worker: worker.clone() }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let last = self.worker.servers.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && self.worker.order().is_some() {
            self.worker.drained();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_cut_a_margin_before_the_deadline_and_a_short_time_is_halved() {
        let now = Instant::now();
        let cut = |left: Duration| cut_before((now + left).into_std(), now) - now;
        assert_eq!(cut(Duration::from_secs(27)), Duration::from_secs(27) - CUT_MARGIN);
        assert_eq!(cut(CUT_MARGIN), CUT_MARGIN / 2);
        assert_eq!(cut(Duration::ZERO), Duration::ZERO);
    }
}
