//! How much memory workers take: asked of the system by the client, so that a master need not.

use std::collections::HashMap;
use std::fs;

/// The memory of whole sessions by the pid of their leader, as far as the system tells. Each worker leads one, with whatever it has started.
pub(super) fn of_sessions(leaders: impl Iterator<Item = u32>) -> HashMap<u32, u64> {
    let mut sessions: HashMap<u32, u64> = leaders.map(|leader| (leader, 0)).collect();
    if !sessions.is_empty() {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids {
            if let Some(sum) = session(pid).and_then(|session| sessions.get_mut(&session)) {
                *sum += of_process(pid).unwrap_or_default();
            }
        }
    }
    // Nothing: a process that has gone, or one of another pid namespace.
    sessions.retain(|_, sum| *sum > 0);
    sessions
}

/// The session of a process: the fourth field behind its name, which may contain anything.
fn session(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(3)?.parse().ok()
}

/// Its proportional share of what it has in memory, else all of it.
fn of_process(pid: u32) -> Option<u64> {
    let kib = |path: &str, field: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{path}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    kib("smaps_rollup", "Pss:").or_else(|| kib("status", "VmRSS:")).map(|kib| kib * 1024)
}

/// In the unit that leaves at most four digits.
pub(super) fn text(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    match kib {
        ..1024.0 => format!("{kib:.0} KiB"),
        ..1_048_576.0 => format!("{:.1} MiB", kib / 1024.0),
        _ => format!("{:.1} GiB", kib / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_takes_what_its_processes_take() {
        let own = session(std::process::id()).unwrap();
        let memory = of_sessions([own].into_iter());
        assert!(memory[&own] >= of_process(std::process::id()).unwrap() / 2, "{memory:?}");
    }

    #[test]
    fn what_does_not_exist_takes_nothing_that_could_be_told() {
        assert!(of_sessions([u32::MAX].into_iter()).is_empty());
    }

    #[test]
    fn memory_is_told_in_a_unit_that_people_read() {
        for (bytes, expected) in [(0, "0 KiB"), (1_023 * 1024, "1023 KiB"), (1 << 20, "1.0 MiB"), (45_678_901, "43.6 MiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(text(bytes), expected);
        }
    }
}
