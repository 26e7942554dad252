//! `dutch-master start`: a master in the foreground until it is told to stop.

use std::sync::Arc;

use dutch_master::{Callbacks, Chain, Inheritance, Master, ServiceManager, let_signals_come};
use tokio::sync::mpsc;
use tracing::error;

use super::args::Start;
use super::config::{ConfigError, Configuration, Source};
use super::exit;
use super::log::Logger;
use super::print::note;
use super::resident;
use super::settings::Log;
use super::signals::Signals;
use super::upgrade;

/// Requests by signal that wait to be handled: far more than the loop ever lets wait, and the kernel merges what is beyond.
const REQUESTS_MAX: usize = 16;

/// Runs the master and says how it ended.
pub(super) async fn run(command: Start) -> u8 {
    let source = Source::new(command.service);
    let inheritance = match Inheritance::receive() {
        Ok(inheritance) => inheritance,
        Err(error) => return open_log(&source.log()).map_or(exit::FAILED, |log| refuse(&log, &[format!("Cannot take over: {}", Chain(&error))])),
    };
    let configured = match &inheritance {
        Some(inheritance) => (inheritance.options().clone(), serde_json::from_str(inheritance.context()).unwrap_or_else(|_| source.log())),
        None => match source.read() {
            Ok(Configuration { options, log, .. }) => (options, log),
            Err(ConfigError::Usage(wrong)) => {
                note(&format!("error: {wrong}"));
                return exit::USAGE;
            }
            Err(error) => {
                return open_log(&source.log()).map_or(exit::FAILED, |log| refuse(&log, &error.lines()));
            }
        },
    };
    let (options, log): (_, Log) = configured;
    // One that serves goes on without its file.
    let instead = || inheritance.as_ref().and_then(|_| open_log(&Log { file: None, ..log.clone() }));
    let Some(logger) = open_log(&log).or_else(instead) else { return exit::FAILED };
    // Before anything exists that a signal's default action would leave behind.
    let signals = match Signals::listen(&options.restart_signal) {
        Ok(signals) => signals,
        Err(error) => return refuse(&logger, &[format!("Cannot listen to signals: {error}")]),
    };
    if inheritance.is_some() {
        let_signals_come();
    }
    let anew = || Master::prepare_under(service_manager(), options, Callbacks::default());
    let prepared = match inheritance {
        Some(inheritance) => Master::succeed(inheritance, service_manager()).or_else(|reason| {
            error!(%reason, "Upgrade failed, going on as after the death of a master");
            anew()
        }),
        None => anew(),
    };
    let log_file = log.file.clone();
    let master = match prepared {
        Ok(master) => {
            let invocation = upgrade::invocation(&log);
            master.with_upgrade(invocation).with_reload(move || source.read_again(&log)).with_rest(resident::give_back_what_is_not_needed)
        }
        Err(error) => return refuse(&logger, &[Chain(&error).to_string()]),
    };
    let (asker, requests) = mpsc::channel(REQUESTS_MAX);
    let code = tokio::select! {
        code = master.run(requests) => code,
        never = signals.pass_on(asker, &logger) => match never {},
        never = logger.tell_repeats() => match never {},
    };
    logger.finish();
    if let Some(file) = log_file.filter(|_| code != exit::DONE && logger.has_file()) {
        note(&format!("dutch-master: ended with exit code {code}; {} says why", file.display()));
    }
    code
}

/// What systemd gave to this process, if it was systemd that started it.
#[allow(unsafe_code)]
fn service_manager() -> ServiceManager {
    // SAFETY: this program has one thread, and everything that it opens itself is close-on-exec.
    unsafe { ServiceManager::from_env() }
}

/// `None`: the log file cannot be had, and that was told.
fn open_log(options: &Log) -> Option<Arc<Logger>> {
    Logger::install(options)
        .inspect_err(|error| {
            if let Ok(logger) = Logger::install(&Log { file: None, ..options.clone() }) {
                refuse(&logger, &[error.to_string()]);
            }
        })
        .ok()
}

/// Tells why there is no start; where the log is a file also those who wait for the start.
fn refuse(logger: &Logger, lines: &[String]) -> u8 {
    for line in lines {
        error!("{line}");
        if logger.has_file() {
            note(&format!("dutch-master: {line}"));
        }
    }
    exit::FAILED
}
