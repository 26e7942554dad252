//! The master's log as it is written, line by line, to wait for and to look back at.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;

/// How long the last lines of a master that has ended may take to arrive.
const LAST_LINES: Duration = Duration::from_secs(5);

/// One line: an entry of the master's log, or whatever else a worker wrote to the same stderr.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it arrived here.
    pub at: Instant,
    text: String,
    entry: Option<Value>,
}

impl Line {
    fn new(text: String) -> Line {
        let entry = serde_json::from_str(&text).ok().filter(Value::is_object);
        Line { at: Instant::now(), text, entry }
    }

    /// The message of a log entry.
    #[must_use]
    pub fn message(&self) -> &str {
        self.text("msg").unwrap_or_default()
    }

    /// A field of a log entry.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.entry.as_ref()?.get(name)
    }

    /// A field that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.field(name).and_then(Value::as_str)
    }

    /// A field that is a number.
    ///
    /// # Panics
    /// When it is missing.
    #[track_caller]
    #[must_use]
    pub fn number(&self, name: &str) -> i64 {
        self.field(name).and_then(Value::as_i64).unwrap_or_else(|| panic!("no number {name} in {self}"))
    }

    /// The pid of the worker concerned.
    ///
    /// # Panics
    /// When the line concerns none.
    #[track_caller]
    #[must_use]
    pub fn worker_pid(&self) -> i32 {
        i32::try_from(self.number("workerPid")).expect("a pid fits")
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A log that is being written.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<Line>,
    /// Where the next [`Log::wait_for`] begins.
    next: usize,
    watchers: Vec<(String, Box<dyn FnMut() + Send>)>,
    /// Nobody can write to it any more.
    ended: bool,
}

impl Log {
    pub(super) fn read(source: impl Read + Send + 'static) -> Log {
        let log = Log { shared: Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }) };
        let writer = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n') {
                let Ok(line) = line else { break };
                writer.add(Line::new(String::from_utf8_lossy(&line).into_owned()));
            }
            writer.state().ended = true;
            writer.shared.changed.notify_all();
        });
        log
    }

    fn add(&self, line: Line) {
        let mut state = self.state();
        for (message, watcher) in &mut state.watchers {
            if line.message() == message {
                watcher();
            }
        }
        state.lines.push(line);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Calls back at each entry with this message from now on.
    pub fn watch(&self, message: &str, watcher: impl FnMut() + Send + 'static) {
        self.state().watchers.push((message.into(), Box::new(watcher)));
    }

    /// Waits for the next entry with this message, and goes on behind it.
    ///
    /// # Panics
    /// When there is none within [`PATIENCE`], or the log has ended; the whole log is in the message.
    #[track_caller]
    #[must_use]
    pub fn wait_for(&self, message: &str) -> Line {
        let until = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            let found = state.lines[state.next..].iter().position(|line| line.message() == message);
            if let Some(at) = found {
                state.next += at + 1;
                return state.lines[state.next - 1].clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                drop(state);
                panic!("no “{message}” in the log:\n{self}");
            }
            (state, _) = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everybody who could write to it is gone, but not for long: what a forgotten process keeps open is another test's matter.
    pub(super) fn wait_for_end(&self) {
        let _in_time = self.shared.changed.wait_timeout_while(self.state(), LAST_LINES, |state| !state.ended);
    }

    /// From here on, [`wait_for`](Self::wait_for) sees only what is still to come.
    pub fn forget(&self) {
        let mut state = self.state();
        state.next = state.lines.len();
    }

    /// Every entry with this message so far.
    #[must_use]
    pub fn entries(&self, message: &str) -> Vec<Line> {
        self.state().lines.iter().filter(|line| line.message() == message).cloned().collect()
    }

    /// How many entries with this message there are so far.
    #[must_use]
    pub fn count(&self, message: &str) -> usize {
        self.entries(message).len()
    }

    /// The least number of running workers since the pool was ready, by the log's own account.
    #[must_use]
    pub fn least_running(&self) -> usize {
        let (mut running, mut least, mut ready) = (BTreeSet::new(), usize::MAX, false);
        for line in &self.state().lines {
            let worker = line.field("workerId").and_then(Value::as_u64);
            match line.message() {
                "Worker listening" => drop(worker.map(|worker| running.insert(worker))),
                "Replacement worker available - disconnecting" | "Worker told to go" | "Worker exited" => drop(worker.map(|worker| running.remove(&worker))),
                "Cluster ready" => ready = true,
                "Shutdown requested" => break,
                _ => {}
            }
            if ready {
                least = least.min(running.len());
            }
        }
        least
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log of {} lines", self.state().lines.len())
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().lines.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}
