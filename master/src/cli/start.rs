//! `dutch-master start`: a master in the foreground until it is told to stop; and `check`, which stops before that.

use dutch_master::Master;
use tokio::sync::mpsc;
use tracing::error;

use super::args::{Check, Start};
use super::config::{self, ConfigError, Configuration, Source};
use super::exit;
use super::log::{self, Chain};
use super::print::{note, say};
use super::resident;
use super::signals::Signals;

/// Requests by signal that wait to be handled: far more than the loop ever lets wait, and the kernel merges what is beyond.
const REQUESTS_MAX: usize = 16;

/// Runs the master and says how it ended.
pub(super) async fn run(command: Start) -> u8 {
    let source = Source::new(command.service);
    let Configuration { options, log, .. } = match source.read() {
        Ok(configuration) => configuration,
        Err(ConfigError::Usage(wrong)) => {
            note(&format!("error: {wrong}"));
            return exit::USAGE;
        }
        Err(error) => {
            log::install(source.log());
            error.lines().iter().for_each(|line| error!("{line}"));
            return exit::FAILED;
        }
    };
    log::install(log);
    // Before anything exists that a signal's default action would leave behind.
    let signals = match Signals::listen(&options.restart_signal) {
        Ok(signals) => signals,
        Err(error) => {
            error!("Cannot listen to signals: {error}");
            return exit::FAILED;
        }
    };
    let master = match Master::prepare(options) {
        Ok(master) => master.with_reload(move || source.read_again(log)),
        Err(error) => {
            error!("{}", Chain(&error));
            return exit::FAILED;
        }
    };
    resident::give_back_the_start();
    let (asker, requests) = mpsc::channel(REQUESTS_MAX);
    tokio::select! {
        code = master.run(requests) => code,
        never = signals.pass_on(asker) => match never {},
    }
}

/// `dutch-master check`: everything that `start` would refuse, without a trace.
pub(super) fn check(command: Check) -> u8 {
    let configuration = match Source::new(command.service).read() {
        Ok(configuration) => configuration,
        Err(ConfigError::Usage(wrong)) => {
            note(&format!("error: {wrong}"));
            return exit::USAGE;
        }
        Err(error) => {
            error.lines().iter().for_each(|line| note(&format!("dutch-master: {line}")));
            return exit::FAILED;
        }
    };
    if command.print {
        say(&config::text(&configuration));
    }
    if let Err(error) = Master::check(&configuration.options) {
        note(&format!("dutch-master: {}", Chain(&error)));
        return exit::FAILED;
    }
    if !command.print {
        say("The configuration is right.");
    }
    exit::DONE
}
