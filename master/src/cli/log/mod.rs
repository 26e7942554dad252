//! The log on standard error or in a file: a subscriber of `tracing` that knows events only, in three formats, because the general ones cost memory for what is not needed here.

mod fields;
mod file;
mod format;
mod outlet;
mod repeats;
mod sink;

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use dutch_master::LIFECYCLE;
use tokio::sync::Notify;
use tokio::time::timeout_at;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use self::fields::Fields;
pub(super) use self::file::{LogFileError, check};
use self::format::Line;
use self::outlet::Outlet;
use self::repeats::{Repeats, Summary, Verdict};
use super::settings::{Log, LogLevel};

/// Where the events of this process go.
pub(super) struct Logger {
    level: LevelFilter,
    state: Mutex<State>,
    /// Something is held back that was not before.
    held_back: Notify,
}

struct State {
    outlet: Outlet,
    repeats: Repeats<(Level, Fields)>,
}

impl Logger {
    /// Sends every event of this process where the options say from now on.
    pub(super) fn install(options: &Log) -> Result<Arc<Logger>, LogFileError> {
        let logger = Arc::new(Logger::new(options)?);
        // It fails when there is a subscriber already, and then that one logs.
        let _ = tracing::subscriber::set_global_default(logger.clone());
        Ok(logger)
    }

    fn new(options: &Log) -> Result<Logger, LogFileError> {
        let state = State { outlet: Outlet::open(options)?, repeats: Repeats::default() };
        Ok(Logger { level: level(options.level), state: Mutex::new(state), held_back: Notify::new() })
    }

    /// Whether it goes elsewhere than to standard error.
    pub(super) fn has_file(&self) -> bool {
        self.state().outlet.has_file()
    }

    /// Goes on in the file that has the name now.
    pub(super) fn reopen(&self) {
        // What is logged here takes the lock again.
        let outcome = self.state().outlet.reopen();
        match outcome {
            Ok(()) => tracing::info!("Log file opened again"),
            Err(error) => tracing::error!(reason = %error, "Log file cannot be opened again, the old one stays in use"),
        }
    }

    /// Tells what was held back when its time has come, without end. While nothing is, it waits for no timer.
    pub(super) async fn tell_repeats(&self) -> Infallible {
        loop {
            let next = self.state().repeats.next_end();
            match next {
                None => self.held_back.notified().await,
                Some(at) => {
                    // What is held back meanwhile may be due earlier.
                    let _ = timeout_at(at.into(), self.held_back.notified()).await;
                    self.state().tell_ended(Instant::now());
                }
            }
        }
    }

    /// Tells what is still held back: the program ends.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        let rest = state.repeats.end_all(Instant::now());
        state.tell(rest);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether something was held back that was not before.
    fn event(&mut self, level: Level, fields: Fields, is_told_always: bool) -> bool {
        if is_told_always {
            self.show(level, &fields);
            return false;
        }
        let now = Instant::now();
        self.tell_ended(now);
        match self.repeats.judge(now, fields.kind(), (level, fields)) {
            Verdict::Shown((level, fields)) => {
                self.show(level, &fields);
                false
            }
            Verdict::HeldBack { is_first } => is_first,
        }
    }

    fn tell_ended(&mut self, now: Instant) {
        let ended = self.repeats.ended(now);
        self.tell(ended);
    }

    fn tell(&mut self, summaries: Vec<Summary<(Level, Fields)>>) {
        for Summary { count, time, last: (level, mut fields) } in summaries {
            fields.message = format!("{} (repeated {} times in {} s)", fields.message, grouped(count), time.as_secs().max(1));
            fields.others.push(("repeated", count.into()));
            self.show(level, &fields);
        }
    }

    fn show(&mut self, level: Level, fields: &Fields) {
        self.outlet.write(&Line { time: SystemTime::now(), level, message: &fields.message, fields: &fields.others });
    }
}

/// A number for people: `1,234`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}

impl Subscriber for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        // Less important lines are few, or were asked for.
        let is_told_always = level > Level::WARN || event.metadata().target() == LIFECYCLE;
        if self.state().event(level, fields, is_told_always) {
            self.held_back.notify_one();
        }
    }

    // Spans are not used in this program, and those of libraries are not shown.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An error with its causes, each told once.
pub(super) struct Chain<'a>(pub(super) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !told.contains(&text) {
                told = format!("{told}: {text}");
            }
            cause = error.source();
        }
        f.write_str(&told)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Collects what a subscriber of our kind sees.
    #[derive(Clone, Default)]
    struct Collect(Arc<Mutex<Vec<Fields>>>);

    impl Subscriber for Collect {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields);
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn fields_keep_their_names_types_and_order() {
        let collect = Collect::default();
        tracing::subscriber::with_default(collect.clone(), || tracing::info!(workerId = 3_u32, signal = "SIGTERM", clean = true, "Worker exited"));
        let seen = collect.0.lock().unwrap();
        assert_eq!(seen[0].message, "Worker exited");
        assert_eq!(seen[0].others, [("workerId", Value::from(3)), ("signal", "SIGTERM".into()), ("clean", true.into())]);
    }

    /// What the log file has after these events.
    fn logged(name: &str, events: impl FnOnce()) -> String {
        let path = std::env::temp_dir().join(format!("dm-log-{}-{name}", std::process::id()));
        let options = Log { format: super::super::settings::LogFormat::Json, level: LogLevel::Info, file: Some(path.clone()) };
        let logger = Arc::new(Logger::new(&options).unwrap());
        tracing::subscriber::with_default(logger.clone(), events);
        logger.finish();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        text
    }

    #[test]
    fn warnings_that_repeat_are_counted_but_never_those_of_the_lifecycle() {
        let text = logged("repeats", || {
            (0..1_239).for_each(|n| tracing::warn!(workerId = 3, n, "Connection refused"));
            (0..20).for_each(|_| tracing::warn!(target: LIFECYCLE, workerId = 3, "Worker disconnection was unexpected"));
            (0..20).for_each(|_| tracing::info!("Worker asks"));
        });
        let count = |text_of: &str| text.lines().filter(|line| line.contains(text_of)).count();
        assert_eq!((count("\"Connection refused\""), count("Worker disconnection was unexpected"), count("Worker asks")), (5, 20, 20));
        let summary: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(summary["msg"].as_str().unwrap().starts_with("Connection refused (repeated 1,234 times in "), "{summary}");
        assert_eq!((&summary["level"], &summary["n"], &summary["repeated"]), (&"warn".into(), &1_238.into(), &1_234.into()), "as the last of them");
    }

    #[test]
    fn large_numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_causes_of_an_error_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read a: {0}")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("gone"));
        assert_eq!(Chain(&error).to_string(), "cannot read a: gone");
    }
}
