//! How evenly connections spread over the workers.

use std::time::Duration;

use super::generator::{self, GAP, Mode, Plan};
use super::pool::{App, Host, Pool};
use super::stats::{median, spread};
use super::{CONNECTIONS, Effort, WARM_UP};

/// Prints the coefficient of variation by worker: the median of all runs, and the worst.
pub fn run(effort: Effort, apps: &[(App, &str)]) {
    println!("\nHow evenly {CONNECTIONS} connections spread: standard deviation by mean, median (worst) of {} runs\n", effort.pairs);
    println!(
        "{:<16} {:<8} {:>18} {:>18} {:>18} {:>16} {:>14}",
        "program", "workers", "kept, all at once", "kept, every 2 ms", "one by request", "requests/s kept", "by request"
    );
    for (app, name) in apps {
        for size in [2, 4, 8] {
            let runs: Vec<[f64; 5]> = (0..effort.pairs).map(|_| measure(effort, *app, size)).collect();
            let column = |n: usize| runs.iter().map(|run| run[n]).collect::<Vec<_>>();
            let show = |n: usize| format!("{:.2} ({:.2})", median(&column(n)), spread(&column(n)).1);
            println!("{name:<16} {size:<8} {:>18} {:>18} {:>18} {:>16.0} {:>14.0}", show(0), show(1), show(2), median(&column(3)), median(&column(4)));
        }
    }
    println!("\nChance alone: 0.12 for 64 connections over 2 workers, 0.22 over 4, 0.33 over 8.");
}

fn measure(effort: Effort, app: App, size: usize) -> [f64; 5] {
    let pool = Pool::start(Host::Master, app, size);
    let load = |mode, gap, duration| {
        let outcome = generator::run(Plan { address: pool.address, mode, connections: CONNECTIONS, duration, gap });
        assert_eq!(outcome.failures, 0, "no request fails");
        outcome
    };
    let short = effort.load / 2;
    load(Mode::PerRequest, Duration::ZERO, WARM_UP.min(short));
    let at_once = load(Mode::KeepAlive, Duration::ZERO, short);
    let by_and_by = load(Mode::KeepAlive, GAP, short.max(GAP * 100));
    let by_request = load(Mode::PerRequest, Duration::ZERO, effort.load);
    [at_once.unevenness(size), by_and_by.unevenness(size), by_request.unevenness(size), at_once.rate, by_request.rate]
}
