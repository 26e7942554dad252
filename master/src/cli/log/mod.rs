//! The log on standard error: a subscriber of `tracing` that knows events only, in three formats, because the general ones cost memory for what is not needed here.

mod format;
mod sink;

use std::fmt::{self, Debug};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use self::format::{Format, Line};
use self::sink::Sink;
use super::settings::{Log, LogLevel};

/// Sends every event of this process to standard error from now on.
pub(super) fn install(options: Log) {
    let logger = Logger { level: level(options.level), format: Format::new(options.format), sink: Mutex::default() };
    // It fails when there is a subscriber already, and then that one logs.
    let _ = tracing::subscriber::set_global_default(logger);
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

struct Logger {
    level: LevelFilter,
    format: Format,
    sink: Mutex<Sink>,
}

impl Subscriber for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = Line { time: SystemTime::now(), level: *event.metadata().level(), message: &fields.message, fields: &fields.others };
        let line = self.format.line(&line);
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).write(&line, |lost| {
            let fields = [("lines", Value::from(lost))];
            self.format.line(&Line { time: SystemTime::now(), level: tracing::Level::WARN, message: "Log lines lost: nobody read them", fields: &fields })
        });
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

/// The fields of one event, in their order, and the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, Chain(value).to_string().into());
    }
}

/// An error with its causes, each told once.
pub(super) struct Chain<'a>(pub(super) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !told.ends_with(&text) {
                told = format!("{told}: {text}");
            }
            cause = error.source();
        }
        f.write_str(&told)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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

    #[test]
    fn the_causes_of_an_error_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read a: {0}")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("gone"));
        assert_eq!(Chain(&error).to_string(), "cannot read a: gone");
    }
}
