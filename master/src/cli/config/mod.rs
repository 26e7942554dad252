//! The configuration: the command line, a file below it, the defaults below both; and where each value comes from.

mod file;
mod keys;
mod place;
mod print;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use dutch_master::options::ReadyOn;
use dutch_master::{Options, Reread};

use self::file::FileError;
pub(super) use self::print::text;
use super::args::Service;
use super::settings::{Log, Settings, name_given_twice};
use super::signals::REOPEN_SIGNAL;

/// The file that is taken when neither a worker nor a file is named.
pub(super) const USUAL_FILE: &str = "dutch-master.toml";

/// What concerns the log, and takes a new start to change.
const FIXED_LOG_KEYS: [&str; 3] = ["log_format", "log_level", "log_file"];

/// Where to read the configuration, now and whenever it is to be read again.
#[derive(Debug, Clone)]
pub(super) struct Source {
    command_line: Settings,
    /// Absolute, with the links through which the user came to it: one that moves is followed.
    file: Option<PathBuf>,
}

/// A configuration that is right.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) options: Options,
    pub(super) log: Log,
    pub(super) origins: Origins,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The file is.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is right, and names no worker.
    #[error("{}: `worker` is missing, and no WORKER is on the command line", .0.display())]
    NoWorker(PathBuf),
    /// One signal for two things.
    #[error("{REOPEN_SIGNAL} opens the log file again and cannot ask for a restart as well; choose another --restart-signal")]
    ReopenSignal,
    /// `adapt` says `hello` before its program is started.
    #[error(
        "with --adapt a worker says `hello` before its program has started, so --ready-on hello would take every release for one that serves; leave it out, and say by --adapt=WHEN when the program serves"
    )]
    AdaptedOnHello,
}

impl ConfigError {
    /// One line for each thing that is wrong.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            ConfigError::File(error) => error.lines(),
            ConfigError::Usage(_) | ConfigError::NoWorker(_) | ConfigError::ReopenSignal | ConfigError::AdaptedOnHello => vec![self.to_string()],
        }
    }
}

impl Source {
    /// The file is the one that is named; or, where there is no worker, the usual one in this directory.
    pub(super) fn new(service: Service) -> Source {
        let here = dutch_master::working_directory();
        let usual = || Some(here.join(USUAL_FILE)).filter(|file| service.settings.worker.is_none() && file.exists());
        let file = service.config.as_ref().map(|file| here.join(file)).or_else(usual);
        Source { command_line: service.settings, file }
    }

    /// What the command line alone says of the log, for when the file cannot be read.
    pub(super) fn log(&self) -> Log {
        self.command_line.log()
    }

    /// Reads everything as it is now.
    pub(super) fn read(&self) -> Result<Configuration, ConfigError> {
        if let Some(name) = self.command_line.listen.as_deref().and_then(name_given_twice) {
            return Err(ConfigError::Usage(format!("two listeners have the name `{name}`")));
        }
        let mut below = Settings::default();
        let mut origins = Origins::default();
        if let Some(path) = &self.file {
            let mut contents = file::read(path)?;
            // Where a worker is named, there it is looked for.
            if contents.settings.dir.is_none() && self.command_line.worker.is_none() {
                contents.settings.dir = path.parent().map(Path::to_path_buf);
            }
            origins.file = Some(path.clone());
            origins.lines = contents.lines;
            below = contents.settings;
        }
        origins.command_line(&self.command_line);
        let both = self.command_line.clone().over(below);
        let log = both.log();
        match (both.options(), &self.file) {
            (Some(options), _) if log.file.is_some() && options.restart_signal == REOPEN_SIGNAL => Err(ConfigError::ReopenSignal),
            (Some(options), _) if options.adapt.is_some() && options.ready_on == ReadyOn::Hello => Err(ConfigError::AdaptedOnHello),
            (Some(options), _) => Ok(Configuration { options, log, origins }),
            (None, Some(file)) => Err(ConfigError::NoWorker(file.clone())),
            (None, None) => Err(ConfigError::Usage(format!("no WORKER, and no {USUAL_FILE} in this directory; for more information, try '--help'"))),
        }
    }

    /// How a running master reads it again. What concerns the log stays as it was `before`.
    pub(super) fn read_again(&self, before: &Log) -> Result<Reread, String> {
        let Configuration { options, log, .. } = self.read().map_err(|error| error.to_string())?;
        let changed = [log.format != before.format, log.level != before.level, log.file != before.file];
        let fixed = FIXED_LOG_KEYS.into_iter().zip(changed).filter(|(_, is_changed)| *is_changed).map(|(key, _)| key).collect();
        Ok(Reread { options, fixed })
    }
}

/// Where each value comes from.
#[derive(Debug, Default)]
pub(super) struct Origins {
    file: Option<PathBuf>,
    lines: BTreeMap<String, usize>,
    command_line: BTreeSet<String>,
}

/// Where a value comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Origin<'a> {
    Default,
    File(&'a Path, usize),
    CommandLine,
}

impl Origins {
    fn command_line(&mut self, given: &Settings) {
        self.command_line = given.given().into_iter().map(String::from).collect();
        if given.worker.is_some() {
            self.command_line.insert("args".into());
        }
        let variables = given.env.iter().flatten().map(|(name, _)| variable(name));
        self.command_line.extend(variables);
    }

    fn of(&self, key: &str) -> Origin<'_> {
        match (self.command_line.contains(key), &self.file, self.lines.get(key)) {
            (true, ..) => Origin::CommandLine,
            (false, Some(file), Some(line)) => Origin::File(file, *line),
            (false, ..) => Origin::Default,
        }
    }

    /// Where the directory that workers start in comes from, also when nobody named one.
    fn of_directory(&self, directory: Option<&Path>) -> String {
        match (self.of("dir"), directory) {
            (Origin::Default, None) => "default: where `start` is run".into(),
            (Origin::Default, Some(_)) => "default: the folder of the file that names the worker".into(),
            (origin @ (Origin::File(..) | Origin::CommandLine), _) => origin.to_string(),
        }
    }

    fn of_variable(&self, name: &str) -> Origin<'_> {
        match self.of(&variable(name)) {
            // What is not in the table comes from the list.
            Origin::Default => self.of("env"),
            origin @ (Origin::File(..) | Origin::CommandLine) => origin,
        }
    }
}

/// The key of a variable for the workers.
fn variable(name: &str) -> String {
    format!("worker_environment.{name}")
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}
