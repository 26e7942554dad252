//! A short time of chaos; `make chaos` is the long one.
#![allow(clippy::print_stdout)] // the numbers are worth seeing

use std::process::Command;

use dutch_master_tests::harness::{Running, binary, exclusive};

#[test]
fn whatever_happens_only_what_killed_workers_had_accepted_fails_and_nothing_is_left_behind() {
    let _alone = exclusive();
    let mut command = Command::new(binary("chaos"));
    command.args(["--seconds", "20"]).args(std::env::var("CHAOS_SEED").iter().flat_map(|seed| ["--seed", seed]));
    let chaos = Running::start(command).finish();
    println!("{}", chaos.stdout);
    assert_eq!(chaos.code, Some(0), "run it again with CHAOS_SEED as printed:\n{}\n{}", chaos.stdout, chaos.stderr);
}
