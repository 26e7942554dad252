//! How quickly workers are there: all of them at the start, and one after a crash.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal::SIGKILL;

use super::pool::{App, Host, Pool};
use super::reports::{Stage, now};
use super::stats::{median, spread};
use super::{Effort, milliseconds, print};
use crate::harness::send;

const WORKERS: usize = 16;

/// A worker that had run that long is replaced without delay, however many others crashed.
const LASTED: Duration = Duration::from_millis(10_500);

/// What the machine still does for the last one must not delay the next.
const PAUSE: Duration = Duration::from_millis(50);

/// From the start of the master to 16 ready workers, against the launcher's.
pub fn run(effort: Effort) {
    println!("\nFrom the start of the master to {WORKERS} ready workers of a trivial program, against the launcher\n");
    // When the first worker began, when the last one did, and when all were ready.
    let (mut master, mut launcher): ([Vec<f64>; 3], [Vec<f64>; 3]) = Default::default();
    for _ in 0..2 * effort.pairs {
        for (host, times) in [(Host::Master, &mut master), (Host::Launcher, &mut launcher)] {
            let pool = Pool::start(host, App::Trivial, WORKERS);
            let [first, last] = pool.began();
            times.iter_mut().zip([first, last, pool.took()]).for_each(|(times, time)| times.push(milliseconds(time)));
        }
    }
    for (host, [first, last, ready]) in [(Host::Master, &master), (Host::Launcher, &launcher)] {
        let (least, most) = spread(ready);
        let steps = format!("first program after {:.1} ms, last after {:.1} ms", median(first), median(last));
        print(host.label(), &format!("{:.1} ms ({least:.1} to {most:.1})", median(ready)), &steps);
    }
    let ([.., master], [.., launcher]) = (master, launcher);
    let pairs: Vec<f64> = master.iter().zip(&launcher).map(|(master, launcher)| master / launcher).collect();
    let (least, most) = spread(&pairs);
    print("ratio of medians, spread of the pairs", &format!("{:.2} ({least:.2} to {most:.2})", median(&master) / median(&launcher)), "expected 1.3 or less");
}

/// From SIGKILL of a worker to the first instruction of its replacement.
pub fn run_crash(effort: Effort) {
    println!("\nFrom SIGKILL of a worker to the first instruction of its replacement\n");
    let mut pool = Pool::start(Host::Master, App::Trivial, effort.crashes);
    // The first one is replaced without delay anyway.
    if effort.crashes > 1 {
        thread::sleep(LASTED);
    }
    let mut times = Vec::new();
    for worker in std::mem::take(&mut pool.ready) {
        let killed = now();
        send(worker.pid, SIGKILL);
        let first = pool.reports.wait(Stage::First, 1)[0].at;
        times.push(milliseconds(first.saturating_sub(killed)));
        let _ready = pool.reports.wait(Stage::Ready, 1);
        thread::sleep(PAUSE);
    }
    let spawned: Vec<f64> = (0..effort.crashes).map(|_| spawn(&mut pool)).collect();
    let show = |times: &[f64]| format!("{:.2} ms ({:.2} to {:.2})", median(times), spread(times).0, spread(times).1);
    print(&format!("median of {}", effort.crashes), &show(&times), "expected below 2 ms");
    print("of that, what the start of the program takes by itself", &show(&spawned), "");
}

/// Starts the same program with nobody around it.
fn spawn(pool: &mut Pool) -> f64 {
    let before = now();
    let mut child = pool.bare_worker().spawn().expect("a program can be started");
    let first = pool.reports.wait(Stage::First, 1)[0].at;
    let _ready = pool.reports.wait(Stage::Ready, 1);
    child.kill().and_then(|()| child.wait()).expect("it ends");
    thread::sleep(PAUSE);
    milliseconds(first.saturating_sub(before))
}
