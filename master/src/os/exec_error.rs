//! Why a program could not be run, in one line that says what to do about it. The system has one number for several mistakes, so the program's file is looked at.

use std::io::{self, Read};
use std::path::Path;

use nix::errno::Errno;

use super::account::Account;
use super::regular_file;
use super::remedy::remedy as of_limits;

/// Longest first line that the system reads for an interpreter.
const FIRST_LINE_MAX: u64 = 256;

/// What a program for the processor begins with, as opposed to a script.
pub(super) const ELF: &[u8; 4] = b"\x7fELF";

/// What went wrong with this program, for people.
pub(super) fn failed(program: &Path, directory: &Path, account: Option<&Account>, error: &io::Error) -> String {
    let whose = account.map_or(String::new(), |account| format!(" as {}", account.name()));
    let is_homeless = error.kind() == io::ErrorKind::NotFound && !directory.is_dir();
    let remedy = if is_homeless { format!("; its directory {} is gone", directory.display()) } else { remedy(program, account.is_some(), error) };
    format!("cannot run {}{whose}: {error}{remedy}", program.display())
}

fn remedy(program: &Path, is_anothers: bool, error: &io::Error) -> String {
    let fixed = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENOTDIR) => return missing(&beginning(program)),
        Some(Errno::ENOEXEC) => "; it was built for another kind of processor, or it is damaged: put one there that was built for this machine",
        Some(Errno::EACCES) if is_anothers => "; that user must be able to enter the worker's directory and to run the program",
        Some(Errno::EPERM) if is_anothers => "; the master lacks CAP_SETUID, CAP_SETGID or the right to raise a limit",
        Some(Errno::EACCES) => "; it or its interpreter may not be executed: `chmod +x`, and no mount with `noexec`",
        Some(Errno::ETXTBSY) => "; it is being written: put a new program beside it and rename that over it",
        Some(Errno::E2BIG) => "; its arguments and its environment are too long together",
        Some(Errno::EAGAIN) => "; no more processes are allowed: raise the limit (`ulimit -u`, TasksMax= of a unit, pids.max of a container)",
        Some(Errno::EMFILE | Errno::ENFILE) => of_limits(error),
        Some(_) | None => "",
    };
    fixed.into()
}

/// The file is there, or this would not have been tried; what it needs to run is not.
fn missing(beginning: &[u8]) -> String {
    if beginning.starts_with(ELF) {
        return "; its loader is not there: it was built for another system, or for another C library".into();
    }
    let Some(line) = beginning.strip_prefix(b"#!") else { return String::new() };
    let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let interpreter = line.split([' ', '\t']).find(|word| !word.is_empty()).unwrap_or_default();
    match interpreter.strip_suffix('\r') {
        Some(_) => "; its lines end as on Windows, and so does its interpreter's name: `sed -i 's/\\r$//'` mends them".into(),
        None => format!("; its interpreter `{interpreter}` is not there: install that, or correct the file's first line"),
    }
}

fn beginning(program: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What cannot be read is told without.
    let _ = regular_file::open(program).and_then(|file| file.take(FIRST_LINE_MAX).read_to_end(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(content: &[u8], errno: Errno) -> String {
        let path = std::env::temp_dir().join(format!("dm-exec-{}-{errno}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let line = failed(&path, Path::new("/"), None, &errno.into());
        std::fs::remove_file(&path).unwrap();
        line
    }

    #[test]
    fn each_reason_has_its_remedy() {
        for (content, errno, hint) in [
            (b"#! /usr/bin/pythn3 -u\nx".as_slice(), Errno::ENOENT, "interpreter `/usr/bin/pythn3` is not there"),
            (b"#!/bin/sh\r\nx", Errno::ENOENT, "lines end as on Windows"),
            (b"\x7fELF\x02", Errno::ENOENT, "its loader is not there"),
            (b"\x7fELF\x02", Errno::ENOEXEC, "another kind of processor"),
            (b"x", Errno::EACCES, "`chmod +x`"),
            (b"x", Errno::ETXTBSY, "rename that over it"),
            (b"x", Errno::EAGAIN, "TasksMax="),
            (b"x", Errno::EMFILE, "LimitNOFILE="),
        ] {
            let line = told(content, errno);
            assert!(line.contains(hint) && line.lines().count() == 1, "{line}");
        }
    }
}
