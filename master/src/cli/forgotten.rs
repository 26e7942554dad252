//! Command lines that lack a word: `dutch-master app.js` means `dutch-master start app.js`, and `dutch-master stop web` means `dutch-master stop --name web`.

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;

use super::args::{Command, CommandLine};

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

fn parse(words: &[OsString]) -> Option<Command> {
    CommandLine::try_parse_from([OsString::from("dutch-master")].iter().chain(words)).ok().map(|line| line.command)
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
