//! `check` tells everything that `start` would refuse, in the same words, and leaves no trace.

use std::fs;

use crate::process::{Folder, Running, Said, program, run};

/// The one line with which a start is refused.
#[track_caller]
fn refused(folder: &Folder, args: &[&str]) -> String {
    let said = run(program(folder, &[&["start"], args, &["sleep", "9"]].concat()));
    assert_eq!((said.code, said.stderr.lines().count()), (Some(1), 1), "{args:?}: {said:?}");
    said.stderr.trim_end().split_once(" ERROR ").unwrap_or_else(|| panic!("{said:?}")).1.to_owned()
}

fn checked(folder: &Folder, args: &[&str]) -> Said {
    run(program(folder, &[&["check"], args, &["sleep", "9"]].concat()))
}

#[track_caller]
fn assert_alike(folder: &Folder, args: &[&str], checked: &Said, text: &str) {
    let line = refused(folder, args);
    assert!(line.contains(text), "{args:?}: {line}");
    assert_eq!((checked.code, checked.stdout.as_str(), checked.stderr.clone()), (Some(1), "", format!("dutch-master: {line}\n")), "{args:?}");
}

#[test]
fn what_start_would_refuse_check_tells_in_the_same_words() {
    let folder = Folder::new("alike");
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let cases = [
        (&["--pid-file", "no/m.pid"][..], "no/m.pid: No such file or directory (os error 2); make its directory first"),
        (&["--pid-file", "d"], "that is a directory, name a file in it"),
        (&["--pid-file", "file/m.pid"], "what should be its directory is a file"),
        (&["--socket", "no/m.sock"], "make its directory first"),
        (&["--socket", "file"], "cannot listen on the control socket"),
        (&["--metrics", "file:no/m.prom"], "make its directory first"),
        (&["--metrics", "file:d"], "that is a directory, name a file in it"),
        (&["--metrics", "unix:no/m.sock"], "cannot serve metrics: cannot listen on unix:"),
        (&["--metrics", "203.0.113.1:9100"], "this machine does not have that address"),
        (&["--log-file", "no/m.log"], "make its directory first"),
        (&["-l", "203.0.113.1:8000"], "this machine does not have that address"),
        (&["-l", "unix:no/a.sock"], "make its directory first"),
        (&["-l", "unix:file"], "choose another address"),
        (&["-l", "unix:a.sock", "-l", "b=unix:a.sock"], "an earlier --listen has taken it"),
        (&["-l", "unix:a.sock", "--metrics", "unix:a.sock"], "an earlier --listen has taken it"),
        (&["-l", "unix:a.sock,group=nobody-at-all"], "no group"),
        (&["--user", "nobody-at-all"], "no user"),
        (&["--dir", "nowhere"], "name another by --dir, or make it"),
    ];
    let checked: Vec<_> = cases.iter().map(|(args, _)| checked(&folder, args)).collect();
    let mut there: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, ["d", "file"], "check leaves no trace");
    for ((args, text), checked) in cases.iter().zip(&checked) {
        assert_alike(&folder, args, checked, text);
    }
}

#[test]
fn a_runtime_directory_that_is_unfit_is_told_alike_and_one_that_is_missing_is_not_made() {
    let folder = Folder::new("alike-run");
    assert_eq!(run(program(&folder, &["check", "sleep", "9"])).code, Some(0));
    assert!(!folder.path().join("dutch-master").exists(), "check makes nothing");
    fs::write(folder.path().join("dutch-master"), "").unwrap();
    assert_alike(&folder, &[], &checked(&folder, &[]), "dutch-master is no directory; move away what is there");
    let long = "n".repeat(100);
    fs::remove_file(folder.path().join("dutch-master")).unwrap();
    let args = ["--name", &long];
    assert_alike(&folder, &args, &checked(&folder, &args), "a shorter --name, --socket or XDG_RUNTIME_DIR helps");
}

#[test]
fn all_faults_are_told_at_once() {
    let folder = Folder::new("at-once");
    let said = run(program(&folder, &["check", "--pid-file", "no/m.pid", "--metrics", "file:no/m.prom", "-l", "unix:no/a.sock", "./nonesuch"]));
    assert_eq!((said.code, said.stderr.lines().count()), (Some(1), 4), "{said:?}");
    for text in ["the worker ./nonesuch", "a.sock", "m.prom", "m.pid"] {
        assert!(said.stderr.contains(text), "{text}: {said:?}");
    }
}

#[test]
fn what_a_running_master_has_does_not_keep_its_own_configuration_from_being_right() {
    let folder = Folder::new("own");
    let text =
        "worker = \"sleep\"\nargs = [\"1000\"]\nnum_workers = 1\nname = \"web\"\nlisten = [\"unix:a.sock\"]\npid_file = \"m.pid\"\nmetrics = \"unix:m.sock\"\n";
    fs::write(folder.path().join("dutch-master.toml"), text).unwrap();
    let mut master = Running::start(program(&folder, &["start"]));
    master.wait_for("Creating new worker");
    let said = run(program(&folder, &["check"]));
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    assert!(folder.path().join("a.sock").exists() && folder.path().join("m.pid").exists(), "nothing was taken from it");
}

#[test]
fn what_is_printed_says_what_it_becomes_and_from_where() {
    let folder = Folder::new("becomes");
    let at = folder.path().to_str().unwrap();
    fs::create_dir_all(folder.path().join("shop/current")).unwrap();
    fs::write(folder.path().join("shop/current/serve"), "").unwrap();
    fs::set_permissions(folder.path().join("shop/current/serve"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("shop/shop.toml"), "worker = \"./serve\"\ndir = \"current\"\n").unwrap();
    let printed = run(program(&folder, &["check", "-c", "shop/shop.toml", "--print"]));
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = printed.stdout.lines().map(words).collect();
    let name = lines.iter().find_map(|line| line.strip_prefix("# name: ")?.strip_suffix(", made from worker and directory # default")).unwrap();
    for expected in [
        format!("worker = \"./serve\" # {at}/shop/shop.toml:1; now {at}/shop/current/./serve"),
        format!("dir = \"{at}/shop/current\" # {at}/shop/shop.toml:2"),
        format!("# socket: {at}/dutch-master/{name}.sock, in the runtime directory # default"),
    ] {
        assert!(lines.contains(&expected), "{expected}\n{}", printed.stdout);
    }
    let printed = run(program(&folder, &["check", "--print", "--dir", "shop/current", "serve"]));
    assert!(printed.stdout.contains(&format!("dir = \"{at}/shop/current\" ")), "{printed:?}");
    let printed = run(program(&folder, &["check", "--print", "sleep", "9"]));
    assert!(printed.stdout.lines().any(|line| words(line) == format!("dir = \"{at}\" # default: where `start` is run")), "{printed:?}");
}
