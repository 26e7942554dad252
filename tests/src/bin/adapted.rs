//! Rolling restarts under load of a program that knows only systemd's conventions: `adapted RESTARTS CLIENTS WHEN PROGRAM [ARGS…]`, where WHEN is the value of `start --adapt`.
//!
//! It prints a line for each kind of client, with the failures by class: what docs/adapt.md quotes.
#![allow(clippy::print_stdout)] // the table is what this program is for

use std::time::Duration;

use dutch_master_tests::harness::Start;
use dutch_master_tests::load::{Failure, Load, Mode, Plan};

/// Requests that succeed before each restart, so that every one happens under load.
const OK_BETWEEN: u64 = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).ok_or("adapted RESTARTS CLIENTS WHEN PROGRAM [ARGS…]");
    let (restarts, clients) = (number()?, number()?);
    let (when, program) = (words.next().ok_or("WHEN")?, words.next().ok_or("PROGRAM")?);
    let arguments: Vec<String> = words.collect();
    println!(
        "{:12} {:>8} {:>9} {:>11} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "mode", "think ms", "requests", "connections", "failed", "refused", "reset", "eof", "other"
    );
    for (mode, think_ms) in [(Mode::KeepAlive, 400), (Mode::KeepAlive, 20), (Mode::PerRequest, 50)] {
        let start = arguments.iter().fold(Start::new(&program), Start::arg).flag(&format!("--adapt={when}")).option("--settle-time", "1s");
        let master = start.ready();
        let load = Load::start(Plan { mode, clients, think_ms: 0..=think_ms, ..Plan::new(master.address()) });
        for _ in 0..restarts {
            load.await_ok(OK_BETWEEN);
            master.restart();
        }
        // What an old worker still serves is over by then.
        std::thread::sleep(Duration::from_secs(3));
        let report = load.stop();
        let [refused, reset, eof] = [Failure::Refused, Failure::Reset, Failure::Eof].map(|class| report.count(class));
        let (failed, mode) = (report.failures(), format!("{mode:?}"));
        let other = failed - refused - reset - eof;
        println!("{mode:12} {think_ms:>8} {:>9} {:>11} {failed:>7} {refused:>7} {reset:>7} {eof:>7} {other:>7}", report.sent, report.connections);
        master.stop();
    }
    Ok(())
}
