//! What a connection is doing, as far as draining it is concerned.
//!
//! ```text
//!           bytes read             response ended
//! idle ------------------> busy --------------------> idle      (a new connection begins as busy)
//! ```

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::Notify;

use crate::worker::Worker;

/// Shared by a connection's stream, its service and the task that drives both. It is told and asked in that one task; the atomics are there because tasks move between threads.
///
/// What a request needs is kept here, by connection: a counter of handles that all threads share would cost each request more than everything else that the SDK does.
#[derive(Debug)]
pub(super) struct Activity {
    busy: AtomicBool,
    /// Bytes wait to be written: a response is not over before they are.
    blocked: AtomicBool,
    /// Nothing more is read, unless it is there already.
    ended: AtomicBool,
    http2: AtomicBool,
    draining: AtomicBool,
    changed: Notify,
    worker: Worker,
}

impl Activity {
    pub(super) fn new(worker: Worker) -> Activity {
        let no = || AtomicBool::new(false);
        Activity { busy: AtomicBool::new(true), blocked: no(), ended: no(), http2: no(), draining: no(), changed: Notify::new(), worker }
    }

    pub(super) fn bytes_read(&self) {
        self.ended.store(false, Relaxed);
        self.set(&self.busy, true);
    }

    pub(super) fn response_ended(&self) {
        self.set(&self.busy, false);
        self.worker.answered();
    }

    /// Whether the worker has an order to go.
    pub(super) fn is_ordered(&self) -> bool {
        self.worker.is_ordered()
    }

    pub(super) fn write_blocked(&self, blocked: bool) {
        self.set(&self.blocked, blocked);
    }

    pub(super) fn speaks_http2(&self) {
        self.set(&self.http2, true);
    }

    /// From now on, [`changed`](Self::changed) tells of changes.
    pub(super) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Makes an idle connection end: reading it reports the end of the stream.
    pub(super) fn end(&self) {
        self.ended.store(true, Relaxed);
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// Whether it waits for a next request. HTTP/2 looks after itself.
    pub(super) fn is_idle(&self) -> bool {
        ![&self.busy, &self.blocked, &self.ended, &self.http2].into_iter().any(|flag| flag.load(Relaxed))
    }

    /// Waits for a change; only while draining, since serving needs no telling.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn set(&self, flag: &AtomicBool, value: bool) {
        if flag.load(Relaxed) != value {
            flag.store(value, Relaxed);
            if self.draining.load(Relaxed) {
                self.changed.notify_one();
            }
        }
    }
}
