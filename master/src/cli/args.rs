//! The command line as data: every command, every option, and the help that people read.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dutch_master::core::{SizeChange, Surge};
use dutch_master::options::{ListenSpec, NumWorkers, Options, ReadyOn};

use super::values::{self, Limit};

const EXAMPLES: &str = "\
Examples:
  dutch-master start app.js                          two workers of a Node app
  dutch-master start -n 4 -l 127.0.0.1:8000 ./serve  four of a program, which takes the listener from the master
  dutch-master status                                what runs
  dutch-master restart                               replace every worker, wait, and say how it went
  dutch-master scale +1                              one worker more
  dutch-master stop                                  let every request finish, then end

`dutch-master COMMAND --help` tells more about one of them.";

const START_EXAMPLES: &str = "\
Listeners:
  8000  127.0.0.1:8000  [::1]:8000  unix:/run/app.sock  admin=127.0.0.1:9000
  Workers may also ask for others; a Node app does so by `app.listen(8000)`.

Signals to the master:
  SIGUSR2           rolling restart (see --restart-signal)
  SIGTERM, SIGINT   graceful stop; the second one stops at once
  SIGTTIN, SIGTTOU  one worker more, one worker fewer

Examples:
  dutch-master start app.js --port 8000              --port belongs to app.js
  dutch-master start --dir /srv/app/current app.js   a `current` link that moved is followed by the next restart
  dutch-master start -n auto -e NODE_ENV=production --log-format bunyan app.js | bunyan

Exit status: 0 stopped and every worker ended in time, 1 one had to be killed or the start failed, 2 wrong usage.";

const RESTART_STATUS: &str = "\
Ctrl-C ends the waiting; the restart goes on.

Exit status: 0 done; 1 given up, stopped or not done in time; 2 wrong usage; 3 no such master; 4 superseded by a newer restart.";

/// Keeps N copies of a network service running and never drops a request while it replaces them.
#[derive(Debug, Parser)]
#[command(name = "dutch-master", bin_name = "dutch-master", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct CommandLine {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a service: a master in the foreground, which starts workers and replaces them.
    Start(Box<Start>),
    /// Show what a master and its workers are doing.
    Status(Status),
    /// Replace every worker, one wave after the other, and wait until it is done.
    Restart(Restart),
    /// Stop a master: every worker finishes its requests first.
    Stop(Stop),
    /// Change how many workers there are, and wait until that many run.
    Scale(Scale),
}

/// Which master a command means.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which master (default: DUTCH_MASTER_SOCKET, else the only one that you run)")]
pub(super) struct Which {
    /// The one with this control socket.
    #[arg(long, value_name = "PATH", value_parser = values::absolute)]
    pub(super) socket: Option<PathBuf>,
    /// The one of this name.
    #[arg(long, value_name = "NAME", value_parser = values::name, conflicts_with = "socket")]
    pub(super) name: Option<String>,
}

/// Whether and how long to wait for an outcome.
#[derive(Debug, Args)]
pub(super) struct Waiting {
    /// Do not wait: success means that the request was taken up.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Wait at most so long (30s, 5m); what was asked for goes on.
    #[arg(long, value_name = "TIME", value_parser = values::positive_duration, conflicts_with = "no_wait")]
    pub(super) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Every master that you run.
    #[arg(long, conflicts_with_all = ["socket", "name"])]
    pub(super) all: bool,
    /// JSON on standard output: one object, with --all a list of them.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = RESTART_STATUS)]
pub(super) struct Restart {
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    /// Do not wait for requests in flight.
    #[arg(long)]
    pub(super) now: bool,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
pub(super) struct Scale {
    /// How many workers there shall be; +N: so many more; -N: so many fewer.
    #[arg(value_name = "N|+N|-N", value_parser = values::size_change, allow_negative_numbers = true)]
    pub(super) size: SizeChange,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
#[command(override_usage = "dutch-master start [OPTIONS] WORKER [ARGS…]", after_help = START_EXAMPLES)]
pub(super) struct Start {
    /// A program, or a script (.js .cjs .mjs .ts) that node runs; what follows belongs to it.
    #[arg(value_name = "WORKER", required = true, num_args = 1.., trailing_var_arg = true)]
    worker: Vec<String>,

    /// How many workers; `auto`: one per processor.
    #[arg(short, long, visible_short_alias = 'w', value_name = "N|auto", default_value = "2", value_parser = values::num_workers)]
    num_workers: NumWorkers,
    /// A listener that the master opens before the first worker starts. Repeatable.
    #[arg(short, long, value_name = "[NAME=]ADDR", value_parser = values::listen)]
    listen: Vec<ListenSpec>,
    /// The directory that workers start in, looked up anew for each [default: here]
    #[arg(long, visible_alias = "chdir", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Set a variable for the workers. Repeatable.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::env)]
    env: Vec<(String, String)>,
    /// Run by `sh -c` before every start of a worker; a failure is a failed start.
    #[arg(long, value_name = "COMMAND")]
    before_fork: Option<String>,

    /// From its start to `listening`; a worker that takes longer is killed.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::positive_duration, help_heading = "Restarting")]
    start_timeout: Duration,
    /// From the order to go to SIGKILL.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration, help_heading = "Restarting")]
    kill_timeout: Duration,
    /// How long the first new worker must last before old ones are told to go.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = values::duration, help_heading = "Restarting")]
    settle_time: Duration,
    /// How long a worker that lost its master serves on; `never`: without end.
    #[arg(long, value_name = "TIME|never", default_value = "60s", value_parser = values::limit, help_heading = "Restarting")]
    orphan_timeout: Limit,
    /// Extra workers while old ones are replaced.
    #[arg(long, value_name = "25%|N|all", default_value = "25%", value_parser = values::surge, help_heading = "Restarting")]
    surge: Surge,
    /// Failed starts in a row after which a restart is given up.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Restarting")]
    restart_attempts: u32,
    /// Go on trying when the very first start fails.
    #[arg(long, help_heading = "Restarting")]
    keep_trying: bool,
    /// What tells that a worker serves: its `listening`, or that it said `hello`.
    #[arg(long, value_enum, value_name = "WHAT", default_value = "listening", hide_possible_values = true, help_heading = "Restarting")]
    ready_on: Ready,
    /// The signal that asks for a rolling restart.
    #[arg(long, value_name = "SIGNAL", default_value = "SIGUSR2", value_parser = values::restart_signal, help_heading = "Restarting")]
    restart_signal: String,

    /// What other commands call this master [default: from WORKER and the directory]
    #[arg(long, value_name = "NAME", value_parser = values::name, help_heading = "The master itself")]
    name: Option<String>,
    /// The control socket [default: in the runtime directory]
    #[arg(long, value_name = "PATH", value_parser = values::socket_path, help_heading = "The master itself")]
    socket: Option<PathBuf>,
    /// A file that receives the master's process id.
    #[arg(long, value_name = "FILE", value_parser = values::absolute, help_heading = "The master itself")]
    pid_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) log: Log,

    /// Arguments for node itself, separated by spaces. Repeatable.
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true, help_heading = "Node")]
    node_args: Vec<String>,
    /// The folder of the package dutch-master-worker [default: looked for beside the app, then beside this program]
    #[arg(long, value_name = "DIR", value_parser = values::absolute, help_heading = "Node")]
    node_sdk: Option<PathBuf>,
}

/// What the log on standard error looks like.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Log, on standard error")]
pub(super) struct Log {
    /// Lines for people, JSON, or what the `bunyan` command reads.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "pretty")]
    pub(super) log_format: LogFormat,
    /// The least important level that is shown.
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Pretty,
    Json,
    Bunyan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ready {
    Listening,
    Hello,
}

impl Start {
    /// What the master has to know, or what is wrong with the whole, though every part is right.
    pub(super) fn options(self) -> Result<Options, String> {
        let names: Vec<_> = self.listen.iter().filter_map(|listen| listen.name.as_deref()).collect();
        if let Some(twice) = names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then_some(name)) {
            return Err(format!("two listeners have the name `{twice}`"));
        }
        let mut words = self.worker.into_iter();
        Ok(Options {
            worker: words.next().unwrap_or_default().into(),
            args: words.collect(),
            num_workers: self.num_workers,
            listen: self.listen,
            dir: self.dir,
            env: self.env,
            before_fork: self.before_fork,
            restart_signal: self.restart_signal,
            start_timeout: self.start_timeout,
            kill_timeout: self.kill_timeout,
            orphan_timeout: self.orphan_timeout.0,
            settle_time: self.settle_time,
            surge: self.surge,
            restart_attempts: self.restart_attempts,
            keep_trying: self.keep_trying,
            ready_on: match self.ready_on {
                Ready::Listening => ReadyOn::Listening,
                Ready::Hello => ReadyOn::Hello,
            },
            name: self.name,
            socket: self.socket,
            pid_file: self.pid_file,
            node_args: self.node_args.iter().flat_map(|args| args.split_whitespace()).map(String::from).collect(),
            node_sdk: self.node_sdk,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Command, clap::Error> {
        CommandLine::try_parse_from(["dutch-master"].into_iter().chain(words.split(' '))).map(|line| line.command)
    }

    #[track_caller]
    fn options(words: &str) -> Options {
        match parse(words) {
            Ok(Command::Start(start)) => start.options().unwrap(),
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn without_options_the_defaults_are_those_of_the_library() {
        assert_eq!(options("start app.js"), Options::new("app.js"));
    }

    #[test]
    fn what_follows_the_worker_belongs_to_it() {
        let options = options("start -n 3 app.js -n 4 --port 8000 --help -- start");
        assert_eq!(options.num_workers, NumWorkers::Fixed(3));
        assert_eq!(options.worker.to_str(), Some("app.js"));
        assert_eq!(options.args, ["-n", "4", "--port", "8000", "--help", "--", "start"]);
    }

    #[test]
    fn two_dashes_before_the_worker_are_not_part_of_it() {
        let options = options("start -n 3 -- ./serve -n 4");
        assert_eq!((options.worker.to_str(), options.args), (Some("./serve"), vec!["-n".into(), "4".into()]));
    }

    #[test]
    fn an_unknown_option_is_not_taken_for_a_worker() {
        let error = parse("start --num-worker 3 app.js").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--num-workers"), "{error}");
    }

    #[test]
    fn a_worker_is_required() {
        assert_eq!(parse("start").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_number_of_workers_has_three_spellings() {
        for words in ["start -n 5 a", "start -w 5 a", "start --num-workers 5 a"] {
            assert_eq!(options(words).num_workers, NumWorkers::Fixed(5));
        }
    }

    #[test]
    fn repeatable_options_keep_their_order() {
        let options = options("start -l 8000 -l admin=9000 -e A=1 -e B=2 --node-args --inspect --node-args=--a=1 a.js");
        assert_eq!(options.listen.iter().map(|listen| listen.name.as_deref()).collect::<Vec<_>>(), [None, Some("admin")]);
        assert_eq!(options.env, [("A".into(), "1".into()), ("B".into(), "2".into())]);
        assert_eq!(options.node_args, ["--inspect", "--a=1"]);
    }

    #[test]
    fn two_listeners_of_one_name_are_refused() {
        let Ok(Command::Start(start)) = parse("start -l a=1 -l b=2 -l a=3 x") else { panic!() };
        assert!(start.options().unwrap_err().contains("`a`"));
    }

    #[test]
    fn node_arguments_are_split_at_spaces() {
        let line = ["dutch-master", "start", "--node-args", "--inspect  --max-old-space-size=300", "a.js"];
        let Command::Start(start) = CommandLine::try_parse_from(line).unwrap().command else { panic!() };
        assert_eq!(start.options().unwrap().node_args, ["--inspect", "--max-old-space-size=300"]);
    }

    #[test]
    fn scale_takes_a_number_with_or_without_a_sign() {
        for (words, size) in
            [("scale 4", SizeChange::To(4)), ("scale +4", SizeChange::By(4)), ("scale -4", SizeChange::By(-4)), ("scale --no-wait -4", SizeChange::By(-4))]
        {
            match parse(words) {
                Ok(Command::Scale(scale)) => assert_eq!(scale.size, size, "{words}"),
                other => panic!("{words}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_master_is_named_in_one_way_only() {
        assert!(parse("status --name a --socket /b").is_err());
        assert!(parse("status --name a --all").is_err());
        assert!(parse("restart --no-wait --timeout 3s").is_err());
    }
}
