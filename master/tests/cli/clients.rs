//! Commands that speak to a running master: what they ask for, and what becomes of its answer.

use std::sync::mpsc::channel;

use dutch_master_protocol::control::{
    Accepted, Done, FromControl, Metrics, MetricsText, Outcome, Phase, PoolStatus, Progress, Reload, Restart, Scale, Status, Stop, Subscribe, ToControl,
    WorkerStatus,
};
use dutch_master_protocol::message::ErrorMessage;
use nix::sys::signal::Signal;

use crate::fake_master::{FakeMaster, Peer};
use crate::process::{Folder, Running, Said, program, run};

fn accepted() -> ToControl {
    ToControl::Accepted(Accepted { generation: Some(2), size: Some(3) })
}

fn progress(message: &str) -> ToControl {
    ToControl::Progress(Progress { message: message.into(), worker: Some(5), detail: Some("why".into()), ..Progress::default() })
}

fn done(outcome: Outcome) -> ToControl {
    ToControl::Done(Done { outcome, by: Some(3), message: Some("because".into()) })
}

/// Runs a command against a master that answers one request so.
#[track_caller]
fn answered(name: &str, args: &[&str], request: FromControl, answers: Vec<ToControl>) -> Said {
    let folder = Folder::new(name);
    let master = FakeMaster::new(&folder, move |peer| {
        assert_eq!(peer.hear(), Some(request));
        answers.iter().for_each(|answer| peer.say(answer));
    });
    let mut command = program(&folder, args);
    command.env("DUTCH_MASTER_SOCKET", &master.socket);
    let said = run(command);
    master.check();
    said
}

#[test]
fn the_outcome_of_a_restart_decides_the_exit_code() {
    for (outcome, code, text) in [
        (Outcome::Done, 0, "generation 2 serves"),
        (Outcome::GivenUp, 1, "given up, the old workers stay: because (what the workers printed is in the output of the master)"),
        (Outcome::Stopped, 1, "stops: because"),
        (Outcome::Superseded, 4, "generation 3"),
    ] {
        let answers = vec![accepted(), progress("Worker listening"), done(outcome)];
        let said = answered(&format!("outcome{code}{}", text.len()), &["restart"], FromControl::Restart(Restart {}), answers);
        assert_eq!(said.code, Some(code), "{outcome:?}: {said:?}");
        assert!(said.stderr.starts_with("Worker listening (worker 5): why\n"), "{said:?}");
        let told = if code == 0 { &said.stdout } else { said.stderr.lines().last().unwrap() };
        assert!(told.contains(text), "{outcome:?}: {said:?}");
        assert_eq!(said.stdout.is_empty(), code != 0, "only good news goes to standard output: {said:?}");
    }
}

#[test]
fn metrics_are_printed_as_one_page_whatever_parts_they_come_in() {
    let part = |text: &str| ToControl::MetricsText(MetricsText { text: text.into() });
    let said = answered("metrics", &["metrics"], FromControl::Metrics(Metrics {}), vec![part("a 1\n"), part("b 2\n"), done(Outcome::Done)]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "a 1\nb 2\n", ""));
    let refusal = ToControl::Error(ErrorMessage { code: "unsupported".into(), message: "no".into(), ..ErrorMessage::default() });
    let said = answered("no-metrics", &["metrics"], FromControl::Metrics(Metrics {}), vec![refusal]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:?}");
}

#[test]
fn a_master_that_ends_during_a_restart_is_a_failure() {
    let said = answered("gone", &["restart"], FromControl::Restart(Restart {}), vec![accepted()]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("ended before the restart was done"), "{said:?}");
}

#[test]
fn a_restart_that_is_not_waited_for_ends_when_it_was_taken_up() {
    let folder = Folder::new("nowait");
    let (ended, has_ended) = channel();
    let master = FakeMaster::new(&folder, move |peer| {
        assert_eq!(peer.hear(), Some(FromControl::Restart(Restart {})));
        peer.say(&accepted());
        // The connection stays open until the command has ended by itself.
        has_ended.recv().unwrap();
        assert_eq!(peer.hear(), None);
    });
    let said = run(program(&folder, &["restart", "--no-wait", "--socket", master.socket.to_str().unwrap()]));
    ended.send(()).unwrap();
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "Restart to generation 2 is under way.\n"));
    master.check();
}

/// A master that takes a restart up, tells of some progress, and waits for the client to go.
fn taken_up(peer: &mut Peer) {
    assert_eq!(peer.hear(), Some(FromControl::Restart(Restart {})));
    peer.say(&accepted());
    peer.say(&progress("Creating new worker"));
    assert_eq!(peer.hear(), None, "the client says nothing more: what it asked for goes on");
}

#[test]
fn a_restart_that_takes_longer_than_the_timeout_is_a_failure_and_goes_on() {
    let folder = Folder::new("timeout");
    let master = FakeMaster::new(&folder, taken_up);
    let said = run(program(&folder, &["restart", "--timeout", "100ms", "--socket", master.socket.to_str().unwrap()]));
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.ends_with("Not done in time; the restart goes on.\n"), "{said:?}");
    master.check();
}

#[test]
fn ctrl_c_ends_the_waiting_and_leaves_the_restart_going() {
    let folder = Folder::new("ctrl-c");
    let master = FakeMaster::new(&folder, taken_up);
    let mut client = Running::start(program(&folder, &["restart", "--socket", master.socket.to_str().unwrap()]));
    client.wait_for("Creating new worker");
    client.signal(Signal::SIGINT);
    let said = client.end();
    assert_eq!(said.code, Some(130));
    assert!(said.stderr.ends_with("Not waiting any longer; the restart goes on.\n"), "{said:?}");
    master.check();
}

#[test]
fn stop_waits_until_the_master_has_gone() {
    let folder = Folder::new("stop");
    let (go, going) = channel();
    let master = FakeMaster::new(&folder, move |peer| {
        assert_eq!(peer.hear(), Some(FromControl::Stop(Stop { now: false })));
        peer.say(&accepted());
        peer.say(&done(Outcome::Done));
        peer.say(&progress("Last words"));
        going.recv().unwrap();
    });
    let mut client = Running::start(program(&folder, &["stop", "--socket", master.socket.to_str().unwrap()]));
    client.wait_for("Last words");
    assert!(!client.has_ended(), "the master is still there");
    go.send(()).unwrap();
    let said = client.end();
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "The master has stopped: because\n"));
    master.check();
}

/// Catches: a limit that only holds until the master has answered; progress in spite of `--quiet`.
#[test]
fn a_stop_that_takes_longer_than_the_timeout_is_a_failure_and_goes_on() {
    for (name, answers) in [("stop-timeout", vec![accepted()]), ("stop-lingers", vec![accepted(), done(Outcome::Done), progress("Last words")])] {
        let folder = Folder::new(name);
        let master = FakeMaster::new(&folder, move |peer| {
            assert_eq!(peer.hear(), Some(FromControl::Stop(Stop { now: false })));
            answers.iter().for_each(|answer| peer.say(answer));
            assert_eq!(peer.hear(), None, "the client says nothing more: what it asked for goes on");
        });
        let said = run(program(&folder, &["stop", "--quiet", "--timeout", "100ms", "--socket", master.socket.to_str().unwrap()]));
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(1), "", "Not done in time; the stop goes on.\n"), "{name}");
        master.check();
    }
}

#[test]
fn a_quiet_command_says_nothing_but_what_is_wrong() {
    for (outcome, code) in [(Outcome::Done, 0), (Outcome::GivenUp, 1), (Outcome::Superseded, 4)] {
        for (args, request) in [(["restart", "--quiet"], FromControl::Restart(Restart {})), (["reload", "-q"], FromControl::Reload(Reload {}))] {
            let said = answered(&format!("quiet{}{code}", args[0]), &args, request, vec![accepted(), progress("Worker listening"), done(outcome)]);
            assert_eq!((said.code, said.stdout.as_str()), (Some(code), ""), "{args:?}, {outcome:?}: {said:?}");
            assert_eq!(said.stderr.lines().count(), usize::from(code != 0), "{args:?}, {outcome:?}: {said:?}");
            assert!(!said.stderr.contains("Worker listening"), "{said:?}");
        }
    }
}

/// Catches: a stop that cut requests and is as silent as one that did not; one that is loud about what `--now` asked for.
#[test]
fn a_quiet_stop_says_what_was_cut_off() {
    let (clean, cut) = (Done { outcome: Outcome::Done, by: None, message: None }, done(Outcome::Done));
    for (name, now, end, told) in [
        ("quiet-clean", false, ToControl::Done(clean.clone()), ""),
        ("quiet-cut", false, cut.clone(), "The master has stopped: because\n"),
        ("quiet-now", true, cut, ""),
    ] {
        let args = [["stop", "--quiet"].as_slice(), if now { &["--now"] } else { &[] }].concat();
        let said = answered(name, &args, FromControl::Stop(Stop { now }), vec![accepted(), progress("Worker exited"), end]);
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "", told), "{name}");
    }
    let said = answered("stop-clean", &["stop"], FromControl::Stop(Stop { now: false }), vec![accepted(), ToControl::Done(clean)]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "The master has stopped: every worker ended by itself\n"));
}

#[test]
fn a_reason_that_a_worker_gave_cannot_move_the_cursor() {
    let dying = ToControl::Progress(Progress { message: "Worker dying".into(), worker: Some(5), detail: Some("leaks\u{1b}[2J".into()), ..Progress::default() });
    let said = answered("escape", &["restart"], FromControl::Restart(Restart {}), vec![accepted(), dying, done(Outcome::Done)]);
    assert!(said.stderr.starts_with("Worker dying (worker 5): leaks\u{fffd}[2J\n"), "{said:?}");
}

#[test]
fn stop_now_says_so() {
    let said = answered("stop-now", &["stop", "--now"], FromControl::Stop(Stop { now: true }), vec![accepted()]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "The master has stopped.\n"));
}

#[test]
fn scale_asks_for_a_size_or_a_change_of_it() {
    for (args, request) in [
        (["scale", "3"], Scale { to: Some(3), by: None }),
        (["scale", "+3"], Scale { to: None, by: Some(3) }),
        (["scale", "-3"], Scale { to: None, by: Some(-3) }),
    ] {
        let said = answered(&format!("scale{}", args[1]), &args, FromControl::Scale(request), vec![accepted(), done(Outcome::Done)]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(0), "The size is 3 now, and as many workers run.\n"), "{args:?}");
    }
}

#[test]
fn a_change_beyond_what_there_can_be_ends_at_the_limit_and_says_so() {
    for (by, size, told) in
        [(-5, 1, "The size is 1 now, the least that there can be.\n"), (4_000, 4_096, "The size is 4096 now, the most that there can be.\n")]
    {
        let accepted = ToControl::Accepted(Accepted { generation: Some(2), size: Some(size) });
        let request = FromControl::Scale(Scale { to: None, by: Some(by) });
        let said = answered(&format!("limit{by}"), &["scale", "--no-wait", &format!("{by:+}")], request, vec![accepted]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(0), told));
    }
}

#[test]
fn a_refusal_is_a_failure_in_the_words_of_the_master() {
    let refusal = ToControl::Error(ErrorMessage { seq: None, code: "stopping".into(), message: "the master is stopping".into() });
    let said = answered("refusal", &["scale", "3"], FromControl::Scale(Scale { to: Some(3), by: None }), vec![refusal]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(1), "dutch-master: the master refused: the master is stopping (stopping)\n"));
}

fn status_answers() -> Vec<ToControl> {
    let pool = PoolStatus {
        name: "web".into(),
        pid: 7,
        version: "0.1.0".into(),
        phase: Phase::Serving,
        size: 1,
        running: 1,
        generation: 1,
        committed: Some(1),
        mixed: false,
        given_up: None,
        failing: None,
        restarts: 0,
        crashes: Some(0),
        failed_starts: Some(0),
        command: vec!["app.js".into()],
        dir: "/srv".into(),
        uptime_ms: 5_000,
    };
    let worker = WorkerStatus { id: 1, slot: 0, generation: 1, state: "running".into(), pid: Some(8), age_ms: 5_000, sdk: None, restarts: Some(0) };
    vec![ToControl::Pool(pool), ToControl::Worker(worker), done(Outcome::Done)]
}

#[test]
fn status_is_a_table_for_people_and_one_object_for_programs() {
    let said = answered("status", &["status"], FromControl::Status(Status {}), status_answers());
    assert_eq!(said.code, Some(0));
    assert!(said.stdout.starts_with("web  serving, 1 of 1 workers running, generation 1\n"), "{said:?}");
    let said = answered("status-json", &["status", "--json"], FromControl::Status(Status {}), status_answers());
    let status: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((status["name"].as_str(), status["workers"][0]["id"].as_u64()), (Some("web"), Some(1)));
}

#[test]
fn a_status_that_is_watched_is_shown_again_until_the_master_ends() {
    let folder = Folder::new("watch");
    let master = FakeMaster::new(&folder, |peer| {
        for _ in 0..3 {
            assert_eq!(peer.hear(), Some(FromControl::Status(Status {})));
            status_answers().iter().for_each(|answer| peer.say(answer));
        }
        assert_eq!(peer.hear(), Some(FromControl::Status(Status {})));
    });
    let said = run(program(&folder, &["status", "--watch=100ms", "--json", "--socket", master.socket.to_str().unwrap()]));
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), "The master has ended.\n"));
    let names: Vec<_> = said.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names, ["web"; 3]);
    master.check();
}

#[test]
fn a_subscription_is_printed_as_json_line_by_line_until_the_master_ends() {
    let said =
        answered("subscribe", &["subscribe"], FromControl::Subscribe(Subscribe {}), vec![accepted(), progress("Worker listening"), progress("Worker exited")]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let lines: Vec<serde_json::Value> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["message"].as_str().unwrap()).collect::<Vec<_>>(), ["Subscribed", "Worker listening", "Worker exited"]);
    assert!(lines[1]["time"].is_string() && lines[1]["worker"] == 5 && lines[1]["detail"] == "why", "{lines:?}");
}

#[test]
fn a_subscriber_that_is_cut_is_told_why() {
    let refusal = ToControl::Error(ErrorMessage { seq: None, code: "limit".into(), message: "this subscriber does not read".into() });
    let said = answered("cut", &["subscribe"], FromControl::Subscribe(Subscribe {}), vec![accepted(), refusal]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("does not read"), "{said:?}");
}

#[test]
fn the_outcome_of_a_reload_decides_the_exit_code() {
    let said = answered("reloaded", &["reload"], FromControl::Reload(Reload {}), vec![accepted(), done(Outcome::Done)]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "Restart complete: generation 2 serves.\n"));
    let refusal = ToControl::Error(ErrorMessage { seq: None, code: "EINVAL".into(), message: "a.toml:1:1: unknown key `x`".into() });
    let said = answered("refused", &["reload"], FromControl::Reload(Reload {}), vec![refusal]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(1), "Configuration refused, nothing changes: a.toml:1:1: unknown key `x`\n"));
}

#[test]
fn a_status_that_breaks_off_is_a_failure_and_prints_nothing() {
    let said = answered("broken", &["status", "--json"], FromControl::Status(Status {}), status_answers()[..2].to_vec());
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
    assert!(said.stderr.contains("ended the connection"), "{said:?}");
}

#[test]
fn an_answer_that_is_no_message_is_a_failure() {
    let folder = Folder::new("garbage");
    let master = FakeMaster::without_welcome(&folder, |peer| peer.say_bytes(b"HTTP/1.1 400 Bad Request\r\n"));
    let said = run(program(&folder, &["status", "--socket", master.socket.to_str().unwrap()]));
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("makes no sense"), "{said:?}");
    master.check();
}

#[test]
fn a_master_that_says_nothing_is_not_waited_for_without_end() {
    let folder = Folder::new("silent");
    let (ended, has_ended) = channel();
    let master = FakeMaster::without_welcome(&folder, move |_peer| has_ended.recv().unwrap());
    let said = run(program(&folder, &["restart", "--socket", master.socket.to_str().unwrap()]));
    ended.send(()).unwrap();
    assert_eq!(said.code, Some(5));
    assert!(said.stderr.contains("did not answer within 5 s; it is blocked"), "{said:?}");
    master.check();
}

#[test]
fn a_master_that_is_stopped_is_told_from_one_that_takes_long() {
    let folder = Folder::new("stopped");
    let mut master = Running::start(program(&folder, &["start", "-n", "1", "--name", "web", "sleep", "1000"]));
    master.wait_for("Creating new worker");
    master.signal(Signal::SIGSTOP);
    let line = |within: &str| {
        let pid = master.pid();
        format!("the master (pid {pid}) did not answer within {within} s: it is stopped; `kill -CONT {pid}` lets it go on")
    };
    for args in [["restart"].as_slice(), &["reload"], &["scale", "3"]] {
        let said = run(program(&folder, &[args, &["--timeout", "20ms"]].concat()));
        assert_eq!(said.code, Some(5), "{said:?}");
        assert!(said.stderr.contains(&line("0.02")), "{said:?}");
    }
    let waiting = [["status"].as_slice(), &["stop"], &["status", "--all"]].map(|args| Running::start(program(&folder, args)));
    for said in waiting.map(Running::end) {
        assert_eq!(said.code, Some(5), "{said:?}");
        assert!(said.stderr.contains(&line("5")), "{said:?}");
    }
    master.signal(Signal::SIGCONT);
    let said = run(program(&folder, &["status"]));
    assert!(said.stdout.contains("0 of 1 workers"), "none of it was asked for: {said:?}");
    master.signal(Signal::SIGTERM);
}
