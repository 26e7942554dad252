//! Starts that are refused because of their listeners, or after those were bound: what is said, and what is left behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{Folder, Running, Said, program, run};

/// A start that is refused with one line.
#[track_caller]
fn refused(folder: &Folder, args: &[&str]) -> String {
    let Said { code, stderr, .. } = run(program(folder, &[&["start"], args].concat()));
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{args:?}: {stderr}");
    stderr
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_start_that_is_refused_removes_the_sockets_that_it_has_bound_and_no_others() {
    let folder = Folder::new("leaves");
    let theirs = UnixListener::bind(folder.path().join("theirs.sock")).unwrap();
    drop(UnixListener::bind(folder.path().join("stale.sock")).unwrap());
    let sockets = ["-l", "unix:new.sock", "-l", "unix:stale.sock"];
    for refusal in [
        &["-l", "unix:theirs.sock", "sleep", "9"][..],
        &["-l", "203.0.113.1:8000", "sleep", "9"],
        &["--metrics", "file:no/m.prom", "sleep", "9"],
        &["--pid-file", "no/m.pid", "sleep", "9"],
        &["--adapt", "--", "sleep", "{fd:web}"],
    ] {
        refused(&folder, &[&sockets[..], refusal].concat());
        assert_eq!(names(folder.path()), ["dutch-master", "theirs.sock"], "{refusal:?}");
        assert!(names(&folder.path().join("dutch-master")).is_empty(), "{refusal:?}");
    }
    drop(theirs);
}

#[test]
fn a_program_that_is_adapted_without_a_listener_is_refused_by_start_and_check() {
    let folder = Folder::new("adapt-none");
    for (args, told) in [
        (&["--adapt", "--", "sleep", "9"][..], "there is none: `--listen ADDRESS` configures one"),
        (&["-l", "web=127.0.0.1:0", "--adapt", "--", "sleep", "{fd:admin}"], "no listener has the name that `{fd:admin}` asks for: `--listen admin=ADDRESS`"),
    ] {
        let line = refused(&folder, args);
        assert!(line.contains(told), "{line}");
        let checked = run(program(&folder, &[&["check"], args].concat()));
        let line = line.trim_end().split_once(" ERROR ").unwrap().1;
        assert_eq!((checked.code, checked.stderr), (Some(1), format!("dutch-master: {line}\n")));
    }
    let right = run(program(&folder, &["check", "-l", "web=127.0.0.1:0", "--adapt", "--", "sleep", "{fd:web}", "{fd}"]));
    assert_eq!(right.code, Some(0), "{right:?}");
}

/// A worker that takes the listener `web` and serves on whatever becomes of its master.
const WORKER: &str = r#"
import os, socket, struct, sys, time
def pack(m):
    out = bytes([0x80 | len(m)])
    for k, v in m.items():
        out += bytes([0xa0 | len(k)]) + k.encode()
        if isinstance(v, int): out += bytes([v])
        else: out += bytes([0xd9, len(v)]) + v.encode()
    return struct.pack(">I", len(out)) + out
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["DUTCH_MASTER_SOCKET"])
s.sendall(pack({"event": "hello", "protocol": 1, "token": os.environ["DUTCH_MASTER_TOKEN"]}))
s.sendall(pack({"event": "listen", "seq": 1, "name": "web"}))
fds = []
while not fds:
    data, fds, _, _ = socket.recv_fds(s, 65536, 1)
s.sendall(pack({"event": "listening"}))
time.sleep(1000)
"#;

#[test]
fn where_workers_of_a_dead_master_have_the_address_the_line_says_so_and_how_to_end_them() {
    let folder = Folder::new("left");
    fs::write(folder.path().join("worker.py"), WORKER).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("web=127.0.0.1:{port}");
    let args = ["--name", "web", "-n", "1", "-l", &listen, "python3", "worker.py"];
    let mut master = Running::start(program(&folder, &[&["start"], &args[..]].concat()));
    let line = master.wait_for("Worker listening");
    let worker = line.split_once("workerPid=").unwrap().1.split_whitespace().next().unwrap().to_owned();
    let _ended_in_the_end = Ended(worker.parse().unwrap());
    // Killed: the worker goes on.
    drop(master);
    let state = folder.path().join("dutch-master/web.state");
    let text = fs::read_to_string(&state).unwrap();
    fs::write(&state, text.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
    let line = refused(&folder, &args);
    for told in [
        format!("127.0.0.1:{port}"),
        "workers of an earlier master have it and cannot be taken over, because ".into(),
        "web.state is of version 2, and this master reads version 1; start the version that wrote it, or ".into(),
        format!("let them finish by `kill {worker}`, then start again"),
    ] {
        assert!(line.contains(&told), "{told}: {line}");
    }
    fs::write(&state, &text[..text.len() / 2]).unwrap();
    let line = refused(&folder, &args);
    assert!(line.contains("web.state is no state of a master") && line.contains(&format!("; let them finish by `kill {worker}`")), "{line}");
    assert!(state.exists(), "another version may still read it");
    // The state is in order, and the address is configured otherwise than before.
    fs::write(&state, &text).unwrap();
    let other_name = format!("api=127.0.0.1:{port}");
    let line = refused(&folder, &["--name", "web", "-n", "1", "-l", &other_name, "python3", "worker.py"]);
    let told = "have it and know it by another name or in another form; start with the listeners as they were, or let them finish by `kill ";
    assert!(line.contains(told) && line.contains(&worker), "{line}");
    fs::remove_file(&state).unwrap();
    let line = refused(&folder, &args);
    assert!(line.contains("because what was written down of them is gone; let them finish by `kill ") && line.contains(&worker), "{line}");
}

/// A process that outlives its parent, but not the test.
struct Ended(i32);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0), Signal::SIGKILL);
    }
}
