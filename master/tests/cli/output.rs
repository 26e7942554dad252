//! Results that cannot be written, and results that nobody reads.

use std::fs::OpenOptions;
use std::io::Read;
use std::process::Stdio;

use crate::process::{Folder, Running, program, run};

#[test]
fn a_result_that_cannot_be_written_is_a_failure_with_one_line() {
    let folder = Folder::new("full-out");
    let mut master = Running::start(program(&folder, &["start", "-n", "1", "--name", "web", "sleep", "1000"]));
    master.wait_for("Creating new worker");
    for args in [
        &["status", "--json"][..],
        &["status"],
        &["status", "--all"],
        &["status", "--watch"],
        &["metrics"],
        &["scale", "2", "--no-wait"],
        &["restart", "--no-wait"],
        &["check", "sleep", "9"],
        &["check", "--print", "sleep", "9"],
        &["conformance", "--list"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["start", "--help"],
        &["--version"],
    ] {
        let mut command = program(&folder, args);
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command.stdin(Stdio::null()).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        // What went on before is told as well.
        assert!(stderr.lines().last().unwrap().starts_with("dutch-master: cannot write the result to standard output: No space left on device"), "{stderr}");
        assert_eq!(stderr.matches("cannot write").count(), 1, "{args:?}: {stderr}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = Folder::new("closed-out");
    for args in [&["completions", "bash"][..], &["man"], &["start", "--help"], &["check", "--print", "sleep", "9"], &["status", "--all"]] {
        let mut command = program(&folder, args);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    assert_eq!(run(program(&folder, &["status", "--all"])).code, Some(0));
}
