//! Tests that load the machine run one after the other, in whatever process.

use std::fs::File;

use nix::fcntl::{Flock, FlockArg};

/// Waits until no other such test runs; the machine is this test's while the value lives.
///
/// # Panics
/// When the system does not let it.
#[must_use]
pub fn exclusive() -> Flock<File> {
    let file = File::create(std::env::temp_dir().join("dutch-master-tests.lock")).expect("a file can be made");
    Flock::lock(file, FlockArg::LockExclusive).unwrap_or_else(|(_, error)| panic!("the file can be locked: {error}"))
}
