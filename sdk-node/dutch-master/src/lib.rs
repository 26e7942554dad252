//! The Node addon: a master on one thread of its own inside a Node process. JavaScript owns signals, environment and callbacks; what all of it means to Node is in `lib/*.js`.

mod asking;
mod log;
mod outlet;
mod questions;
mod settings;
mod thread;

use std::collections::HashMap;
use std::sync::{Arc, Weak, mpsc as blocking};
use std::time::Duration;

use dutch_master::core::SizeChange;
use dutch_master::{Master, Request};
use napi::bindgen_prelude::Function;
use napi_derive::napi;
use tokio::sync::mpsc;

use asking::Asked;
use log::LogLines;
use outlet::{Outlet, Report};
use questions::{Kind, Question};
use settings::Settings;
use thread::Ended;

/// Requests that wait for the master's thread; it takes them in microseconds.
const REQUESTS_MAX: usize = 64;

/// How long a status may take: longer, and something is wrong with the master's thread.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of the process waits for the master's thread to signal its workers.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(2);

/// A master whose thread runs.
#[napi]
pub struct Running {
    name: String,
    socket: String,
    requests: mpsc::Sender<Request>,
    questions: mpsc::Sender<Question>,
    /// Gone with the master: what it holds keeps the event loop alive.
    asked: Weak<Asked>,
    ended: Arc<Ended>,
}

/// What JavaScript answers to `before-fork` and `evaluate`: an error, or all that was asked for.
#[napi(object)]
pub struct Answer {
    pub error: Option<String>,
    pub num_workers: Option<u32>,
    pub directory: Option<String>,
    pub environment: Option<HashMap<String, String>>,
}

/// The version of this addon: it is to be that of the package around it.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Takes the name and the configured listeners, and starts the thread. Throws with a line for people where that cannot be.
#[napi]
pub fn start(settings: Settings, on_report: Function<'_, Report, ()>) -> napi::Result<Running> {
    let outlet = Arc::new(Outlet::new(&on_report)?);
    let lines = tracing::Dispatch::new(LogLines::new(Arc::clone(&outlet), settings.debug));
    let asked = Arc::new(Asked::new(Arc::clone(&outlet)));
    let callbacks = asking::callbacks(&asked, settings.before_fork);
    let prepare = || {
        let manager = settings.service_manager();
        let options = settings.into_options()?;
        let master =
            Master::prepare_under(manager, options.clone(), callbacks).map_err(|error| napi::Error::from_reason(dutch_master::Chain(&error).to_string()))?;
        Ok::<_, napi::Error>((master, options))
    };
    let (master, options) = tracing::dispatcher::with_default(&lines, prepare)?;
    let (requests, requested) = mpsc::channel(REQUESTS_MAX);
    let (questions, questioned) = mpsc::channel(REQUESTS_MAX);
    let ended = Arc::new(Ended::default());
    let running = Running {
        name: master.name().into(),
        socket: master.control_socket().to_string_lossy().into_owned(),
        requests,
        questions,
        asked: Arc::downgrade(&asked),
        ended: Arc::clone(&ended),
    };
    // There is no file to read again: a reload evaluates what a restart does.
    let master = master.with_reload(move || Ok(dutch_master::Reread { options: options.clone(), fixed: Vec::new() }));
    thread::Thread { master, requests: requested, questions: questioned, outlet, lines, ended }
        .start()
        .map_err(|error| napi::Error::from_reason(format!("no thread for the master: {error}")))?;
    Ok(running)
}

#[napi]
impl Running {
    /// What other commands call this master.
    #[napi(getter)]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its control socket.
    #[napi(getter)]
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// Asks for a rolling restart; nobody waits for its end.
    #[napi]
    pub fn request_restart(&self, signal: Option<String>) {
        self.request(Request::Restart { signal });
    }

    /// Asks for a graceful stop; the second time at once. A report `exit` follows.
    #[napi]
    pub fn request_stop(&self, signal: Option<String>) {
        self.request(Request::Stop { signal });
    }

    /// One worker more, or fewer.
    #[napi]
    pub fn request_scale(&self, by: i32) {
        self.request(Request::Scale { change: SizeChange::By(by) });
    }

    /// A rolling restart; a report `answer` with the same `seq` says how it ended.
    #[napi]
    pub fn restart(&self, seq: u32) -> bool {
        self.question(Question { kind: Kind::Restart, reply: questions::Reply::Report(seq) })
    }

    /// Another size, as a change of it or as it shall be; a report `answer` follows once that many run.
    #[napi]
    pub fn scale(&self, seq: u32, number: i32, is_change: bool) -> bool {
        let change = if is_change { SizeChange::By(number) } else { SizeChange::To(number.unsigned_abs()) };
        self.question(Question { kind: Kind::Scale(change), reply: questions::Reply::Report(seq) })
    }

    /// The pool, its workers and listeners as JSON. Waits for the master's thread, which never waits for this one.
    #[napi]
    pub fn status(&self) -> napi::Result<String> {
        let (answer, answered) = blocking::channel();
        let is_asked = self.question(Question { kind: Kind::Status, reply: questions::Reply::Waiting(answer) });
        let status = if is_asked { answered.recv_timeout(STATUS_TIMEOUT).ok() } else { None };
        status.unwrap_or_else(|| Err("the master has ended".into())).map_err(napi::Error::from_reason)
    }

    /// Answers a report `before-fork` or `evaluate`.
    #[napi]
    pub fn answer(&self, seq: u32, answer: Answer) {
        if let Some(asked) = self.asked.upgrade() {
            asked.answered(seq, answer);
        }
    }

    /// The process ends: SIGTERM to all workers, which is waited for.
    #[napi]
    pub fn abandon(&self) {
        if self.requests.try_send(Request::Abandon).is_ok() {
            self.ended.wait(ABANDON_TIMEOUT);
        }
    }

    fn request(&self, request: Request) {
        // The thread has ended, or has enough of the same to do.
        let _ = self.requests.try_send(request);
    }

    fn question(&self, question: Question) -> bool {
        self.questions.try_send(question).is_ok()
    }
}
