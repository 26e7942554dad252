//! Requests per second of the same workers under different hosts.

use std::time::Duration;

use super::footprint::processor_time;
use super::generator::{self, GAP, Mode, Plan};
use super::pool::{App, Host, Pool};
use super::stats::{median, spread};
use super::{CONNECTIONS, Effort, WARM_UP};

/// How many workers.
const SIZES: [usize; 2] = [2, 4];

/// Prints the comparison for one kind of worker; the first host is what the others are compared with.
#[allow(clippy::cast_precision_loss)] // a count of requests
pub fn run(title: &str, effort: Effort, app: App, hosts: &[Host]) {
    println!(
        "\n{title}, {CONNECTIONS} connections, median of {} runs of {:?}; unevenness: standard deviation by mean of the connections of each worker; µs: the workers' processor time for each request\n",
        effort.pairs, effort.load
    );
    println!(
        "{:<8} {:<14} {:<20} {:>10} {:>8}   {:<20} {:>10} {:>8} {:>8}",
        "workers", "connections", "", "requests/s", "ratio", "spread of the pairs", "unevenness", "µs", "ratio"
    );
    for size in SIZES {
        let mut runs: Vec<[Runs; 2]> = hosts.iter().map(|_| Default::default()).collect();
        for round in 0..effort.pairs {
            for turn in 0..hosts.len() {
                // Another one begins each round, so that none always comes after the same other.
                let which = (round + turn) % hosts.len();
                let pool = Pool::start(hosts[which], app, size);
                // Connections that are kept come one after the other: all at once, one worker may get most of them, and then it is not the same that is compared.
                let load = |mode, duration| {
                    let gap = if mode == Mode::KeepAlive { GAP } else { Duration::ZERO };
                    let outcome = generator::run(Plan { address: pool.address, mode, connections: CONNECTIONS, duration, gap });
                    assert_eq!(outcome.failures, 0, "no request fails");
                    outcome
                };
                for (mode, runs) in [Mode::KeepAlive, Mode::PerRequest].into_iter().zip(&mut runs[which]) {
                    load(mode, WARM_UP.min(effort.load));
                    let before = processor_time(&pool.workers());
                    let outcome = load(mode, effort.load);
                    let spent = processor_time(&pool.workers()).saturating_sub(before);
                    runs.processor.push(spent.as_secs_f64() * 1e6 / outcome.requests as f64);
                    runs.rates.push(outcome.rate);
                    runs.unevenness.push(outcome.unevenness(size));
                }
            }
        }
        print(size, hosts, &runs);
    }
}

/// What was measured of one host in one mode.
#[derive(Default)]
struct Runs {
    rates: Vec<f64>,
    unevenness: Vec<f64>,
    processor: Vec<f64>,
}

fn print(size: usize, hosts: &[Host], runs: &[[Runs; 2]]) {
    for (mode, name) in ["keep-alive", "one by request"].into_iter().enumerate() {
        let Runs { rates: limit, processor: least_processor, .. } = &runs[0][mode];
        for (host, runs) in hosts.iter().zip(runs) {
            let Runs { rates, unevenness, processor } = &runs[mode];
            let ratio = median(rates) / median(limit);
            let (least, most) = spread(&rates.iter().zip(limit).map(|(rate, limit)| rate / limit).collect::<Vec<_>>());
            let pairs = format!("{least:.3} to {most:.3}");
            let expected = if (hosts[0], *host) == (Host::Launcher, Host::Master) { "   expected 0.97 or more" } else { "" };
            let (host, rate, unevenness, processor) = (host.label(), median(rates), median(unevenness), median(processor));
            let processor_ratio = processor / median(least_processor);
            println!(
                "{size:<8} {name:<14} {host:<20} {rate:>10.0} {ratio:>8.3}   {pairs:<20} {unevenness:>10.2} {processor:>8.2} {processor_ratio:>8.3}{expected}"
            );
        }
    }
}
