//! What the master itself uses: memory, wake-ups when idle, processor time under load.

use std::fs;
use std::thread;
use std::time::Duration;

use super::generator::{self, Mode, Plan};
use super::pool::{App, Host, Pool};
use super::{CONNECTIONS, Effort, print};

/// Until what follows a start is over: the settle time of 2 s, and giving back what only a start needs, 1 s later.
pub const AT_REST: Duration = Duration::from_secs(4);

/// Watches a master of two workers.
pub fn run(effort: Effort) {
    println!("\nThe master of two workers\n");
    let pool = Pool::start(Host::Master, App::RustSingle, 2);
    thread::sleep(AT_REST);
    let before = wakeups(pool.pid());
    thread::sleep(effort.watch);
    print(&format!("wake-ups in {:?}, idle", effort.watch), &(wakeups(pool.pid()) - before).to_string(), "expected 0");
    let (awake, ticks) = (wakeups(pool.pid()), cpu_ticks(pool.pid()));
    for mode in [Mode::KeepAlive, Mode::PerRequest] {
        let plan = Plan { address: pool.address, mode, connections: CONNECTIONS, duration: effort.watch / 2, gap: Duration::ZERO };
        assert_eq!(generator::run(plan).failures, 0, "no request fails");
    }
    let load = format!("{:?} of load, half keep-alive, half one connection by request", effort.watch);
    print("processor ticks (10 ms) during", &(cpu_ticks(pool.pid()) - ticks).to_string(), "expected 1 or less");
    print("wake-ups during", &(wakeups(pool.pid()) - awake).to_string(), "");
    println!("    ({load})");
    print("memory (PSS)", &format!("{:.2} MiB", pss_mib(pool.pid())), "expected below 3 MiB");
}

fn wakeups(pid: i32) -> u64 {
    number_after(&format!("/proc/{pid}/status"), "voluntary_ctxt_switches:")
}

/// Proportional set size: what is shared counts by how many share it.
#[must_use]
#[allow(clippy::cast_precision_loss)] // some MiB
pub fn pss_mib(pid: i32) -> f64 {
    number_after(&format!("/proc/{pid}/smaps_rollup"), "Pss:") as f64 / 1_024.0
}

fn number_after(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).expect("the process lives");
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok()).expect("the system tells it")
}

/// Processor time so far, in user mode and in the system.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // The name before the parenthesis may contain spaces.
    let fields = stat.rsplit_once(") ").expect("the name is in parentheses").1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// Time on a processor so far, in all threads of these processes. Finer than [`cpu_ticks`], which the kernel samples.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn processor_time(pids: &[i32]) -> Duration {
    let threads = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives"));
    let nanoseconds = threads.filter_map(|thread| {
        let path = thread.ok()?.path().join("schedstat");
        fs::read_to_string(path).ok()?.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}
