//! A hundred masters, and not one descriptor more. Alone in its process, since it counts them all.
#![allow(clippy::unwrap_used)] // also in what is not itself a test

mod fake_master;

use fake_master::{FakeMaster, tcp, welcome};

fn descriptors() -> usize {
    std::fs::read_dir("/dev/fd").unwrap().count()
}

#[test]
fn a_worker_that_has_come_back_a_hundred_times_has_not_one_descriptor_more() {
    let mut master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let bound = tcp();
    let asking = std::thread::spawn(move || worker.listen_blocking(80).unwrap());
    let seq = peer.expect_listen().seq;
    peer.hand_over(seq, &bound);
    let _listener = asking.join().unwrap();
    let before = descriptors();
    for _ in 0..100 {
        master.die(peer);
        master.succeed();
        let resume;
        (peer, resume) = master.take_back(welcome());
        assert_eq!(resume.keys, ["key 1"]);
    }
    // The worker's end of the last connection but one may not be closed yet, only that of earlier ones.
    assert!((before..=before + 1).contains(&descriptors()), "{before} descriptors have become {}", descriptors());
}
