//! The same workers, kept running by different programs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::reports::{Report, Reports, Stage, VARIABLE, now};
use crate::harness::{binary, repository, send, with_folder};

/// How long a master may take to stop, before what is left is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Where the workers' reports go, in the folder of the pool.
const PIPE: &str = "reports";

/// pm2's program, in the folder of the workers.
const PM2: &str = "pm2/node_modules/pm2/bin/pm2";

/// Who keeps the workers running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// dutch-master.
    Master,
    /// Ten lines that let the workers inherit the listener: the limit.
    Launcher,
    /// The same with what each worker of a master has besides: a session of its own, and a thread that sleeps. Only Rust workers do that.
    LauncherOfSessions,
    /// Node's own cluster, whose master accepts and hands connections out.
    ClusterRoundRobin,
    /// Node's own cluster with one shared listener.
    ClusterShared,
    /// dutch-master inside a Node process, as the npm package of that name has it.
    Embedded,
    /// pm2 in its cluster mode.
    Pm2,
}

impl Host {
    /// What the tables call it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Host::Master => "dutch-master",
            Host::Launcher => "inherited listener",
            Host::LauncherOfSessions => "so, but sessions",
            Host::ClusterRoundRobin => "cluster, rr",
            Host::ClusterShared => "cluster, none",
            Host::Embedded => "dutch-master in Node",
            Host::Pm2 => "pm2, cluster mode",
        }
    }

    /// Whether it can be had: pm2 is not part of every checkout.
    #[must_use]
    pub fn is_installed(self) -> bool {
        self != Host::Pm2 || repository("tests/workers").join(PM2).exists()
    }

    /// Whether it has dutch-master's commands.
    fn is_ours(self) -> bool {
        matches!(self, Host::Master | Host::Embedded)
    }
}

/// What the workers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// Node's HTTP server.
    Node,
    /// The same, with what the load client asks for.
    NodeService,
    /// axum on a runtime of one thread.
    RustSingle,
    /// axum on a runtime of two threads.
    RustMulti,
    /// A program that says that it is ready, and waits.
    Trivial,
}

impl App {
    fn is_node(self) -> bool {
        matches!(self, App::Node | App::NodeService)
    }
}

/// Workers that run.
#[derive(Debug)]
pub struct Pool {
    host: Host,
    child: Child,
    folder: TempDir,
    /// Where they serve.
    pub address: SocketAddr,
    /// What they report from now on.
    pub reports: Reports,
    /// When its first process was started, by [`now`].
    pub started: Duration,
    /// When the program of each worker began, at the start.
    pub first: Vec<Report>,
    /// When each worker was ready.
    pub ready: Vec<Report>,
}

impl Pool {
    /// Starts it and waits until all workers are ready.
    ///
    /// # Panics
    /// When they do not get ready.
    #[track_caller]
    #[must_use]
    pub fn start(host: Host, app: App, workers: usize) -> Pool {
        Pool::start_with(host, app, workers, &[])
    }

    /// The same, with further options of the master.
    ///
    /// # Panics
    /// When they do not get ready.
    #[track_caller]
    #[must_use]
    pub fn start_with(host: Host, app: App, workers: usize, options: &[&str]) -> Pool {
        let folder = tempfile::Builder::new().prefix("dm").tempdir_in("/tmp").expect("a temporary folder can be made");
        let pipe = folder.path().join(PIPE);
        let mut reports = Reports::new(&pipe);
        let mut command = command(host, app, workers, options);
        command.env_remove("DUTCH_MASTER_SOCKET").env_remove("RUNTIME_DIRECTORY").env("XDG_RUNTIME_DIR", folder.path()).env(VARIABLE, &pipe);
        command.env("PM2_HOME", folder.path());
        let started = now();
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be started");
        let (first, ready) = reports.until_ready(workers);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ready[0].port));
        Pool { host, child, folder, address, reports, started, first, ready }
    }

    /// From the start of the first process to the last worker that was ready.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.since_start(self.ready.iter().map(|report| report.at).max())
    }

    /// From the start of the first process to the first instruction of the first worker, and of the last one.
    #[must_use]
    pub fn began(&self) -> [Duration; 2] {
        let at = || self.first.iter().map(|report| report.at);
        [at().min(), at().max()].map(|at| self.since_start(at))
    }

    fn since_start(&self, at: Option<Duration>) -> Duration {
        at.unwrap_or_default().saturating_sub(self.started)
    }

    /// The master, launcher, or cluster's master.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid is positive")
    }

    /// The pids of the workers that were ready last.
    #[must_use]
    pub fn workers(&self) -> Vec<i32> {
        self.ready.iter().map(|report| report.pid).collect()
    }

    /// Runs a command of the master, which must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn control(&self, words: &[&str]) {
        let output = Command::new(binary("dutch-master")).args(words).env("XDG_RUNTIME_DIR", self.folder.path()).output().expect("a command can be run");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Replaces every worker, and waits until the new ones are ready; the last old ones may still be going.
    ///
    /// # Panics
    /// When that does not happen, and for a launcher, which cannot.
    #[track_caller]
    pub fn restart(&mut self) {
        match self.host {
            Host::Master | Host::Embedded => self.control(&["restart"]),
            Host::ClusterRoundRobin | Host::ClusterShared => send(self.pid(), Signal::SIGUSR2),
            Host::Pm2 => {
                let output = pm2().args(["reload", "all"]).env("PM2_HOME", self.folder.path()).output().expect("pm2 can be run");
                assert!(output.status.success(), "pm2 reload: {}", String::from_utf8_lossy(&output.stderr));
            }
            Host::Launcher | Host::LauncherOfSessions => panic!("a launcher replaces nothing"),
        }
        self.ready = self.reports.wait(Stage::Ready, self.ready.len());
    }

    /// The trivial worker, on its own, reporting as the others do.
    #[must_use]
    pub fn bare_worker(&self) -> Command {
        let mut command = Command::new(binary("bench-trivial"));
        command.env(VARIABLE, self.folder.path().join(PIPE)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn processes(&self) -> Vec<i32> {
        with_folder(self.folder.path())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.host.is_ours() {
            send(self.pid(), Signal::SIGTERM);
            let until = Instant::now() + STOP_PATIENCE;
            while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        loop {
            let left = self.processes();
            left.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
            let _reaped = self.child.try_wait();
            if left.is_empty() {
                break;
            }
        }
        let _reaped = self.child.wait();
    }
}

fn command(host: Host, app: App, workers: usize, options: &[&str]) -> Command {
    let n = workers.to_string();
    let (program, mode) = match app {
        App::Node => (repository("tests/workers/hello.js"), None),
        App::NodeService => (repository("tests/workers/service.js"), None),
        App::RustSingle => (binary("bench-worker"), Some("single")),
        App::RustMulti => (binary("bench-worker"), Some("multi")),
        App::Trivial => (binary("bench-trivial"), None),
    };
    match host {
        Host::Master => {
            let mut command = Command::new(binary("dutch-master"));
            command.args(["start", "--num-workers", &n]).args(options);
            if !app.is_node() {
                command.args(["--listen", "web=127.0.0.1:0"]);
            }
            command.arg(program).args(mode).stdin(Stdio::null());
            command
        }
        Host::Launcher | Host::LauncherOfSessions => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
            listener.set_nonblocking(true).expect("a listener can be non-blocking");
            let mut command = Command::new(binary("bench-launcher"));
            command.arg(n);
            if app.is_node() {
                command.arg("node");
            }
            command.arg(program).args(mode).args((host == Host::LauncherOfSessions).then_some("session")).stdin(OwnedFd::from(listener));
            command
        }
        Host::ClusterRoundRobin | Host::ClusterShared => {
            let policy = if host == Host::ClusterShared { "none" } else { "rr" };
            node(&repository("tests/workers/cluster.js"), &[&n, policy], &program)
        }
        Host::Embedded => node(&repository("tests/workers/embedded.js"), &[&n], &program),
        Host::Pm2 => {
            let mut command = pm2();
            command.args(["start", "--no-daemon", "-i", &n]).arg(program).stdin(Stdio::null());
            command
        }
    }
}

fn pm2() -> Command {
    let mut command = Command::new("node");
    command.arg(repository("tests/workers").join(PM2));
    command
}

fn node(script: &Path, args: &[&str], program: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(script).args(args).arg(program).stdin(Stdio::null());
    command
}
