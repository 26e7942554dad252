//! Rolling restarts under load, for workers of each kind: what `make load` prints and the short tests check.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::harness::{Master, Start, binary, repository};
use crate::load::{Load, Mode, Plan, Report};

/// Requests that succeed before each restart, so that every one happens under load.
const OK_BETWEEN: u64 = 100;

/// Whose restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// The Express example with the Node SDK.
    Express,
    /// The axum service with the Rust SDK.
    Axum,
    /// The example in Python, which speaks the protocol by hand.
    Python,
    /// The axum service without `resume`: the negative control for masters that die.
    Forgetful,
    /// The Express example, ended by `server.close()`: a negative control.
    NaiveExpress,
    /// The axum service, ended by hyper's graceful shutdown: a negative control.
    NaiveAxum,
}

impl Workers {
    /// A master with two of them.
    #[must_use]
    pub fn start(self) -> Start {
        let node = |script| {
            let _installed = repository("examples/express/node_modules/express");
            Start::new(repository(script)).without_listener().env("PORT", "0")
        };
        match self {
            Workers::Express => node("examples/express/app.js"),
            Workers::NaiveExpress => node("tests/workers/naive.js"),
            Workers::Axum => Start::new(binary("http-worker")),
            Workers::Python => Start::new("python3").arg(repository("examples/python/worker.py")),
            Workers::Forgetful => Start::new(binary("http-worker")).arg("--no-resume"),
            Workers::NaiveAxum => Start::new(binary("http-worker")).arg("--graceful").arg("hyper"),
        }
    }
}

/// Restarts under load.
#[derive(Debug, Clone, Copy)]
pub struct Rolling {
    /// Whose.
    pub workers: Workers,
    /// How clients use connections.
    pub mode: Mode,
    /// How many clients at the same time.
    pub clients: usize,
    /// Longest gap between two requests of a client.
    pub think_ms: u64,
    /// How many restarts.
    pub restarts: usize,
    /// The master's `--settle-time`.
    pub settle_time: &'static str,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The requests.
    pub report: Report,
    /// How many connections were open at each order to disconnect.
    pub open_at_orders: Vec<usize>,
    /// How long it took.
    pub took: Duration,
    /// The master, still running.
    pub master: Master,
}

impl Rolling {
    /// Runs it, until the last old worker is gone.
    #[must_use]
    pub fn run(&self) -> Outcome {
        let master = self.workers.start().option("--settle-time", self.settle_time).ready();
        let load = Load::start(Plan { mode: self.mode, clients: self.clients, think_ms: 0..=self.think_ms, ..Plan::new(master.address()) });
        let (started, open_at_orders) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        master.log().watch("Replacement worker available - disconnecting", {
            let (open, gauge) = (Arc::clone(&open_at_orders), load.gauge());
            move || open.lock().unwrap_or_else(PoisonError::into_inner).push(gauge())
        });
        for _ in 0..self.restarts {
            load.await_ok(OK_BETWEEN);
            master.restart();
        }
        while master.log().count("Worker exited") < master.log().count("Replacement worker available - disconnecting") {
            let _old = master.await_log("Worker exited");
        }
        load.await_ok(OK_BETWEEN);
        let (report, took) = (load.stop(), started.elapsed());
        let open_at_orders = std::mem::take(&mut *open_at_orders.lock().unwrap_or_else(PoisonError::into_inner));
        Outcome { report, open_at_orders, took, master }
    }
}
