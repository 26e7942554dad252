//! `dutch-master check`: everything that `start` would refuse, without a trace.

use dutch_master::{Chain, Master};

use super::args::Check;
use super::config::{self, ConfigError, Source};
use super::exit::{self, Failure};
use super::log;
use super::print::{note, say};
use super::unit::Unit;

/// One line for each fault; the exit code says whether there is one.
pub(super) fn run(command: Check) -> Result<u8, Failure> {
    let seen = command.unit.as_deref().map(Unit::load).transpose().and_then(|unit| match unit {
        Some(unit) => unit.complete(command.service).map(|service| (Some(unit), service)),
        None => Ok((None, command.service)),
    });
    let (unit, service) = match seen {
        Ok(seen) => seen,
        Err(fault) => return Ok(refused(&[fault])),
    };
    let configuration = match Source::new(service).read() {
        Ok(configuration) => configuration,
        Err(ConfigError::Usage(wrong)) => {
            note(&format!("error: {wrong}"));
            return Ok(exit::USAGE);
        }
        Err(error) => return Ok(refused(&error.lines())),
    };
    if command.print {
        say(&config::text(&configuration))?;
    }
    let log_file = configuration.log.file.as_deref().and_then(|file| log::check(file).err()).map(|error| error.to_string());
    let others = Master::check(&configuration.options);
    let faults: Vec<_> = log_file.into_iter().chain(others.iter().map(|error| Chain(error).to_string())).collect();
    if !faults.is_empty() {
        return Ok(refused(&faults));
    }
    if let Some(unit) = &unit {
        unit.warnings(&configuration.options).iter().for_each(|warning| note(&format!("warning: {}: {warning}", unit.file().display())));
    }
    if !command.print {
        say("The configuration is right.")?;
    }
    Ok(exit::DONE)
}

fn refused(faults: &[String]) -> u8 {
    faults.iter().for_each(|line| note(&format!("dutch-master: {line}")));
    exit::FAILED
}
