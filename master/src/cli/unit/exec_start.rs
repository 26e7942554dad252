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

const UNKNOWN_SPECIFIER: &str = "has specifiers (%…) that only systemd knows";

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
        let lines = self.all("Service", "ExecStart");
        if lines.len() > 1 && self.service("Type") != Some("oneshot") {
            let count = lines.len();
            return ExecStart::Refused(format!(
                "systemd takes one, and there are {count}; in a drop-in, a line `ExecStart=` without a value goes before the new one"
            ));
        }
        let Some(line) = lines.last() else { return ExecStart::None };
        let words = words(line);
        let is_start = |pair: &[String]| Path::new(pair[0].trim_start_matches(['@', '-', ':', '+', '!', '|'])).ends_with("dutch-master") && pair[1] == "start";
        let Some(at) = words.windows(2).position(is_start) else {
            return ExecStart::Unseen("does not run `dutch-master start` itself");
        };
        let Some(words) = words[at..].iter().map(|word| self.specified(word)).collect::<Option<Vec<_>>>() else {
            return ExecStart::Unseen(UNKNOWN_SPECIFIER);
        };
        let words: Vec<_> = words[1..].iter().map(OsString::from).collect();
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
        let directory = self.service("WorkingDirectory").map_or("/", |path| path.trim_start_matches('-'));
        let is_relative = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| path.is_relative());
        let is_where = if settings.worker.is_some() { settings.dir.is_none() } else { config.is_none() };
        let matters = is_where || is_relative(&settings.dir) || is_relative(&config);
        let directory = match self.specified(directory) {
            _ if directory.starts_with('~') && matters => return ExecStart::Unseen("is run in a home directory (WorkingDirectory=), which is not looked up"),
            None if matters => return ExecStart::Unseen("is run in a directory (WorkingDirectory=) whose name only systemd knows"),
            directory => PathBuf::from(directory.filter(|path| path.starts_with('/')).unwrap_or_else(|| "/".into())),
        };
        let usual = || Some(directory.join(USUAL_FILE)).filter(|file| settings.worker.is_none() && file.exists());
        let config = config.map(|file| directory.join(file)).or_else(usual);
        if settings.worker.is_some() || settings.dir.is_some() {
            settings.dir = Some(settings.dir.map_or_else(|| directory.clone(), |dir| directory.join(dir)));
        }
        let is_named = |path: &PathBuf| !path.to_string_lossy().contains(NO_INSTANCE);
        let lacks_instance = [&config, &settings.dir].into_iter().flatten().any(|path| !is_named(path));
        if !settings.dir.as_ref().is_none_or(is_named) {
            (settings.dir, settings.worker) = (None, None);
        }
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

impl Unit {
    /// With what its specifiers stand for, where that comes from the unit's name, or is a directory of the system. `None`: there are others.
    fn specified(&self, word: &str) -> Option<String> {
        let unit = self.name();
        let (stem, _) = unit.rsplit_once('.').unwrap_or((unit, ""));
        let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
        let instance = if instance.is_empty() && unit.contains('@') { NO_INSTANCE } else { instance };
        // It would be unescaped to another.
        let unescaped = if instance == NO_INSTANCE { instance.into() } else { unescaped(instance) };
        let (mut result, mut rest) = (String::new(), word);
        while let Some((before, after)) = rest.split_once('%') {
            result.push_str(before);
            let mut characters = after.chars();
            match characters.next() {
                Some('%') => result.push('%'),
                Some('i') => result.push_str(instance),
                Some('I') => result.push_str(&unescaped),
                Some('p') => result.push_str(prefix),
                Some('P') => result.push_str(&self::unescaped(prefix)),
                Some('N') => result.push_str(stem),
                Some('n') => result.push_str(unit),
                Some('t') => result.push_str("/run"),
                Some('E') => result.push_str("/etc"),
                Some('S') => result.push_str("/var/lib"),
                Some('C') => result.push_str("/var/cache"),
                Some('L') => result.push_str("/var/log"),
                // systemd leaves what means nothing to it as it is; every letter may mean something to one of its versions.
                Some(letter) if letter.is_ascii_alphabetic() => return None,
                other => result.extend(['%'].into_iter().chain(other)),
            }
            rest = characters.as_str();
        }
        Some(result + rest)
    }
}

/// A part of a unit's name as `systemd-escape` undoes it: `-` stands for `/`, and `\xHH` for the byte of that number.
fn unescaped(part: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), part.as_bytes());
    while let [first, after @ ..] = rest {
        let hex = after.get(..3).filter(|_| *first == b'\\').and_then(|hex| std::str::from_utf8(hex.strip_prefix(b"x")?).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(if *first == b'-' { b'/' } else { *first }));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
        let specified = |word: &str, unit: &str| Unit::named(unit).specified(word);
        for (word, unit, expected) in [
            ("/etc/%p/%i.toml", "dutch-master@shop.service", "/etc/dutch-master/shop.toml"),
            ("%n %N 100%% % %", "shop.service", "shop.service shop 100% % %"),
            ("%i", "shop.service", ""),
            ("%i", "dutch-master@.service", NO_INSTANCE),
            ("%i %I %P", r"my-app@eu-shop\x2d1.service", r"eu-shop\x2d1 eu/shop-1 my/app"),
            ("%I", r"a@\x2\xzz\x.service", r"\x2\xzz\x"),
        ] {
            assert_eq!(specified(word, unit).as_deref(), Some(expected), "{word} of {unit}");
        }
        assert_eq!(specified("%h/app.toml", "shop.service"), None);
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
        let service = says("WorkingDirectory=~\nExecStart=dutch-master start -c /etc/a.toml");
        assert_eq!((service.config, service.settings.dir), (Some("/etc/a.toml".into()), None));
        let service = says("ExecStart=dutch-master start a.js\nExecStart=\nExecStart=dutch-master start b.js");
        assert_eq!(service.settings.worker, Some(vec!["b.js".into()]), "a drop-in has another one");
    }

    #[test]
    fn the_directory_of_an_instance_is_its_own() {
        let with = |name: &str| {
            let mut unit = Unit::named(name);
            unit.add("[Service]\nWorkingDirectory=/srv/%i\nExecStart=dutch-master start app.js\n");
            unit
        };
        let ExecStart::Says { service, lacks_instance: false } = with("a@shop.service").exec_start() else { panic!() };
        assert_eq!(service.settings.dir, Some("/srv/shop".into()));
        let ExecStart::Says { service, lacks_instance: true } = with("a@.service").exec_start() else { panic!() };
        assert_eq!((service.settings.dir, service.settings.worker), (None, None));
    }

    #[test]
    fn what_is_not_understood_is_no_guess() {
        let of = |line: &str| Unit::read(&format!("[Service]\nExecStart={line}\n")).exec_start();
        assert!(matches!(of("/bin/sh -c 'exec dutch-master start app.js'"), ExecStart::Unseen(_)));
        assert!(matches!(of("dutch-master start -n ${N} app.js"), ExecStart::Unseen(_)));
        assert!(matches!(of("dutch-master start -c %h/app.toml"), ExecStart::Unseen(_)));
        for line in ["start app.js", "start -c app.toml", "start", "start --dir current /srv/serve"] {
            assert!(matches!(of(&format!("dutch-master {line}\nWorkingDirectory=~")), ExecStart::Unseen(_)), "{line}");
            assert!(matches!(of(&format!("dutch-master {line}\nWorkingDirectory=%h")), ExecStart::Unseen(_)), "{line}");
        }
        assert!(matches!(of(""), ExecStart::None));
        let ExecStart::Refused(why) = of("dutch-master start a.js\nExecStart=dutch-master start b.js") else { panic!() };
        assert!(why.contains("there are 2"), "{why}");
        for (line, word) in [("dutch-master start --nmae a app.js", "--nmae"), ("dutch-master start --adapt notify -- ./serve", "`notify`")] {
            let ExecStart::Refused(why) = of(line) else { panic!("{line}") };
            assert!(why.contains(word), "{why}");
        }
    }
}
