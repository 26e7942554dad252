//! The help that is more than a sentence about an option: examples, exit codes, and the commands in groups.

use std::fmt::Write;

use clap::Command;

/// The commands as a person looks for them.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Every day", &["start", "status", "restart", "reload", "scale", "stop", "top"]),
    ("Setting up", &["check", "upgrade", "completions", "man"]),
    ("For scripts and monitoring", &["metrics", "subscribe"]),
    ("For those who write workers", &["adapt", "conformance"]),
];

pub(super) const PROGRAM: &str = "\
Examples:
  dutch-master start app.js                          two workers of a Node app
  dutch-master start -n 4 -l 127.0.0.1:8000 ./serve  four of a program, which takes the listener from the master
  dutch-master status                                what runs
  dutch-master restart                               replace every worker, wait, and say how it went
  dutch-master scale +1                              one worker more
  dutch-master stop                                  let every request finish, then end

Exit status, of every command that says nothing else:
    0  done
    1  failed, refused, given up, or not in time
    2  wrong usage
    3  no such master, or several and none was chosen
    4  superseded by a newer request
    5  the master does not answer: it is stopped, or blocked
  130  Ctrl-C ended the waiting; what was asked for goes on

`dutch-master COMMAND --help` tells more about one of them.";

pub(super) const START: &str = "\
Listeners:
  8000, 127.0.0.1:8000, [::1]:8000, unix:/run/app.sock; with a name: admin=127.0.0.1:9000
  A port alone is that of every address of the machine, not of this machine's own 127.0.0.1.
  Workers may also ask for others; a Node app does so by `app.listen(8000)`.

Signals to the master:
  SIGUSR2           rolling restart (see --restart-signal)
  SIGTERM, SIGINT   graceful stop; the second one stops at once
  SIGHUP            reload
  SIGTTIN, SIGTTOU  one worker more, one worker fewer
  SIGUSR1           open the --log-file again; where there is none: upgrade

Examples:
  dutch-master start app.js --port 8000              --port belongs to app.js
  dutch-master start --dir /srv/app/current app.js   a `current` link that moved is followed by the next restart
  dutch-master start                                 as dutch-master.toml in this directory says
  dutch-master start -c /etc/shop.toml -n 4          as the file says, but with four workers
  dutch-master start -n auto -e NODE_ENV=production --log-format bunyan app.js | bunyan

Exit status: 0 stopped and every worker ended in time; 1 one had to be killed or the start failed; 2 wrong usage.";

/// In the manual page alone.
pub(super) const ENVIRONMENT: &str = "\
Environment:
  DUTCH_MASTER_SOCKET  the control socket of the master that a command means, where neither --socket nor --name says it; workers find theirs by it
  RUNTIME_DIRECTORY    the runtime directory, set by systemd
  XDG_RUNTIME_DIR      without that: the runtime directory is its folder dutch-master; without both it is /run/dutch-master for root, and a private folder in the system's temporary one for others
  NO_COLOR             no colours in the log";

/// In the manual page alone.
pub(super) const FILES: &str = "\
Files:
  dutch-master.toml  in the working directory: options of `start` and `check`, read where neither a WORKER nor --config is given
  NAME.sock          in the runtime directory: the master's control socket, unless --socket names another place
  NAME.lock          beside it, held while the master runs, so that no other has its name
  NAME.state         beside it: what the next master needs to take the workers over, should this one die";

pub(super) const CHECK: &str = "\
Examples:
  dutch-master check                                 the dutch-master.toml in this directory
  dutch-master check -c /etc/shop.toml --print       what `start -c /etc/shop.toml` would take, and from where
  dutch-master check -c /etc/shop.toml --unit /etc/systemd/system/shop.service

What another process has, an address or the name, is not looked at: it may be the very master that is to reload this.

Exit status: 0 it can be started, warnings or not; 1 it cannot, and each fault is a line on standard error; 2 wrong usage.";

pub(super) const COMPLETIONS: &str = "\
Examples:
  dutch-master completions bash > ~/.local/share/bash-completion/completions/dutch-master
  dutch-master completions zsh > ~/.zfunc/_dutch-master      with ~/.zfunc in fpath
  dutch-master completions fish > ~/.config/fish/completions/dutch-master.fish";

pub(super) const METRICS: &str = "\
`dutch-master start --metrics 127.0.0.1:9100` serves them over HTTP, `--metrics file:PATH` keeps them in a file; docs/metrics.md lists them all.";

pub(super) const SUBSCRIBE: &str = "\
The first line is `Subscribed`: from then on nothing is missed. docs/events.md lists every message.

Examples:
  dutch-master subscribe | jq -r 'select(.message == \"Worker exited\") | .detail'

Exit status: 0 the master has ended; 1 it does not wait for one that does not read; 2 wrong usage; 3 no such master; 5 the master does not answer.";

pub(super) const UPGRADE: &str = "\
The program is first run beside the master, and says whether it can go on with what there is; one that cannot, or is none, changes nothing.
Options and configuration stay as they are; `dutch-master reload` is for those.

Examples:
  dutch-master upgrade                               a deploy has put a new version where the old one was
  dutch-master upgrade --binary /opt/dutch-master-2/dutch-master

Exit status: 0 done; 1 refused, and nothing has changed; 2 wrong usage; 3 no such master; 5 the master does not answer.";

pub(super) const RESTART: &str = "\
Ctrl-C ends the waiting; the restart goes on.

Exit status: 0 done; 1 refused, given up, stopped or not done in time; 2 wrong usage; 3 no such master; 4 superseded by a newer restart; 5 the master does not answer; 130 Ctrl-C.";

pub(super) const STATUS: &str = "\
Exit status: 0 shown, also when --all finds no master; 1 failed; 2 wrong usage; 3 no such master; 5 one that runs does not answer.";

pub(super) const STOP: &str = "\
Ctrl-C ends the waiting; the stop goes on.

Exit status: 0 stopped, also when workers had to be killed or connections were cut, which is said; 1 refused or not done in time; 2 wrong usage; 3 no such master; 5 the master does not answer; 130 Ctrl-C.";

pub(super) const SCALE: &str = "\
Ctrl-C ends the waiting; the change goes on.

Exit status: 0 done; 1 refused, given up, stopped or not done in time; 2 wrong usage; 3 no such master; 4 superseded by another change; 5 the master does not answer; 130 Ctrl-C.";

/// The program with its commands shown in groups: clap has one list of all.
pub(super) fn grouped(program: Command) -> Command {
    let about = |name: &str| program.find_subcommand(name).and_then(|command| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let width = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max().unwrap_or_default();
    let mut template = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (heading, names) in GROUPS {
        let _ = writeln!(template, "\n{heading}:");
        for name in names {
            let _ = writeln!(template, "  {name:width$}  {}", about(name));
        }
    }
    template.push_str("\nOptions:\n{options}{after-help}");
    program.help_template(template)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::CommandLine;
    use super::*;

    #[test]
    fn every_command_that_is_shown_stands_in_one_group_and_is_told_in_a_sentence() {
        let program = CommandLine::command();
        let mut shown: Vec<_> = program.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name).collect();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        shown.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, shown);
        let help = super::grouped(program).render_help().to_string();
        assert!(help.contains("\nEvery day:\n  start        Run a service"), "{help}");
        assert!(help.contains("--version") && help.contains("Exit status"), "{help}");
    }

    #[test]
    fn a_command_that_can_end_in_more_ways_than_all_do_lists_its_exit_codes() {
        for name in ["start", "status", "restart", "reload", "scale", "stop", "check", "upgrade", "subscribe", "conformance", "adapt"] {
            let mut program = CommandLine::command();
            let help = program.find_subcommand_mut(name).unwrap().render_long_help().to_string();
            assert!(help.contains("\nExit status: "), "{name}: {help}");
        }
    }

    #[test]
    fn the_exit_codes_of_restart_are_the_same_in_its_help_and_in_the_readme() {
        let readme = include_str!("../../../README.md");
        let row = readme.lines().find(|line| line.starts_with("| `dutch-master restart`")).unwrap();
        for (code, what) in [("0", "done"), ("1", "given up, stopped"), ("3", "no such master"), ("4", "superseded by a newer")] {
            assert!(RESTART.contains(&format!("{code} ")) && RESTART.contains(what) && row.contains(&format!("{code} {what}")), "{code} {what}: {row}");
        }
    }
}
