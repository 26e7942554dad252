//! The end of the master: what its clients are still to hear.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::timeout;

use super::connection::Connection;
use super::event_loop::EventLoop;

/// How long the end waits for clients that are behind. The stop of a large pool has more to tell than a socket holds, and its outcome comes last; one that never reads must not hold the end up.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

impl EventLoop {
    /// Sends what waits: to everybody what the sockets take now, and to clients the rest.
    pub(super) async fn send_last_words(&mut self) {
        self.connections.values_mut().for_each(Connection::flush_at_once);
        let heard = poll_fn(|cx| {
            self.connections.retain(|_, connection| connection.worker().is_some() || send(connection, cx));
            let is_behind = |connection: &Connection| connection.worker().is_none() && connection.unsent() > 0;
            if self.connections.values().any(is_behind) { Poll::Pending } else { Poll::Ready(()) }
        });
        // Who has not read by then does not read.
        let _ = timeout(LAST_WORDS_MAX, heard).await;
    }
}

/// Sends what the socket takes; whether the peer may still hear more.
fn send(connection: &mut Connection, cx: &mut Context<'_>) -> bool {
    while connection.poll_sendable(cx).is_ready() {
        if connection.flush().is_err() {
            return false;
        }
    }
    true
}
