//! What `ExecStart=` starts, as a command line of this program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::Unit;
use crate::cli::args::{Command, CommandLine, Service};
use crate::cli::config::USUAL_FILE;
use crate::cli::forgotten::{self, Apart};

/// In place of an instance that nobody has named.
const NO_INSTANCE: &str = "INSTANCE-IS-NOT-NAMED";

/// What comes of it.
#[derive(Debug)]
pub(super) enum ExecStart {
    /// The unit starts nothing.
    None,
    /// What it says of the service; some of that depends on an instance that is not named.
    Says { service: Box<Service>, lacks_instance: bool },
    /// It cannot be seen from the unit alone, and why.
    Unseen(&'static str),
    /// This program would refuse it.
    Refused(String),
}

impl Unit {
    /// The service with what is `given` and below that what the unit says of it. An error: it cannot be started so.
    pub(in crate::cli) fn complete(&self, given: Service) -> Result<Service, String> {
        let file = self.file().display();
        match self.exec_start() {
            ExecStart::Unseen(why) if says_nothing(&given) => Err(format!("{file}: ExecStart= {why}: name the configuration by -c")),
            ExecStart::None if says_nothing(&given) => Err(format!("{file} has no ExecStart=: name the configuration by -c")),
            ExecStart::None | ExecStart::Unseen(_) => Ok(given),
            ExecStart::Refused(why) => Err(format!("{file}: ExecStart= is refused: {why}")),
            ExecStart::Says { service, lacks_instance } => match given.over(*service) {
                both if lacks_instance && both.config.is_none() && both.settings.worker.is_none() => Err(format!(
                    "{file} is a template: name an instance of it (`--unit {}`), or its configuration by -c",
                    file.to_string().replace('@', "@NAME")
                )),
                both => Ok(both),
            },
        }
    }

    /// What its `ExecStart=` says of the service.
    pub(super) fn exec_start(&self) -> ExecStart {
        let Some(line) = self.service("ExecStart") else { return ExecStart::None };
        let words: Vec<_> = words(line).into_iter().map(|word| specified(&word, self.name())).collect();
        let is_start = |pair: &[String]| Path::new(pair[0].trim_start_matches(['@', '-', ':', '+', '!', '|'])).ends_with("dutch-master") && pair[1] == "start";
        let Some(at) = words.windows(2).position(is_start) else {
            return ExecStart::Unseen("does not run `dutch-master start` itself");
        };
        let words: Vec<_> = words[at + 1..].iter().map(OsString::from).collect();
        if words.iter().any(|word| word.to_string_lossy().replace("$$", "").contains('$')) {
            return ExecStart::Unseen("has variables");
        }
        let command = match CommandLine::try_parse_from([OsString::from("dutch-master")].iter().chain(&words)) {
            Ok(line) => line.command,
            Err(error) => return ExecStart::Refused(first_line(&error.to_string())),
        };
        if let Some(Apart { value, meant }) = forgotten::equals_sign(&words, Ok(&command)) {
            return ExecStart::Refused(format!("the `=` before `{value}` is missing; did you mean `dutch-master {meant}`?"));
        }
        let Command::Start(start) = command else { return ExecStart::None };
        self.as_seen_from_its_directory(start.service)
    }

    fn as_seen_from_its_directory(&self, Service { config, mut settings }: Service) -> ExecStart {
        // What begins with `~` is a home, which is not looked up.
        let directory = self.service("WorkingDirectory").map(|path| path.trim_start_matches('-')).filter(|path| path.starts_with('/')).unwrap_or("/");
        let directory = Path::new(directory);
        let usual = || Some(directory.join(USUAL_FILE)).filter(|file| settings.worker.is_none() && file.exists());
        let config = config.map(|file| directory.join(file)).or_else(usual);
        if settings.worker.is_some() || settings.dir.is_some() {
            settings.dir = Some(settings.dir.map_or_else(|| directory.into(), |dir| directory.join(dir)));
        }
        let is_named = |path: &PathBuf| !path.to_string_lossy().contains(NO_INSTANCE);
        let lacks_instance = config.as_ref().is_some_and(|file| !is_named(file));
        settings.name = settings.name.filter(|name| !name.contains(NO_INSTANCE));
        ExecStart::Says { service: Box::new(Service { config: config.filter(is_named), settings }), lacks_instance }
    }
}

/// Nor does a file in the current directory, which would be taken then.
fn says_nothing(service: &Service) -> bool {
    service.config.is_none() && service.settings.worker.is_none() && !Path::new(USUAL_FILE).exists()
}

/// What clap says, without the usage.
fn first_line(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).into()
}

/// The words as systemd takes them apart: quotes hold together, a backslash takes the meaning from what follows.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(characters.next()),
            (c, Some(end)) if c == end => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.into_iter().chain(word).collect()
}

/// With the specifiers in the place of which the unit's name comes, or a directory of the system. Others stay as they are.
fn specified(word: &str, unit: &str) -> String {
    let (stem, _) = unit.rsplit_once('.').unwrap_or((unit, ""));
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let instance = if instance.is_empty() && unit.contains('@') { NO_INSTANCE } else { instance };
    let (mut result, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once('%') {
        result.push_str(before);
        let mut characters = after.chars();
        match characters.next() {
            Some('%') => result.push('%'),
            Some('i' | 'I') => result.push_str(instance),
            Some('p' | 'P') => result.push_str(prefix),
            Some('N') => result.push_str(stem),
            Some('n') => result.push_str(unit),
            Some('t') => result.push_str("/run"),
            Some('E') => result.push_str("/etc"),
            Some('S') => result.push_str("/var/lib"),
            other => result.extend(['%'].into_iter().chain(other)),
        }
        rest = characters.as_str();
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_apart_as_systemd_does_it() {
        for (line, expected) in
            [("a  b", vec!["a", "b"]), ("a 'b c' \"d 'e'\"", vec!["a", "b c", "d 'e'"]), (r#"a\ b "c\"d" ''"#, vec!["a b", "c\"d", ""]), ("", vec![])]
        {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn specifiers_are_what_the_name_of_the_unit_makes_of_them() {
        assert_eq!(specified("/etc/%p/%i.toml", "dutch-master@shop.service"), "/etc/dutch-master/shop.toml");
        assert_eq!(specified("%n %N 100%% %h %", "shop.service"), "shop.service shop 100% %h %");
        assert_eq!(specified("%i", "shop.service"), "");
        assert_eq!(specified("%i", "dutch-master@.service"), NO_INSTANCE);
    }

    fn says(unit: &str) -> Service {
        let unit = Unit::read(&format!("[Service]\n{unit}\n"));
        let ExecStart::Says { service, lacks_instance: false } = unit.exec_start() else { panic!("{unit:?}: {:?}", unit.exec_start()) };
        *service
    }

    #[test]
    fn the_options_are_those_of_start_wherever_it_stands() {
        let service = says("ExecStart=/usr/local/bin/dutch-master start -c /etc/x.toml --user app");
        assert_eq!((service.config, service.settings.user.as_deref()), (Some("/etc/x.toml".into()), Some("app")));
        let service = says("WorkingDirectory=/srv/shop\nExecStart=-/usr/bin/env A=1 \\\n dutch-master start --dir current 'app.js'");
        assert_eq!((service.settings.dir, service.settings.worker), (Some("/srv/shop/current".into()), Some(vec!["app.js".into()])));
        let service = says("WorkingDirectory=-/srv\nExecStart=!/opt/dutch-master start -c a.toml");
        assert_eq!((service.config, service.settings.dir), (Some("/srv/a.toml".into()), None));
    }

    #[test]
    fn what_is_not_understood_is_no_guess() {
        let of = |line: &str| Unit::read(&format!("[Service]\nExecStart={line}\n")).exec_start();
        assert!(matches!(of("/bin/sh -c 'exec dutch-master start app.js'"), ExecStart::Unseen(_)));
        assert!(matches!(of("dutch-master start -n ${N} app.js"), ExecStart::Unseen(_)));
        assert!(matches!(of(""), ExecStart::None));
        for (line, word) in [("dutch-master start --nmae a app.js", "--nmae"), ("dutch-master start --adapt notify -- ./serve", "`notify`")] {
            let ExecStart::Refused(why) = of(line) else { panic!("{line}") };
            assert!(why.contains(word), "{why}");
        }
    }
}
