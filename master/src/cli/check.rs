//! `dutch-master check`: everything that `start` would refuse, without a trace.

use dutch_master::{Chain, Master};

use super::args::Check;
use super::config::{self, ConfigError, Source};
use super::exit::{self, Failure};
use super::log;
use super::print::{note, say};
use super::unit;

/// One line for each fault; the exit code says whether there is one.
pub(super) fn run(command: Check) -> Result<u8, Failure> {
    let configuration = match Source::new(command.service).read() {
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
    if let Some(unit) = &command.unit {
        match unit::warnings(unit, &configuration.options) {
            Ok(warnings) => warnings.iter().for_each(|warning| note(&format!("warning: {}: {warning}", unit.display()))),
            Err(error) => return Ok(refused(&[format!("cannot read {}: {error}", unit.display())])),
        }
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
