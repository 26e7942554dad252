//! Chaos: a pool under mixed load while the master and its workers are killed, stopped, upgraded, scaled, and denied descriptors, processes and disk, at moments that a seed chooses.
//!
//! What may fail are requests that a killed worker had accepted, and nothing else; at the end everything is as if nothing had happened.

mod deeds;
mod denial;
mod disk;
mod ending;
mod upgrades;
mod victim;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::{Master, PATIENCE, Running, Status, binary};
use crate::load::{Failure, Load, Mode, Plan, Report};
use crate::rolling::Workers;

use deeds::Deed;
pub use disk::small_disk;
use ending::Rest;
use upgrades::Upgrades;

/// The size of the pool.
const SIZE: usize = 3;

/// Of the time, how much has every deed: in the rest the master stays the same, so that a leak shows.
const SHARE_OF_DEATHS: f64 = 0.67;

/// Longest pause between two deeds, in milliseconds.
const PAUSE_MAX_MS: u64 = 300;

/// What is to happen.
#[derive(Debug, Clone)]
pub struct Ordeal {
    /// Whose.
    pub workers: Workers,
    /// For how long.
    pub time: Duration,
    /// Which chances: the same seed brings the same deeds, though not at the same moments.
    pub seed: u64,
    /// Where the runtime directory is to be: a disk that is small enough to fill.
    pub disk: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// How often each deed was done.
    deeds: Vec<(&'static str, u64)>,
    /// What could not be tried here, and why.
    skipped: Vec<&'static str>,
    /// Requests on connections that stay, and on new ones.
    reports: [Report; 2],
    /// Connections that killed workers had accepted and not ended.
    accepted: u64,
    /// How it was before, after the deaths, and in the end.
    rests: [Rest; 3],
    /// What is not as it should be.
    pub faults: Vec<String>,
}

struct Chaos {
    master: Master,
    random: fastrand::Rng,
    is_deadly: bool,
    accepted: u64,
    done: Vec<(&'static str, u64)>,
    skipped: Vec<&'static str>,
    /// Restarts that are waited for.
    restarts: Vec<Running>,
    disk: Option<PathBuf>,
    upgrades: Option<Upgrades>,
    began: Instant,
}

impl Ordeal {
    /// Lets it happen, and tells of each deed.
    ///
    /// # Panics
    /// When the master hangs or ends by itself; its log is in the message.
    #[must_use]
    pub fn run(self, tell: fn(&str)) -> Outcome {
        let start = self.workers.start().option("-n", SIZE.to_string()).option("--settle-time", "0s").option("--kill-timeout", "20s");
        let start = self.disk.iter().fold(start, |start, disk| start.runtime_in(disk));
        let master = start.ready();
        let address = master.address();
        let load = |mode, seed| Load::start(Plan { mode, clients: 12, think_ms: 0..=30, seed, timeout: Duration::from_secs(60), ..Plan::new(address) });
        let loads = [load(Mode::KeepAlive, self.seed), load(Mode::PerRequest, self.seed + 1)];
        let mut chaos = Chaos {
            master,
            random: fastrand::Rng::with_seed(self.seed),
            is_deadly: true,
            accepted: 0,
            done: Vec::new(),
            skipped: Vec::new(),
            restarts: Vec::new(),
            disk: self.disk,
            upgrades: Upgrades::offered(),
            began: Instant::now(),
        };
        let before = chaos.comes_to_rest();
        chaos.go_on(self.time.mul_f64(SHARE_OF_DEATHS), tell);
        let warm = chaos.comes_to_rest();
        chaos.is_deadly = false;
        chaos.go_on(self.time.mul_f64(1.0 - SHARE_OF_DEATHS), tell);
        let after = chaos.comes_to_rest();
        loads.iter().for_each(|load| load.await_ok(50));
        let reports = loads.map(Load::stop);
        let mut outcome =
            Outcome { deeds: chaos.done, skipped: chaos.skipped, reports, accepted: chaos.accepted, rests: [before, warm, after], faults: Vec::new() };
        outcome.judge();
        if outcome.faults.is_empty() {
            chaos.master.stop();
        } else {
            outcome.faults.push(format!("the log of the last master:\n{}", chaos.master.log()));
        }
        outcome
    }
}

impl Chaos {
    fn go_on(&mut self, time: Duration, tell: fn(&str)) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let deed = Deed::random(&mut self.random, self.is_deadly);
            tell(&format!("{:8.3} s  {}", self.began.elapsed().as_secs_f64(), deed.name()));
            match self.perform(deed) {
                Ok(()) => match self.done.iter_mut().find(|(name, _)| *name == deed.name()) {
                    Some((_, count)) => *count += 1,
                    None => self.done.push((deed.name(), 1)),
                },
                Err(why) if self.skipped.contains(&why) => {}
                Err(why) => self.skipped.push(why),
            }
            std::thread::sleep(Duration::from_millis(self.random.u64(0..=PAUSE_MAX_MS)));
        }
    }

    /// What the status says, once the master answers.
    fn status(&self) -> Status {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.master.run(["status", "--json"]);
            if let (Some(0), Ok(status)) = (status.code, serde_json::from_str(&status.stdout)) {
                return status;
            }
            assert!(Instant::now() < until, "no status: {}\n{}", status.stderr, self.master.log());
        }
    }

    fn pause(&mut self, ms: std::ops::RangeInclusive<u64>) {
        std::thread::sleep(Duration::from_millis(self.random.u64(ms)));
    }
}

impl Outcome {
    fn judge(&mut self) {
        let Outcome { reports, accepted, rests: [before, warm, after], faults, .. } = self;
        let torn: u64 = reports.iter().map(|report| report.count(Failure::Reset) + report.count(Failure::Eof)).sum();
        let failed: u64 = reports.iter().map(Report::failures).sum();
        if failed > torn {
            faults.push(format!("{} requests failed that no worker had accepted", failed - torn));
        }
        if torn > *accepted {
            faults.push(format!("{torn} requests were torn, and killed workers had accepted {accepted}"));
        }
        for rest in [before, warm, &mut *after] {
            faults.append(&mut rest.faults);
        }
        let [before, warm, after] = &self.rests;
        if after.descriptors != before.descriptors {
            faults.push(format!("{} descriptors before, {} after", before.descriptors, after.descriptors));
        }
        if after.own_kib * 10 > warm.own_kib * 11 {
            faults.push(format!("{} KiB when warm, {} after", warm.own_kib, after.own_kib));
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { deeds, skipped, reports: [kept, new], accepted, rests: [before, warm, after], faults } = self;
        for (name, count) in deeds {
            writeln!(f, "{count:>6} × {name}")?;
        }
        for why in skipped {
            writeln!(f, "not tried: {why}")?;
        }
        write!(f, "on connections that stay: {kept}on new connections: {new}")?;
        writeln!(f, "{} requests failed; killed workers had accepted {accepted} connections", kept.failures() + new.failures())?;
        writeln!(
            f,
            "in the end: {} workers of one generation; descriptors {} before, {} after; {} KiB of its own when warm, {} KiB after",
            SIZE, before.descriptors, after.descriptors, warm.own_kib, after.own_kib
        )?;
        faults.iter().try_for_each(|fault| writeln!(f, "FAULT: {fault}"))
    }
}

/// Whether the program has this command.
fn offers(command: &str) -> bool {
    let help = std::process::Command::new(binary("dutch-master")).arg("--help").output();
    help.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line.split_whitespace().next() == Some(command)))
}
