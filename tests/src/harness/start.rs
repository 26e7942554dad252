//! How a master is started for a test.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use super::log::Log;
use super::{Manager, Master, Releases, binary};

/// The name of every master here: each has a runtime directory of its own.
pub(super) const NAME: &str = "pool";

/// What a good test worker does.
pub const GOOD: &str = "hello listen listening serve drained hang";

/// How a master is to be started.
#[derive(Debug, Clone)]
pub struct Start {
    options: Vec<OsString>,
    worker: Vec<OsString>,
    listen: Option<String>,
    environment: Vec<(String, OsString)>,
    uid: Option<u32>,
    /// Where its runtime directory is made.
    folder: PathBuf,
    manager: Option<Manager>,
    wrapper: Vec<OsString>,
}

impl Start {
    /// Two workers of this program, with one configured listener on a free port.
    pub fn new(worker: impl AsRef<OsStr>) -> Start {
        Start {
            options: Vec::new(),
            worker: vec![worker.as_ref().into()],
            listen: Some("web=127.0.0.1:0".into()),
            environment: Vec::new(),
            uid: None,
            folder: "/tmp".into(),
            manager: None,
            wrapper: Vec::new(),
        }
    }

    /// Two test workers that do what these words say.
    #[must_use]
    pub fn test_worker(behaviour: &str) -> Start {
        behaviour.split_whitespace().fold(Start::new(binary("test-worker")), Start::arg)
    }

    /// Two test workers that do what the current release says.
    #[must_use]
    pub fn release(releases: &Releases) -> Start {
        Start::test_worker("@behaviour").option("--dir", releases.current())
    }

    /// An argument of the worker.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Start {
        self.worker.push(arg.as_ref().into());
        self
    }

    /// An option of the master.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Start {
        self.options.extend([name.into(), value.as_ref().into()]);
        self
    }

    /// An option without a value.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Start {
        self.options.push(name.into());
        self
    }

    /// A variable of the master's own environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Start {
        self.environment.push((name.into(), value.as_ref().into()));
        self
    }

    /// Its runtime directory is made in this folder, whose name must be short.
    #[must_use]
    pub fn runtime_in(mut self, folder: impl Into<PathBuf>) -> Start {
        self.folder = folder.into();
        self
    }

    /// Started by a service manager.
    #[must_use]
    pub fn under(mut self, manager: &Manager) -> Start {
        self.manager = Some(manager.clone());
        self
    }

    /// Started by another program, which these words run.
    #[must_use]
    pub fn by<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Start {
        self.wrapper = words.into_iter().map(OsString::from).collect();
        self
    }

    /// This configured listener instead.
    #[must_use]
    pub fn listener(mut self, listener: &str) -> Start {
        self.listen = Some(listener.into());
        self
    }

    /// No configured listener: the workers ask for what they want.
    #[must_use]
    pub fn without_listener(mut self) -> Start {
        self.listen = None;
        self
    }

    /// The master itself is that user's; only root can start it so.
    #[must_use]
    pub fn as_user(mut self, uid: u32) -> Start {
        self.uid = Some(uid);
        self
    }

    /// Starts it and waits until all workers listen.
    #[track_caller]
    #[must_use]
    pub fn ready(self) -> Master {
        let master = self.start();
        let _ready = master.await_log("Cluster ready");
        master
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started at all.
    #[must_use]
    pub fn start(self) -> Master {
        // The system's temporary folder may have a long name, and the path of a socket is short.
        let runtime = tempfile::Builder::new().prefix("dm").tempdir_in(&self.folder).expect("a temporary folder can be made");
        // Workers of another user have to come through; the master's own directory in it is closed.
        fs::set_permissions(runtime.path(), Permissions::from_mode(0o711)).expect("it is ours");
        let (pid, log, exit) = self.run_in(runtime.path());
        Master { pid, log, exit, runtime, start: self }
    }

    /// Runs the command in this runtime directory.
    pub(super) fn run_in(&self, runtime: &Path) -> (i32, Log, mpsc::Receiver<Option<i32>>) {
        let mut command = match (&self.manager, self.wrapper.split_first()) {
            (Some(manager), _) => manager.command(),
            (None, Some((program, words))) => {
                let mut command = Command::new(program);
                command.args(words).arg(binary("dutch-master"));
                command
            }
            (None, None) => Command::new(binary("dutch-master")),
        };
        if self.manager.is_none() {
            command.stdin(Stdio::null()).stdout(Stdio::null()).env_remove("NOTIFY_SOCKET");
        }
        in_world(&mut command, runtime)
            .args(["start", "--name", NAME, "--log-format", "json", "--log-level", "debug"])
            .args(self.listen.iter().flat_map(|address| ["--listen", address]));
        command.args(&self.options).args(&self.worker).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(uid) = self.uid {
            chown(runtime, Some(uid), Some(uid)).expect("only root starts it so");
            command.uid(uid).gid(uid);
        }
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the master can be started");
        let pid = i32::try_from(child.id()).expect("a pid is positive");
        let log = Log::read(child.stderr.take().expect("stderr is piped"));
        (pid, log, wait(child))
    }
}

/// The binary, in a runtime directory that no other master knows.
pub(super) fn bare(runtime: &Path) -> Command {
    let mut command = Command::new(binary("dutch-master"));
    in_world(&mut command, runtime).env_remove("NOTIFY_SOCKET");
    command
}

fn in_world<'a>(command: &'a mut Command, runtime: &Path) -> &'a mut Command {
    for name in ["RUNTIME_DIRECTORY", "DUTCH_MASTER_SOCKET", "PORT"] {
        command.env_remove(name);
    }
    command.env("XDG_RUNTIME_DIR", runtime)
}

fn wait(mut child: Child) -> mpsc::Receiver<Option<i32>> {
    let (end, ended) = mpsc::channel();
    thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _abandoned = end.send(status.code());
        }
    });
    ended
}
