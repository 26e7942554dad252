//! A small master of one worker and one listener that keeps every rule, save the one that its first argument names: what `conformance --master` is tried on.
//!
//! `master-zoo FAULT WORKER [ARGS…]`. One thread for each connection and one lock around everything: it is to be plain, not good.

mod connection;
mod control;
mod pool;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use pool::Pool;

/// What is wrong with this master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Every token is the newest worker's.
    TakesAnyToken,
    /// Its zero bytes bring no descriptor.
    DropsDescriptors,
    /// What it does not know is malformed to it.
    RefusesUnknown,
    /// Malformed input is its end.
    DiesOfGarbage,
    /// It closes without saying why.
    SaysNoWhy,
    /// A drained worker gets no SIGTERM.
    EndsNobody,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

fn locked() -> MutexGuard<'static, Option<Pool>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<T>(act: impl FnOnce(&mut Pool) -> T) -> T {
    act(locked().as_mut().expect("set at the start"))
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let fault = match words.next().unwrap_or_default().as_str() {
        "good" => Fault::None,
        "takes-any-token" => Fault::TakesAnyToken,
        "drops-descriptors" => Fault::DropsDescriptors,
        "refuses-unknown" => Fault::RefusesUnknown,
        "dies-of-garbage" => Fault::DiesOfGarbage,
        "says-no-why" => Fault::SaysNoWhy,
        "ends-nobody" => Fault::EndsNobody,
        other => return Err(format!("no such fault: {other}").into()),
    };
    let folder = std::env::var_os("XDG_RUNTIME_DIR").ok_or("XDG_RUNTIME_DIR is not set")?;
    let path = PathBuf::from(folder).join("zoo");
    let acceptor = UnixListener::bind(&path)?;
    let listener = Some(TcpListener::bind("127.0.0.1:0")?);
    let command = words.collect();
    let pool = Pool { fault, command, path, workers: BTreeMap::new(), generation: 1, listener, data: None, waiting: None, is_stopping: false };
    *locked() = Some(pool);
    with(Pool::spawn)?;
    for connection in acceptor.incoming() {
        let connection = connection?;
        thread::spawn(move || connection::serve(connection));
    }
    Ok(())
}
