//! An HTTP worker over the bare protocol that keeps every rule, save the one that its argument names: what the conformance kit is tried on.
//!
//! `zoo good`, or with one of the faults below. It has a thread for each connection, so that nothing here depends on an SDK that could share a mistake with the kit.

mod draining;
mod fault;
mod master;
mod serving;

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dutch_master_protocol::codec::encode;
use dutch_master_protocol::message::{AppMessage, Disconnect, DisconnectReason, Drained, FromWorker, Listening};
use nix::sys::signal::{SigSet, Signal};

use fault::Fault;
use master::Master;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let fault = Fault::named(&name).ok_or("zoo FAULT: which fault?")?;
    if fault == Fault::NeverConnects {
        loop {
            thread::park();
        }
    }
    if fault == Fault::IgnoresTerm {
        // Before there are threads: they inherit it.
        let mut term = SigSet::empty();
        term.add(Signal::SIGTERM);
        term.thread_block()?;
    }
    let mut master = Master::connect(fault)?;
    let welcome = master.hello(fault)?;
    let Some(listener) = master.listener(&welcome)? else {
        master.say(&FromWorker::Disconnect(Drained::default()))?;
        return Ok(());
    };
    let worker = Arc::new(Worker { fault, order: Mutex::new(None), connections: Mutex::default() });
    master.say(&FromWorker::Listening(Listening::default()))?;
    if fault == Fault::Floods {
        flood(&master)?;
    }
    let order = serving::serve(&worker, &mut master, &listener, welcome.orphan_timeout_ms.map(Duration::from_millis))?;
    draining::drain(&worker, &mut master, listener, order)
}

/// What the threads of connections share.
struct Worker {
    fault: Fault,
    order: Mutex<Option<Order>>,
    /// Connections by number: idle ones, and busy ones.
    connections: Mutex<HashMap<u64, bool>>,
}

#[derive(Debug, Clone, Copy)]
struct Order {
    reason: DisconnectReason,
    given: Instant,
    deadline: Instant,
}

impl Order {
    fn new(reason: DisconnectReason, timeout: Duration) -> Order {
        Order { reason, given: Instant::now(), deadline: Instant::now() + timeout }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    fn order(&self) -> Option<Order> {
        *locked(&self.order)
    }

    fn note(&self, order: &Disconnect) {
        let new = Order::new(order.reason, Duration::from_millis(order.timeout_ms));
        let mut order = locked(&self.order);
        let takes_longer = self.fault == Fault::TakesLonger;
        *order = Some(order.map_or(new, |old| Order { deadline: if takes_longer { new.deadline } else { old.deadline.min(new.deadline) }, ..old }));
    }
}

/// As fast as the master reads.
fn flood(master: &Master) -> Result<()> {
    let mut socket = master.socket.as_ref().ok_or("no master")?.try_clone()?;
    let frame = encode(&FromWorker::Message(AppMessage { json: "{}".into() }))?;
    thread::spawn(move || while socket.write_all(&frame).is_ok() {});
    Ok(())
}
