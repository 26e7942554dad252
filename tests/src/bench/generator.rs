//! A lean closed-loop load generator: one thread, one epoll, one request under way for each connection. It must not be what limits the server on the same two processors.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::stats::coefficient_of_variation;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Longest response head and body: those of the benchmark's workers have about 200 bytes.
const RESPONSE_MAX: usize = 4_096;

/// Time between connections that come one after the other.
pub const GAP: Duration = Duration::from_millis(2);

/// How long nothing at all may happen.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One connection for all requests.
    KeepAlive,
    /// One connection for each request.
    PerRequest,
}

/// What load to make.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where the server is.
    pub address: SocketAddr,
    /// How connections are used.
    pub mode: Mode,
    /// How many at the same time.
    pub connections: usize,
    /// How long.
    pub duration: Duration,
    /// Time between the first connections; zero: all at once.
    pub gap: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answered requests.
    pub requests: u64,
    /// The same by second.
    pub rate: f64,
    /// Answers that were none.
    pub failures: u64,
    /// How many connections each worker got, by the name that it answers with.
    pub shares: BTreeMap<String, u64>,
}

impl Outcome {
    /// How unevenly connections spread over so many workers: standard deviation by mean.
    #[must_use]
    pub fn unevenness(&self, workers: usize) -> f64 {
        let mut counts: Vec<u64> = self.shares.values().copied().collect();
        // Workers that got nothing count, too.
        counts.resize(workers, 0);
        coefficient_of_variation(&counts)
    }
}

struct Connection {
    stream: TcpStream,
    buffer: [u8; RESPONSE_MAX],
    filled: usize,
    /// Its worker is known.
    is_counted: bool,
    /// A connection for one request: its response is there, its end is awaited.
    answered: bool,
}

/// Makes the load.
///
/// # Panics
/// When the server is not there, or nothing happens for ten seconds.
#[must_use]
#[allow(clippy::cast_precision_loss)] // a count of requests
pub fn run(plan: Plan) -> Outcome {
    let mut generator = Generator { plan, epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll"), outcome: Outcome::default() };
    let mut connections: Vec<Option<Connection>> = (0..plan.connections).map(|_| None).collect();
    let mut events = vec![EpollEvent::empty(); plan.connections];
    let (started, mut opened, mut requests) = (Instant::now(), 0, 0);
    while started.elapsed() < plan.duration {
        while opened < plan.connections && started.elapsed() >= plan.gap * u32::try_from(opened).expect("few connections") {
            connections[opened] = Some(generator.open(opened));
            opened += 1;
        }
        let patience = if opened < plan.connections { plan.gap } else { SILENCE_MAX };
        let ready = generator.epoll.wait(&mut events, EpollTimeout::try_from(patience).expect("it fits")).expect("epoll works");
        assert!(ready > 0 || opened < plan.connections, "the server has fallen silent");
        for event in &events[..ready] {
            let n = usize::try_from(event.data()).expect("a small number");
            let slot = &mut connections[n];
            let Some(connection) = slot else { continue };
            match generator.advance(connection) {
                Ok(Step::Wait) => {}
                Ok(Step::Answered) => requests += 1,
                Ok(Step::Ended) => *slot = Some(generator.open(n)),
                Err(_) => {
                    generator.outcome.failures += 1;
                    *slot = Some(generator.open(n));
                }
            }
        }
    }
    generator.outcome.requests = requests;
    generator.outcome.rate = requests as f64 / started.elapsed().as_secs_f64();
    generator.outcome
}

enum Step {
    Wait,
    Answered,
    Ended,
}

struct Generator {
    plan: Plan,
    epoll: Epoll,
    outcome: Outcome,
}

impl Generator {
    fn request(&self) -> &'static [u8] {
        match self.plan.mode {
            Mode::KeepAlive => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            Mode::PerRequest => b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        }
    }

    /// The stream stays blocking: over loopback it is connected at once, and it is read only when something is there.
    fn open(&self, n: usize) -> Connection {
        let mut stream = TcpStream::connect(self.plan.address).expect("the server listens");
        stream.write_all(self.request()).expect("a new connection takes a request");
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, n as u64)).expect("a connection can be watched");
        Connection { stream, buffer: [0; RESPONSE_MAX], filled: 0, is_counted: false, answered: false }
    }

    fn advance(&mut self, connection: &mut Connection) -> io::Result<Step> {
        let n = connection.stream.read(&mut connection.buffer[connection.filled..])?;
        if n == 0 {
            return if connection.answered { Ok(Step::Ended) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        connection.filled += n;
        let Some(worker) = whole_response(&connection.buffer[..connection.filled])? else { return Ok(Step::Wait) };
        if !std::mem::replace(&mut connection.is_counted, true) {
            *self.outcome.shares.entry(worker.to_owned()).or_default() += 1;
        }
        connection.filled = 0;
        match self.plan.mode {
            Mode::KeepAlive => connection.stream.write_all(self.request())?,
            Mode::PerRequest => connection.answered = true,
        }
        Ok(Step::Answered)
    }
}

/// The worker that a response names, once all of it is there.
fn whole_response(bytes: &[u8]) -> io::Result<Option<&str>> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(|_| wrong())? else { return Ok(None) };
    let header = |name: &str| {
        let value = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value);
        value.and_then(|value| std::str::from_utf8(value).ok())
    };
    let length: usize = header("content-length").and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    if response.code != Some(200) || bytes.len() > head + length {
        return Err(wrong());
    }
    let worker = header("x-worker").ok_or_else(wrong)?;
    // The name borrows from the bytes, not from the headers.
    Ok((bytes.len() == head + length).then_some(worker))
}
