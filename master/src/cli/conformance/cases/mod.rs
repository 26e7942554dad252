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

/// What the specification asks of a worker and this kit does not try, and why.
pub(super) const NOT_TRIED: &[(&str, &str)] = &[
    ("2.1.2", "that its own children do not inherit the variables: the kit cannot make it start one"),
    ("2.2.1", "what an SDK does without a master: it is about programs, not about one worker"),
    ("3.1.3", "a stream that ends within a frame: nothing else follows from it than from any other end"),
    ("3.6.3", "words that it does not know: only an address has some that must be known, and few workers look at it"),
    ("3.6.4", "that names are compared byte by byte"),
    ("4.2.2", "that nothing relies on the byte with which a descriptor arrives: one system cannot show it"),
    ("4.2.4", "`MSG_PEEK`: from outside it cannot be seen"),
    ("4.4", "a descriptor where none belongs: whoever reads exactly cannot notice it"),
    ("5.2.4", "what it does when it leaves by itself: the kit cannot make it"),
    ("5.2.6", "messages at a time when they are not allowed: to ignore and to refuse them are both right"),
    ("5.5.8", "the end of the connection before it has its listener: whether it needs one is its own matter"),
    ("6.6", "`leaving`: see 5.2.4"),
    ("6.8", "that heartbeats come from where requests are served: the kit cannot block it"),
    ("6.9", "the limit of an application's messages: the kit cannot make it send one"),
    ("6.11", "that it looks at kind and family: what it can use is its own matter"),
    ("8.3.1", "that it uses no feature that the master has not named"),
    ("10.6", "that text for people is made harmless"),
    ("10.7", "what a worker can stand in memory"),
    ("11", "the options of accepted sockets, calls of `listen`, paths that are unlinked, and how evenly it accepts"),
    ("12.1.1", "what waits in the queue when an orphan goes (5.5.2): only of a stop is it tried"),
    ("12.2.2", "HTTP/2, gRPC and WebSocket: the kit speaks HTTP/1.1 alone"),
    ("12.3.2", "connections that become idle after the order: it depends on the moment"),
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
        for rule in NOT_TRIED.iter().map(|(rule, _)| *rule).chain(NO_DEMANDS) {
            assert!(numbers.contains(rule), "SPEC.md has no rule {rule}");
        }
        assert!(ids.len() > 40);
    }

    /// Rules that ask nothing of a worker: they are about masters, allow something, or are tried with others.
    const NO_DEMANDS: [&str; 35] = [
        "2.1.1", "2.3.1", "2.4.2", "3.1.1", "3.4.2", "3.7.1", "3.8.2", "3.8.3", "4.1.1", "4.1.2", "4.1.3", "4.3.1", "4.3.2", "4.5", "4.6", "5.1.2", "5.2.2",
        "5.3", "5.4.1", "5.4.3", "5.4.4", "5.5.4", "5.5.5", "5.5.7", "5.6", "6.1.1", "6.2.1", "6.2.2", "6.4", "8.1", "8.2", "8.3.2", "8.4", "12.5.2", "12.5.3",
    ];

    #[test]
    fn each_rule_for_workers_is_tried_or_listed_as_not_tried() {
        let numbers = numbers();
        let known: Vec<_> = all().map(|case| case.id.split('/').next().unwrap()).chain(NOT_TRIED.iter().map(|(rule, _)| *rule)).chain(NO_DEMANDS).collect();
        let is_within = |rule: &str, section: &str| rule.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        // Sections whose rules have numbers of their own are nothing beside them; what stands in 1, 7, 9, 10, 12.6 and 13 is no rule for workers, or is listed.
        let leaves = numbers.iter().filter(|number| !numbers.iter().any(|other| *other != **number && is_within(other, number)));
        let of_workers = leaves.filter(|rule| ["2", "3", "4", "5", "6", "8", "11", "12"].iter().any(|section| is_within(rule, section)) && *rule != "12.6");
        let forgotten: Vec<_> = of_workers.filter(|rule| !known.iter().any(|section| is_within(rule, section))).collect();
        assert_eq!(forgotten, Vec::<&String>::new());
    }
}
