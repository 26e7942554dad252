//! A command that runs beside the test and is waited for with a bound.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// A command that is under way.
#[derive(Debug)]
pub struct Running {
    what: String,
    started: Instant,
    ended: mpsc::Receiver<(Output, Instant)>,
    pid: i32,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Running {
        let what = format!("{command:?}");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{what}: {error}"));
        let pid = i32::try_from(child.id()).expect("a pid is positive");
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            if let Ok(output) = child.wait_with_output() {
                let _abandoned = end.send((output, Instant::now()));
            }
        });
        Running { what, started: Instant::now(), ended, pid }
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes longer than twice [`PATIENCE`].
    #[track_caller]
    #[must_use]
    pub fn finish(self) -> Finished {
        let Ok((output, ended)) = self.ended.recv_timeout(2 * PATIENCE) else { panic!("{} does not end", self.what) };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr), took: ended - self.started }
    }
}
