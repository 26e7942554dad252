//! The order to go: why, and until when.

use std::time::{Duration, Instant};

use dutch_master_protocol::message::DisconnectReason;

/// Why a worker has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A rolling restart replaced it.
    Restart,
    /// It asked for a replacement, which runs now.
    Request,
    /// The master stops: connections that wait in the listeners' queues are this worker's to serve.
    Stop,
    /// The pool became smaller.
    ScaleDown,
    /// It reached a limit of age, memory or requests.
    Recycle,
    /// It leaves by itself, see [`Worker::leave`](crate::Worker::leave).
    Leaving,
    /// Its master has been gone for too long.
    Orphaned,
    /// A reason that this version does not know.
    Other,
}

impl Reason {
    /// Its word: that of the protocol (SPEC 6.13), `leaving` or `orphaned`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Restart => "restart",
            Reason::Request => "request",
            Reason::Stop => "stop",
            Reason::ScaleDown => "scale-down",
            Reason::Recycle => "recycle",
            Reason::Leaving => "leaving",
            Reason::Orphaned => "orphaned",
            Reason::Other => "other",
        }
    }
}

impl From<DisconnectReason> for Reason {
    fn from(reason: DisconnectReason) -> Reason {
        match reason {
            DisconnectReason::Restart => Reason::Restart,
            DisconnectReason::Request => Reason::Request,
            DisconnectReason::Stop => Reason::Stop,
            DisconnectReason::ScaleDown => Reason::ScaleDown,
            DisconnectReason::Recycle => Reason::Recycle,
            DisconnectReason::Other => Reason::Other,
        }
    }
}

/// An order to go. Nothing takes it back: the worker stops accepting, finishes what it has, and says [`drained`](crate::Worker::drained) by the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Why. The first reason stays.
    pub reason: Reason,
    /// Until when the worker may drain; a repeated order can only move it earlier.
    pub deadline: Instant,
}

impl Order {
    /// What is left until the deadline.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
