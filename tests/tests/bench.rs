//! The benchmark runs. What it measures is not judged here.

use std::process::Command;

use dutch_master_tests::harness::{binary, exclusive};

/// Runs these sections with the least effort and looks for parts of their tables.
#[track_caller]
fn assert_prints(sections: &[&str], parts: &[&str]) {
    let _alone = exclusive();
    let quick = Command::new(binary("bench")).args(sections).args(["--pairs", "1", "--seconds", "0.1", "--many", "20"]).env("BENCH_QUICK", "1").output();
    let quick = quick.expect("the benchmark can be started");
    let tables = String::from_utf8_lossy(&quick.stdout);
    assert!(quick.status.success(), "{tables}\n{}", String::from_utf8_lossy(&quick.stderr));
    for part in parts {
        assert!(tables.contains(part), "no “{part}” in\n{tables}");
    }
}

#[test]
fn every_section_of_the_benchmark_prints_its_table() {
    let parts = ["inherited listener", "cluster, rr", "axum on one thread", "memory (PSS)", "ratio of medians", "SIGKILL", "rolling restart", "by request"];
    assert_prints(&[], &parts);
}

#[test]
fn the_comparison_of_what_node_teams_choose_between_prints_its_tables() {
    assert_prints(
        &["hosts-node", "hosts-node-start", "hosts-node-restarts"],
        &["dutch-master in Node", "cluster, none", "listening workers", "a bare process", "rolling restarts of"],
    );
}

#[test]
fn an_option_that_the_benchmark_does_not_know_is_refused() {
    let output = Command::new(binary("bench")).arg("--forever").output().expect("the benchmark can be started");
    assert_eq!(output.status.code(), Some(2));
}
