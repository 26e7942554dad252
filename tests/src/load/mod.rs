//! A load client that never retries and counts exactly: every request sent has succeeded or failed, and each failure has a class.
//!
//! It runs on one thread of its own, so that tests stay plain blocking code.

mod connection;
mod failure;
mod request;
mod response;
mod tally;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::harness::Log;

use connection::Connection;
use request::Request;
use tally::Tally;

pub use failure::Failure;
pub use tally::Report;

/// How clients use connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One connection until the server ends it.
    KeepAlive,
    /// A connection for each request.
    PerRequest,
}

/// What load to make.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the server listens.
    pub address: SocketAddr,
    /// How clients use connections.
    pub mode: Mode,
    /// How many clients at the same time.
    pub clients: usize,
    /// How many milliseconds a client waits between requests.
    pub think_ms: RangeInclusive<u64>,
    /// Where the random numbers begin.
    pub seed: u64,
    /// Longest that a request may take, its connection included.
    pub timeout: Duration,
}

impl Plan {
    /// Twenty clients that keep their connections, with gaps of up to 400 ms, and a patience that is longer than any drain.
    #[must_use]
    pub fn new(address: SocketAddr) -> Plan {
        Plan { address, mode: Mode::KeepAlive, clients: 20, think_ms: 0..=400, seed: 1, timeout: Duration::from_secs(30) }
    }
}

/// Load that is under way.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Tally>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Starts the clients.
    #[must_use]
    pub fn start(plan: Plan) -> Load {
        let tally = Arc::new(Tally::new());
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn({
            let tally = Arc::clone(&tally);
            move || run(&plan, &tally, &stopped)
        });
        Load { tally, stop, thread }
    }

    /// How many connections are open right now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.tally.open()
    }

    /// A way to ask for [`open`](Self::open) from elsewhere.
    pub fn gauge(&self) -> impl Fn() -> usize + Send + 'static {
        let tally = Arc::clone(&self.tally);
        move || tally.open()
    }

    /// What has been counted so far; requests under way are sent, and neither ok nor failed.
    #[must_use]
    pub fn so_far(&self) -> Report {
        self.tally.report()
    }

    /// Waits until this many more requests have succeeded than now, so that there is proof of load.
    ///
    /// # Panics
    /// When that takes a minute.
    pub fn await_ok(&self, more: u64) {
        let wanted = self.so_far().ok + more;
        let until = Instant::now() + Duration::from_secs(60);
        while self.so_far().ok < wanted {
            assert!(Instant::now() < until, "no load gets through:\n{}", self.so_far());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets every client finish its request; none may have failed.
    ///
    /// # Panics
    /// When one has; what failed and the master's log are in the message.
    #[track_caller]
    pub fn stop_without_failure(self, log: &Log) -> Report {
        let report = self.stop();
        assert_eq!(report.failures(), 0, "{report}\n{log}");
        report
    }

    /// Lets every client finish its request and counts.
    ///
    /// # Panics
    /// When the client itself has panicked.
    #[must_use]
    pub fn stop(self) -> Report {
        self.stop.send_replace(true);
        self.thread.join().expect("the load client works");
        let report = self.tally.report();
        assert_eq!(report.sent, report.ok + report.failures(), "each request sent has succeeded or failed");
        report
    }
}

fn run(plan: &Plan, tally: &Arc<Tally>, stopped: &watch::Receiver<bool>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for n in 0..plan.clients {
            clients.spawn(client(plan.clone(), n as u64, Arc::clone(tally), stopped.clone()));
        }
        while let Some(ended) = clients.join_next().await {
            ended.expect("no client panics");
        }
    });
}

async fn client(plan: Plan, n: u64, tally: Arc<Tally>, mut stopped: watch::Receiver<bool>) {
    let mut random = fastrand::Rng::with_seed(plan.seed.wrapping_mul(1_000_003).wrapping_add(n));
    let mut connection = None;
    loop {
        let think = Duration::from_millis(random.u64(plan.think_ms.clone()));
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = rest(&mut connection, think, &tally) => {}
        }
        let request = Request::random(&mut random, plan.mode);
        tally.sent();
        let started = Instant::now();
        let exchange = tokio::time::timeout(plan.timeout, exchange(&mut connection, &request, plan.address, &tally));
        match exchange.await.unwrap_or(Err(Failure::Timeout)) {
            Ok(()) => tally.ok(started.elapsed()),
            Err(failure) => {
                connection = None;
                tally.failed(failure, &request);
            }
        }
    }
}

/// Thinks, and meanwhile lets go of an idle connection that the server ends.
async fn rest(connection: &mut Option<Connection>, think: Duration, tally: &Tally) {
    let until = tokio::time::Instant::now() + think;
    if let Some(idle) = connection
        && let Ok(ended) = tokio::time::timeout_at(until, idle.ended()).await
    {
        tally.ended_idle(&ended);
        *connection = None;
    }
    tokio::time::sleep_until(until).await;
}

/// One request and its response. The connection stays where both sides want to keep it.
async fn exchange(connection: &mut Option<Connection>, request: &Request, address: SocketAddr, tally: &Arc<Tally>) -> Result<(), Failure> {
    let mut used = match connection.take() {
        Some(open) => open,
        None => Connection::open(address, tally).await?,
    };
    let response = used.exchange(&request.bytes()).await?;
    request.check(&response)?;
    if response.keep_alive && request.keep_alive {
        *connection = Some(used);
    }
    Ok(())
}
