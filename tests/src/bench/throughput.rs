//! Requests per second of the same workers under different hosts.

use std::time::Duration;

use super::generator::{self, Mode, Plan};
use super::pool::{App, Host, Pool};
use super::stats::{median, spread};
use super::{CONNECTIONS, Effort, WARM_UP};

/// How many workers.
const SIZES: [usize; 2] = [2, 4];

/// Prints the comparison for one kind of worker; the first host is what the others are compared with.
pub fn run(title: &str, effort: Effort, app: App, hosts: &[Host]) {
    println!("\n{title}, {CONNECTIONS} connections, median of {} runs of {:?}\n", effort.pairs, effort.load);
    println!("{:<8} {:<14} {:<20} {:>10} {:>8}   spread of the pairs", "workers", "connections", "", "requests/s", "ratio");
    for size in SIZES {
        let mut rates = vec![[Vec::new(), Vec::new()]; hosts.len()];
        for round in 0..effort.pairs {
            for turn in 0..hosts.len() {
                // Another one begins each round, so that none always comes after the same other.
                let which = (round + turn) % hosts.len();
                let pool = Pool::start(hosts[which], app, size);
                let load = |mode, duration| {
                    let outcome = generator::run(Plan { address: pool.address, mode, connections: CONNECTIONS, duration, gap: Duration::ZERO });
                    assert_eq!(outcome.failures, 0, "no request fails");
                    outcome.rate
                };
                for (mode, rates) in [Mode::KeepAlive, Mode::PerRequest].into_iter().zip(&mut rates[which]) {
                    load(mode, WARM_UP.min(effort.load));
                    rates.push(load(mode, effort.load));
                }
            }
        }
        print(size, hosts, &rates);
    }
}

fn print(size: usize, hosts: &[Host], rates: &[[Vec<f64>; 2]]) {
    for (mode, name) in ["keep-alive", "one by request"].into_iter().enumerate() {
        let limit = &rates[0][mode];
        for (host, rates) in hosts.iter().zip(rates) {
            let rates = &rates[mode];
            let ratio = median(rates) / median(limit);
            let (least, most) = spread(&rates.iter().zip(limit).map(|(rate, limit)| rate / limit).collect::<Vec<_>>());
            let expected = if *host == Host::Master { "   expected 0.97 or more" } else { "" };
            println!("{size:<8} {name:<14} {:<20} {:>10.0} {ratio:>8.3}   {least:.3} to {most:.3}{expected}", label(*host), median(rates));
        }
    }
}

fn label(host: Host) -> &'static str {
    match host {
        Host::Master => "dutch-master",
        Host::Launcher => "inherited listener",
        Host::ClusterRoundRobin => "cluster, rr",
        Host::ClusterShared => "cluster, none",
    }
}
