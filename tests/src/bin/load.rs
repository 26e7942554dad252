//! `make load`: rolling restarts under load for each kind of worker, as a table. Exit code 1 if a request failed, or if the negative controls saw none fail.
//!
//! `load [RESTARTS [CLIENTS]]`, 20 and 50 unless said otherwise.
#![allow(clippy::print_stdout)] // the table is what this program is for

use std::process::ExitCode;

use dutch_master_tests::load::Mode;
use dutch_master_tests::rolling::{Outcome, Rolling, Workers};

fn main() -> ExitCode {
    let numbers: Result<Vec<usize>, _> = std::env::args().skip(1).map(|arg| arg.parse()).collect();
    let (restarts, clients) = match numbers.as_deref() {
        Ok([]) => (20, 50),
        Ok([restarts]) => (*restarts, 50),
        Ok([restarts, clients]) => (*restarts, *clients),
        _ => {
            eprintln!("usage: load [RESTARTS [CLIENTS]]");
            return ExitCode::from(2);
        }
    };
    println!("{restarts} rolling restarts of 2 workers under load of {clients} clients that never retry\n");
    println!(
        "{:14} {:12} {:>8} {:>9} {:>11} {:>7} {:>7} {:>7} {:>7} {:>7}   open at each order (least, mean, most)",
        "workers", "mode", "think ms", "requests", "connections", "failed", "refused", "reset", "eof", "other"
    );
    let mut as_promised = true;
    for workers in [Workers::Express, Workers::Axum, Workers::NaiveExpress, Workers::NaiveAxum] {
        let naive = matches!(workers, Workers::NaiveExpress | Workers::NaiveAxum);
        let mut failures = 0;
        for (mode, think_ms) in [(Mode::KeepAlive, 400), (Mode::KeepAlive, 20), (Mode::PerRequest, 50)] {
            if naive && mode == Mode::PerRequest {
                continue; // What they do wrong is to close idle connections.
            }
            let outcome = Rolling { workers, mode, clients, think_ms, restarts, settle_time: "2s" }.run();
            print(workers, mode, think_ms, &outcome);
            failures += outcome.report.failures();
        }
        as_promised &= (failures > 0) == naive;
    }
    if as_promised { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(workers: Workers, mode: Mode, think_ms: u64, Outcome { report, open_at_orders: open, .. }: &Outcome) {
    use dutch_master_tests::load::Failure::{Eof, Refused, Reset};
    let (workers, mode) = (format!("{workers:?}"), format!("{mode:?}"));
    let classes = [Refused, Reset, Eof].map(|class| report.count(class));
    let (failed, [refused, reset, eof]) = (report.failures(), classes);
    let other = failed - classes.iter().sum::<u64>();
    let (least, most) = (open.iter().min().unwrap_or(&0), open.iter().max().unwrap_or(&0));
    let mean = open.iter().sum::<usize>() / open.len().max(1);
    println!(
        "{workers:14} {mode:12} {think_ms:>8} {:>9} {:>11} {failed:>7} {refused:>7} {reset:>7} {eof:>7} {other:>7}   {least}, {mean}, {most} at {} orders",
        report.sent,
        report.connections,
        open.len()
    );
    if failed > 0 {
        report.examples.iter().take(5).for_each(|example| println!("    {example}"));
    }
}
