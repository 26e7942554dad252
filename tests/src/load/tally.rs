//! Exact counts: what was sent, what came of it, and how many connections are open.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::request::{Kind, Request};

/// How many failures are described singly: enough to see a pattern.
const EXAMPLES_MAX: usize = 20;

/// What a load came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Requests begun.
    pub sent: u64,
    /// Those with a complete, correct response.
    pub ok: u64,
    /// The others, by class.
    pub failed: BTreeMap<Failure, u64>,
    /// Connections opened.
    pub connections: u64,
    /// Connections that the server ended cleanly while they were idle: no failure.
    pub ended_idle: u64,
    /// Connections that the server tore down while they were idle: no request was lost, but a gentle server does not do this.
    pub torn_idle: u64,
    /// The longest successful request.
    pub slowest: Duration,
    /// The first failures: when, what, which request.
    pub examples: Vec<String>,
}

impl Report {
    /// How many requests failed, whatever the class.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// How many requests failed in this way.
    #[must_use]
    pub fn count(&self, class: Failure) -> u64 {
        self.failed.get(&class).copied().unwrap_or(0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { sent, ok, failed, connections, ended_idle, torn_idle, slowest, examples } = self;
        writeln!(f, "{sent} requests over {connections} connections ({ended_idle} ended idle, {torn_idle} torn idle): {ok} ok, the slowest in {slowest:.1?}")?;
        for (class, count) in failed {
            writeln!(f, "  {count} {class}")?;
        }
        examples.iter().try_for_each(|example| writeln!(f, "  {example}"))
    }
}

/// Counts while the load is under way.
#[derive(Debug)]
pub(super) struct Tally {
    started: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    open: usize,
    report: Report,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally { started: Instant::now(), counts: Mutex::default() }
    }

    pub(super) fn open(&self) -> usize {
        self.counts().open
    }

    pub(super) fn report(&self) -> Report {
        self.counts().report.clone()
    }

    pub(super) fn opened(&self) {
        let mut counts = self.counts();
        counts.open += 1;
        counts.report.connections += 1;
    }

    pub(super) fn closed(&self) {
        self.counts().open -= 1;
    }

    pub(super) fn ended_idle(&self, how: &io::Result<()>) {
        let report = &mut self.counts().report;
        match how {
            Ok(()) => report.ended_idle += 1,
            Err(_) => report.torn_idle += 1,
        }
    }

    pub(super) fn sent(&self) {
        self.counts().report.sent += 1;
    }

    pub(super) fn ok(&self, took: Duration) {
        let report = &mut self.counts().report;
        report.ok += 1;
        report.slowest = report.slowest.max(took);
    }

    pub(super) fn failed(&self, failure: Failure, request: &Request) {
        let at = self.started.elapsed();
        let report = &mut self.counts().report;
        *report.failed.entry(failure).or_default() += 1;
        if report.examples.len() < EXAMPLES_MAX {
            let kind = match &request.kind {
                Kind::Short => "GET /".into(),
                Kind::Slow => "GET /slow".into(),
                Kind::Echo(body) => format!("POST /echo of {} bytes", body.len()),
            };
            report.examples.push(format!("{at:.3?}: {kind}: {failure}"));
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
