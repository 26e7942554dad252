//! The command line as data: every command, every option, and the help that people read.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use dutch_master::PREFLIGHT;
use dutch_master::core::SizeChange;

use super::help;
use super::settings::Settings;
use super::values;

/// Keeps N copies of a network service running and never drops a request while it replaces them.
#[derive(Debug, Parser)]
#[command(name = "dutch-master", bin_name = "dutch-master", version, after_help = help::PROGRAM, arg_required_else_help = true)]
pub(super) struct CommandLine {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a service: a master in the foreground, which starts workers and replaces them.
    Start(Box<Start>),
    /// Check options and configuration file without starting anything.
    Check(Box<Check>),
    /// Show what a master and its workers are doing.
    Status(Status),
    /// Replace every worker, one wave after the other, and wait until it is done.
    Restart(Restart),
    /// Read the configuration again, then restart with it; what is wrong with it changes nothing.
    Reload(Restart),
    /// Stop a master: every worker finishes its requests first.
    Stop(Stop),
    /// Change how many workers there are, and wait until that many run.
    Scale(Scale),
    /// Put another `dutch-master` program in the running master's place: process, workers and connections stay.
    Upgrade(Upgrade),
    /// Print the master's numbers in Prometheus' text format.
    Metrics(Metrics),
    /// Watch workers, listeners and events live, in a terminal.
    Top(Top),
    /// Print everything that happens as JSON, one object a line, until the master ends.
    Subscribe(Subscribe),
    /// Be the worker for a program that knows only systemd's conventions.
    Adapt(Box<super::adapt::Adapt>),
    /// Play the master against a worker, and say which rules of the protocol it keeps.
    Conformance(Box<super::conformance::Conformance>),
    /// Print a script that lets a shell complete commands and options.
    Completions(Completions),
    /// Say whether this program can take a running master's place.
    #[command(name = PREFLIGHT, hide = true)]
    Preflight(Preflight),
    /// Print the manual page, of all or of one command: `dutch-master man | man -l -`.
    Man(Man),
}

/// Which master a command means.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which master (default: DUTCH_MASTER_SOCKET, else the only one that runs)")]
pub(super) struct Which {
    /// The one with this control socket.
    #[arg(long, value_name = "PATH", value_parser = values::absolute, value_hint = ValueHint::FilePath)]
    pub(super) socket: Option<PathBuf>,
    /// The one of this name.
    #[arg(long, value_name = "NAME", value_parser = values::name, value_hint = ValueHint::Other, conflicts_with = "socket")]
    pub(super) name: Option<String>,
}

/// Whether and how long to wait for an outcome, and what to say meanwhile.
#[derive(Debug, Args)]
pub(super) struct Waiting {
    /// Do not wait: success means that the request was taken up.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Wait at most so long (30s, 5m); what was asked for goes on.
    #[arg(long, value_name = "TIME", value_parser = values::positive_duration, value_hint = ValueHint::Other, conflicts_with = "no_wait")]
    pub(super) timeout: Option<Duration>,
    /// Say nothing but what is wrong: no progress, and no word when all went well.
    #[arg(short, long)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = help::STATUS)]
pub(super) struct Status {
    /// Every master that runs: your own, and those of services.
    #[arg(long, conflicts_with_all = ["socket", "name"])]
    pub(super) all: bool,
    /// Show it again and again, every second or as often as TIME says, until the master ends.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "1s", value_parser = values::interval, value_hint = ValueHint::Other, conflicts_with = "all")]
    pub(super) watch: Option<Duration>,
    /// JSON on standard output: one object, with --all a list of them, with --watch one a line.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = help::RESTART)]
pub(super) struct Restart {
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = help::COMPLETIONS)]
pub(super) struct Completions {
    /// Which shell.
    #[arg(value_enum, value_name = "SHELL")]
    pub(super) shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// The command [default: all of them]
    #[arg(value_name = "COMMAND")]
    pub(super) command: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Top {
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = help::SUBSCRIBE)]
pub(super) struct Subscribe {
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = help::METRICS)]
pub(super) struct Metrics {
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = help::STOP)]
pub(super) struct Stop {
    /// Do not wait for requests in flight.
    #[arg(long)]
    pub(super) now: bool,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = help::UPGRADE)]
pub(super) struct Upgrade {
    /// The program [default: what is now at the path that the master was started by, or upgraded to]
    #[arg(long, value_name = "PATH", value_parser = values::absolute, value_hint = ValueHint::FilePath)]
    pub(super) binary: Option<PathBuf>,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
pub(super) struct Preflight {
    /// The arguments that the master was started with.
    #[arg(last = true, allow_hyphen_values = true)]
    pub(super) args: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = help::SCALE)]
pub(super) struct Scale {
    /// How many workers there shall be; +N: so many more; -N: so many fewer.
    #[arg(value_name = "N|+N|-N", value_parser = values::size_change, allow_negative_numbers = true)]
    pub(super) size: SizeChange,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) which: Which,
}

/// The service that a command is about.
#[derive(Debug, Args)]
pub(super) struct Service {
    /// A file with these options [default: dutch-master.toml, if there is no WORKER]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) settings: Settings,
}

impl Service {
    /// Both as one. What is said here goes before what is said `below`.
    pub(super) fn over(self, below: Service) -> Service {
        Service { config: self.config.or(below.config), settings: self.settings.over(below.settings) }
    }
}

#[derive(Debug, Args)]
#[command(override_usage = "dutch-master start [OPTIONS] [WORKER [ARGS…]]", after_help = help::START)]
pub(super) struct Start {
    #[command(flatten)]
    pub(super) service: Service,
}

#[derive(Debug, Args)]
#[command(override_usage = "dutch-master check [OPTIONS] [WORKER [ARGS…]]", after_help = help::CHECK)]
pub(super) struct Check {
    /// Show every option as `start` would take it, and where it comes from.
    #[arg(long)]
    pub(super) print: bool,
    /// Take options from `ExecStart=` of a systemd unit as well, and warn where it or its drop-ins break what is promised with them.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) unit: Option<PathBuf>,
    #[command(flatten)]
    pub(super) service: Service,
}

#[cfg(test)]
mod tests {
    use dutch_master::Options;
    use dutch_master::options::NumWorkers;

    use super::*;

    fn parse(words: &str) -> Result<Command, clap::Error> {
        CommandLine::try_parse_from(["dutch-master"].into_iter().chain(words.split(' '))).map(|line| line.command)
    }

    #[track_caller]
    fn options(words: &str) -> Options {
        match parse(words) {
            Ok(Command::Start(start)) => start.service.settings.options().unwrap(),
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
    fn without_a_worker_the_file_has_to_name_one() {
        let Ok(Command::Start(start)) = parse("start -n 3") else { panic!() };
        assert_eq!(start.service.settings.options(), None);
    }

    #[test]
    fn what_is_a_switch_can_be_switched_off() {
        for (words, keep_trying) in [("start --keep-trying a", true), ("start --keep-trying=true a", true), ("start --keep-trying=false a", false)] {
            assert_eq!(options(words).keep_trying, keep_trying, "{words}");
        }
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
    fn node_arguments_are_split_at_spaces() {
        let line = ["dutch-master", "start", "--node-args", "--inspect  --max-old-space-size=300", "a.js"];
        let Command::Start(start) = CommandLine::try_parse_from(line).unwrap().command else { panic!() };
        assert_eq!(start.service.settings.options().unwrap().node_args, ["--inspect", "--max-old-space-size=300"]);
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
