//! What the system can deny to a process, and give back.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Something that a process is denied while this lives.
pub(super) enum Denial {
    Limit { pid: Pid, resource: Resource, before: Rlimit },
    Group(PathBuf),
}

impl Drop for Denial {
    fn drop(&mut self) {
        match self {
            Denial::Limit { pid, resource, before } => drop(prlimit(Some(*pid), *resource, *before)),
            Denial::Group(group) => {
                let _ = fs::write(group.join("pids.max"), "max");
                // Who was in it is where it was before; the group goes with the last of them, or is used again.
                let parent = group.join("../cgroup.procs");
                for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
                    let _ = fs::write(&parent, pid);
                }
                let _ = fs::remove_dir(group);
            }
        }
    }
}

/// No descriptor more than it has: EMFILE.
pub(super) fn descriptors(pid: i32) -> Result<Denial, &'static str> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    limit(pid, Resource::Nofile, "Max open files", u64::try_from(open).unwrap_or(u64::MAX))
}

/// No process more than there are: EAGAIN.
pub(super) fn processes(pid: i32) -> Result<Denial, &'static str> {
    if !nix::unistd::geteuid().is_root() {
        return limit(pid, Resource::Nproc, "Max processes", 1);
    }
    // Root is bound by no limit of processes but that of a control group.
    let group = PathBuf::from(format!("/sys/fs/cgroup/pids/dutch-master-chaos-{}", std::process::id()));
    let denied = fs::create_dir_all(&group).and_then(|()| {
        let denial = Denial::Group(group.clone());
        fs::write(group.join("cgroup.procs"), pid.to_string())?;
        let now = fs::read_to_string(group.join("pids.current"))?;
        fs::write(group.join("pids.max"), now.trim())?;
        Ok(denial)
    });
    denied.map_err(|_| "a limit of processes: root needs a control group for it, and there is none to be had")
}

fn limit(pid: i32, resource: Resource, name: &str, to: u64) -> Result<Denial, &'static str> {
    // The hard limit stays as it is: who is not root could not raise it again.
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let maximum = line.split_whitespace().nth(1).and_then(|hard| hard.parse().ok());
    let pid = Pid::from_raw(pid).ok_or("limits: there is no such process")?;
    let before = prlimit(Some(pid), resource, Rlimit { current: Some(to), maximum }).map_err(|_| "limits: the system does not let it")?;
    Ok(Denial::Limit { pid, resource, before })
}
