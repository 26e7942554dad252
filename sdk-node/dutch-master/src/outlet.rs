//! To JavaScript: what happens on the master's thread.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use napi::Status;
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;

/// Log lines that wait for the event loop at most: a program that blocks it for long loses lines, and is told how many. Everything else that is sent is bounded by what JavaScript has asked for.
const LINES_MAX: usize = 4_096;

/// What happened. The kind (log, before-fork, evaluate, answer, exit) says which of the others are there.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct Report {
    pub kind: &'static str,
    pub seq: Option<u32>,
    pub level: Option<&'static str>,
    pub message: Option<String>,
    pub json: Option<String>,
    pub code: Option<u32>,
}

/// Calls JavaScript from the master's thread, and keeps the event loop alive as long as the master runs.
pub(crate) struct Outlet {
    function: ThreadsafeFunction<Report, (), Report, Status, false>,
    waiting_lines: Arc<AtomicUsize>,
    lost_lines: AtomicUsize,
}

impl Outlet {
    pub(crate) fn new(on_report: &Function<'_, Report, ()>) -> napi::Result<Outlet> {
        let waiting_lines = Arc::<AtomicUsize>::default();
        let waiting = Arc::clone(&waiting_lines);
        let function = on_report.build_threadsafe_function::<Report>().build_callback(move |call| {
            if call.value.kind == "log" {
                waiting.fetch_sub(1, Ordering::Relaxed);
            }
            Ok(call.value)
        })?;
        Ok(Outlet { function, waiting_lines, lost_lines: AtomicUsize::default() })
    }

    /// Sends what must not be lost.
    pub(crate) fn send(&self, report: Report) {
        // It fails only while the environment goes down, and with it whoever would want to know.
        self.function.call(report, ThreadsafeFunctionCallMode::NonBlocking);
    }

    /// Sends a log line, unless too many wait.
    pub(crate) fn log(&self, level: &'static str, message: String, fields: String) {
        if self.waiting_lines.load(Ordering::Relaxed) >= LINES_MAX {
            self.lost_lines.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.lost_lines.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.line("warn", "Log lines lost: nobody read them".into(), format!("{{\"lines\":{lost}}}"));
        }
        self.line(level, message, fields);
    }

    fn line(&self, level: &'static str, message: String, fields: String) {
        self.waiting_lines.fetch_add(1, Ordering::Relaxed);
        self.send(Report { kind: "log", level: Some(level), message: Some(message), json: Some(fields), ..Report::default() });
    }
}

/// An error and what caused it, each told once, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.map(ToString::to_string).fold(error.to_string(), |text, cause| if text.ends_with(&cause) { text } else { format!("{text}: {cause}") })
}
