//! Pools that are larger than any limit on strangers.

use dutch_master_tests::harness::{GOOD, Start, exclusive};

#[test]
fn a_hundred_workers_that_connect_at_once_are_all_heard() {
    let _alone = exclusive();
    let master = Start::test_worker(GOOD).option("--num-workers", "100").ready();
    let log = master.log();
    assert_eq!((log.count("Connection refused"), log.count("Creating new worker")), (0, 100), "{log}");
    master.stop();
}
