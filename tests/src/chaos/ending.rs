//! What is left when nothing happens any more.

use std::fs;

use dutch_master_protocol::control::Phase;

use super::{Chaos, SIZE};

/// The pool at rest.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) descriptors: usize,
    /// Memory of the master's own, in KiB: pages of its program come and go as the system likes, and others it may have put on a disk.
    pub(super) own_kib: u64,
    pub(super) faults: Vec<String>,
}

impl Chaos {
    /// Everything that is under way ends, and all workers are of one generation.
    pub(super) fn comes_to_rest(&mut self) -> Rest {
        let _answers = self.status();
        self.restarts.drain(..).for_each(|restart| drop(restart.finish()));
        let size = SIZE.to_string();
        let scaled = self.master.run(["scale", &size]);
        assert_eq!(scaled.code, Some(0), "scale: {}\n{}", scaled.stderr, self.master.log());
        self.master.restart();
        self.eventually("the pool is whole and nothing else is left", |chaos| {
            let status = chaos.status();
            let generation = status.running().map(|worker| worker.generation).next();
            let is_one = status.running().all(|worker| Some(worker.generation) == generation);
            status.pool.phase == Phase::Serving && is_one && status.running().count() == SIZE && status.workers.len() == SIZE
        });
        let mut faults = Vec::new();
        let (mut known, mut found) = (self.status().pids(), self.master.processes());
        known.sort_unstable();
        found.sort_unstable();
        if found != known {
            faults.push(format!("the master knows of {known:?}, and there are {found:?}"));
        }
        let zombies = zombies_of(self.master.pid());
        if !zombies.is_empty() {
            faults.push(format!("not reaped: {zombies:?}"));
        }
        Rest { descriptors: self.master.usage_at_rest().descriptors, own_kib: own_kib(self.master.pid()), faults }
    }
}

fn own_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default();
    kib("RssAnon:") + kib("VmSwap:")
}

/// Children that have ended and wait.
fn zombies_of(parent: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(&format!("Z {parent} ")))
    })
    .collect()
}
