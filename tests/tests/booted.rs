//! The delivered units under a systemd that was booted for them, in namespaces of its own: what `tests/booted/inside.sh` looks at there.
#![allow(clippy::print_stdout)] // what was not run is said

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dutch_master_tests::harness::{Running, binary, exclusive, repository};

/// What has to come out, line by line; answers are those of the workers.
const EXPECTED: &str = "\
started
state: active
status: 2 of 2 workers serve, generation 1
answer: HTTP/1.1 200 OK
kept: 1
master killed, answer: HTTP/1.1 200 OK
the same workers
everything killed, answer: HTTP/1.1 200 OK
restarts: 2
reloaded
status: 2 of 2 workers serve, generation 2
reload refused
state: active
upgraded
the same processes
state: active
reloaded after the upgrade, answer: HTTP/1.1 200 OK
stopped
state: inactive
result: success
no worker is left
socket unit started
state: inactive
activated, answer: HTTP/1.1 200 OK
while it restarts, answer: HTTP/1.1 200 OK
after that, answer: HTTP/1.1 200 OK
kept: 0
stopped
done
";

/// systemd itself; where there is none, or nobody may make namespaces, the test says that it was not run.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

#[test]
fn the_delivered_units_keep_their_promises_under_a_systemd_that_runs() {
    let namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--ipc", "--uts", "--net"];
    let is_possible = Command::new("unshare").args(namespaces).arg("true").status().is_ok_and(|status| status.success());
    if !is_possible || !Path::new(SYSTEMD).exists() {
        println!("NOT RUN: the units under a booted systemd: it needs root and {SYSTEMD}");
        return;
    }
    let _alone = exclusive();
    let out = tempfile::Builder::new().prefix("dm-booted").tempfile_in("/dev/shm").expect("a file can be made");
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &LIMIT.as_secs().to_string(), "unshare"]).args(namespaces).arg("bash").arg(repository("tests/booted/boot.sh"));
    command.env("REPOSITORY", repository("Cargo.toml").parent().expect("a folder")).env("OUT", out.path());
    command.env("MASTER", binary("dutch-master")).env("WORKER", binary("http-worker"));
    let systemd = Running::start(command).finish();
    let said = fs::read_to_string(out.path()).expect("it was written");
    assert_eq!(said, EXPECTED, "\nsystemd: {}{}", systemd.stdout, systemd.stderr);
}

/// From its start to its end; a machine that is busy takes half a minute.
const LIMIT: Duration = Duration::from_secs(50);
