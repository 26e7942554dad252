//! What an event says: its message, and its fields in their order.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;
use tracing::field::{Field, Visit};

use super::Chain;
use super::repeats::Kind;

/// The fields of one event, in their order, and the message apart.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) others: Vec<(&'static str, Value)>,
}

impl Fields {
    /// What it is when it comes again.
    pub(super) fn kind(&self) -> Kind {
        let worker = self.others.iter().find(|(name, _)| *name == "workerId").and_then(|(_, id)| id.as_u64());
        let reason = self.others.iter().find(|(name, _)| *name == "reason").map(|(_, reason)| {
            let mut digest = DefaultHasher::new();
            reason.to_string().hash(&mut digest);
            digest.finish()
        });
        Kind { message: self.message.clone(), worker, reason }
    }

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
