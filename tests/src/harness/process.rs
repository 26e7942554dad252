//! What the system knows of processes.

use std::fs;
use std::path::Path;

use nix::sys::signal::kill;
use nix::unistd::Pid;

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory in KiB that is its own; pages of files come and go as the system likes.
    pub resident_kib: usize,
}

/// What a living process uses.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn usage(pid: i32) -> Usage {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).expect("the process lives").count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse().ok());
    Usage { descriptors: count("fd"), threads: count("task"), resident_kib: resident.expect("the system tells resident memory") }
}

/// Whether there is such a process that is not only waiting to be reaped.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok() && !fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// The processes that were started with this folder somewhere in their environment.
pub(crate) fn with_folder(folder: &Path) -> Vec<i32> {
    let folder = folder.as_os_str().as_encoded_bytes();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| environment.windows(folder.len()).any(|part| part == folder))).collect()
}
