//! What a case is, and how one can end.

use std::io;

use super::trial::Trial;

/// Whether a rule has to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// MUST and MUST NOT.
    Must,
    /// SHOULD and SHOULD NOT: counts under `--strict` alone.
    Should,
}

/// One rule of the specification, tried out on a worker of its own.
#[derive(Debug)]
pub(super) struct Case {
    /// Number of the rule in SPEC.md, and a word where a rule has several cases.
    pub(super) id: &'static str,
    pub(super) level: Level,
    /// What a worker that keeps the rule does.
    pub(super) text: &'static str,
    pub(super) run: fn(&mut Trial<'_>) -> Verdict,
}

/// Whether a selection such as `5`, `5.5`, `5.5.2` or `5.5.2/orphan` means the case with this id.
pub(super) fn is_meant(id: &str, selection: &str) -> bool {
    id.strip_prefix(selection).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
}

pub(super) const fn must(id: &'static str, text: &'static str, run: fn(&mut Trial<'_>) -> Verdict) -> Case {
    Case { id, level: Level::Must, text, run }
}

pub(super) const fn should(id: &'static str, text: &'static str, run: fn(&mut Trial<'_>) -> Verdict) -> Case {
    Case { id, level: Level::Should, text, run }
}

/// `Ok`: the rule was kept.
pub(super) type Verdict<T = ()> = Result<T, Fault>;

/// Why a case did not pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The worker does something else.
    #[error("expected {expected}, got {actual}")]
    Differs { expected: String, actual: String },
    /// It could not be tried.
    #[error("untested: {0}")]
    Untested(String),
    /// The kit itself is in trouble.
    #[error("the kit itself failed")]
    Kit(#[from] io::Error),
}

pub(super) fn differs<T>(expected: impl Into<String>, actual: impl Into<String>) -> Verdict<T> {
    Err(Fault::Differs { expected: expected.into(), actual: actual.into() })
}

pub(super) fn untested<T>(why: impl Into<String>) -> Verdict<T> {
    Err(Fault::Untested(why.into()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_selection_means_whole_numbers() {
        for (selection, is_meant) in [("5", true), ("5.5", true), ("5.5.2", true), ("5.5.2/orphan", true), ("5.5.2/or", false), ("5.", false), ("55", false)] {
            assert_eq!(super::is_meant("5.5.2/orphan", selection), is_meant, "{selection}");
        }
    }
}
