//! Everything that a master needs to know before it starts, with design names and defaults. The command line, the configuration file and the Node drop-in all end here.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::{Config, Surge};

mod resource_limit;

pub use resource_limit::{LimitError, Resource, ResourceLimit};

/// The options of `dutch-master start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Program or script, as given.
    pub worker: PathBuf,
    /// Arguments of the worker.
    pub args: Vec<String>,
    /// How many workers.
    pub num_workers: NumWorkers,
    /// Configured listeners, in order.
    pub listen: Vec<ListenSpec>,
    /// The directory that workers start in; `None`: the master's own at start.
    pub dir: Option<PathBuf>,
    /// Set for every worker, after the master's own environment.
    pub env: Vec<(String, String)>,
    /// Run by `sh -c` before every spawn.
    pub before_fork: Option<String>,
    /// The user that workers run as, by name or number; `None`: the master's own. Takes root.
    pub user: Option<String>,
    /// Their group, by name or number; `None`: the user's.
    pub group: Option<String>,
    /// Their supplementary groups; `None`: those that the system's files give to the user.
    pub groups: Option<Vec<String>>,
    /// Which permissions the files that workers make do not get; `None`: the master's own mask.
    pub umask: Option<u32>,
    /// Limits of the system for each worker.
    #[serde(default)]
    pub limit: Vec<ResourceLimit>,
    /// Whether no program that a worker runs can gain privileges; `None`: where `user`, `group` or `groups` is set.
    pub no_new_privs: Option<bool>,
    /// Name of the signal for a rolling restart.
    pub restart_signal: String,
    /// From spawn to `listening`.
    pub start_timeout: Duration,
    /// From the order to go to SIGKILL.
    pub kill_timeout: Duration,
    /// How long a worker without a master serves on; `None`: for ever.
    pub orphan_timeout: Option<Duration>,
    /// How long the first worker of a new generation must last before older ones are told to go.
    pub settle_time: Duration,
    /// Extra workers during replacement.
    pub surge: Surge,
    /// Failed waves in a row after which a restart is given up.
    pub restart_attempts: u32,
    /// After how long a worker is recycled; `None`: never. Spread over the slots, as the next two are.
    pub max_lifetime: Option<Duration>,
    /// How many bytes of memory a worker and what it started may have before it is recycled; `None`: as many as they like.
    pub max_memory: Option<u64>,
    /// After how many requests a worker is recycled, if its SDK counts them; `None`: never.
    pub max_requests: Option<u64>,
    /// How long a worker whose SDK sends heartbeats may be silent before it is replaced like one that crashed; `None`: nobody is watched.
    pub heartbeat: Option<Duration>,
    /// Do not exit when the first start fails.
    pub keep_trying: bool,
    /// What makes a worker running.
    pub ready_on: ReadyOn,
    /// The worker speaks no protocol, only systemd's conventions; when it counts as serving: `accept`, `notify` or `delay:TIME`. Needs the program `dutch-master`.
    pub adapt: Option<String>,
    /// The master's name; `None`: made from worker and directory.
    pub name: Option<String>,
    /// Path of the control socket; `None`: in the runtime directory.
    pub socket: Option<PathBuf>,
    /// File that receives the master's pid.
    pub pid_file: Option<PathBuf>,
    /// Where metrics go; `None`: only to those who ask over the control socket.
    pub metrics: Option<MetricsTo>,
    /// The `node` that runs the worker, whatever the worker's name ends with; `None`: a script is run by the one in PATH. For embedding programs alone.
    pub node: Option<PathBuf>,
    /// Arguments for `node` itself.
    pub node_args: Vec<String>,
    /// Where the Node SDK is; `None`: looked for.
    pub node_sdk: Option<PathBuf>,
}

impl Options {
    /// Whether Node runs the worker: it is a script, or a `node` was named.
    pub fn is_run_by_node(&self) -> bool {
        self.node.is_some() || self.is_script()
    }

    /// Whether the worker's name is that of a script for Node.
    pub(crate) fn is_script(&self) -> bool {
        self.worker.extension().and_then(OsStr::to_str).is_some_and(|extension| ["js", "cjs", "mjs", "ts"].contains(&extension))
    }

    /// The defaults for a worker.
    pub fn new(worker: impl Into<PathBuf>) -> Options {
        Options {
            worker: worker.into(),
            args: Vec::new(),
            num_workers: NumWorkers::Fixed(2),
            listen: Vec::new(),
            dir: None,
            env: Vec::new(),
            before_fork: None,
            user: None,
            group: None,
            groups: None,
            umask: None,
            limit: Vec::new(),
            no_new_privs: None,
            restart_signal: "SIGUSR2".into(),
            start_timeout: Duration::from_secs(60),
            kill_timeout: Duration::from_secs(30),
            orphan_timeout: Some(Duration::from_secs(60)),
            settle_time: Duration::from_secs(2),
            surge: Surge::Percent(25),
            restart_attempts: 3,
            max_lifetime: None,
            max_memory: None,
            max_requests: None,
            heartbeat: None,
            keep_trying: false,
            ready_on: ReadyOn::Listening,
            adapt: None,
            name: None,
            socket: None,
            pid_file: None,
            metrics: None,
            node: None,
            node_args: Vec::new(),
            node_sdk: None,
        }
    }

    /// What the core has to know of them.
    pub fn core(&self) -> Config {
        Config {
            start_timeout_ms: millis(self.start_timeout),
            kill_timeout_ms: millis(self.kill_timeout),
            settle_ms: millis(self.settle_time),
            surge: self.surge,
            restart_attempts: self.restart_attempts,
            max_lifetime_ms: self.max_lifetime.map(millis),
            heartbeat_ms: self.heartbeat.map(millis),
            keep_trying: self.keep_trying,
            ..Config::default()
        }
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The size of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NumWorkers {
    /// This many.
    Fixed(u32),
    /// One per processor that the master may use.
    Auto,
}

/// What makes a worker running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadyOn {
    /// Its first `listening`.
    Listening,
    /// Its `hello`.
    Hello,
}

/// Where metrics go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricsTo {
    /// They are served over HTTP at this address: TCP with a host, or Unix.
    Serve(dutch_master_protocol::message::Address),
    /// This file is written again and again.
    File(PathBuf),
}

/// A configured listener: `[NAME=]ADDR`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenSpec {
    /// Its name.
    pub name: Option<String>,
    /// Its address.
    pub address: dutch_master_protocol::message::Address,
    /// Who may connect, of a Unix listener.
    #[serde(default)]
    pub access: SocketAccess,
}

impl ListenSpec {
    /// A listener whose socket file, if it has one, is as the system makes it.
    pub fn new(name: Option<String>, address: dutch_master_protocol::message::Address) -> ListenSpec {
        ListenSpec { name, address, access: SocketAccess::default() }
    }
}

/// Whose the file of a Unix listener is, and who may connect to it; `None`: as the system makes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketAccess {
    /// Permission bits; connecting takes the one for writing.
    pub mode: Option<u32>,
    /// A user, by name or number.
    pub owner: Option<String>,
    /// A group, by name or number.
    pub group: Option<String>,
}
