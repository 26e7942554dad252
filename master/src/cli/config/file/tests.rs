//! What a file may say, and what is said of one that is wrong.

use std::net::Ipv4Addr;

use dutch_master::core::Surge;
use dutch_master::options::{ListenSpec, MetricsTo, NumWorkers, Options};
use dutch_master_protocol::message::Address;

use super::*;

const BASE: &str = "/etc/shop";

#[track_caller]
fn right(text: &str) -> Settings {
    parse(text, Path::new(BASE)).unwrap().settings
}

/// Line, column and text of each fault.
#[track_caller]
fn wrong(text: &str) -> Vec<(usize, usize, String)> {
    let places = Places::of(text);
    let faults = parse(text, Path::new(BASE)).unwrap_err();
    faults.into_iter().map(|(at, message)| (places.place(at).0, places.place(at).1, message)).collect()
}

#[track_caller]
fn wrong_once(text: &str, line: usize, column: usize, message: &str) {
    assert_eq!(wrong(text), [(line, column, message.into())], "{text}");
}

#[test]
fn every_option_can_be_given() {
    let settings = right(
        r#"
        worker = "app.js"
        args = ["--port", "8000"]
        num_workers = 4
        listen = ["8000", "admin=127.0.0.1:9000"]
        dir = "current"
        env = ["A=1"]
        before_fork = "make"
        user = "www"
        group = 7
        groups = ["a", "b"]
        umask = "027"
        limit = ["nofile=65536"]
        no_new_privs = false
        start_timeout = "1m"
        kill_timeout = "1s"
        settle_time = "0s"
        orphan_timeout = "never"
        surge = "all"
        restart_attempts = 5
        max_lifetime = "1d"
        max_memory = "512M"
        max_requests = 1000
        heartbeat = "10s"
        keep_trying = true
        ready_on = "hello"
        adapt = "delay:2s"
        restart_signal = "USR1"
        name = "shop"
        socket = "shop.sock"
        pid_file = "/run/shop.pid"
        metrics = 9100
        log_format = "json"
        log_level = "debug"
        log_file = "shop.log"
        node_args = ["--inspect --x", "--y"]
        node_sdk = "sdk"
        [worker_environment]
        B = "2"
        "#,
    );
    assert_eq!(keys::KEYS.len() - 3, settings.given().len(), "`args` goes with `worker`, and variables are counted apart");
    assert_eq!(settings.log().file, Some("/etc/shop/shop.log".into()));
    let options = settings.options().unwrap();
    assert_eq!(
        options,
        Options {
            args: vec!["--port".into(), "8000".into()],
            num_workers: NumWorkers::Fixed(4),
            listen: vec![values::listen("8000").unwrap(), values::listen("admin=127.0.0.1:9000").unwrap()],
            dir: Some("/etc/shop/current".into()),
            env: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
            before_fork: Some("make".into()),
            user: Some("www".into()),
            group: Some("7".into()),
            groups: Some(vec!["a".into(), "b".into()]),
            umask: Some(0o27),
            limit: vec![rights::limit("nofile=65536").unwrap()],
            no_new_privs: Some(false),
            start_timeout: values::duration("60s").unwrap(),
            kill_timeout: values::duration("1s").unwrap(),
            settle_time: values::duration("0s").unwrap(),
            orphan_timeout: None,
            surge: Surge::All,
            restart_attempts: 5,
            max_lifetime: Some(values::duration("24h").unwrap()),
            max_memory: Some(512 << 20),
            max_requests: Some(1_000),
            heartbeat: Some(values::duration("10s").unwrap()),
            keep_trying: true,
            ready_on: dutch_master::options::ReadyOn::Hello,
            adapt: Some("delay:2s".into()),
            restart_signal: "SIGUSR1".into(),
            name: Some("shop".into()),
            socket: Some("/etc/shop/shop.sock".into()),
            pid_file: Some("/run/shop.pid".into()),
            metrics: Some(MetricsTo::Serve(Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), 9_100))),
            node_args: vec!["--inspect".into(), "--x".into(), "--y".into()],
            node_sdk: Some("/etc/shop/sdk".into()),
            ..Options::new("app.js")
        }
    );
}

#[test]
fn an_empty_file_gives_nothing() {
    assert_eq!(right("# nothing\n"), Settings::default());
}

#[test]
fn a_number_may_stand_where_text_that_is_one_would_do() {
    assert_eq!(right("num_workers = 3").num_workers, right("num_workers = \"3\"").num_workers);
    assert_eq!(right("surge = 2").surge, Some(Surge::Count(2)));
    assert_eq!(right("listen = 8000").listen, Some(vec![ListenSpec::new(None, Address::tcp(None, 8000))]));
    assert_eq!(right("listen = [8000, \"a=9000\"]").listen, right("listen = [\"8000\", \"a=9000\"]").listen);
    assert_eq!(
        right("worker_environment = { A = 1, B = true, C = 1.50 }").env.unwrap(),
        [("A", "1"), ("B", "true"), ("C", "1.50")].map(|(a, b)| (a.into(), b.into()))
    );
}

#[test]
fn relative_paths_are_seen_from_the_folder_of_the_file() {
    assert_eq!(right("listen = \"a=unix:run/a.sock\"").listen.unwrap()[0].address, Address::unix("/etc/shop/run/a.sock"));
    assert_eq!(right("dir = \"/srv\"").dir, Some("/srv".into()));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for (slip, meant) in [
        ("num_worker", "num_workers"),
        ("num-workers", "num_workers"),
        ("Listen", "listen"),
        ("workerEnvironment", "worker_environment"),
        ("killtimeout", "kill_timeout"),
    ] {
        wrong_once(&format!("\n{slip} = 1"), 2, 1, &format!("unknown key `{slip}`; did you mean `{meant}`?"));
    }
    wrong_once("zzz = 1", 1, 1, "unknown key `zzz`; docs/configuration.md lists all");
}

#[test]
fn a_wrong_type_is_refused_with_the_right_one() {
    wrong_once("worker = 3", 1, 10, "`worker`: a string is wanted, not an integer");
    wrong_once("args = \"-x\"", 1, 8, "`args`: an array of strings is wanted, not a string");
    wrong_once("args = [\"-n\", 4]", 1, 15, "`args`: an array of strings is wanted, not an integer");
    wrong_once("keep_trying = \"yes\"", 1, 15, "`keep_trying`: `true` or `false` is wanted, not a string");
    wrong_once("kill_timeout = 1.5", 1, 16, "`kill_timeout`: a string like \"30s\", \"1m30s\" or \"500ms\" is wanted, not a float");
    wrong_once("num_workers = true", 1, 15, "`num_workers`: a number, or \"auto\" is wanted, not a boolean");
    wrong_once("worker_environment = [\"A=1\"]", 1, 22, "`worker_environment`: a table of variables is wanted, not an array");
    wrong_once("[worker_environment]\nA = []", 2, 5, "`worker_environment.A`: a string is wanted, not an array");
}

#[test]
fn an_impossible_value_is_refused_as_on_the_command_line() {
    wrong_once("num_workers = 0", 1, 15, "`num_workers`: 0: a number from 1 to 4096 is wanted, or `auto` for one per processor");
    wrong_once("kill_timeout = 30", 1, 16, "`kill_timeout`: 30: a unit is missing: `30s` for seconds, `30ms` for milliseconds");
    wrong_once("kill_timeout = \"0s\"", 1, 16, "`kill_timeout`: \"0s\": it must be longer than nothing");
    wrong_once("listen = [\"8000\", \"localhost:80\"]", 1, 19, "`listen`: \"localhost:80\": names are not looked up: write `127.0.0.1:80` or `[::1]:80`");
    wrong_once("listen = [\"a=1\", \"a=2\"]", 1, 10, "`listen`: two listeners have the name `a`");
    wrong_once("ready_on = \"never\"", 1, 12, "`ready_on`: \"never\": one of these is wanted: \"listening\", \"hello\"");
    wrong_once("restart_attempts = -1", 1, 20, "`restart_attempts`: -1: a number from 1 is wanted");
    wrong_once("name = \"../x\"", 1, 8, "`name`: \"../x\": letters, digits, `.`, `_` and `-` make a name, and it does not begin with `.` or `-`");
    wrong_once("worker = \"\"", 1, 10, "`worker`: \"\": it is empty");
    wrong_once("args = [\"x\"]", 1, 1, "`args` belong to a `worker`, and there is none in this file");
}

#[test]
fn an_option_that_slipped_below_the_variables_is_no_variable() {
    let (line, column, message) = wrong("[worker_environment]\nA = \"1\"\nkill_timeout = \"5s\"").remove(0);
    assert_eq!((line, column), (3, 1));
    assert!(message.contains("`kill_timeout` stands below [worker_environment]"), "{message}");
}

#[test]
fn all_faults_are_told_at_once_and_in_their_order() {
    let faults = wrong("surge = \"none\"\nworkers = 3\nnum_workers = 0\n");
    assert_eq!(faults.iter().map(|(line, ..)| *line).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn what_is_no_toml_is_refused_at_its_place() {
    let faults = wrong("worker = \"app.js\"\nnum_workers = \n");
    assert_eq!((faults.len(), faults[0].0), (1, 2), "{faults:?}");
    assert!(!faults[0].2.contains('\n'));
    let faults = wrong("name = \"a\"\nname = \"b\"\n");
    assert!(faults[0].0 == 2 && faults[0].2.contains("duplicate key"), "{faults:?}");
}

#[test]
fn every_entry_of_a_list_or_a_table_that_is_wrong_is_told() {
    let text = "listen = [\"8000\", \"localhost:1\", 99999]\nenv = [\"A\", \"B=1\", 3]\n[worker_environment]\nC = []\nD = 1\nnum_workers = 3\n";
    let places: Vec<_> = wrong(text).into_iter().map(|(line, column, _)| (line, column)).collect();
    assert_eq!(places, [(1, 19), (1, 34), (2, 8), (2, 20), (4, 5), (6, 1)]);
}

#[test]
fn what_stands_in_the_wrong_place_is_told_where_to_go() {
    for (text, hint) in [
        ("[master]\nworker = \"app.js\"\n", "all keys stand at the top of the file"),
        ("worker = [\"app.js\", \"--port\"]\n", "its arguments go into `args`"),
        ("[env]\nA = \"1\"\n", "the table of variables is [worker_environment]"),
    ] {
        let faults = wrong(text);
        assert!(faults.len() == 1 && faults[0].2.contains(hint), "{text}: {faults:?}");
    }
}
