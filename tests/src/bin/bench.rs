//! `make bench`: the numbers of docs/benchmarks.md. `bench [SECTION…] [--pairs N] [--seconds S]`; without a section all of them but `hosts-node…` (`make bench-node`), with `BENCH_QUICK=1` just enough to see that it works.
#![allow(clippy::print_stdout)] // the tables are what this program is for

use std::process::{Command, ExitCode};
use std::time::Duration;

use dutch_master_tests::bench::pool::{App, Host};
use dutch_master_tests::bench::{Effort, balance, footprint, hosts, many, start, throughput};

/// Name and what it does.
type Section = (&'static str, fn(Effort));

const SECTIONS: [Section; 8] = [
    ("throughput-node", |effort| {
        let hosts = [Host::Launcher, Host::Master, Host::ClusterRoundRobin, Host::ClusterShared];
        throughput::run("Node's HTTP server", effort, App::Node, &hosts);
    }),
    ("throughput-rust", |effort| {
        let hosts = [Host::Launcher, Host::LauncherOfSessions, Host::Master];
        throughput::run("axum on one thread for each worker", effort, App::RustSingle, &hosts);
        throughput::run("axum on two threads for each worker", effort, App::RustMulti, &hosts);
    }),
    ("footprint", footprint::run),
    ("start", start::run),
    ("crash", start::run_crash),
    ("many", many::run),
    ("balance-node", |effort| balance::run(effort, &[(App::Node, "Node")])),
    ("balance-rust", |effort| balance::run(effort, &[(App::RustSingle, "axum, 1 thread"), (App::RustMulti, "axum, 2 threads")])),
];

/// Only where they are asked for: they take longer than all others, and do again what some of them do.
const HOSTS_NODE: [Section; 3] = [("hosts-node", hosts::run_throughput), ("hosts-node-start", hosts::run_start), ("hosts-node-restarts", hosts::run_restarts)];

fn main() -> ExitCode {
    let quick = std::env::var_os("BENCH_QUICK").is_some_and(|value| value != "0" && !value.is_empty());
    let mut effort = if quick { Effort::QUICK } else { Effort::FULL };
    let mut chosen = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let understood = match arg.as_str() {
            "--pairs" => number(args.next()).map(|pairs| effort.pairs = pairs),
            "--seconds" => number(args.next()).map(|seconds| effort.load = Duration::from_secs_f64(seconds)),
            "--many" => number(args.next()).map(|many| effort.many = many),
            name => SECTIONS.iter().chain(&HOSTS_NODE).find(|section| section.0 == name).map(|section| chosen.push(*section)),
        };
        if understood.is_none() {
            let names: Vec<_> = SECTIONS.iter().chain(&HOSTS_NODE).map(|(name, _)| *name).collect();
            eprintln!("usage: bench [SECTION…] [--pairs N] [--seconds S] [--many WORKERS]\nsections: {}", names.join(", "));
            return ExitCode::from(2);
        }
    }
    println!("{}", machine());
    for (_, run) in if chosen.is_empty() { SECTIONS.to_vec() } else { chosen } {
        run(effort);
    }
    ExitCode::SUCCESS
}

fn number<T: std::str::FromStr>(arg: Option<String>) -> Option<T> {
    arg?.parse().ok()
}

fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/ostype").unwrap_or_default();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let node = Command::new("node").arg("--version").output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!("{processors} processors, {} {}, Node {}", kernel.trim(), release.trim(), node.unwrap_or_default())
}
