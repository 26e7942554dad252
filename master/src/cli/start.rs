//! `dutch-master start`: a master in the foreground until it is told to stop.

use dutch_master::Master;
use tokio::sync::mpsc;
use tracing::error;

use super::args::Start;
use super::exit;
use super::log::{self, Chain};
use super::print::note;
use super::signals::Signals;

/// Requests by signal that wait to be handled: far more than the loop ever lets wait, and the kernel merges what is beyond.
const REQUESTS_MAX: usize = 16;

/// Runs the master and says how it ended.
pub(super) async fn run(command: Start) -> u8 {
    log::install(command.log);
    let options = match command.options() {
        Ok(options) => options,
        Err(wrong) => {
            note(&format!("error: {wrong}"));
            return exit::USAGE;
        }
    };
    // Before anything exists that a signal's default action would leave behind.
    let signals = match Signals::listen(&options.restart_signal) {
        Ok(signals) => signals,
        Err(error) => {
            error!("Cannot listen to signals: {error}");
            return exit::FAILED;
        }
    };
    let master = match Master::prepare(options) {
        Ok(master) => master,
        Err(error) => {
            error!("{}", Chain(&error));
            return exit::FAILED;
        }
    };
    let (asker, requests) = mpsc::channel(REQUESTS_MAX);
    tokio::select! {
        code = master.run(requests) => code,
        never = signals.pass_on(asker) => match never {},
    }
}
