//! From JavaScript: the options, checked there, as the library has them.

use std::time::Duration;

use dutch_master::core::Surge;
use dutch_master::options::{ListenSpec, ReadyOn, ResourceLimit, SocketAccess};
use dutch_master::{Options, ServiceManager};
use dutch_master_protocol::message::Address;
use napi_derive::napi;

/// Everything that the library wants to know. Times are in milliseconds; what is left out has the library's default.
#[napi(object)]
pub struct Settings {
    pub worker: String,
    pub args: Vec<String>,
    pub node: String,
    pub node_args: Vec<String>,
    pub node_sdk: String,
    pub listen: Vec<Listen>,
    pub dir: Option<String>,
    pub user: Option<String>,
    pub group: Option<String>,
    pub groups: Option<Vec<String>>,
    pub umask: Option<u32>,
    pub limit: Option<Vec<String>>,
    pub no_new_privs: Option<bool>,
    pub restart_signal: String,
    pub start_timeout: Option<f64>,
    pub kill_timeout: Option<f64>,
    pub settle_time: Option<f64>,
    /// Negative: never.
    pub orphan_timeout: Option<f64>,
    pub surge_percent: Option<u32>,
    pub surge_count: Option<u32>,
    pub restart_attempts: Option<u32>,
    pub max_lifetime: Option<f64>,
    /// Bytes.
    pub max_memory: Option<f64>,
    pub max_requests: Option<f64>,
    pub heartbeat: Option<f64>,
    pub keep_trying: Option<bool>,
    pub ready_on_hello: Option<bool>,
    pub name: Option<String>,
    pub socket: Option<String>,
    pub pid_file: Option<String>,
    /// There is a callback to be asked before each spawn.
    pub before_fork: bool,
    /// Someone reads log lines of level debug.
    pub debug: bool,
    /// Where systemd wants to be told how it goes.
    pub notify_socket: Option<String>,
    /// How often it wants to be told that the master lives, at least.
    pub watchdog_us: Option<f64>,
}

/// A configured listener: a path, or a port and perhaps a host.
#[napi(object)]
pub struct Listen {
    pub name: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<String>,
    /// Of the file of a Unix socket: permission bits, user and group.
    pub mode: Option<u32>,
    pub owner: Option<String>,
    pub group: Option<String>,
}

impl Settings {
    /// Who started this process. Descriptors that it may have handed over are not taken: they are the program's.
    pub(crate) fn service_manager(&self) -> ServiceManager {
        let watchdog_us = limit(self.watchdog_us).map(|us| us as u64);
        self.notify_socket.as_ref().map_or_else(ServiceManager::default, |socket| ServiceManager::that_is_told(socket.as_ref(), watchdog_us))
    }

    pub(crate) fn into_options(self) -> napi::Result<Options> {
        let defaults = Options::new(self.worker);
        Ok(Options {
            args: self.args,
            listen: self.listen.into_iter().map(Listen::into_spec).collect::<napi::Result<_>>()?,
            dir: self.dir.map(Into::into),
            user: self.user,
            group: self.group,
            groups: self.groups,
            umask: self.umask,
            limit: self.limit.into_iter().flatten().map(|limit| resource_limit(&limit)).collect::<napi::Result<_>>()?,
            no_new_privs: self.no_new_privs,
            restart_signal: self.restart_signal,
            start_timeout: self.start_timeout.map_or(defaults.start_timeout, millis),
            kill_timeout: self.kill_timeout.map_or(defaults.kill_timeout, millis),
            settle_time: self.settle_time.map_or(defaults.settle_time, millis),
            orphan_timeout: match self.orphan_timeout {
                None => defaults.orphan_timeout,
                Some(time) => Some(time).filter(|time| *time >= 0.0).map(millis),
            },
            // The original replaced all workers at once.
            surge: self.surge_percent.map(Surge::Percent).or(self.surge_count.map(Surge::Count)).unwrap_or(Surge::All),
            restart_attempts: self.restart_attempts.unwrap_or(defaults.restart_attempts),
            max_lifetime: limit(self.max_lifetime).map(millis),
            max_memory: limit(self.max_memory).map(|bytes| bytes as u64),
            max_requests: limit(self.max_requests).map(|requests| requests as u64),
            heartbeat: limit(self.heartbeat).map(millis),
            keep_trying: self.keep_trying.unwrap_or(defaults.keep_trying),
            ready_on: if self.ready_on_hello == Some(true) { ReadyOn::Hello } else { defaults.ready_on },
            name: self.name,
            socket: self.socket.map(Into::into),
            pid_file: self.pid_file.map(Into::into),
            node: Some(self.node.into()),
            node_args: self.node_args,
            node_sdk: Some(self.node_sdk.into()),
            ..Options::new(defaults.worker)
        })
    }
}

impl Listen {
    fn into_spec(self) -> napi::Result<ListenSpec> {
        let host = self.host.as_deref().map(str::parse).transpose().map_err(|error| napi::Error::from_reason(format!("{error}")))?;
        let address = match (self.path, self.port) {
            (Some(path), _) => Address::unix(path),
            (None, Some(port)) => Address::tcp(host, port),
            (None, None) => return Err(napi::Error::from_reason("a listener has no address")),
        };
        let access = SocketAccess { mode: self.mode, owner: self.owner, group: self.group };
        Ok(ListenSpec { name: self.name, address, access })
    }
}

fn resource_limit(text: &str) -> napi::Result<ResourceLimit> {
    text.parse().map_err(|error| napi::Error::from_reason(format!("`limit`: {error}")))
}

/// Negative: never, as it is when it is left out.
fn limit(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value >= 0.0)
}

fn millis(time: f64) -> Duration {
    Duration::try_from_secs_f64(time / 1000.0).unwrap_or_default()
}
