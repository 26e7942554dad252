//! SPEC.md against the crate and the vectors: what the document quotes has to be true.

#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use dutch_master_protocol::message::DisconnectReason;
use serde_json::Value;

const SPEC: &str = include_str!("../SPEC.md");

/// The fenced blocks of the document: section, what stands behind the fence, text.
fn blocks() -> Vec<(String, &'static str, String)> {
    let (mut blocks, mut section, mut open) = (Vec::new(), String::new(), None);
    for line in SPEC.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info, String::new())),
            (None, None) if line.starts_with('#') => section = section_of(line).unwrap_or(section),
            (None, None) => {}
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(info, text)| (section.clone(), info, text))),
            (Some((_, text)), None) => text.extend([line, "\n"]),
        }
    }
    blocks
}

/// `6.1` of `### 6.1 hello`; numbers of the fourth level count as their parent.
fn section_of(heading: &str) -> Option<String> {
    let number = heading.trim_start_matches('#').split_whitespace().next()?;
    let parts: Vec<_> = number.split('.').take(2).collect();
    parts.iter().all(|part| part.parse::<u32>().is_ok()).then(|| parts.join("."))
}

/// Rows of the tables whose heading begins so: section, first cell without its backquotes, the whole row.
fn rows(heading: &str) -> Vec<(String, String, &'static str)> {
    let (mut rows, mut section, mut inside) = (Vec::new(), String::new(), false);
    for line in SPEC.lines() {
        let cell = line.strip_prefix("| ").and_then(|rest| rest.split(" |").next());
        match cell {
            _ if line.starts_with('#') => section = section_of(line).unwrap_or(section),
            Some(_) if line.starts_with(heading) => inside = true,
            Some(cell) if inside => rows.push((section.clone(), cell.trim_matches('`').to_owned(), line)),
            Some(_) => {}
            None => inside = inside && line.starts_with("|-"),
        }
    }
    rows
}

fn vectors() -> Vec<Value> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/messages.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn digits(hex: &str) -> String {
    hex.lines().flat_map(|line| line.split('#').next().unwrap_or_default().chars()).filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn each_hex_example_is_its_vector() {
    let vectors: BTreeMap<_, _> = vectors().into_iter().map(|v| (v["id"].as_str().unwrap().to_owned(), digits(v["hex"].as_str().unwrap()))).collect();
    let mut shown = BTreeSet::new();
    for (section, info, text) in blocks() {
        let Some(id) = info.strip_prefix("hex ") else { continue };
        let vector = vectors.get(id).unwrap_or_else(|| panic!("SPEC.md shows {id}, which is no vector"));
        assert_eq!(&digits(&text), vector, "{id}");
        assert!(section == "0" || id.starts_with(&format!("{section}/")), "{id} stands in section {section}");
        shown.insert(section);
    }
    let headings = SPEC.lines().filter_map(|line| line.strip_prefix("### ").and_then(section_of));
    let messages: Vec<_> = headings.filter(|section| section.starts_with("6.") || section.starts_with("7.")).collect();
    assert_eq!(messages.len(), 14 + 12);
    for section in messages {
        assert!(shown.contains(&section), "section {section} has no example");
    }
}

/// Direction, purpose, when it is allowed, keys, descriptors, what the receiver does, errors, example.
#[test]
fn each_message_of_workers_is_told_by_the_same_template() {
    let sections: Vec<_> = SPEC.split("\n### ").filter(|text| text.starts_with("6.")).collect();
    assert_eq!(sections.len(), 14);
    for text in sections {
        let title = text.lines().next().unwrap();
        let has = |part: &str| text.contains(part);
        assert!(has("**Worker → master**") || has("**Worker → master.**") || has("**Master → worker") || has("**Both directions.**"), "direction of {title}");
        assert!(has("| key | type | default | since | |") || has("\nNo keys."), "keys of {title}");
        assert!(has("**The master** ") || has("**The worker** ") || has("**The receiver** "), "what the receiver of {title} does");
        for part in ["**Allowed** ", "**Descriptors**: ", "**Errors**: ", "```hex "] {
            assert!(has(part), "{part} of {title}");
        }
    }
}

/// So that whoever breaks one can be told which.
#[test]
fn each_rule_with_a_word_of_rfc_2119_has_a_number() {
    let is_rule = |line: &str| ["MUST", "SHOULD", "MAY"].iter().any(|word| line.split(|c: char| !c.is_alphabetic()).any(|part| part == *word));
    let (mut section, mut rules) = (String::new(), 0);
    for line in SPEC.split("```").step_by(2).flat_map(str::lines) {
        let first = line.split_whitespace().next().unwrap_or_default();
        if line.starts_with('#') {
            section = section_of(line).unwrap_or_default();
        } else if is_rule(line) && !section.is_empty() {
            let is_numbered = first.strip_suffix('.').is_some_and(|number| number.parse::<u32>().is_ok());
            assert!(is_numbered || line.starts_with('|') || section.starts_with("6."), "in {section}: {line}");
            rules += 1;
        }
    }
    assert!(rules > 30, "{rules}");
}

/// The vectors are checked against the Rust types, so keys that agree with the vectors agree with the types.
#[test]
fn each_table_of_keys_lists_exactly_the_keys_that_the_vectors_use() {
    let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (section, key, row) in rows("| key | type |") {
        assert_eq!(row.split('|').nth(4).map(str::trim), Some("1"), "since, in {row}");
        documented.entry(section).or_default().insert(key);
    }
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut note = |section: &str, map: &Value| {
        used.entry(section.to_owned()).or_default().extend(map.as_object().into_iter().flatten().map(|(key, _)| key.clone()).filter(|key| key != "event"));
    };
    for vector in vectors().iter().filter(|v| v["result"] == "valid") {
        let (rule, message) = (vector["rule"].as_str().unwrap(), &vector["message"]);
        if rule.starts_with("6.") || rule.starts_with("7.") {
            note(rule, message);
            note("6.1", &message["resume"]);
            note("6.2", &message["address"]);
            note("7.1", &message["failing"]);
        }
    }
    used.retain(|_, keys| !keys.is_empty());
    assert_eq!(documented, used);
}

#[test]
fn each_limit_is_quoted_as_it_is() {
    let declared: BTreeMap<_, _> = include_str!("../src/limits.rs")
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("pub const ")?.split_once(':')?;
            let value = rest.split_once('=')?.1.trim().trim_end_matches(';').replace('_', "");
            Some((name.to_owned(), if value == "1 << 53" { (1u64 << 53).to_string() } else { value }))
        })
        .collect();
    let quoted = |row: &str| row.split('|').nth(2).map(|cell| cell.chars().filter(char::is_ascii_digit).collect::<String>()).unwrap_or_default();
    let documented: BTreeMap<_, _> = rows("| limit |").into_iter().map(|(_, name, row)| (name, quoted(row))).collect();
    assert!(declared.len() > 5);
    assert_eq!(documented, declared);
}

#[test]
fn each_error_code_and_each_reason_is_listed() {
    let source = include_str!("../src/message.rs").split_once("pub mod codes {").unwrap().1.split_once("\n}").unwrap().0;
    let declared: BTreeSet<_> = source.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split('"').nth(1)).map(str::to_owned).collect();
    let documented: BTreeSet<_> = rows("| code |").into_iter().map(|(_, code, _)| code).collect();
    assert_eq!(documented, declared);
    for (_, reason, _) in rows("| reason |").into_iter().filter(|(_, reason, _)| reason != "any other") {
        let known: DisconnectReason = serde_json::from_value(Value::String(reason.clone())).unwrap();
        assert_ne!(known, DisconnectReason::Other, "{reason}");
    }
    assert_eq!(rows("| reason |").len(), 6);
}

#[test]
fn each_section_that_is_referred_to_exists() {
    let (mut numbers, mut section) = (BTreeSet::new(), String::new());
    for line in SPEC.lines() {
        let first = line.trim_start_matches('#').split_whitespace().next().unwrap_or_default();
        if line.starts_with('#') {
            section = first.into();
            numbers.insert(section.clone());
        } else if let Some(rule) = first.strip_suffix('.').filter(|rule| line.starts_with(first) && rule.parse::<u32>().is_ok()) {
            numbers.insert(format!("{section}.{rule}"));
        }
    }
    let sources = [
        include_str!("../src/message.rs"),
        include_str!("../src/codec.rs"),
        include_str!("../src/control.rs"),
        include_str!("../src/env.rs"),
        include_str!("../src/limits.rs"),
    ];
    let from_code = sources.iter().flat_map(|source| source.split("(SPEC ").skip(1)).filter_map(|rest| rest.split([')', ' ', ',']).next());
    // Every second part is a fenced block, full of other numbers.
    let prose = SPEC.split("```").step_by(2).flat_map(|text| text.split(|c: char| !c.is_ascii_digit() && c != '.')).map(|word| word.trim_matches('.'));
    let versions = ["3.9", "0.1.0"];
    let from_prose = prose.filter(|word| (1..=2).contains(&word.matches('.').count()) && !versions.contains(word));
    let referred: BTreeSet<_> = from_code.chain(from_prose).map(str::to_owned).collect();
    assert!(referred.len() > 20);
    assert_eq!(referred.difference(&numbers).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_worker_of_section_0_is_under_80_lines() {
    let workers: Vec<_> = blocks().into_iter().filter(|(_, info, _)| *info == "python").collect();
    assert_eq!(workers.len(), 1);
    assert_eq!(workers[0].0, "0");
    assert!(workers[0].2.lines().count() < 80);
}
