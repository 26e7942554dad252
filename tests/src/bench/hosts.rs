//! What Node teams choose between: dutch-master as a program and inside Node, Node's own cluster with both policies, and pm2 in its cluster mode. The same app under each, all in one run.

use std::thread;

use super::footprint::{AT_REST, pss_mib};
use super::pool::{App, Host, Pool};
use super::stats::{median, spread};
use super::{Effort, milliseconds, throughput};
use crate::load::{Load, Mode, Plan};

/// The first one is what the others are compared with.
const HOSTS: [Host; 5] = [Host::ClusterRoundRobin, Host::ClusterShared, Host::Pm2, Host::Master, Host::Embedded];

const WORKERS: usize = 2;

/// Clients of the load during restarts, and the longest gap between two requests of one.
const CLIENTS: usize = 40;
const THINK_MS: u64 = 50;

/// Requests that succeed before each restart and after the last one.
const OK_BETWEEN: u64 = 100;

/// Requests per second under each.
pub fn run_throughput(effort: Effort) {
    throughput::run("Node's HTTP server under each host", effort, App::Node, &hosts());
}

fn hosts() -> Vec<Host> {
    let hosts: Vec<Host> = HOSTS.into_iter().filter(|host| host.is_installed()).collect();
    if hosts.len() < HOSTS.len() {
        println!("\npm2 is not installed, and left out: run `npm ci` in tests/workers/pm2");
    }
    hosts
}

/// Runs something on each host in turn, so often; another host begins each round, so that none always comes after the same other.
fn interleaved<T>(rounds: usize, hosts: &[Host], mut measure: impl FnMut(Host) -> T) -> Vec<Vec<T>> {
    let mut measured: Vec<Vec<T>> = hosts.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..hosts.len() {
            let which = (round + turn) % hosts.len();
            measured[which].push(measure(hosts[which]));
        }
    }
    measured
}

/// From the start of the first process to the last worker that listens, and what the host itself takes then.
pub fn run_start(effort: Effort) {
    let hosts = &hosts();
    println!("\nFrom the start to {WORKERS} listening workers, and memory of the master at rest (PSS); medians of {}, interleaved\n", effort.pairs);
    let measured = interleaved(effort.pairs, hosts, |host| {
        let pool = Pool::start(host, App::Node, WORKERS);
        thread::sleep(AT_REST.min(effort.watch));
        (milliseconds(pool.took()), pss_mib(pool.pid()))
    });
    let measured: Vec<(Vec<f64>, Vec<f64>)> = measured.into_iter().map(|runs| runs.into_iter().unzip()).collect();
    println!("{:<22} {:>10} {:>8}   {:<20} {:>10} {:>8}", "", "start, ms", "ratio", "spread of the pairs", "PSS, MiB", "ratio");
    let (limit_times, limit_memory) = &measured[0];
    for (host, (times, memory)) in hosts.iter().zip(&measured) {
        let ratio = |these: &[f64], those: &[f64]| median(these) / median(those);
        let (least, most) = spread(&times.iter().zip(limit_times).map(|(time, limit)| time / limit).collect::<Vec<_>>());
        let (host, pairs) = (host.label(), format!("{least:.3} to {most:.3}"));
        let (start, start_ratio, pss, pss_ratio) = (median(times), ratio(times, limit_times), median(memory), ratio(memory, limit_memory));
        println!("{host:<22} {start:>10.0} {start_ratio:>8.3}   {pairs:<20} {pss:>10.2} {pss_ratio:>8.3}");
    }
    bare(effort);
}

/// What the SDK costs a worker's start: the same app as a bare process that inherits its listener.
fn bare(effort: Effort) {
    let measured = interleaved(effort.pairs, &[Host::Launcher, Host::Master], |host| milliseconds(Pool::start(host, App::Node, 1).took()));
    let (bare, worker) = (median(&measured[0]), median(&measured[1]));
    println!("\nFrom the start to one listening worker: {worker:.0} ms, a bare process {bare:.0} ms: {:.0} ms more, expected 150 or less", worker - bare);
}

/// Clients that never retry, through rolling restarts.
pub fn run_restarts(effort: Effort) {
    let hosts = &hosts();
    println!("\n{} rolling restarts of {WORKERS} workers under {CLIENTS} clients that never retry; {} runs each\n", effort.restarts, effort.pairs);
    println!("{:<22} {:<14} {:>10} {:>10} {:>8}   failed in each run", "", "connections", "requests", "failed", "by 1,000");
    for (mode, connections) in [(Mode::KeepAlive, "keep-alive"), (Mode::PerRequest, "one by request")] {
        let measured = interleaved(effort.pairs, hosts, |host| restarts_of(host, mode, effort.restarts));
        for (host, runs) in hosts.iter().zip(&measured) {
            let (sent, failed) = runs.iter().fold((0, 0), |(sent, failed), run| (sent + run.0, failed + run.1));
            let each: Vec<String> = runs.iter().map(|(_, failed)| failed.to_string()).collect();
            #[allow(clippy::cast_precision_loss)] // counts of requests
            let share = failed as f64 * 1_000.0 / sent as f64;
            println!("{:<22} {connections:<14} {sent:>10} {failed:>10} {share:>8.3}   {}", host.label(), each.join(", "));
        }
    }
}

/// How many requests were sent, and how many of them failed.
fn restarts_of(host: Host, mode: Mode, restarts: usize) -> (u64, u64) {
    let mut pool = Pool::start(host, App::NodeService, WORKERS);
    let load = Load::start(Plan { mode, clients: CLIENTS, think_ms: 0..=THINK_MS, ..Plan::new(pool.address) });
    for _ in 0..restarts {
        load.await_ok(OK_BETWEEN);
        pool.restart();
    }
    load.await_ok(OK_BETWEEN);
    let report = load.stop();
    (report.sent, report.failures())
}
