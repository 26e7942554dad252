//! How much memory workers take, each with all that it has started: a worker leads a session of its own. Looked up in `/proc`; elsewhere there is no answer.

use std::collections::HashMap;
use std::fs;

/// The memory of whole sessions in bytes, by the pid of their leader: the proportional share of every process, as far as the system tells.
pub fn of_sessions(leaders: impl Iterator<Item = u32>) -> HashMap<u32, u64> {
    let mut sessions: HashMap<u32, u64> = leaders.map(|leader| (leader, 0)).collect();
    if !sessions.is_empty() {
        for process in processes() {
            if let Some(sum) = sessions.get_mut(&process.session) {
                *sum += process.share();
            }
        }
    }
    // Nothing: a process that has gone, or one of another pid namespace.
    sessions.retain(|_, sum| *sum > 0);
    sessions
}

/// The leaders of the sessions that take more than their limit in bytes, with what they take. The share is asked for only of those whose resident memory, which is more and cheaper to know, is above it.
pub(crate) fn above(limits: &HashMap<u32, u64>) -> HashMap<u32, u64> {
    let mut resident: HashMap<u32, u64> = HashMap::new();
    for process in processes().filter(|process| limits.contains_key(&process.session)) {
        *resident.entry(process.session).or_default() += process.resident();
    }
    let is_above = |leader: &u32, bytes: &mut u64| limits.get(leader).is_some_and(|limit| *bytes > *limit);
    resident.retain(is_above);
    let mut shares = of_sessions(resident.into_keys());
    shares.retain(is_above);
    shares
}

/// What `/proc/PID/stat` says.
struct Process {
    pid: u32,
    session: u32,
    resident_pages: u64,
}

fn processes() -> impl Iterator<Item = Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(Process::look_up)
}

impl Process {
    fn look_up(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may contain anything: state, parent, group, session, and 18 fields later the resident pages.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(3);
        Some(Process { pid, session: fields.next()?.parse().ok()?, resident_pages: fields.nth(17)?.parse().ok()? })
    }

    fn resident(&self) -> u64 {
        self.resident_pages * rustix::param::page_size() as u64
    }

    /// Its proportional share of what it has in memory, else all of it.
    fn share(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).unwrap_or_default();
        let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<u64>().ok());
        kib.map_or_else(|| self.resident(), |kib| kib * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_session() -> u32 {
        Process::look_up(std::process::id()).unwrap().session
    }

    #[test]
    fn a_session_takes_what_its_processes_take() {
        let own = own_session();
        let memory = of_sessions([own].into_iter());
        let this = Process::look_up(std::process::id()).unwrap();
        assert!(memory[&own] >= this.share() / 2, "{memory:?}");
        assert!(this.resident() >= this.share(), "what is resident is no less than the share");
    }

    #[test]
    fn what_does_not_exist_takes_nothing_that_could_be_told() {
        assert!(of_sessions([u32::MAX].into_iter()).is_empty());
        assert!(above(&HashMap::from([(u32::MAX, 0)])).is_empty());
    }

    #[test]
    fn a_session_is_above_a_limit_that_it_takes_more_than() {
        let own = own_session();
        assert!(above(&HashMap::from([(own, 1)]))[&own] > 1);
        assert!(above(&HashMap::from([(own, u64::MAX)])).is_empty());
    }
}
