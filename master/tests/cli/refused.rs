//! Starts that cannot work: each ends with exit code 1 and one line, which says what is wrong and what to do about it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::geteuid;

use crate::process::{Folder, Running, program, run};

/// A user with no rights of its own.
const NOBODY: u32 = 65_534;

/// Runs a start that is refused with one line that contains all of these.
#[track_caller]
fn assert_refused(start: Command, texts: &[&str]) {
    let said = run(start);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    for text in texts {
        assert!(said.stderr.contains(text), "`{text}` is not in {said:?}");
    }
}

fn start(folder: &Folder, args: &[&str]) -> Command {
    program(folder, &[&["start"], args].concat())
}

/// A file that can be run.
fn script(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// A directory of nobody else's; with mode 500 the user of `unprivileged` may not write to it.
fn private(folder: &Folder, mode: u32) -> PathBuf {
    let path = folder.path().join("private");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

/// The command as a user whom permissions concern, with a runtime directory of its own.
fn unprivileged(folder: &Folder, mut command: Command) -> Command {
    if geteuid().is_root() {
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let own = folder.path().join("own");
        fs::create_dir_all(&own).unwrap();
        chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY).env("XDG_RUNTIME_DIR", own);
    }
    command
}

#[test]
fn a_port_in_use_names_who_has_it() {
    let folder = Folder::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let us = format!("(pid {}) has it: stop that, or choose another address", std::process::id());
    assert_refused(start(&folder, &["-l", &address, "sleep", "9"]), &[" ERROR ", &address, &us]);
    assert_refused(start(&folder, &["-l", "127.0.0.1:0", "-l", "unix:a.sock", "-l", "unix:a.sock", "sleep", "9"]), &["a.sock", "an earlier --listen"]);
}

#[test]
fn an_address_that_cannot_be_had_says_why() {
    let folder = Folder::new("address");
    assert_refused(start(&folder, &["-l", "203.0.113.1:8000", "sleep", "9"]), &["this machine does not have that address"]);
    assert_refused(start(&folder, &["-l", "unix:no/a.sock", "sleep", "9"]), &["no/a.sock", "make its directory first"]);
    fs::write(folder.path().join("file"), "").unwrap();
    assert_refused(start(&folder, &["-l", "unix:file", "sleep", "9"]), &["unix:", "choose another address"]);
}

#[test]
fn a_path_that_is_too_long_for_a_socket_says_what_to_shorten() {
    let folder = Folder::new("long");
    let mut long = start(&folder, &["sleep", "9"]);
    long.env("XDG_RUNTIME_DIR", folder.path().join("d".repeat(100)));
    assert_refused(long, &["bytes and may have 103", "a shorter --name, --socket or XDG_RUNTIME_DIR helps"]);
}

#[test]
fn without_permission_the_line_says_what_is_forbidden() {
    let folder = Folder::new("forbidden");
    let private = private(&folder, 0o500);
    let inside = |name: &str| private.join(name).display().to_string();
    let as_nobody = |args: &[&str]| unprivileged(&folder, start(&folder, args));
    assert_refused(as_nobody(&["-l", &format!("unix:{}", inside("a.sock")), "sleep", "9"]), &["a.sock", "a user who may write there"]);
    assert_refused(as_nobody(&["--socket", &inside("m.sock"), "sleep", "9"]), &["m.sock", "a user who may write there"]);
    assert_refused(as_nobody(&["--pid-file", &inside("m.pid"), "sleep", "9"]), &["m.pid", "a user who may write there"]);
    assert_refused(as_nobody(&["--log-file", &inside("m.log"), "sleep", "9"]), &["m.log", "a user who may write there"]);
    let mut runtime = as_nobody(&["sleep", "9"]);
    runtime.env("XDG_RUNTIME_DIR", &private);
    assert_refused(runtime, &["private/dutch-master", "XDG_RUNTIME_DIR may name another place"]);
    fs::write(folder.path().join("plain"), "").unwrap();
    assert_refused(as_nobody(&["./plain"]), &["plain is not executable; `chmod +x`"]);
    fs::write(folder.path().join("app.js"), "").unwrap();
    fs::set_permissions(folder.path().join("app.js"), Permissions::from_mode(0o000)).unwrap();
    assert_refused(as_nobody(&["app.js"]), &["app.js is no file that this user can read; `chmod +r`"]);
    let first_free: u32 = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap().trim().parse().unwrap();
    if first_free > 81 {
        assert_refused(as_nobody(&["-l", "127.0.0.1:81", "sleep", "9"]), &["ports below 1024 need root or CAP_NET_BIND_SERVICE"]);
    } else {
        eprintln!("skipped: this system lets everybody have port 81");
    }
}

#[test]
fn a_worker_that_is_not_there_says_where_it_was_looked_for() {
    let folder = Folder::new("no-worker");
    assert_refused(start(&folder, &["./nonesuch"]), &["./nonesuch is not in /", "correct its name, or name its directory by --dir"]);
    assert_refused(start(&folder, &["nonesuch"]), &["nor in PATH; correct its name, or give its path"]);
    assert_refused(start(&folder, &["node app.js"]), &["the worker node app.js is not in /", "give its arguments apart from it"]);
    assert_refused(start(&folder, &["."]), &["is a directory; name the program or the script in it"]);
    fs::write(folder.path().join("shop.toml"), "").unwrap();
    assert_refused(start(&folder, &["shop.toml"]), &["shop.toml is a configuration file and no worker; `-c /", "reads it"]);
    assert_refused(start(&folder, &["--dir", "nowhere", "sleep", "9"]), &["nowhere: No such file", "name another by --dir, or make it"]);
}

#[test]
fn a_worker_that_the_system_cannot_run_says_why() {
    let folder = Folder::new("exec");
    for (name, content, remedy) in [
        ("interpreter", "#!/usr/bin/pythn3 -u\n", "its interpreter `/usr/bin/pythn3` is not there: install that, or correct the file's first line"),
        ("windows", "#!/bin/sh\r\nexit\r\n", "its lines end as on Windows"),
        // It must not be taken for a script that sh runs.
        ("processor", "\u{7f}ELF\u{2}\u{1}\u{1}", "it was built for another kind of processor"),
    ] {
        let worker = script(&folder, name, content);
        let said = run(start(&folder, &["-n", "1", "--restart-attempts", "1", worker.to_str().unwrap()]));
        let told = format!("cannot run {}: ", worker.display());
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.lines().last().is_some_and(|line| line.contains(&told) && line.contains(remedy)), "{said:?}");
    }
}

#[test]
fn too_low_a_limit_of_open_files_says_how_to_raise_it() {
    let folder = Folder::new("files");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 16; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_dutch-master"), "start"]);
    limited.args(["-l", "127.0.0.1:0"].repeat(16)).args(["sleep", "9"]).current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    limited.env_remove("RUNTIME_DIRECTORY");
    assert_refused(limited, &["Too many open files (os error 24); this process may open no more files", "`ulimit -Hn`, LimitNOFILE="]);
}

#[test]
fn a_script_without_node_or_sdk_says_how_to_get_them() {
    let folder = Folder::new("node");
    fs::write(folder.path().join("app.js"), "").unwrap();
    fs::write(folder.path().join("app.ts"), "").unwrap();
    let mut without_node = start(&folder, &["app.js"]);
    without_node.env("PATH", "/nowhere");
    assert_refused(without_node, &["no `node` in PATH; install Node.js 20 or newer, or set PATH"]);
    script(&folder, "bin/node", "#!/bin/sh\necho v20.1.0\n");
    let with_node = |mut command: Command| {
        command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().join("bin").display()));
        command
    };
    assert_refused(with_node(start(&folder, &["--node-sdk", "sdk", "app.js"])), &["--node-sdk: there is no preload.js in /"]);
    // Beside the program that is tested there is an SDK, so it is looked for from a place of its own.
    let elsewhere = folder.path().join("bin/dutch-master");
    let here = env!("CARGO_BIN_EXE_dutch-master");
    fs::hard_link(here, &elsewhere).or_else(|_| fs::copy(here, &elsewhere).map(drop)).unwrap();
    let mut without_sdk = Command::new(elsewhere);
    without_sdk.args(["start", "app.js"]).current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path()).env_remove("RUNTIME_DIRECTORY");
    assert_refused(with_node(without_sdk), &["the Node SDK (dutch-master-worker) is neither", "install it there, or say --node-sdk PATH"]);
    fs::create_dir(folder.path().join("sdk")).unwrap();
    fs::write(folder.path().join("sdk/preload.js"), "").unwrap();
    assert_refused(with_node(start(&folder, &["--node-sdk", "sdk", "app.ts"])), &["v20.1.0 does not run TypeScript by itself", "or name a loader"]);
}

#[test]
fn a_name_that_is_taken_says_by_whom_and_how_to_end_it() {
    let folder = Folder::new("taken");
    let mut first = Running::start(start(&folder, &["--name", "web", "-n", "1", "sleep", "1000"]));
    first.wait_for("Creating new worker");
    let holder = format!("a master (pid {}) already serves", first.pid());
    assert_refused(start(&folder, &["--name", "web", "sleep", "9"]), &[&holder, "`dutch-master stop --name web` ends it"]);
}

#[test]
fn a_full_disk_says_where_to_make_room() {
    let folder = Folder::new("full");
    let at = folder.path().display();
    // One page, and it is taken; the mount is seen by this shell and its program alone, and goes with them.
    let full = |args: &str| {
        let mut command = Command::new("unshare");
        let line = format!("mount -t tmpfs -o size=4k,mode=700 none '{at}' && cd '{at}' && mkdir dutch-master && {args}");
        command.args(["-m", "sh", "-c", &line, env!("CARGO_BIN_EXE_dutch-master")]).env("XDG_RUNTIME_DIR", folder.path()).env_remove("RUNTIME_DIRECTORY");
        command
    };
    if !geteuid().is_root() || run(full("true")).code != Some(0) {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    let fill = "chmod 700 dutch-master && echo x > filler";
    assert_refused(full(&format!("{fill} && exec $0 start sleep 9")), &["dutch-master/sleep-", ".lock: No space left", "make room there"]);
    let elsewhere = format!(
        "{fill} && exec env XDG_RUNTIME_DIR=/tmp/dm-full-$$ sh -c '$0 start --pid-file m.pid sleep 9; code=$?; rm -r $XDG_RUNTIME_DIR; ls *.new; exit $code' $0 2>&1"
    );
    let said = run(full(&elsewhere));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("cannot write the pid file /") && said.stdout.contains("No space left on device (os error 28); make room there"), "{said:?}");
    assert!(said.stdout.contains("*.new"), "half a pid file was left: {said:?}");
}

#[test]
fn a_runtime_directory_that_is_unfit_says_why() {
    let folder = Folder::new("runtime");
    let runtime = folder.path().join("dutch-master");
    fs::write(&runtime, "").unwrap();
    assert_refused(start(&folder, &["sleep", "9"]), &["dutch-master is no directory; move away what is there"]);
    fs::remove_file(&runtime).unwrap();
    fs::create_dir(&runtime).unwrap();
    fs::set_permissions(&runtime, Permissions::from_mode(0o755)).unwrap();
    assert_refused(start(&folder, &["sleep", "9"]), &["has mode 0755", "run `chmod 700 /"]);
    if geteuid().is_root() {
        chown(&runtime, Some(NOBODY), None).unwrap();
        assert_refused(start(&folder, &["sleep", "9"]), &["belongs to uid 65534 and not to uid 0; name another by RUNTIME_DIRECTORY"]);
    } else {
        eprintln!("skipped: only root can give a directory away");
    }
}

#[test]
fn a_configuration_file_that_is_wrong_says_where_and_what_is_wanted() {
    let folder = Folder::new("toml");
    for (text, told) in [
        ("worker = \"sleep\"\nname = ", "a.toml:2:8: "),
        ("workr = \"sleep\"\n", "a.toml:1:1: unknown key `workr`; did you mean `worker`?"),
        ("worker = 3\n", "a.toml:1:10: `worker`: a string is wanted, not an integer"),
        ("worker = \"sleep\"\nkill_timeout = \"30\"\n", "`30s`"),
    ] {
        fs::write(folder.path().join("a.toml"), text).unwrap();
        assert_refused(start(&folder, &["-c", "a.toml"]), &[told]);
    }
    assert_refused(start(&folder, &["-c", "b.toml"]), &["cannot read the configuration file /", "b.toml: No such file", "--config names another one"]);
}

#[test]
fn a_pid_file_that_cannot_be_written_leaves_nothing() {
    let folder = Folder::new("pid");
    fs::create_dir(folder.path().join("d")).unwrap();
    assert_refused(start(&folder, &["--pid-file", "d", "sleep", "9"]), &["cannot write the pid file /", "that is a directory, name a file in it"]);
    assert!(!folder.path().join("d.new").exists());
    assert_refused(start(&folder, &["--pid-file", "no/m.pid", "sleep", "9"]), &["no/m.pid", "make its directory first"]);
}

#[test]
fn a_pid_file_that_is_another_masters_or_none_at_all_is_left_alone() {
    let folder = Folder::new("pid-other");
    let file = folder.path().join("m.pid");
    fs::write(&file, "# a letter\n").unwrap();
    let again = ["--name", "b", "--pid-file", "m.pid", "sleep", "9"];
    assert_refused(start(&folder, &again), &["m.pid: what is there is no pid file", "move it away, or name another file"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "# a letter\n");
    fs::remove_file(&file).unwrap();
    let mut first = Running::start(start(&folder, &["--name", "a", "-n", "1", "--pid-file", "m.pid", "sleep", "1000"]));
    first.wait_for("Creating new worker");
    let holder = format!("a running master (pid {}) has it; stop that one", first.pid());
    // Wherever it has its runtime directory.
    let mut elsewhere = start(&folder, &again);
    elsewhere.env("XDG_RUNTIME_DIR", private(&folder, 0o700));
    assert_refused(elsewhere, &[&holder]);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", first.pid()));
}

#[test]
fn a_file_that_holds_no_metrics_is_not_overwritten_by_them() {
    let folder = Folder::new("metrics-other");
    fs::write(folder.path().join("app.toml"), "worker = \"sleep\"\n").unwrap();
    assert_refused(start(&folder, &["--metrics", "file:app.toml", "sleep", "9"]), &["app.toml", "no page of metrics; move it away"]);
    assert_eq!(fs::read_to_string(folder.path().join("app.toml")).unwrap(), "worker = \"sleep\"\n");
}

/// Catches: a start that works, and a state that cannot be written down.
#[test]
fn a_directory_whose_name_is_no_text_is_refused_by_start_and_check() {
    let folder = Folder::new("no-text");
    let odd = folder.path().join(OsStr::from_bytes(b"bad\xff"));
    fs::create_dir(&odd).unwrap();
    std::os::unix::fs::symlink(&odd, folder.path().join("current")).unwrap();
    for command in ["start", "check"] {
        let mut within = program(&folder, &[command, "--name", "odd", "sleep", "9"]);
        within.current_dir(&odd);
        assert_refused(within, &["/bad\u{fffd} has a name that is no UTF-8", "--dir"]);
        assert_refused(program(&folder, &[command, "--name", "odd", "--dir", "current", "sleep", "9"]), &["has a name that is no UTF-8"]);
    }
}

#[test]
fn a_log_file_that_cannot_be_opened_is_told_on_standard_error_and_by_check() {
    let folder = Folder::new("log-file");
    fs::create_dir(folder.path().join("d")).unwrap();
    for (file, remedy) in [("no/m.log", "make its directory first"), ("d", "that is a directory, name a file in it"), ("d/f/m.log", "make its directory first")]
    {
        assert_refused(start(&folder, &["--log-file", file, "sleep", "9"]), &[" ERROR ", "cannot open the log file /", file, remedy]);
        assert_refused(program(&folder, &["check", "--log-file", file, "sleep", "9"]), &["cannot open the log file /", file, remedy]);
    }
    let said = run(program(&folder, &["check", "--log-file", "d/m.log", "sleep", "9"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!folder.path().join("d/m.log").exists(), "check makes nothing");
}

#[test]
fn one_signal_cannot_both_restart_and_open_the_log_file_again() {
    let folder = Folder::new("usr1-twice");
    let both = ["--log-file", "m.log", "--restart-signal", "usr1", "sleep", "9"];
    let said = run(start(&folder, &both));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("choose another --restart-signal"), "{said:?}");
}

#[test]
fn an_adapted_program_cannot_be_ready_before_it_is_started() {
    let folder = Folder::new("adapt-hello");
    assert_refused(start(&folder, &["--adapt", "--ready-on", "hello", "sleep", "9"]), &["before its program has started", "--adapt=WHEN"]);
    assert_refused(program(&folder, &["check", "--adapt", "--ready-on", "hello", "sleep", "9"]), &["leave it out"]);
}

#[test]
fn a_first_start_that_times_out_says_after_how_long_and_what_may_be_wrong() {
    let folder = Folder::new("times-out");
    script(&folder, "node", "#!/bin/sh\nexec sleep 9\n");
    let options = ["-n", "1", "--start-timeout", "1ms", "--restart-attempts", "1"];
    let said = run(start(&folder, &[options.as_slice(), &["sleep", "9"]].concat()));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("Cluster could not be started") && said.stderr.contains("within 0.001 s") && !said.stderr.contains("app.js"), "{said:?}");
    let said = run(start(&folder, &[options.as_slice(), &["./node", "app.js"]].concat()));
    assert!(said.stderr.contains("name the script itself: `start app.js`, not `start node app.js`"), "{said:?}");
}

#[test]
fn a_user_that_workers_cannot_run_as_says_why() {
    let folder = Folder::new("user");
    assert_refused(start(&folder, &["--user", "nobody-at-all", "sleep", "9"]), &["no user", "getent passwd"]);
    assert_refused(start(&folder, &["--group", "nothing-at-all", "sleep", "9"]), &["no group", "getent group"]);
    assert_refused(start(&folder, &["--user", "54321", "sleep", "9"]), &["name one by --group"]);
    assert_refused(start(&folder, &["-l", "unix:a.sock,owner=nobody-at-all", "sleep", "9"]), &["a.sock", "no user"]);
    let strangers = unprivileged(&folder, start(&folder, &["--user", "0", "sleep", "9"]));
    assert_refused(strangers, &["only root may start them so", "leave out --user"]);
}

#[test]
fn what_the_workers_user_cannot_reach_is_seen_before_a_worker_is_started() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can start workers as another user");
        return;
    }
    let folder = Folder::new("reach");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
    let user = ["--user", "54321", "--group", "54321"];
    let closed = private(&folder, 0o500);
    assert_refused(start(&folder, &[&user[..], &["--dir", closed.to_str().unwrap(), "sleep", "9"]].concat()), &["54321", "may not enter", "private"]);
    let worker = script(&folder, "worker", "#!/bin/sh\nsleep 9\n");
    fs::set_permissions(&worker, Permissions::from_mode(0o700)).unwrap();
    assert_refused(start(&folder, &[&user[..], &["--dir", "/", worker.to_str().unwrap()]].concat()), &["may not run", "worker"]);
    let socket = closed.join("control.sock");
    assert_refused(
        start(&folder, &[&user[..], &["--dir", "/", "--socket", socket.to_str().unwrap(), "sleep", "9"]].concat()),
        &["connect to the control socket", "--socket"],
    );
}
