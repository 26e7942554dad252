//! What docs/security.md says of the project itself: the tests that it names exist, its list of unsafe code is complete, and what is compiled in has the licences and the sources that `deny.toml` allows.
#![allow(clippy::print_stdout)] // versions that are there twice are worth seeing

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dutch_master_tests::harness::repository;
use serde_json::Value;

/// How many lines before a piece of unsafe code its argument may stand.
const ARGUMENT_LINES: usize = 6;

fn document() -> String {
    fs::read_to_string(repository("docs/security.md")).expect("a document")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() && !matches!(entry.file_name().to_str(), Some("target" | "node_modules" | ".git")) {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Every Rust file of the project, by its path.
fn all() -> BTreeMap<String, String> {
    let root = repository("Cargo.toml").parent().expect("it lies in a folder").to_path_buf();
    let mut found = Vec::new();
    sources(&root, &mut found);
    let read = |path: PathBuf| (path.strip_prefix(&root).expect("it is below").display().to_string(), fs::read_to_string(&path).expect("a source file"));
    found.into_iter().map(read).collect()
}

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_document_names_exists() {
    let (document, all) = (document(), all());
    let named: BTreeSet<_> = quoted(&document).filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 30);
    for (file, test) in named {
        // `listeners::x` may also stand in `listeners/tests.rs`, and `users::x` in `users/main.rs`.
        let is_it = |path: &str| ["", "/tests", "/main"].iter().any(|rest| path.ends_with(&format!("/{file}{rest}.rs")));
        let there = all.iter().any(|(path, text)| is_it(path) && text.contains("#[test]\n") && text.contains(&format!("fn {test}(")));
        assert!(there, "docs/security.md names `{file}::{test}`, which is not there");
    }
}

/// The lines of a file that have unsafe code in them, by number; what is shipped, without test modules.
fn unsafe_lines(text: &str) -> Vec<usize> {
    let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let is_unsafe = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe") && !line.trim_start().starts_with("//");
    shipped.lines().enumerate().filter(|(_, line)| is_unsafe(line)).map(|(n, _)| n).collect()
}

#[test]
fn the_list_of_unsafe_code_is_complete_and_each_piece_has_its_argument() {
    let document = document();
    let listed: BTreeSet<_> =
        document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(path, _)| path).filter(|path| path.ends_with(".rs")).collect();
    let all = all();
    let shipped = all
        .iter()
        .filter(|(path, _)| path.contains("/src/") && !["tests/", "fuzz/"].iter().any(|folder| path.starts_with(folder)) && !path.ends_with("/tests.rs"));
    let found: BTreeMap<_, _> = shipped.map(|(path, text)| (path.as_str(), unsafe_lines(text))).filter(|(_, lines)| !lines.is_empty()).collect();
    assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), listed, "the table of docs/security.md, on the right, lists the files with unsafe code");
    for (path, numbers) in found {
        let lines: Vec<_> = all[path].lines().collect();
        for number in numbers {
            let before = &lines[number.saturating_sub(ARGUMENT_LINES)..=number];
            let argued = before.iter().any(|line| line.contains("SAFETY") || line.contains("# Safety")) || lines[number].contains("extern \"C\" fn");
            assert!(argued, "{path}:{}: no argument: {}", number + 1, lines[number]);
        }
    }
}

/// The strings of a list in `deny.toml`.
fn listed_in_deny(key: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(repository("deny.toml")).expect("a file of the project");
    let (_, rest) = text.split_once(&format!("\n{key} = [")).unwrap_or_else(|| panic!("no {key} in deny.toml"));
    let list = rest.split(']').next().unwrap_or_default();
    list.split('"').skip(1).step_by(2).map(String::from).collect()
}

/// Whether a licence expression can be fulfilled with these: every `AND` has to be, of each `OR` one.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // Older manifests write `/` for `OR`. Parentheses occur here around alternatives alone.
    let expression = expression.replace('/', " OR ");
    expression
        .split(" AND ")
        .all(|part| part.trim_matches(['(', ')', ' ']).split(" OR ").any(|licence| allowed.contains(licence.trim_matches(['(', ')', ' ']))))
}

#[test]
fn what_is_compiled_in_has_a_licence_and_a_source_that_are_allowed() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    // What other platforms need has perhaps never been fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let words = ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform];
    let output = Command::new(cargo).args(words).current_dir(repository("tests")).output().expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let licences = listed_in_deny("allow");
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    for package in metadata["packages"].as_array().expect("a list") {
        let text = |key: &str| package[key].as_str();
        let name = text("name").expect("a name");
        if let Some(source) = text("source") {
            assert!(source.starts_with("registry+") && source.ends_with("/crates.io-index"), "{name} comes from {source}");
        }
        let licence = text("license").unwrap_or_else(|| panic!("{name} has no licence"));
        assert!(is_allowed(licence, &licences), "{name} has the licence {licence}, which deny.toml does not allow");
        versions.entry(name).or_default().insert(text("version").expect("a version"));
    }
    versions.retain(|_, versions| versions.len() > 1);
    println!("more than one version: {versions:?}");
}

#[test]
fn licences_are_read_as_they_are_meant() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Unicode-3.0".to_owned()]);
    for (expression, verdict) in
        [("MIT", true), ("MIT/Apache-2.0", true), ("(MIT OR Apache-2.0) AND Unicode-3.0", true), ("MIT AND GPL-3.0", false), ("GPL-3.0", false)]
    {
        assert_eq!(is_allowed(expression, &allowed), verdict, "{expression}");
    }
}
