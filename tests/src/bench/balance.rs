//! How evenly connections spread over the workers.

use std::time::Duration;

use super::generator::{self, Mode, Outcome, Plan, Share};
use super::pool::{App, Host, Pool};
use super::stats::{coefficient_of_variation, median, spread};
use super::{CONNECTIONS, Effort, WARM_UP};

/// Time between connections that come one after the other.
const GAP: Duration = Duration::from_millis(2);

/// Prints the coefficient of variation by worker: the median of all runs, and the worst.
pub fn run(effort: Effort, host: Host) {
    println!("\nHow evenly {CONNECTIONS} connections spread: standard deviation by mean, median (worst) of {} runs\n", effort.pairs);
    println!(
        "{:<12} {:<8} {:>18} {:>18} {:>18} {:>16} {:>14}",
        "program", "workers", "kept, all at once", "kept, every 2 ms", "one by request", "requests/s kept", "by request"
    );
    let apps: &[(App, &str)] = match host {
        Host::Master | Host::Launcher => &[(App::Node, "Node"), (App::RustSingle, "Rust, 1 thread"), (App::RustMulti, "Rust, 2")],
        Host::ClusterRoundRobin | Host::ClusterShared => &[(App::Node, "Node")],
    };
    for (app, name) in apps {
        for size in [2, 4, 8] {
            let runs: Vec<[f64; 5]> = (0..effort.pairs).map(|_| measure(effort, host, *app, size)).collect();
            let column = |n: usize| runs.iter().map(|run| run[n]).collect::<Vec<_>>();
            let show = |n: usize| format!("{:.2} ({:.2})", median(&column(n)), spread(&column(n)).1);
            println!("{name:<12} {size:<8} {:>18} {:>18} {:>18} {:>16.0} {:>14.0}", show(0), show(1), show(2), median(&column(3)), median(&column(4)));
        }
    }
    println!("\nChance alone: 0.12 for 64 connections over 2 workers, 0.22 over 4, 0.33 over 8.");
}

fn measure(effort: Effort, host: Host, app: App, size: usize) -> [f64; 5] {
    let pool = Pool::start(host, app, size);
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
    let connections = |outcome: &Outcome| variation(outcome, size, |share| share.connections);
    [connections(&at_once), connections(&by_and_by), variation(&by_request, size, |share| share.requests), at_once.rate, by_request.rate]
}

/// Workers that got nothing count, too.
fn variation(outcome: &Outcome, size: usize, count: impl Fn(&Share) -> u64) -> f64 {
    let mut counts: Vec<u64> = outcome.shares.values().map(count).collect();
    counts.resize(size, 0);
    coefficient_of_variation(&counts)
}
