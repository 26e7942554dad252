//! A process without a free descriptor accepts again when there is one, and does not spin meanwhile. Alone in its file: it takes the descriptors of the whole process.

mod fake_master;
mod rig;

use std::fs::File;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use rig::Rig;

#[test]
fn accepting_survives_a_lack_of_descriptors() {
    let rig = Rig::start(Duration::ZERO);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    hoard.pop();
    let mut client = rig.client(); // with the last descriptor
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let before = cpu();
    std::thread::sleep(Duration::from_millis(300));
    assert!(cpu() - before < Duration::from_millis(100), "it spins");
    drop(hoard);
    assert!(client.response().ends_with("hello"));
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the system counts");
    [usage.user_time(), usage.system_time()].iter().map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1_000)).sum()
}
