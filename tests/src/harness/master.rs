//! The master under test: spoken to by its own commands and by signals, and gone with everything it started when the test ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::log::{Line, Log};
use super::process::{Usage, usage, with_folder};
use super::start::{NAME, Start, bare};
use super::{Finished, PATIENCE, Running, Status};

/// How often it is looked for processes that are left: killing the master in the first round ends all spawning.
const ROUNDS: usize = 1_000;

/// A running master.
#[derive(Debug)]
pub struct Master {
    pub(super) pid: i32,
    pub(super) log: Log,
    pub(super) exit: mpsc::Receiver<Option<i32>>,
    pub(super) runtime: TempDir,
    pub(super) start: Start,
}

impl Master {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime.path().join("dutch-master").join(NAME).with_extension("sock")
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits for the next log entry with this message.
    ///
    /// # Panics
    /// When it does not come; the whole log is in the message.
    #[track_caller]
    pub fn await_log(&self, message: &str) -> Line {
        self.log.wait_for(message)
    }

    /// Starts one of its commands.
    #[must_use]
    pub fn begin<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Running {
        let mut words = words.into_iter();
        let mut command = bare(self.runtime.path());
        command.args(words.next()).args(["--name", NAME]).args(words);
        Running::start(command)
    }

    /// Runs one of its commands to its end.
    #[track_caller]
    #[must_use]
    pub fn run<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Finished {
        self.begin(words).finish()
    }

    /// A rolling restart that must be done.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn restart(&self) {
        let restart = self.run(["restart"]);
        assert_eq!(restart.code, Some(0), "the restart is not done: {}\n{}", restart.stderr, self.log);
    }

    /// An upgrade to the program at the same path, which must be done.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn upgrade(&self) {
        let upgrade = self.run(["upgrade"]);
        assert_eq!(upgrade.code, Some(0), "{}\n{}", upgrade.stderr, self.log);
    }

    /// What `status --json` says.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> Status {
        let status = self.run(["status", "--json"]);
        assert_eq!(status.code, Some(0), "no status: {}\n{}", status.stderr, self.log);
        serde_json::from_str(&status.stdout).expect("the status is JSON")
    }

    /// Ids and pids of those that run.
    #[track_caller]
    #[must_use]
    pub fn workers(&self) -> Vec<(u32, Option<u32>)> {
        let mut workers: Vec<_> = self.status().running().map(|worker| (worker.id, worker.pid)).collect();
        workers.sort_unstable();
        workers
    }

    /// Asks until the status is like that.
    ///
    /// # Panics
    /// When it never is; the last one and the whole log are in the message.
    #[track_caller]
    pub fn eventually(&self, what: &str, condition: impl Fn(&Status) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if condition(&status) {
                return;
            }
            assert!(Instant::now() < until, "never: {what}: {status:?}\n{}", self.log);
        }
    }

    /// Where its first listener really listens.
    #[track_caller]
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.status().address()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.pid, signal);
    }

    /// Waits for its end and tells its exit code; `None`: a signal ended it.
    ///
    /// # Panics
    /// When it does not end; the whole log is in the message.
    #[track_caller]
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        let Ok(code) = self.exit.recv_timeout(PATIENCE) else { panic!("the master does not end:\n{}", self.log) };
        self.log.wait_for_end();
        code
    }

    /// Stops it by SIGTERM; it must end well and leave nothing.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn stop(self) {
        self.stop_saying("Cluster shutdown cleanly");
    }

    /// The same with a worker that does not drain in time, which the master has to say.
    ///
    /// # Panics
    /// When it does not end so.
    #[track_caller]
    pub fn stop_past_its_time(self) {
        self.stop_saying("Cluster shutdown, not everything finished in time");
    }

    #[track_caller]
    fn stop_saying(self, message: &str) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.exit_code(), Some(0), "no clean stop:\n{}", self.log);
        assert_eq!(self.log.count(message), 1, "{}", self.log);
        assert_eq!(self.processes(), [0; 0], "processes are left:\n{}", self.log);
    }

    /// Kills it, and nothing else; it is gone when this returns.
    ///
    /// # Panics
    /// When it had ended by itself.
    #[track_caller]
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        self.await_death();
    }

    /// Waits until it has been killed.
    ///
    /// # Panics
    /// When it is not, or ends by itself.
    #[track_caller]
    pub fn await_death(&self) {
        let Ok(code) = self.exit.recv_timeout(PATIENCE) else { panic!("the master does not end:\n{}", self.log) };
        assert_eq!(code, None, "the master had ended by itself:\n{}", self.log);
    }

    /// Starts it again with the same command, in the same runtime directory. From now on its log is the new one's.
    pub fn start_again(&mut self) {
        (self.pid, self.log, self.exit) = self.start.run_in(self.runtime.path());
    }

    /// Starts it again otherwise.
    pub fn start_again_as(&mut self, start: Start) {
        self.start = start;
        self.start_again();
    }

    /// What it uses.
    #[must_use]
    pub fn usage(&self) -> Usage {
        usage(self.pid)
    }

    /// What it uses when that does not change any more: with the connection of the last command closed on its side as well.
    #[must_use]
    pub fn usage_at_rest(&self) -> Usage {
        loop {
            let before = self.usage();
            thread::sleep(Duration::from_millis(100));
            if self.usage() == before {
                return before;
            }
        }
    }

    /// Every process that it started, and what these started; without the master itself.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        with_folder(self.runtime.path()).into_iter().filter(|pid| *pid != self.pid).collect()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        // Again and again, since what is being started right now is not in the list yet.
        for _ in 0..ROUNDS {
            let left = with_folder(self.runtime.path());
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
        }
    }
}

/// Sends a signal to a process that may have ended by itself.
pub fn send(pid: i32, signal: Signal) {
    let _ended = kill(Pid::from_raw(pid), signal);
}
