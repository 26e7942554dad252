//! What is done to the master and its workers.

use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP};

use super::denial::{self, Denial};
use super::disk::Filled;
use super::{Chaos, SIZE, victim};
use crate::harness::send;

/// One deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    KillMaster,
    KillMasterTwice,
    KillWorker,
    Restart,
    Scale,
    StopMaster,
    StopWorker,
    DenyDescriptors,
    DenyProcesses,
    FillDisk,
    Upgrade,
    UpgradeToBroken,
}

/// What happens to a pool while something is denied to its master, in milliseconds.
const DENIED_MS: std::ops::RangeInclusive<u64> = 100..=700;

impl Deed {
    /// A deed, and whether it may end the master.
    pub(super) fn random(random: &mut fastrand::Rng, is_deadly: bool) -> Deed {
        let deadly = [Deed::KillMaster, Deed::KillMaster, Deed::KillMasterTwice, Deed::Upgrade, Deed::UpgradeToBroken];
        let others = [
            Deed::KillWorker,
            Deed::KillWorker,
            Deed::Restart,
            Deed::Restart,
            Deed::Scale,
            Deed::StopMaster,
            Deed::StopWorker,
            Deed::DenyDescriptors,
            Deed::DenyProcesses,
            Deed::FillDisk,
        ];
        let n = random.usize(0..others.len() + if is_deadly { deadly.len() } else { 0 });
        others.get(n).copied().unwrap_or_else(|| deadly[n - others.len()])
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Deed::KillMaster => "the master is killed and started again",
            Deed::KillMasterTwice => "the master is killed, and the next one before it has everything",
            Deed::KillWorker => "a worker is killed",
            Deed::Restart => "a rolling restart begins",
            Deed::Scale => "the pool is scaled",
            Deed::StopMaster => "the master is stopped for a while",
            Deed::StopWorker => "a worker is stopped for a while",
            Deed::DenyDescriptors => "the master gets no descriptors for a while",
            Deed::DenyProcesses => "the master gets no processes for a while",
            Deed::FillDisk => "the disk is full for a while",
            Deed::Upgrade => "the master is upgraded",
            Deed::UpgradeToBroken => "the master is upgraded to something broken",
        }
    }
}

impl Chaos {
    /// Does it. An error: it cannot be done here.
    pub(super) fn perform(&mut self, deed: Deed) -> Result<(), &'static str> {
        match deed {
            Deed::KillMaster => self.kill_master(),
            Deed::KillMasterTwice => {
                self.kill_master();
                self.pause(0..=300);
                self.kill_master();
            }
            Deed::KillWorker => self.kill_worker(),
            Deed::Restart => self.begin_restart(),
            Deed::Scale => {
                let size = self.random.usize(SIZE - 1..=SIZE + 1).to_string();
                let _outcome = self.master.run(["scale", &size]);
            }
            Deed::StopMaster => {
                self.master.signal(SIGSTOP);
                self.pause(20..=500);
                self.master.signal(SIGCONT);
            }
            Deed::StopWorker => {
                let Some(pid) = self.running() else { return Ok(()) };
                send(pid, SIGSTOP);
                self.pause(20..=500);
                send(pid, SIGCONT);
            }
            Deed::DenyDescriptors => self.while_denied(denial::descriptors)?,
            Deed::DenyProcesses => self.while_denied(denial::processes)?,
            Deed::FillDisk => self.fill_disk()?,
            Deed::Upgrade | Deed::UpgradeToBroken => self.upgrade(deed == Deed::Upgrade)?,
        }
        Ok(())
    }

    fn kill_master(&mut self) {
        self.master.kill();
        self.pause(0..=200);
        self.master.start_again();
        // Their master is gone, and they say so.
        self.restarts.drain(..).for_each(|restart| drop(restart.finish()));
    }

    /// A worker that runs, if there is one right now.
    fn running(&mut self) -> Option<i32> {
        let pids = self.status().pids();
        (!pids.is_empty()).then(|| pids[self.random.usize(0..pids.len())])
    }

    fn kill_worker(&mut self) {
        let address = self.status().address();
        let Some(pid) = self.running() else { return };
        self.accepted += victim::accepted_when_stopped(pid, address.port());
        send(pid, SIGKILL);
    }

    fn begin_restart(&mut self) {
        self.restarts.push(self.master.begin(["restart"]));
    }

    fn while_denied(&mut self, deny: fn(i32) -> Result<Denial, &'static str>) -> Result<(), &'static str> {
        let denied = deny(self.master.pid())?;
        match self.random.bool() {
            true => self.begin_restart(),
            false => self.running_by_denied(),
        }
        self.pause(DENIED_MS);
        drop(denied);
        Ok(())
    }

    /// The status cannot be asked for: the worker is one that the system knows of.
    fn running_by_denied(&mut self) {
        let processes = self.master.processes();
        if let Some(pid) = processes.first() {
            send(*pid, SIGSTOP);
            self.pause(20..=100);
            send(*pid, SIGCONT);
        }
    }

    fn fill_disk(&mut self) -> Result<(), &'static str> {
        let disk = self.disk.clone().ok_or("a full disk: a small one can be mounted by root alone")?;
        let _status = self.status(); // The state is written, and who is there has an answer.
        let counted = |chaos: &Chaos, message| chaos.master.log().count(message);
        let (failures, successes) = (counted(self, "State cannot be written, workers would not outlive this master"), counted(self, "State is written again"));
        let filled = Filled::fill(&disk);
        self.begin_restart();
        self.pause(DENIED_MS);
        drop(filled);
        // A master that died before it had written its state again would not know what it has started since.
        let failed = counted(self, "State cannot be written, workers would not outlive this master") - failures;
        self.eventually("the state is written again", |chaos| counted(chaos, "State is written again") - successes >= failed);
        Ok(())
    }

    fn upgrade(&mut self, is_good: bool) -> Result<(), &'static str> {
        let upgrades = self.upgrades.as_ref().ok_or("upgrades: this program has none")?;
        let target = if is_good { upgrades.good() } else { upgrades.broken(&mut self.random) };
        let _status = self.status();
        let upgrade = self.master.run(["upgrade", "--binary", &target]);
        assert_eq!(upgrade.code, Some(i32::from(!is_good)), "upgrade to {target}: {}\n{}", upgrade.stderr, self.master.log());
        Ok(())
    }

    /// Asks until it is so.
    #[track_caller]
    pub(super) fn eventually(&self, what: &str, condition: impl Fn(&Chaos) -> bool) {
        let until = std::time::Instant::now() + 2 * crate::harness::PATIENCE;
        while !condition(self) {
            assert!(std::time::Instant::now() < until, "never: {what}: {:?}\n{}", self.status(), self.master.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
