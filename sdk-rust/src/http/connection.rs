//! One connection, from its first byte to the client's last.

use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::acceptor::Stream;
use super::activity::Activity;
use super::answer::{NotePeer, answering};
use super::stream::Watched;
use super::{HttpService, LINGER_TIMEOUT};
use crate::worker::Worker;

/// How far a server is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It accepts.
    Serving,
    /// It accepts no more; idle connections have the idle grace.
    Draining,
    /// Idle connections end now.
    LastCall,
    /// Every connection ends now.
    Cut,
}

/// Serves a connection until it ends or is cut. Nothing is cut off any more once `unfinished` is dropped.
pub(super) async fn run(
    (stream, from): (Stream, Option<SocketAddr>),
    (service, note_peer): (impl HttpService, NotePeer),
    worker: Worker,
    mut phase: watch::Receiver<Phase>,
    idle_grace: Duration,
    unfinished: TaskTrackerToken,
) {
    let activity = Arc::new(Activity::new(worker));
    let (watched, handed_back) = Watched::new(stream, Arc::clone(&activity));
    let builder = auto::Builder::new(TokioExecutor::new());
    {
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(watched), answering(service, (from, note_peer), Arc::clone(&activity)));
        let connection = pin!(connection);
        if !drive(connection, |connection| connection.graceful_shutdown(), &activity, &mut phase, idle_grace).await {
            return;
        }
    }
    // It comes back at once, or when whoever took an upgraded connection over is done with it.
    tokio::select! {
        biased;
        () = reached(&mut phase, Phase::Cut) => {}
        Ok(stream) = handed_back => {
            drop(unfinished);
            linger(stream).await;
        }
        else => {}
    }
}

/// Lets hyper serve, and sees to the drain. False: the connection was cut.
async fn drive<C: Future>(
    mut connection: Pin<&mut C>,
    go_away: impl Fn(Pin<&mut C>),
    activity: &Activity,
    phase: &mut watch::Receiver<Phase>,
    idle_grace: Duration,
) -> bool {
    tokio::select! {
        biased;
        () = reached(phase, Phase::Draining) => {}
        _ = connection.as_mut() => return true,
    }
    activity.drain();
    let mut told_to_go_away = false;
    let mut idle_until = None;
    loop {
        let now = *phase.borrow_and_update();
        if now == Phase::Cut {
            return false;
        }
        if activity.is_http2() && !std::mem::replace(&mut told_to_go_away, true) {
            go_away(connection.as_mut());
        }
        idle_until = match now {
            _ if !activity.is_idle() => None,
            Phase::LastCall | Phase::Cut => Some(Instant::now()),
            Phase::Serving | Phase::Draining => idle_until.or_else(|| Instant::now().checked_add(idle_grace)),
        };
        tokio::select! {
            biased;
            _ = connection.as_mut() => return true,
            () = activity.changed() => {}
            Ok(()) = phase.changed() => {}
            () = until(idle_until) => activity.end(),
        }
    }
}

/// A server that was dropped instead of ordered to go reaches no other phase.
///
/// It is polled whenever the connection is, which is with every request, and waiting at a channel takes a lock that all connections share: so it waits there once, and after that only looks whether something has changed.
async fn reached(phase: &mut watch::Receiver<Phase>, least: Phase) {
    let looking = phase.clone();
    let mut change = pin!(phase.wait_for(|phase| *phase >= least));
    let mut waiting: Option<Waker> = None;
    let reached = poll_fn(|context| {
        let is_waiting = waiting.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if is_waiting && matches!(looking.has_changed(), Ok(false)) {
            return Poll::Pending;
        }
        waiting = Some(context.waker().clone());
        change.as_mut().poll(context).map(|phase| phase.is_ok())
    });
    if !reached.await {
        pending::<()>().await;
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => pending().await,
    }
}

/// Ends a connection so that nothing on its way is lost: says that nothing more comes, and reads until the client has ended it, too. Closing with unread bytes would reset it.
async fn linger(mut stream: Stream) {
    if stream.shutdown().await.is_err() {
        return; // The client has reset it.
    }
    let mut sink = [0; 4_096];
    let _ = timeout(LINGER_TIMEOUT, async { while matches!(stream.read(&mut sink).await, Ok(1..)) {} }).await;
}
