//! Starts masters in folders of their own and watches what they log.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dutch_master_protocol::env;
use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take before the test is taken to hang.
pub(crate) const HANG: Duration = Duration::from_secs(30);

/// A folder that is removed in the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = std::env::temp_dir().join(format!("dm-os-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&path).unwrap();
        Folder(path.canonicalize().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.0.join("dutch-master").join(format!("{name}.sock"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `dutch-master start`, with this folder as its runtime directory and working directory.
pub(crate) fn start_command(folder: &Folder, name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dutch-master"));
    command.args(["start", "--name", name, "--log-format", "json", "--log-level", "debug"]).args(args);
    command.current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path()).env_remove("RUNTIME_DIRECTORY");
    command
}

/// A running master.
pub(crate) struct Master {
    child: Child,
    log: Arc<Log>,
    pub(crate) socket: PathBuf,
    /// Lines that `next` has gone past.
    read: usize,
    predecessors: Vec<Master>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<Value>>,
    grew: Condvar,
}

impl Master {
    /// One worker that sleeps, unless `args` say otherwise.
    pub(crate) fn start(folder: &Folder, args: &[&str]) -> Master {
        let args = if args.contains(&"--") { args.to_vec() } else { [args, &["--", "sleep", "60"]].concat() };
        Master::from(start_command(folder, "m", &args), folder)
    }

    pub(crate) fn from(mut command: Command, folder: &Folder) -> Master {
        ignore_sigterm();
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, stderr) = (Arc::<Log>::default(), child.stderr.take().unwrap());
        let writer = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|_| Value::from(line));
                writer.lines.lock().unwrap().push(line);
                writer.grew.notify_all();
            }
        });
        Master { child, log, socket: folder.socket("m"), read: 0, predecessors: Vec::new() }
    }

    /// Kills it and starts it again with the same options, as [`start`](Self::start) does.
    pub(crate) fn die_and_start_again(&mut self, folder: &Folder, args: &[&str]) {
        self.child.kill().unwrap();
        self.wait();
        // What it logged is kept, so that its workers are ended with the test.
        let before = std::mem::replace(self, Master::start(folder, args));
        self.predecessors.push(before);
        self.next("Starting cluster");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line with this message, past those that were waited for before.
    #[track_caller]
    pub(crate) fn next(&mut self, message: &str) -> Value {
        let deadline = Instant::now() + HANG;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            if let Some(at) = lines.iter().skip(self.read).position(|line| line["msg"] == message) {
                self.read += at + 1;
                return lines[self.read - 1].clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let log = lines.clone();
                drop(lines);
                panic!("no {message:?} after line {} in {log:#?}", self.read);
            }
            lines = self.log.grew.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until it has given back the code that it does not need to wait: the last thing that it does.
    #[track_caller]
    pub(crate) fn gives_back_its_code(&self) {
        let before = self.code_kib();
        eventually("it rests", || self.code_kib() < before * 3 / 4);
    }

    /// Its own code that is in memory.
    fn code_kib(&self) -> u64 {
        let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", self.pid())).unwrap();
        let mut lines = smaps.lines().skip_while(|line| !(line.contains(" r-xp ") && line.ends_with("/dutch-master")));
        let size = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        size.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Lines with this message so far.
    pub(crate) fn count(&self, message: &str) -> usize {
        self.log.lines.lock().unwrap().iter().filter(|line| line["msg"] == message).count()
    }

    /// Pid of the next worker that was started.
    #[track_caller]
    pub(crate) fn next_worker(&mut self) -> u32 {
        let pid = pid_in(&self.next("Worker spawned"));
        // The kernel shows a new program's environment a moment after exec.
        eventually("its environment is there", || variable(pid, env::TOKEN).is_some() || !is_alive(pid));
        pid
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.child.id(), signal);
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for line in self.log.lines.lock().unwrap().iter().filter(|line| line["msg"] == "Worker spawned") {
            let pid = pid_in(line);
            // Only what still sleeps for us: the number may meanwhile be another's.
            if environment(pid)
                .is_some_and(|environment| environment.iter().any(|variable| *variable == format!("DUTCH_MASTER_SOCKET={}", self.socket.display())))
            {
                let _ = killpg(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        }
    }
}

pub(crate) fn pid_in(line: &Value) -> u32 {
    u32::try_from(line["workerPid"].as_u64().unwrap()).unwrap()
}

/// Lets a command begin with these signals ignored, as a careless parent may.
#[allow(unsafe_code)]
pub(crate) fn ignoring(mut command: Command, signals: &'static [Signal]) -> Command {
    let ignore = || {
        signals.iter().try_for_each(|number| {
            // SAFETY: no handler runs.
            unsafe { signal(*number, SigHandler::SigIgn) }.map(drop).map_err(Into::into)
        })
    };
    // SAFETY: `signal` is async-signal-safe.
    unsafe { command.pre_exec(ignore) };
    command
}

/// Signals a child of ours, or one of a master that has not reaped it.
pub(crate) fn signal_to(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// The tests speak for workers, so the process that gets a worker's SIGTERM is this one.
#[allow(unsafe_code)]
fn ignore_sigterm() {
    // SAFETY: no handler runs.
    unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) }.unwrap();
}

/// The environment that a process was started with.
pub(crate) fn environment(pid: u32) -> Option<Vec<String>> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    Some(String::from_utf8_lossy(&bytes).split_terminator('\0').map(str::to_owned).collect())
}

pub(crate) fn variable(pid: u32, name: &str) -> Option<String> {
    environment(pid)?.into_iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
}

/// Waits until `condition` holds: for what the system tells nobody about.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + HANG;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
