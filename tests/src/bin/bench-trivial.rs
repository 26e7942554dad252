//! A worker that does nothing but report when its program began and when it was ready, and go when told to.

use std::error::Error;

use dutch_master_tests::bench::reports::{Stage, now, report};
use dutch_master_worker::Worker;

fn main() -> Result<(), Box<dyn Error>> {
    report(Stage::First, now(), 0);
    let worker = Worker::from_env()?;
    if worker.is_standalone() {
        report(Stage::Ready, now(), 0);
        nix::unistd::pause();
        return Ok(());
    }
    let _listener = worker.listen_blocking("name:web")?;
    worker.listening(None);
    report(Stage::Ready, now(), 0);
    let _order = worker.wait_for_order();
    worker.drained();
    Ok(())
}
