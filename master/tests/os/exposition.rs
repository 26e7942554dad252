//! A strict reader of Prometheus' text format: what it does not understand fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// Every sample by its name and labels, as written but in order: `name{a="1",b="2"}`.
#[track_caller]
pub(crate) fn parse(page: &str) -> BTreeMap<String, f64> {
    assert!(page.ends_with('\n'), "the last line has an end: {page:?}");
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).unwrap_or_else(|| panic!("HELP is wanted, not {line:?}"));
        assert!(is_name(name) && !help.trim().is_empty(), "{line}");
        assert!(families.insert(name.to_owned()), "{name} comes twice");
        let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap_or_else(|| panic!("TYPE is wanted after {line:?}"));
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        let mut family = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (sample, labels, value) = self::sample(line);
            let allowed: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(sample.strip_prefix(name).is_some_and(|suffix| allowed.contains(&suffix)), "{line} is no {name}");
            assert!(value >= 0.0 && value.is_finite(), "{line}");
            let shown: Vec<_> = labels.iter().map(|(label, its)| format!("{label}={its:?}")).collect();
            assert!(samples.insert(format!("{sample}{{{}}}", shown.join(",")), value).is_none(), "{line} comes twice");
            family.push((sample, labels, value));
        }
        if kind == "histogram" {
            check_histogram(name, &family);
        }
    }
    samples
}

type Labels = BTreeMap<String, String>;

#[track_caller]
fn check_histogram(name: &str, family: &[(String, Labels, f64)]) {
    let buckets: Vec<_> = family.iter().filter(|(sample, ..)| sample.ends_with("_bucket")).map(|(_, labels, value)| (labels["le"].as_str(), *value)).collect();
    let bounds: Vec<f64> = buckets.iter().map(|(le, _)| if *le == "+Inf" { f64::INFINITY } else { le.parse().unwrap() }).collect();
    assert!(bounds.len() > 1 && bounds.is_sorted() && bounds.last() == Some(&f64::INFINITY), "{name}: {bounds:?}");
    assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{name} is not cumulative: {buckets:?}");
    let one = |suffix: &str| family.iter().find(|(sample, ..)| *sample == format!("{name}{suffix}")).unwrap_or_else(|| panic!("{name}{suffix} is missing")).2;
    assert_eq!(buckets.last().unwrap().1, one("_count"), "{name}");
    one("_sum");
}

/// Name, labels and value of a line.
#[track_caller]
fn sample(line: &str) -> (String, Labels, f64) {
    let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("no labels in {line:?}"));
    assert!(is_name(name), "{line}");
    let (mut labels, mut rest) = (Labels::new(), rest);
    loop {
        let (label, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label at {rest:?}"));
        assert!(is_name(label) && !label.contains(':'), "{line}");
        let (mut text, mut chars) = (String::new(), value.chars());
        loop {
            match chars.next().unwrap_or_else(|| panic!("a label without an end: {line}")) {
                '"' => break,
                '\\' => text.push(match chars.next() {
                    Some('n') => '\n',
                    Some(c @ ('\\' | '"')) => c,
                    other => panic!("\\{other:?} in {line}"),
                }),
                c => text.push(c),
            }
        }
        assert!(labels.insert(label.into(), text).is_none(), "{label} comes twice in {line}");
        rest = chars.as_str();
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    let value = rest.strip_prefix("} ").unwrap_or_else(|| panic!("no value in {line:?}"));
    assert!(value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{line}");
    (name.into(), labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}
