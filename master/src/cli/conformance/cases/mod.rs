//! The cases, in the order of the specification: one file for each of its subjects.

mod descriptors;
mod draining;
mod finding;
mod framing;
mod lifecycle;
mod malformed;
mod orphan;
mod serving;

use super::case::Case;

/// The case that every worker passes that speaks to its master at all.
pub(super) const HELLO: &str = "2.4.1/hello";

pub(super) fn all() -> impl Iterator<Item = &'static Case> {
    [finding::CASES, framing::CASES, malformed::CASES, descriptors::CASES, lifecycle::CASES, orphan::CASES, serving::CASES, draining::CASES]
        .into_iter()
        .flatten()
}

/// What the specification asks for and this kit does not try, and why.
pub(super) const NOT_TRIED: [(&str, &str); 7] = [
    ("2.1.2", "that its own children do not inherit the variables: the kit cannot make it start one"),
    ("2.2.1", "what an SDK does without a master: it is about programs, not about one worker"),
    ("4.2.2", "that nothing relies on the byte with which a descriptor arrives: one system cannot show it"),
    ("4.4", "a descriptor where none belongs: whoever reads exactly cannot notice it"),
    ("10.7", "what a worker can stand in memory"),
    ("11", "the options of accepted sockets, calls of `listen`, and how evenly it accepts"),
    ("12.2", "HTTP/2, gRPC and WebSocket: the kit speaks HTTP/1.1 alone"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SPEC: &str = include_str!("../../../../../protocol/SPEC.md");

    /// The numbers of the specification's sections and of the rules in them.
    fn numbers() -> BTreeSet<String> {
        let (mut numbers, mut section) = (BTreeSet::new(), String::new());
        for line in SPEC.lines() {
            let first = line.trim_start_matches('#').split_whitespace().next().unwrap_or_default();
            let is_number = |text: &str| text.split('.').all(|part| part.parse::<u32>().is_ok());
            if line.starts_with('#') && is_number(first) {
                section = first.into();
                numbers.insert(section.clone());
            } else if let Some(rule) = first.strip_suffix('.').filter(|rule| !line.starts_with(' ') && is_number(rule)) {
                numbers.insert(format!("{section}.{rule}"));
            }
        }
        numbers
    }

    #[test]
    fn each_case_has_an_id_of_its_own_that_begins_with_a_rule_of_the_specification() {
        let (numbers, mut ids) = (numbers(), BTreeSet::new());
        for case in all() {
            assert!(ids.insert(case.id), "{} stands twice", case.id);
            let rule = case.id.split('/').next().unwrap();
            assert!(numbers.contains(rule), "SPEC.md has no rule {rule}");
        }
        for (rule, _) in NOT_TRIED {
            assert!(numbers.contains(rule), "SPEC.md has no rule {rule}");
        }
        assert!(ids.len() > 40);
    }
}
