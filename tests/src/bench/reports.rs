//! What workers report through a named pipe, whoever started them: that their first instruction ran, that they are ready, each with the time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::mkfifo;

use crate::harness::PATIENCE;

/// The environment variable that names the pipe.
pub const VARIABLE: &str = "BENCH_REPORTS";

/// Room for one read.
const CHUNK: usize = 4_096;

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its program runs.
    First,
    /// It serves.
    Ready,
}

/// One report.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// How far it is.
    pub stage: Stage,
    /// Who.
    pub pid: i32,
    /// When, by [`now`].
    pub at: Duration,
    /// The port that it serves, or 0.
    pub port: u16,
}

/// The clock of all reports: the system's monotonic one.
///
/// # Panics
/// When the system has none.
#[must_use]
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a monotonic clock").into()
}

/// The worker's side: reports, if somebody wants to know.
pub fn report(stage: Stage, at: Duration, port: u16) {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let word = if stage == Stage::First { "first" } else { "ready" };
    let line = format!("{word} {} {} {port}\n", std::process::id(), at.as_nanos());
    // A benchmark that has ended listens no more.
    let _ended = OpenOptions::new().write(true).open(path).and_then(|mut pipe| pipe.write_all(line.as_bytes()));
}

/// The benchmark's side.
#[derive(Debug)]
pub struct Reports {
    pipe: File,
    read: Vec<u8>,
}

impl Reports {
    /// A new pipe at this path.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(path: &Path) -> Reports {
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe can be made");
        // Open for writing as well, so that it never ends.
        let pipe = OpenOptions::new().read(true).write(true).open(path).expect("the pipe can be opened");
        Reports { pipe, read: Vec::new() }
    }

    #[track_caller]
    fn receive(&mut self) -> Report {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return parse(&String::from_utf8_lossy(&line)).expect("workers report as agreed");
            }
            let timeout = PollTimeout::try_from(PATIENCE).expect("it fits");
            let ready = poll(&mut [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)], timeout);
            assert_eq!(ready, Ok(1), "a worker reports");
            let mut chunk = [0; CHUNK];
            let n = self.pipe.read(&mut chunk).expect("the pipe can be read");
            self.read.extend_from_slice(&chunk[..n]);
        }
    }

    /// Everything until so many are ready: their first instructions, and when they were ready.
    ///
    /// # Panics
    /// When one says nothing within [`PATIENCE`].
    #[track_caller]
    pub fn until_ready(&mut self, count: usize) -> (Vec<Report>, Vec<Report>) {
        let (mut first, mut ready) = (Vec::new(), Vec::new());
        while ready.len() < count {
            let report = self.receive();
            if report.stage == Stage::First { &mut first } else { &mut ready }.push(report);
        }
        (first, ready)
    }

    /// The next ones at this stage.
    ///
    /// # Panics
    /// When there is none within [`PATIENCE`].
    #[track_caller]
    pub fn wait(&mut self, stage: Stage, count: usize) -> Vec<Report> {
        std::iter::repeat_with(|| self.receive()).filter(|report| report.stage == stage).take(count).collect()
    }
}

fn parse(line: &str) -> Option<Report> {
    let mut words = line.split_whitespace();
    let stage = match words.next()? {
        "first" => Stage::First,
        "ready" => Stage::Ready,
        _ => return None,
    };
    let pid = words.next()?.parse().ok()?;
    let at = Duration::from_nanos(words.next()?.parse().ok()?);
    Some(Report { stage, pid, at, port: words.next()?.parse().ok()? })
}
