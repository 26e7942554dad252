//! `make chaos`: `chaos [--seconds N] [--seed N] [--workers axum|express|python]`. Exit code 1 if something is not as promised.
#![allow(clippy::print_stdout)] // what it has to tell

use std::process::ExitCode;
use std::time::Duration;

use dutch_master_tests::chaos::{Ordeal, small_disk};
use dutch_master_tests::rolling::Workers;

fn main() -> ExitCode {
    let disk = small_disk(); // First: this process has no other threads yet.
    let mut ordeal = Ordeal { workers: Workers::Axum, time: Duration::from_secs(180), seed: fastrand::u64(..1_000_000), disk };
    let mut args = std::env::args().skip(1);
    while let Some(option) = args.next() {
        let value = args.next();
        let understood = match (option.as_str(), value.as_deref()) {
            ("--seconds", Some(seconds)) => seconds.parse().map(|seconds| ordeal.time = Duration::from_secs(seconds)).is_ok(),
            ("--seed", Some(seed)) => seed.parse().map(|seed| ordeal.seed = seed).is_ok(),
            ("--workers", Some(name)) => named(name).map(|workers| ordeal.workers = workers).is_some(),
            _ => false,
        };
        if !understood {
            eprintln!("usage: chaos [--seconds N] [--seed N] [--workers axum|express|python]");
            return ExitCode::from(2);
        }
    }
    let Ordeal { workers, time, seed, disk } = ordeal.clone();
    println!("{workers:?}, {} s, seed {seed}", time.as_secs());
    let outcome = ordeal.run(|deed| println!("{deed}"));
    if let Some(disk) = disk {
        let _ = nix::mount::umount2(&disk, nix::mount::MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(disk);
    }
    println!("{workers:?}, {} s, seed {seed}\n{outcome}", time.as_secs());
    if outcome.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn named(name: &str) -> Option<Workers> {
    Some(match name {
        "axum" => Workers::Axum,
        "express" => Workers::Express,
        "python" => Workers::Python,
        _ => return None,
    })
}
