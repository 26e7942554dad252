//! What an adapted program needs of the listeners, seen before it is started: it would fail at that in its own words, and again at every start.

use crate::options::{ListenSpec, Options};

/// Why a program cannot be adapted.
#[derive(Debug, thiserror::Error)]
pub enum AdaptError {
    /// Listeners are all that it is given.
    #[error("with --adapt the program is handed listeners, and there is none: `--listen ADDRESS` configures one")]
    NoListener,
    /// It would be handed a placeholder for a number.
    #[error("no listener has the name that `{word}` asks for: `--listen {name}=ADDRESS` configures one{}", instead(.names))]
    NoSuchName {
        /// The argument.
        word: String,
        /// The name in it.
        name: String,
        /// Those that there are.
        names: Vec<String>,
    },
}

fn instead(names: &[String]) -> String {
    if names.is_empty() { ", and `{fd}` is the first one of all".into() } else { format!("; those with a name are: {}", names.join(", ")) }
}

/// Whether a program can be adapted to configured listeners, of which some have names.
pub(super) fn check<'a>(options: &Options, listeners: impl Iterator<Item = Option<&'a str>>) -> Result<(), AdaptError> {
    if options.adapt.is_none() {
        return Ok(());
    }
    let listeners: Vec<_> = listeners.collect();
    if listeners.is_empty() {
        return Err(AdaptError::NoListener);
    }
    let names: Vec<_> = listeners.into_iter().flatten().map(String::from).collect();
    let asked_for = options.args.iter().flat_map(|word| placeholders(word).map(move |name| (word, name)));
    match asked_for.into_iter().find(|(_, name)| !names.iter().any(|there| there == name)) {
        Some((word, name)) => Err(AdaptError::NoSuchName { word: word.clone(), name: name.into(), names }),
        None => Ok(()),
    }
}

/// The names of configured listeners, as far as they have one.
pub(super) fn configured(specs: &[ListenSpec]) -> impl Iterator<Item = Option<&str>> {
    specs.iter().map(|spec| spec.name.as_deref())
}

/// Every NAME of a `{fd:NAME}`. What cannot be a name is something else, and the program's own.
fn placeholders(word: &str) -> impl Iterator<Item = &str> {
    let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    word.split("{fd:").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).filter(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(args: &[&str], listeners: &[Option<&str>]) -> Option<String> {
        let options = Options { adapt: Some("accept".into()), args: args.iter().map(|word| (*word).into()).collect(), ..Options::new("serve") };
        check(&options, listeners.iter().copied()).err().map(|error| error.to_string())
    }

    #[test]
    fn an_adapted_program_needs_a_listener_and_every_name_that_it_asks_for() {
        assert!(refused(&[], &[]).unwrap().contains("`--listen ADDRESS`"));
        assert_eq!(refused(&["--fd={fd}", "{fd:web}{fd:admin}"], &[Some("web"), None, Some("admin")]), None);
        let told = refused(&["fd://{fd:web}", "fd://{fd:admin}"], &[Some("web"), None, Some("extra")]).unwrap();
        assert_eq!(
            told,
            "no listener has the name that `fd://{fd:admin}` asks for: `--listen admin=ADDRESS` configures one; those with a name are: web, extra"
        );
        assert!(refused(&["{fd:web}"], &[None]).unwrap().contains("`{fd}` is the first one"));
        assert_eq!(refused(&["{fd: web}", "{fd:}", "{fd:web", "{a}"], &[None]), None, "the program's own");
        assert!(check(&Options::new("serve"), [].into_iter()).is_ok());
    }
}
