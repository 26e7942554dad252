//! To JavaScript: what happened.

use std::error::Error;
use std::os::fd::IntoRawFd;

use dutch_master_worker::{Event, ListenError, Listener};
use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;

/// What waits for the event loop at most: more than there can be requests without an answer, orders included. The session thread cannot wait.
pub(crate) const REPORTS_MAX: usize = 512;

/// Calls JavaScript from the session thread. Weak: whether the loop lives on is decided there.
pub(crate) type Outlet = ThreadsafeFunction<Report, (), Report, Status, false, true, REPORTS_MAX>;

/// What happened. The kind (listener, refused, order, disconnected, reconnected, error) says which of the others are there.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct Report {
    pub kind: &'static str,
    pub seq: Option<u32>,
    pub fd: Option<i32>,
    pub key: Option<String>,
    pub data: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
    pub reason: Option<&'static str>,
    pub timeout_ms: Option<f64>,
    pub ordered: Option<bool>,
}

pub(crate) fn tell(outlet: &Outlet, report: Report) {
    // It fails only while the environment goes down, and with it whoever would want to know.
    outlet.call(report, ThreadsafeFunctionCallMode::NonBlocking);
}

impl Report {
    /// The answer to a `listen`. JavaScript owns the descriptor from here.
    pub(crate) fn answer(seq: u32, answer: Result<Listener, ListenError>) -> Report {
        match answer {
            Ok(listener) => {
                let (key, data) = (Some(listener.key().to_owned()), listener.data().map(str::to_owned));
                Report { kind: "listener", seq: Some(seq), key, data, fd: Some(listener.into_fd().into_raw_fd()), ..Report::default() }
            }
            Err(error) => Report::refused(seq, &error.code(), with_causes(&error)),
        }
    }

    pub(crate) fn refused(seq: u32, code: &str, message: String) -> Report {
        Report { kind: "refused", seq: Some(seq), code: Some(code.to_owned()), message: Some(message), ..Report::default() }
    }
}

impl From<Event> for Report {
    fn from(event: Event) -> Report {
        match event {
            Event::Order(order) => {
                let timeout_ms = order.remaining().as_secs_f64() * 1000.0;
                Report { kind: "order", reason: Some(order.reason.as_str()), timeout_ms: Some(timeout_ms), ..Report::default() }
            }
            Event::Disconnected { ordered } => Report { kind: "disconnected", ordered: Some(ordered), ..Report::default() },
            Event::Reconnected => Report { kind: "reconnected", ..Report::default() },
            Event::Error { code, message } => Report { kind: "error", code: Some(code), message: Some(message), ..Report::default() },
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
