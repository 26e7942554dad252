//! Reading the configuration again. Where it stands is known to whoever embeds the master; what of it takes effect is decided here.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::adapted;
use super::event_loop::EventLoop;
use super::hook::with_room_for_a_queue;
use super::line::Message;
use super::program::Program;
use super::snapshots::{self, Environment, environment};
use crate::core::{GenerationId, Ticket};
use crate::options::Options;

/// The configuration as it was read again.
#[derive(Debug)]
pub struct Reread {
    /// The options.
    pub options: Options,
    /// Names of changed settings of the reader's own that only a new start changes.
    pub fixed: Vec<&'static str>,
}

/// Reads the configuration again, or says why that cannot be done.
pub(super) struct ReadAgain(pub(super) Box<dyn FnMut() -> Result<Reread, String> + Send>);

impl fmt::Debug for ReadAgain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadAgain")
    }
}

/// Why a reload was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Whoever embeds the master has nothing to read.
    #[error("this master has no configuration to read again")]
    Unsupported,
    /// The master stops.
    #[error("the master is stopping")]
    Stopping,
    /// The configuration is wrong.
    #[error("{0}")]
    Invalid(String),
}

impl EventLoop {
    /// Whether there is something to read.
    pub(super) fn can_reload(&self) -> bool {
        self.read_again.is_some()
    }

    /// Reads the configuration and, if it is right, begins a rolling restart with it. Otherwise nothing changes.
    pub(super) fn request_reload(&mut self, ticket: Ticket, signal: Option<&str>) -> Result<(), Refused> {
        self.report_request(Message::ReloadRequested, signal);
        self.telling.reload_begins();
        let new = self.reread().inspect_err(|refused| self.say_reload_refused(&refused.to_string()))?;
        self.options = Arc::new(new);
        self.request_restart(ticket, None);
        Ok(())
    }

    fn reread(&mut self) -> Result<Options, Refused> {
        if self.is_stopping() {
            return Err(Refused::Stopping);
        }
        let ReadAgain(read_again) = self.read_again.as_mut().ok_or(Refused::Unsupported)?;
        let Reread { mut options, mut fixed } = read_again().map_err(Refused::Invalid)?;
        self.check_worker(&options).map_err(Refused::Invalid)?;
        fixed.splice(0..0, keep_what_is_fixed(&self.options, &mut options));
        if !fixed.is_empty() {
            self.say_needs_new_start(&fixed);
        }
        Ok(options)
    }

    /// What would make every start fail is refused before it costs one. A hook may still have to make what is missing.
    fn check_worker(&self, options: &Options) -> Result<(), String> {
        let in_full = |error: super::program::ProgramError| super::orders::in_full(error);
        adapted::check(options, self.listeners.configured_names()).map_err(|error| format!("{error} (listeners are changed by a new start alone)"))?;
        let directory = snapshots::resolve(&self.directory_of(options)).map_err(in_full)?;
        if options.before_fork.is_none() && self.callbacks.before_fork.is_none() {
            Program::find(options, &directory, &self.environment_of(options)).map_err(in_full)?;
        }
        Ok(())
    }

    /// The directory that workers start in, links and all.
    pub(super) fn directory_of(&self, options: &Options) -> PathBuf {
        let here = self.surroundings.as_ref().map_or(&self.here, |surroundings| &surroundings.directory);
        options.dir.as_ref().map_or_else(|| here.clone(), |dir| here.join(dir))
    }

    /// The environment of workers that start now.
    pub(super) fn environment_of(&self, options: &Options) -> Environment {
        match &self.surroundings {
            Some(surroundings) => environment(surroundings.environment.iter().cloned(), &options.env),
            None => environment(std::env::vars_os(), &options.env),
        }
    }

    /// The options that a generation was made with.
    pub(super) fn options_of(&self, generation: GenerationId) -> &Arc<Options> {
        self.snapshots.get(generation).map_or(&self.options, |snapshot| &snapshot.options)
    }

    /// Time limits and policies are the pool's as a whole: those of the generation that it is to have.
    pub(super) fn apply_policies(&mut self, options: &Arc<Options>) {
        self.pool.set_config(with_room_for_a_queue(options.core()));
    }
}

/// What only a new start changes: sockets and files that exist already, and what others know the master by.
macro_rules! fixed_keys {
    ($($key:ident),*) => {
        /// Names of the options that a reload leaves as they are.
        pub const FIXED_KEYS: &[&str] = &[$(stringify!($key)),*];

        /// Puts them back. Returns the names of those that were changed.
        fn keep_what_is_fixed(old: &Options, new: &mut Options) -> Vec<&'static str> {
            let mut changed = Vec::new();
            $(if new.$key != old.$key {
                changed.push(stringify!($key));
                new.$key.clone_from(&old.$key);
            })*
            changed
        }
    };
}

fixed_keys!(listen, user, group, groups, restart_signal, name, socket, pid_file, metrics);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_new_start_changes_stays_and_is_named() {
        let old = Options::new("app.js");
        let mut new = Options { name: Some("web".into()), restart_signal: "SIGHUP".into(), restart_attempts: 9, ..Options::new("new.js") };
        assert_eq!(keep_what_is_fixed(&old, &mut new), ["restart_signal", "name"]);
        assert_eq!(new, Options { restart_attempts: 9, ..Options::new("new.js") });
    }
}
