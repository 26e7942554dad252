//! A command line without a command: `dutch-master app.js` means `dutch-master start app.js`.

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;

use super::args::{Command, CommandLine};

/// The command line with `start`, if that makes sense of it: then its WORKER looks like one.
pub(super) fn start(words: impl Iterator<Item = OsString>, error: ErrorKind) -> Option<String> {
    if !matches!(error, ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument) {
        return None;
    }
    let words: Vec<OsString> = [OsString::from("start")].into_iter().chain(words).collect();
    let line = CommandLine::try_parse_from([OsString::from("dutch-master")].iter().chain(&words)).ok()?;
    let Command::Start(start) = line.command else { return None };
    let worker = start.service.settings.worker?.into_iter().next()?;
    let looks_like_one = worker.contains(['/', '.']) || Path::new(&worker).is_file();
    looks_like_one.then(|| words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(words: &str) -> Option<String> {
        let words: Vec<_> = words.split(' ').map(OsString::from).collect();
        let error = CommandLine::try_parse_from([OsString::from("dutch-master")].iter().chain(&words)).err()?;
        start(words.into_iter(), error.kind())
    }

    #[test]
    fn a_worker_without_a_command_is_meant_to_be_started() {
        for (words, expected) in [
            ("app.js", Some("start app.js")),
            ("./serve --port 1", Some("start ./serve --port 1")),
            ("-n 4 app.js", Some("start -n 4 app.js")),
            ("-n four app.js", None),
            ("statsu", None),
            ("status app.js", None),
            ("start --num-worker 3 app.js", None),
        ] {
            assert_eq!(meant(words).as_deref(), expected, "{words}");
        }
    }
}
