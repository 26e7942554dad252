//! The master's own files: name, lock, socket, pid file.

use std::fs::read_to_string;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::harness::{Folder, Master, eventually, is_alive, signal_to, start_command};

#[test]
fn two_masters_never_serve_one_name_and_the_second_names_the_first() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    master.next_worker();
    let second = start_command(&folder, "m", &["--", "sleep", "60"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("pid {}", master.pid())), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_a_dead_master_left_is_swept_and_its_name_is_free() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let worker = master.next_worker();
    master.signal(Signal::SIGKILL);
    master.wait();
    signal_to(worker, Signal::SIGKILL);
    eventually("the worker has gone, too", || !is_alive(worker));
    assert!(folder.socket("m").exists());
    let other = start_command(&folder, "other", &["--restart-attempts", "1", "--", "false"]).output().unwrap();
    assert_eq!(other.status.code(), Some(1));
    let left: Vec<_> = std::fs::read_dir(folder.path().join("dutch-master")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    let mut again = Master::start(&folder, &["-n", "1"]);
    again.next_worker();
}

#[test]
fn nothing_is_left_after_a_stop() {
    let folder = Folder::new();
    let elsewhere = folder.path().join("s");
    let mut master = Master::start(&folder, &["-n", "1", "--pid-file", "pid", "--socket", "s", "-l", "unix:web"]);
    master.next_worker();
    assert_eq!(read_to_string(folder.path().join("pid")).unwrap().trim(), master.pid().to_string());
    assert_eq!(elsewhere.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(folder.path().join("web").exists());
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().code(), Some(0));
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| name != "dutch-master");
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(std::fs::read_dir(folder.path().join("dutch-master")).unwrap().count(), 0);
}

#[test]
fn a_moved_link_is_followed_by_the_next_worker() {
    let folder = Folder::new();
    for release in ["one", "two"] {
        std::fs::create_dir(folder.path().join(release)).unwrap();
    }
    std::os::unix::fs::symlink("one", folder.path().join("current")).unwrap();
    let mut master = Master::start(&folder, &["-n", "1", "--dir", "current", "--settle-time", "0s"]);
    let cwd = |pid: u32| std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    let first = master.next_worker();
    assert_eq!(cwd(first), folder.path().join("one"));
    let _serving = crate::peer::Peer::of_serving_worker(&master, first);
    master.next("Cluster ready");
    std::os::unix::fs::symlink("two", folder.path().join("new")).unwrap();
    std::fs::rename(folder.path().join("new"), folder.path().join("current")).unwrap();
    master.signal(Signal::SIGUSR2);
    assert_eq!(cwd(master.next_worker()), folder.path().join("two"));
}

#[test]
fn a_master_with_an_empty_environment_works() {
    let folder = Folder::new();
    let mut command = start_command(&folder, "m", &["-n", "1", "--", "sleep", "60"]);
    command.env_clear().env("XDG_RUNTIME_DIR", folder.path());
    let mut master = Master::from(command, &folder);
    master.next_worker();
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().code(), Some(0));
}
