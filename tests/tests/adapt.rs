//! Programs that know only systemd's conventions as workers: `start --adapt`.

use std::fs;
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use dutch_master_tests::harness::{Finished, PATIENCE, Running, Start, binary, get};

/// A program for the shell with one configured listener, adapted.
fn adapted(when: &str, script: &str) -> Start {
    Start::new("/bin/sh").arg("-c").arg(script).flag(&format!("--adapt={when}")).option("--num-workers", "1").option("--settle-time", "0s")
}

/// A service in Python with socket activation; the words before it run first.
fn service(before: &str) -> String {
    format!(
        "exec python3 -c '
import os, socket, signal, sys
listener = socket.socket(fileno=3)
def said(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(text.encode(), os.environ[\"NOTIFY_SOCKET\"])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
{before}
while True:
    import select
    select.select([listener], [], [])
    try: connection = listener.accept()[0]
    except BlockingIOError: continue
    connection.settimeout(5)
    if connection.recv(1000):
        body = \"%s %s %s %s\" % (os.environ[\"LISTEN_FDS\"], os.environ[\"LISTEN_FDNAMES\"], os.environ[\"LISTEN_PID\"] == str(os.getpid()), [k for k in os.environ if k.startswith(\"DUTCH\")])
        connection.sendall((\"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%s\" % (len(body), body)).encode())
    connection.close()
'"
    )
}

#[test]
fn the_program_gets_its_listener_as_systemd_gives_it() {
    let master = adapted("accept", &service("pass")).ready();
    assert_eq!(get(master.address(), "/"), "1 web True []");
    master.restart();
    assert_eq!(get(master.address(), "/"), "1 web True []");
    master.stop();
}

#[test]
fn listeners_without_a_name_are_given_in_their_order_and_called_unknown() {
    let master = adapted("accept", &service("pass")).listener("127.0.0.1:0").option("--listen", "admin=127.0.0.1:0").option("--listen", "127.0.0.1:0").ready();
    let first = master.status().listeners.iter().find(|listener| listener.key.ends_with("#0")).expect("the first one").address.clone();
    let address = (first.host.expect("a host"), first.port.expect("a port")).into();
    assert_eq!(get(address, "/"), "3 unknown:admin:unknown True []");
    master.stop();
}

#[test]
fn a_program_that_says_ready_is_running_when_it_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gate = folder.path().join("gate");
    let before = format!("while not os.path.exists(\"{}\"): import time; time.sleep(0.01)\nsaid(\"STATUS=up\\nREADY=1\")", gate.display());
    let master = adapted("notify", &service(&before)).start();
    let _started = master.await_log("Worker connected");
    assert_eq!(master.log().count("Worker listening"), 0);
    fs::write(&gate, "").expect("a file");
    assert_eq!(master.await_log("Message from worker").field("json"), Some(&json!(r#"{"status":"up"}"#)));
    let _ready = master.await_log("Cluster ready");
    master.stop();
}

#[test]
fn a_program_that_does_not_end_is_killed_with_its_group() {
    let script = "trap '' TERM; sleep 1000 & while :; do sleep 1; done";
    let master = adapted("delay:0s", script).option("--kill-timeout", "1s").ready();
    // The worker, the shell, and what it has started.
    let until = Instant::now() + PATIENCE;
    let processes = loop {
        match master.processes() {
            processes if processes.len() >= 3 => break processes,
            few => assert!(Instant::now() < until, "{few:?}"),
        }
        std::thread::yield_now();
    };
    master.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(master.await_log("Worker exited").field("signal"), Some(&json!("SIGKILL")), "it took force");
    assert_eq!(master.exit_code(), Some(0), "but not the master's");
    assert!(processes.iter().all(|pid| !dutch_master_tests::harness::is_alive(*pid)));
}

#[test]
fn the_end_of_the_program_is_the_end_of_the_worker() {
    let master = adapted("delay:0s", "sleep 0.2; exit 7").option("--restart-attempts", "1").start();
    assert_eq!(master.await_log("Worker exited").number("code"), 7);
    drop(master);
    let master = adapted("delay:0s", "sleep 0.2; kill -SEGV $$").option("--restart-attempts", "1").start();
    assert_eq!(master.await_log("Worker exited").field("signal"), Some(&json!("SIGSEGV")));
}

#[test]
fn without_a_master_it_says_what_to_do() {
    let mut command = Command::new(binary("dutch-master"));
    command.args(["adapt", "--", "true"]).env_remove("DUTCH_MASTER_SOCKET");
    let Finished { code, stderr, .. } = Running::start(command).finish();
    assert_eq!(code, Some(1));
    assert!(stderr.contains("start --adapt"), "{stderr}");
}
