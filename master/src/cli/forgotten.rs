//! Command lines that lack something: `dutch-master app.js` means `dutch-master start app.js`, `dutch-master stop web` means `dutch-master stop --name web`, and `status --watch 2s` means `--watch=2s`; or that have one word too many.

use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::args::{Command, CommandLine};
use super::values;

/// The command line with `start`, if that makes sense of it: then its WORKER looks like one, or there is a file instead.
pub(super) fn start(words: &[OsString], error: ErrorKind) -> Option<String> {
    if !matches!(error, ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument) {
        return None;
    }
    let words = [&["start".into()], words].concat();
    let Command::Start(start) = parse(&words)? else { return None };
    let looks_like_one = match start.service.settings.worker {
        Some(worker) => worker.first().is_some_and(|worker| worker.contains(['/', '.']) || Path::new(worker).is_file()),
        None => start.service.config.is_some(),
    };
    looks_like_one.then(|| as_typed(&words))
}

/// The command line with `--name`, if that makes sense of a word which is too many. A number is no name that anybody means.
pub(super) fn name(words: &[OsString], error: ErrorKind) -> Option<String> {
    if error != ErrorKind::UnknownArgument {
        return None;
    }
    let may_be_one = |word: &OsString| word.to_str().is_some_and(|word| !word.starts_with(['-', '+']) && word.parse::<u32>().is_err());
    (1..words.len()).filter(|at| may_be_one(&words[*at])).find_map(|at| {
        let words = [&words[..at], &["--name".into()], &words[at..]].concat();
        parse(&words).map(|_| as_typed(&words))
    })
}

/// Whether it is about two sizes where one is wanted.
pub(super) fn has_two_sizes(words: &[OsString]) -> bool {
    let is_size = |word: &&OsString| word.to_str().is_some_and(|word| values::size_change(word).is_ok());
    words.first().is_some_and(|command| command == "scale") && words.iter().filter(is_size).count() > 1
}

/// A value that lacks the `=` before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Apart {
    /// As it stands there.
    pub(super) value: String,
    /// The command line with the `=`.
    pub(super) meant: String,
}

/// A value that stands apart from an option which takes one only after `=`: it was taken for the WORKER, or, where there is an error, it is a word that is too many.
pub(super) fn equals_sign(words: &[OsString], understood: Result<&Command, ErrorKind>) -> Option<Apart> {
    let candidates = match understood {
        Ok(Command::Start(start)) => worker_at(words, start.service.settings.worker.as_deref())?,
        Ok(Command::Check(check)) => worker_at(words, check.service.settings.worker.as_deref())?,
        Err(ErrorKind::UnknownArgument) => 2..words.len(),
        Ok(_) | Err(_) => return None,
    };
    candidates.into_iter().find_map(|at| {
        let (option, value) = (words.get(at.checked_sub(1)?)?.to_str()?, words.get(at)?.to_str()?);
        if !takes_value_after_equals(words.first()?.to_str()?, option.strip_prefix("--").filter(|name| !name.is_empty())?) {
            return None;
        }
        let joined = [&words[..at - 1], &[format!("{option}={value}").into()], &words[at + 1..]].concat();
        let is_meant = match try_parse(&joined) {
            Ok(_) => true,
            // A number without its unit is told of when it is where it belongs.
            Err(error) => error.kind() == ErrorKind::ValueValidation && value.starts_with(|c: char| c.is_ascii_digit()),
        };
        is_meant.then(|| Apart { value: value.into(), meant: as_typed(&joined) })
    })
}

/// Where the WORKER is: it ends the command line, with all that belongs to it.
fn worker_at(words: &[OsString], worker: Option<&[String]>) -> Option<Range<usize>> {
    let at = words.len().checked_sub(worker?.len())?;
    Some(at..at + 1)
}

fn takes_value_after_equals(command: &str, option: &str) -> bool {
    let line = CommandLine::command();
    line.find_subcommand(command).is_some_and(|command| command.get_arguments().any(|arg| arg.is_require_equals_set() && arg.get_long() == Some(option)))
}

fn parse(words: &[OsString]) -> Option<Command> {
    try_parse(words).ok()
}

fn try_parse(words: &[OsString]) -> Result<Command, clap::Error> {
    CommandLine::try_parse_from([OsString::from("dutch-master")].iter().chain(words)).map(|line| line.command)
}

fn as_typed(words: &[OsString]) -> String {
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(words: &str, how: impl Fn(&[OsString], ErrorKind) -> Option<String>) -> Option<String> {
        let words: Vec<_> = words.split(' ').map(OsString::from).collect();
        let error = CommandLine::try_parse_from([OsString::from("dutch-master")].iter().chain(&words)).err()?;
        how(&words, error.kind())
    }

    #[test]
    fn a_worker_without_a_command_is_meant_to_be_started() {
        for (words, expected) in [
            ("app.js", Some("start app.js")),
            ("./serve --port 1", Some("start ./serve --port 1")),
            ("-n 4 app.js", Some("start -n 4 app.js")),
            ("-c shop.toml", Some("start -c shop.toml")),
            ("-n four app.js", None),
            ("-n 4", None),
            ("statsu", None),
            ("status app.js", None),
            ("start --num-worker 3 app.js", None),
        ] {
            assert_eq!(meant(words, start).as_deref(), expected, "{words}");
        }
    }

    #[test]
    fn a_value_apart_from_its_option_is_meant_to_be_behind_an_equals_sign() {
        for (words, expected) in [
            ("status --watch 2s", Some("status --watch=2s")),
            ("status --json --watch 500ms --name web", Some("status --json --watch=500ms --name web")),
            ("status --watch 2", Some("status --watch=2")),
            ("status --watch web", None),
            ("status 2s", None),
            ("start --adapt notify -- gunicorn app:app", Some("start --adapt=notify -- gunicorn app:app")),
            ("start -n 2 --adapt delay:2s ./serve", Some("start -n 2 --adapt=delay:2s ./serve")),
            ("start --keep-trying false app.js", Some("start --keep-trying=false app.js")),
            ("check -c a.toml --no-new-privs false", Some("check -c a.toml --no-new-privs=false")),
            ("start --adapt -- notify", None),
            ("start --adapt=notify -- notify", None),
            ("start --adapt uvicorn --fd {fd}", None),
            ("start true", None),
            ("start app.js --adapt notify", None),
        ] {
            let words: Vec<_> = words.split(' ').map(OsString::from).collect();
            let understood = try_parse(&words);
            let apart = equals_sign(&words, understood.as_ref().map_err(clap::Error::kind));
            assert_eq!(apart.map(|apart| apart.meant).as_deref(), expected, "{words:?}");
        }
    }

    #[test]
    fn a_word_too_many_is_meant_to_be_the_name_of_a_master() {
        for (words, expected) in [
            ("stop web", Some("stop --name web")),
            ("restart --no-wait web", Some("restart --no-wait --name web")),
            ("scale web 3", Some("scale --name web 3")),
            ("scale 2 3", None),
            ("stop --nwo web", None),
            ("completions bash web", None),
            ("statsu web", None),
        ] {
            assert_eq!(meant(words, name).as_deref(), expected, "{words}");
        }
    }
}
