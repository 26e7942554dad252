//! The master's log, event by event, on its way to JavaScript.

use std::sync::Arc;

use dutch_master::Fields;
use serde_json::Value;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::outlet::Outlet;

/// Takes the events of the thread that it is the subscriber of.
pub(crate) struct LogLines {
    outlet: Arc<Outlet>,
    level: LevelFilter,
}

impl LogLines {
    pub(crate) fn new(outlet: Arc<Outlet>, debug: bool) -> LogLines {
        LogLines { outlet, level: if debug { LevelFilter::DEBUG } else { LevelFilter::INFO } }
    }
}

impl Subscriber for LogLines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let others = fields.others.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.outlet.log(level, fields.message, Value::Object(others).to_string());
    }

    // Spans are not used in the master.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
