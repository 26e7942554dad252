//! Reading the configuration again while the master runs.

use std::path::PathBuf;
use std::process::Command;

use dutch_master_protocol::control::{FromControl, Outcome, Reload, Restart, ToControl};
use dutch_master_protocol::message::FromMaster;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Folder, Master, signal_to, start_command, variable};
use crate::peer::Peer;

/// A folder with a configuration file for one sleeping worker.
struct Site {
    folder: Folder,
    file: PathBuf,
}

impl Site {
    fn new() -> Site {
        let folder = Folder::new();
        let file = folder.path().join("dutch-master.toml");
        let site = Site { folder, file };
        site.write("worker = \"sleep\"\nargs = [\"60\"]\nworker_environment = { RELEASE = \"one\" }\n");
        site
    }

    /// `num_workers = 1` and no time to settle, and what is given.
    fn write(&self, text: &str) {
        std::fs::write(&self.file, format!("num_workers = 1\nsettle_time = \"0s\"\n{text}")).unwrap();
    }

    fn command(&self) -> Command {
        start_command(&self.folder, "m", &["-c", "dutch-master.toml"])
    }

    /// A master whose first worker serves, and its pid.
    fn serving(&self) -> (Master, Peer, u32) {
        let mut master = Master::from(self.command(), &self.folder);
        let pid = master.next_worker();
        let worker = Peer::of_serving_worker(&master, pid);
        master.next("Cluster ready");
        (master, worker, pid)
    }
}

/// The answers to a request up to the last one.
fn ask(client: &mut Peer, request: &FromControl) -> Vec<ToControl> {
    client.say(request);
    let mut answers = Vec::new();
    while let Some(answer) = client.hear() {
        let is_last = matches!(answer, ToControl::Done(_) | ToControl::Error(_));
        answers.push(answer);
        if is_last {
            break;
        }
    }
    answers
}

/// The arguments that a process was started with.
fn args(pid: u32) -> Vec<String> {
    let line = String::from_utf8(std::fs::read(format!("/proc/{pid}/cmdline")).unwrap()).unwrap();
    line.split_terminator('\0').skip(1).map(String::from).collect()
}

#[test]
fn a_hang_up_reads_the_file_again_and_new_workers_are_as_it_says() {
    let site = Site::new();
    let (mut master, _old, first) = site.serving();
    assert_eq!(variable(first, "RELEASE").as_deref(), Some("one"));
    site.write("worker = \"sleep\"\nargs = [\"61\"]\nworker_environment = { RELEASE = \"two\" }\n");
    master.signal(Signal::SIGHUP);
    assert_eq!(master.next("Reload requested")["signal"], "SIGHUP");
    let second = master.next_worker();
    let _new = Peer::of_serving_worker(&master, second);
    master.next("Restart complete");
    assert_eq!((variable(second, "RELEASE").as_deref(), args(second)), (Some("two"), vec!["61".to_owned()]));
}

#[test]
fn a_wrong_file_changes_nothing_and_is_answered_with_what_is_wrong() {
    let site = Site::new();
    let (mut master, _worker, first) = site.serving();
    site.write("worker = \"sleep\"\nsurge = \"none\"\n");
    let answers = ask(&mut Peer::client(&master), &FromControl::Reload(Reload {}));
    let [ToControl::Progress(asked), ToControl::Error(error)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((asked.message.as_str(), error.code.as_str()), ("Reload requested", "EINVAL"));
    assert!(error.message.contains("dutch-master.toml:4:9: `surge`"), "{error:?}");
    assert_eq!(master.next("Configuration refused, nothing changes")["reason"], error.message.as_str());
    site.write("worker = \"./not-there\"\n");
    let answers = ask(&mut Peer::client(&master), &FromControl::Reload(Reload {}));
    assert!(matches!(answers.last(), Some(ToControl::Error(error)) if error.message.contains("not-there")), "{answers:?}");
    // What comes next is still made from what was right.
    signal_to(first, Signal::SIGKILL);
    assert_eq!(variable(master.next_worker(), "RELEASE").as_deref(), Some("one"));
    assert_eq!(master.count("Restart requested"), 0);
}

#[test]
fn after_a_reload_that_was_given_up_crashed_workers_are_replaced_by_what_the_old_ones_were() {
    let site = Site::new();
    let (mut master, _old, first) = site.serving();
    site.write("worker = \"sh\"\nargs = [\"-c\", \"echo $RELEASE >> tried; exit 1\"]\nrestart_attempts = 1\nkill_timeout = \"10s\"\nworker_environment = { RELEASE = \"two\" }\n");
    let mut client = Peer::client(&master);
    let answers = ask(&mut client, &FromControl::Reload(Reload {}));
    assert!(matches!(answers.last(), Some(ToControl::Done(done)) if done.outcome == Outcome::GivenUp), "{answers:?}");
    let told = answers.iter().filter(|answer| matches!(answer, ToControl::Progress(progress) if progress.message.contains("given up"))).count();
    assert_eq!(told, 0, "the outcome is told once");
    signal_to(first, Signal::SIGKILL);
    master.next("Restart given up, the old workers stay");
    let replacement = master.next_worker();
    assert_eq!((variable(replacement, "RELEASE").as_deref(), args(replacement)), (Some("one"), vec!["60".to_owned()]));
    let mut serving = Peer::of_serving_worker(&master, replacement);
    // The next restart tries again what was read last.
    let answers = ask(&mut client, &FromControl::Restart(Restart {}));
    assert!(matches!(answers.last(), Some(ToControl::Done(done)) if done.outcome == Outcome::GivenUp), "{answers:?}");
    assert_eq!(std::fs::read_to_string(site.folder.path().join("tried")).unwrap(), "two\ntwo\n");
    // Time limits are the old ones too.
    master.signal(Signal::SIGTERM);
    assert!(matches!(serving.hear(), Some(FromMaster::Disconnect(order)) if order.timeout_ms == 27_000));
}

#[test]
fn what_needs_a_new_start_is_named_and_stays() {
    let site = Site::new();
    let (mut master, _old, _) = site.serving();
    site.write("worker = \"sleep\"\nargs = [\"60\"]\nlisten = 0\nrestart_signal = \"SIGUSR1\"\nlog_level = \"error\"\n");
    master.signal(Signal::SIGHUP);
    let warning: Value = master.next("Some changes need a new start");
    // The command line says which log level there is, and wins.
    assert_eq!((warning["level"].as_str(), warning["reason"].as_str()), (Some("warn"), Some("listen, restart_signal")));
    let (_new, welcome) = Peer::of_next_worker(&mut master);
    assert!(welcome.names.is_empty());
}

#[test]
fn a_program_that_would_be_adapted_to_listeners_that_are_not_there_is_refused() {
    let site = Site::new();
    let (mut master, _old, first) = site.serving();
    site.write("worker = \"sleep\"\nargs = [\"{fd}\"]\nadapt = \"accept\"\nlisten = 0\n");
    let answers = ask(&mut Peer::client(&master), &FromControl::Reload(Reload {}));
    let Some(ToControl::Error(refusal)) = answers.last() else { panic!("{answers:?}") };
    assert!(refusal.message.contains("there is none") && refusal.message.contains("by a new start alone"), "{refusal:?}");
    signal_to(first, Signal::SIGKILL);
    assert_eq!(args(master.next_worker()), ["60"], "nothing has changed");
}

#[test]
fn the_orphan_timeout_that_a_worker_is_told_is_that_of_its_generation() {
    let site = Site::new();
    let (mut master, _old, _) = site.serving();
    site.write("worker = \"sleep\"\nargs = [\"60\"]\norphan_timeout = \"7s\"\n");
    master.signal(Signal::SIGHUP);
    let (_new, welcome) = Peer::of_next_worker(&mut master);
    assert_eq!(welcome.orphan_timeout_ms, Some(7_000));
}

#[test]
fn a_reload_without_a_file_restarts_with_the_command_line() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--settle-time", "0s"]);
    let _old = Peer::of_next_serving_worker(&mut master);
    master.next("Cluster ready");
    master.signal(Signal::SIGHUP);
    let _new = Peer::of_next_serving_worker(&mut master);
    master.next("Restart complete");
}
