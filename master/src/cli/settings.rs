//! The options of `start` as one place gives them, the command line or a file, and what they amount to. Their help is what people read; their names are the keys of the configuration file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};
use dutch_master::core::Surge;
use dutch_master::options::{ListenSpec, MetricsTo, NumWorkers, Options, ReadyOn, ResourceLimit};
use serde::{Deserialize, Serialize};

use super::metrics;
use super::rights;
use super::suggest::suggest;
use super::values::{self, Limit};

/// What one place gives; `None` is what it does not speak of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(super) struct Settings {
    /// A program, or a script (.js .cjs .mjs .ts) that node runs; what follows belongs to it [default: what the configuration file says]
    #[arg(value_name = "WORKER", num_args = 1.., trailing_var_arg = true)]
    pub(super) worker: Option<Vec<String>>,

    /// How many workers; `auto`: one per processor [default: 2]
    #[arg(short, long, visible_short_alias = 'w', value_name = "N|auto", value_parser = suggest(&["auto"], values::num_workers), hide_possible_values = true)]
    pub(super) num_workers: Option<NumWorkers>,
    /// A listener that the master opens before the first worker starts. Repeatable.
    #[arg(short, long, value_name = "[NAME=]ADDR", value_parser = values::listen, value_hint = ValueHint::Other)]
    pub(super) listen: Option<Vec<ListenSpec>>,
    /// The directory that workers start in, looked up anew for each [default: here]
    #[arg(long, visible_alias = "chdir", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) dir: Option<PathBuf>,
    /// Set a variable for the workers. Repeatable.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::env, value_hint = ValueHint::Other)]
    pub(super) env: Option<Vec<(String, String)>>,
    /// Run by `sh -c` before every start of a worker; a failure is a failed start.
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    pub(super) before_fork: Option<String>,

    /// The user that workers run as, by name or number; takes root [default: the master's own]
    #[arg(long, value_name = "USER", value_parser = rights::account, value_hint = ValueHint::Username, help_heading = "Rights of the workers")]
    pub(super) user: Option<String>,
    /// Their group [default: the user's]
    #[arg(long, value_name = "GROUP", value_parser = rights::account, value_hint = ValueHint::Other, help_heading = "Rights of the workers")]
    pub(super) group: Option<String>,
    /// Their supplementary groups, separated by commas; `--groups=`: none [default: those of the user]
    #[arg(long, value_name = "GROUP,…", value_delimiter = ',', value_hint = ValueHint::Other, help_heading = "Rights of the workers")]
    pub(super) groups: Option<Vec<String>>,
    /// Permissions that files which workers make do not get, such as 027 [default: the master's own mask]
    #[arg(long, value_name = "MASK", value_parser = rights::mode, value_hint = ValueHint::Other, help_heading = "Rights of the workers")]
    pub(super) umask: Option<u32>,
    /// A limit of the system, such as nofile=65536 or core=0:unlimited. Repeatable.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = rights::limit, value_hint = ValueHint::Other, help_heading = "Rights of the workers")]
    pub(super) limit: Option<Vec<ResourceLimit>>,
    /// Nothing that a worker runs gains privileges, by sudo for instance [default: true with --user]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", hide_possible_values = true, help_heading = "Rights of the workers")]
    pub(super) no_new_privs: Option<bool>,

    /// From its start to `listening`; a worker that takes longer is killed [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = values::positive_duration, value_hint = ValueHint::Other, help_heading = "Restarting")]
    pub(super) start_timeout: Option<Duration>,
    /// From the order to go to SIGKILL [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = values::positive_duration, value_hint = ValueHint::Other, help_heading = "Restarting")]
    pub(super) kill_timeout: Option<Duration>,
    /// How long the first new worker must last before old ones are told to go [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = values::duration, value_hint = ValueHint::Other, help_heading = "Restarting")]
    pub(super) settle_time: Option<Duration>,
    /// How long a worker that lost its master serves on; `never`: without end [default: 60s]
    #[arg(long, value_name = "TIME|never", value_parser = suggest(&["never"], values::orphan_timeout), hide_possible_values = true, help_heading = "Restarting")]
    pub(super) orphan_timeout: Option<Limit<Duration>>,
    /// Extra workers while old ones are replaced [default: 25%]
    #[arg(long, value_name = "25%|N|all", value_parser = suggest(&["25%", "all"], values::surge), hide_possible_values = true, help_heading = "Restarting")]
    pub(super) surge: Option<Surge>,
    /// Failed starts in a row after which a restart is given up [default: 3]
    #[arg(long, value_name = "N", value_parser = values::attempts, value_hint = ValueHint::Other, help_heading = "Restarting")]
    pub(super) restart_attempts: Option<u32>,
    /// Replace a worker that has run so long [default: never]
    #[arg(long, value_name = "TIME|never", value_parser = suggest(&["never"], values::lifetime), hide_possible_values = true, help_heading = "Recycling")]
    pub(super) max_lifetime: Option<Limit<Duration>>,
    /// Replace a worker that has more memory, with all that it started: 512M, 2G [default: never]
    #[arg(long, value_name = "SIZE|never", value_parser = suggest(&["never"], values::memory), hide_possible_values = true, help_heading = "Recycling")]
    pub(super) max_memory: Option<Limit<u64>>,
    /// Replace a worker that has answered so many requests [default: never]
    #[arg(long, value_name = "N|never", value_parser = suggest(&["never"], values::requests), hide_possible_values = true, help_heading = "Recycling")]
    pub(super) max_requests: Option<Limit<u64>>,
    /// Kill and replace a worker that is blocked: it gave no sign of life for so long [default: never]
    #[arg(long, value_name = "TIME|never", value_parser = suggest(&["never"], values::heartbeat), hide_possible_values = true, help_heading = "Recycling")]
    pub(super) heartbeat: Option<Limit<Duration>>,
    /// Go on trying when the very first start fails.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", hide_possible_values = true, help_heading = "Restarting")]
    pub(super) keep_trying: Option<bool>,
    /// What tells that a worker serves: its `listening`, or that it said `hello` [default: listening]
    #[arg(long, value_enum, value_name = "WHAT", hide_possible_values = true, help_heading = "Restarting")]
    pub(super) ready_on: Option<Ready>,
    /// The worker knows only systemd's conventions; WHEN it serves: accept (default), notify, delay:2s. `dutch-master adapt --help` tells more.
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "accept", value_parser = suggest(&["accept", "notify"], super::adapt::when), hide_possible_values = true, help_heading = "Restarting")]
    pub(super) adapt: Option<String>,
    /// The signal that asks for a rolling restart [default: SIGUSR2]
    #[arg(long, value_name = "SIGNAL", value_parser = suggest(&values::RESTART_SIGNALS, values::restart_signal), hide_possible_values = true, help_heading = "Restarting")]
    pub(super) restart_signal: Option<String>,

    /// What other commands call this master [default: from WORKER and the directory]
    #[arg(long, value_name = "NAME", value_parser = values::name, value_hint = ValueHint::Other, help_heading = "The master itself")]
    pub(super) name: Option<String>,
    /// The control socket [default: in the runtime directory]
    #[arg(long, value_name = "PATH", value_parser = values::socket_path, value_hint = ValueHint::FilePath, help_heading = "The master itself")]
    pub(super) socket: Option<PathBuf>,
    /// A file that receives the master's process id.
    #[arg(long, value_name = "FILE", value_parser = values::absolute, value_hint = ValueHint::FilePath, help_heading = "The master itself")]
    pub(super) pid_file: Option<PathBuf>,
    /// Serve metrics for Prometheus over HTTP at /metrics, or keep them in a file; a port alone means 127.0.0.1.
    #[arg(long, value_name = "ADDR|file:PATH", value_parser = metrics::target, value_hint = ValueHint::Other, help_heading = "The master itself")]
    pub(super) metrics: Option<MetricsTo>,

    /// Lines for people, JSON, or what the `bunyan` command reads [default: pretty]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Log")]
    pub(super) log_format: Option<LogFormat>,
    /// The least important level that is shown [default: info]
    #[arg(long, value_enum, value_name = "LEVEL", help_heading = "Log")]
    pub(super) log_level: Option<LogLevel>,
    /// A file for the master's own log, opened again on SIGUSR1 [default: standard error]
    #[arg(long, value_name = "FILE", value_parser = values::absolute, value_hint = ValueHint::FilePath, help_heading = "Log")]
    pub(super) log_file: Option<PathBuf>,

    /// Arguments for node itself, separated by spaces. Repeatable.
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true, value_hint = ValueHint::Other, help_heading = "Node")]
    pub(super) node_args: Option<Vec<String>>,
    /// The folder of the package dutch-master-worker [default: looked for beside the app, then beside this program]
    #[arg(long, value_name = "DIR", value_parser = values::absolute, value_hint = ValueHint::DirPath, help_heading = "Node")]
    pub(super) node_sdk: Option<PathBuf>,
}

/// What the log looks like, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Log {
    pub(super) format: LogFormat,
    pub(super) level: LogLevel,
    /// `None`: standard error.
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(super) enum LogFormat {
    Pretty,
    Json,
    Bunyan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(super) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Ready {
    Listening,
    Hello,
}

/// Everything but the variables for the workers: there, what is given in one place goes before what is given in another.
macro_rules! one_place_wins {
    ($($field:ident),* $(,)?) => {
        impl Settings {
            /// Both places as one. What is given here goes before what is given `below`; variables for the workers add up, name by name.
            pub(super) fn over(self, below: Settings) -> Settings {
                let env = match (below.env, self.env) {
                    (Some(below), Some(above)) => Some(below.into_iter().chain(above).collect()),
                    (below, above) => above.or(below),
                };
                Settings { env, $($field: self.$field.or(below.$field)),* }
            }

            /// The keys that are given here, variables for the workers apart.
            pub(super) fn given(&self) -> Vec<&'static str> {
                let all = [$((stringify!($field), self.$field.is_some())),*];
                all.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect()
            }
        }
    };
}

one_place_wins! {
    worker, num_workers, listen, dir, before_fork, user, group, groups, umask, limit, no_new_privs, start_timeout, kill_timeout, settle_time, orphan_timeout, surge, restart_attempts, max_lifetime, max_memory, max_requests, heartbeat, keep_trying, ready_on, adapt, restart_signal,
    name, socket, pid_file, metrics, log_format, log_level, log_file, node_args, node_sdk,
}

impl Settings {
    /// What the log is to look like.
    pub(super) fn log(&self) -> Log {
        let format = self.log_format.unwrap_or(LogFormat::Pretty);
        Log { format, level: self.log_level.unwrap_or(LogLevel::Info), file: self.log_file.clone() }
    }

    /// What the master has to know; `None`: there is no worker.
    pub(super) fn options(self) -> Option<Options> {
        let mut words = self.worker.unwrap_or_default().into_iter();
        let defaults = Options::new(words.next()?);
        Some(Options {
            worker: defaults.worker,
            args: words.collect(),
            num_workers: self.num_workers.unwrap_or(defaults.num_workers),
            listen: self.listen.unwrap_or(defaults.listen),
            dir: self.dir,
            env: self.env.unwrap_or(defaults.env),
            before_fork: self.before_fork,
            user: self.user,
            group: self.group,
            groups: self.groups.map(|groups| groups.into_iter().filter(|group| !group.is_empty()).collect()),
            umask: self.umask,
            limit: self.limit.unwrap_or(defaults.limit),
            no_new_privs: self.no_new_privs,
            restart_signal: self.restart_signal.unwrap_or(defaults.restart_signal),
            start_timeout: self.start_timeout.unwrap_or(defaults.start_timeout),
            kill_timeout: self.kill_timeout.unwrap_or(defaults.kill_timeout),
            orphan_timeout: self.orphan_timeout.map_or(defaults.orphan_timeout, |limit| limit.0),
            settle_time: self.settle_time.unwrap_or(defaults.settle_time),
            surge: self.surge.unwrap_or(defaults.surge),
            restart_attempts: self.restart_attempts.unwrap_or(defaults.restart_attempts),
            max_lifetime: self.max_lifetime.map_or(defaults.max_lifetime, |limit| limit.0),
            max_memory: self.max_memory.map_or(defaults.max_memory, |limit| limit.0),
            max_requests: self.max_requests.map_or(defaults.max_requests, |limit| limit.0),
            heartbeat: self.heartbeat.map_or(defaults.heartbeat, |limit| limit.0),
            keep_trying: self.keep_trying.unwrap_or(defaults.keep_trying),
            ready_on: match self.ready_on {
                None => defaults.ready_on,
                Some(Ready::Listening) => ReadyOn::Listening,
                Some(Ready::Hello) => ReadyOn::Hello,
            },
            adapt: self.adapt,
            name: self.name,
            socket: self.socket,
            pid_file: self.pid_file,
            metrics: self.metrics,
            node: defaults.node,
            node_args: self.node_args.iter().flatten().flat_map(|args| args.split_whitespace()).map(String::from).collect(),
            node_sdk: self.node_sdk,
        })
    }
}

/// The name that two listeners have.
pub(super) fn name_given_twice(listen: &[ListenSpec]) -> Option<&str> {
    let names: Vec<_> = listen.iter().filter_map(|listen| listen.name.as_deref()).collect();
    names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then_some(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_above_wins_and_the_rest_comes_from_below() {
        let above = Settings { num_workers: Some(NumWorkers::Fixed(4)), keep_trying: Some(false), ..Settings::default() };
        let below = Settings { num_workers: Some(NumWorkers::Auto), keep_trying: Some(true), name: Some("web".into()), ..Settings::default() };
        let both = above.over(below);
        assert_eq!((both.num_workers, both.keep_trying, both.name.as_deref()), (Some(NumWorkers::Fixed(4)), Some(false), Some("web")));
    }

    #[test]
    fn listeners_above_take_the_place_of_those_below() {
        let listen = |text: &str| Settings { listen: Some(vec![values::listen(text).unwrap()]), ..Settings::default() };
        assert_eq!(listen("1").over(listen("2")), listen("1"));
    }

    #[test]
    fn a_worker_above_does_not_get_the_arguments_of_another_below() {
        let worker = |words: &[&str]| Settings { worker: Some(words.iter().map(|word| (*word).into()).collect()), ..Settings::default() };
        assert_eq!(worker(&["a.js"]).over(worker(&["b.js", "--port", "1"])), worker(&["a.js"]));
    }

    #[test]
    fn variables_add_up_and_the_last_one_of_a_name_is_that_from_above() {
        let env = |pairs: &[(&str, &str)]| Settings {
            env: Some(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()),
            ..Settings::default()
        };
        assert_eq!(env(&[("A", "1")]).over(env(&[("A", "2"), ("B", "3")])), env(&[("A", "2"), ("B", "3"), ("A", "1")]));
    }

    #[test]
    fn without_a_worker_there_are_no_options() {
        assert_eq!(Settings::default().options(), None);
    }
}
