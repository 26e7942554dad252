//! What a master counts, and the ways out for it: over the control socket, over HTTP, as a file. Whoever asks badly harms nobody.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use dutch_master_protocol::control::{self, FromControl, Outcome, ToControl};
use dutch_master_protocol::message::{FromWorker, Heartbeat, RequestRestart};
use nix::sys::signal::Signal;

use crate::exposition::parse;
use crate::harness::{Folder, HANG, Master, eventually, signal_to, start_command};
use crate::peer::Peer;

/// The page as a control client gets it.
#[track_caller]
fn page(client: &mut Peer) -> String {
    client.say(&FromControl::Metrics(control::Metrics {}));
    let mut page = String::new();
    loop {
        match client.hear() {
            Some(ToControl::MetricsText(part)) => page += &part.text,
            Some(ToControl::Done(done)) if done.outcome == Outcome::Done => return page,
            other => panic!("{other:?}"),
        }
    }
}

/// The number of this name, its master's label left out.
#[track_caller]
fn number(page: &str, name: &str) -> f64 {
    let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
    let mut labels: Vec<_> = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).chain(["master=\"m\""]).collect();
    labels.sort_unstable();
    let key = format!("{name}{{{}}}", labels.join(","));
    *parse(page).get(&key).unwrap_or_else(|| panic!("no {key} in {page}"))
}

/// A master with one serving worker that serves metrics over HTTP, and where.
fn serving(folder: &Folder, to: &str) -> (Master, Peer, String) {
    let mut master = Master::start(folder, &["-n", "1", "--settle-time", "0s", "--metrics", to]);
    let address = master.next("Serving metrics")["address"].as_str().unwrap().trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    let worker = Peer::of_next_serving_worker(&mut master);
    master.next("Cluster ready");
    (master, worker, address)
}

/// Stops it without waiting for its workers.
fn stop(master: &mut Master) {
    let mut client = Peer::client(master);
    client.say(&FromControl::Stop(control::Stop { now: true }));
    while client.hear::<ToControl>().is_some() {}
    master.wait();
}

/// What comes back for these bytes until the connection ends.
#[track_caller]
fn request(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn get(address: &str) -> String {
    let answer = request(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\nConnection: close", page.len())), "{head}");
    page.into()
}

#[test]
fn what_happens_to_workers_shows_in_the_numbers() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--settle-time", "0s", "--kill-timeout", "200ms", "-l", "web=127.0.0.1:0"]);
    let first = master.next_worker();
    let mut client = Peer::client(&master);
    let before = page(&mut client);
    assert_eq!((number(&before, "dutch_master_workers{state=\"starting\"}"), number(&before, "dutch_master_worker_starts_total")), (1.0, 1.0));
    let _first = Peer::of_serving_worker(&master, first);
    master.next("Cluster ready");

    // It crashes.
    signal_to(first, Signal::SIGKILL);
    let mut second = Peer::of_next_serving_worker(&mut master);
    master.next("Worker listening");
    // It asks to be replaced, and does not go: it has to be killed.
    second.say(&FromWorker::RequestRestart(RequestRestart::default()));
    let third = Peer::of_next_serving_worker(&mut master);
    master.next("Worker did not end in time, killing it");
    master.next("Worker exited");
    // A rolling restart, whose worker goes as it should.
    client.say(&FromControl::Restart(control::Restart {}));
    let _fourth = Peer::of_next_serving_worker(&mut master);
    while !matches!(client.hear(), Some(ToControl::Done(_))) {}
    drop(third);
    master.next("Worker exited");
    // A stranger.
    Peer::connect(&master.socket).say(&FromWorker::Heartbeat(Heartbeat {}));
    master.next("Connection refused");

    let page = page(&mut client);
    for (name, expected) in [
        ("dutch_master_size", 1.0),
        ("dutch_master_generation", 2.0),
        ("dutch_master_workers{state=\"running\"}", 1.0),
        ("dutch_master_workers{state=\"starting\"}", 0.0),
        ("dutch_master_workers{state=\"draining\"}", 0.0),
        ("dutch_master_worker_starts_total", 4.0),
        ("dutch_master_worker_crashes_total", 1.0),
        ("dutch_master_worker_failed_starts_total", 0.0),
        ("dutch_master_restarts_total{outcome=\"done\"}", 1.0),
        ("dutch_master_restarts_total{outcome=\"given_up\"}", 0.0),
        ("dutch_master_worker_start_duration_seconds_count", 4.0),
        ("dutch_master_worker_drain_duration_seconds_count", 2.0),
        ("dutch_master_connections_refused_total", 1.0),
        ("dutch_master_listener_queue{listener=\"web\"}", 0.0),
        ("dutch_master_build_info{version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(number(&page, name), expected, "{name} in {page}");
    }
    assert!(number(&page, "dutch_master_worker_kills_total") >= 1.0);
    assert!(number(&page, "dutch_master_worker_drain_duration_seconds_sum") >= 0.2, "the kill timeout is part of it");
    assert!(number(&page, "dutch_master_listener_queue_limit{listener=\"web\"}") > 0.0);
    assert!(number(&page, "dutch_master_start_time_seconds") > 1.5e9);
}

#[test]
fn starts_that_fail_are_counted() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--keep-trying", "--", "false"]);
    master.next("Waiting before the next start");
    let page = page(&mut Peer::client(&master));
    let failed = number(&page, "dutch_master_worker_failed_starts_total");
    assert!(failed >= 1.0 && failed <= number(&page, "dutch_master_worker_starts_total"), "{page}");
    assert_eq!(number(&page, "dutch_master_worker_crashes_total"), 0.0);
}

#[test]
fn more_listeners_than_fit_into_a_frame_are_told_in_parts() {
    let folder = Folder::new();
    let name = |n| format!("{}{n:03}", "l".repeat(120));
    let listen: Vec<_> = (0..250).map(|n| format!("--listen={}=127.0.0.1:0", name(n))).collect();
    let mut master = Master::start(&folder, &[&["-n", "1"], listen.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    master.next("Starting cluster");
    let page = page(&mut Peer::client(&master));
    assert!(page.len() > 65_536);
    assert_eq!(number(&page, &format!("dutch_master_listener_queue{{listener=\"{}\"}}", name(249))), 0.0);
}

#[test]
fn http_answers_one_request_and_only_the_right_one() {
    let folder = Folder::new();
    let (master, _worker, address) = serving(&folder, "127.0.0.1:0");
    let text = get(&address);
    assert_eq!(number(&text, "dutch_master_workers{state=\"running\"}"), 1.0);
    assert_eq!(parse(&text), parse(&page(&mut Peer::client(&master))), "both ways tell the same");
    let head = request(&address, b"HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    for (bytes, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "405"),
        (b"\x16\x03\x01 hello\r\n\r\n", "400"),
        (&[b"GET /metrics HTTP/1.1\r\nA: ".as_slice(), &[b'a'; 20_000]].concat(), "400"),
        (b"GET /metrics HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n", "200"),
    ] {
        let answer = request(&address, bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[test]
fn http_is_served_on_a_unix_socket_too_and_the_file_goes_with_the_master() {
    let folder = Folder::new();
    let path = folder.path().join("metrics.sock");
    let (mut master, _worker, address) = serving(&folder, &format!("unix:{}", path.display()));
    assert_eq!(address, format!("unix:{}", path.display()));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    parse(answer.split_once("\r\n\r\n").unwrap().1);
    stop(&mut master);
    assert!(!path.exists());
}

#[test]
fn clients_that_say_nothing_are_closed_when_others_come_and_when_their_time_is_over() {
    let folder = Folder::new();
    let (master, _worker, address) = serving(&folder, "127.0.0.1:0");
    let open = || std::fs::read_dir(format!("/proc/{}/fd", master.pid())).unwrap().count();
    let before = open();
    let mut slow: Vec<_> = (0..1_000)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(HANG)).unwrap();
            // Those that were closed already do not hear it.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nA: ");
            // By their number, long before their time: sixteen, the one that makes another go, and files of the master's own.
            assert!(open() <= before + 16 + 4);
            stream
        })
        .collect();
    // One that asks gets its answer all the same, and so does a control client.
    get(&address);
    page(&mut Peer::client(&master));
    for stream in &mut slow {
        match stream.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}"),
        }
    }
    // The state may have been open when it was counted first.
    eventually("nothing is left open", || open() <= before);
    assert_eq!(master.count("Worker exited"), 0);
}

#[test]
fn an_address_wakes_the_master_only_when_somebody_asks() {
    let folder = Folder::new();
    let (master, _worker, address) = serving(&folder, "127.0.0.1:0");
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", master.pid())).unwrap();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", master.pid())).unwrap().count();
    let wakeups = || file("status").lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap().to_owned();
    let before = open();
    get(&address);
    eventually("the connection is closed", || open() == before);
    master.gives_back_its_code();
    eventually("it sleeps", || file("stat").contains(") S "));
    let before = wakeups();
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(wakeups(), before);
    get(&address);
    eventually("it woke", || wakeups() != before);
}

#[test]
fn a_file_is_there_from_the_start_and_gone_at_the_end() {
    let folder = Folder::new();
    let path = folder.path().join("m.prom");
    let mut master = Master::start(&folder, &["-n", "1", "--metrics", &format!("file:{}", path.display())]);
    master.next_worker();
    eventually("it is written", || path.exists());
    assert_eq!(number(&std::fs::read_to_string(&path).unwrap(), "dutch_master_size"), 1.0);
    stop(&mut master);
    assert!(!path.exists() && !folder.path().join("m.prom.new").exists());
}

#[test]
fn a_way_out_that_cannot_be_had_ends_the_start_with_one_line() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let used = taken.local_addr().unwrap().to_string();
    for (to, text) in [
        (used.as_str(), format!("cannot serve metrics: cannot listen on {used}")),
        ("192.0.2.1:9100", "; this machine does not have that address".into()),
        ("unix:/no/such/folder/m.sock", "; make its directory first".into()),
        ("file:/no/such/folder/m.prom", "cannot write the metrics file /no/such/folder/m.prom".into()),
        ("file:/proc", "cannot write the metrics file /proc".into()),
    ] {
        let output = start_command(&folder, "m", &["--metrics", to, "sleep", "60"]).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{to}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.lines().count() == 1 && said.contains(&text), "{to}: {said}");
    }
}

#[test]
fn the_address_is_free_when_stop_has_ended() {
    let folder = Folder::new();
    let (mut master, _worker, address) = serving(&folder, "127.0.0.1:0");
    let mut client = Peer::client(&master);
    client.say(&FromControl::Stop(control::Stop { now: true }));
    while client.hear::<ToControl>().is_some() {}
    TcpListener::bind(&address).expect("the next master can have it");
    master.wait();
}
