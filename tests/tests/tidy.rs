//! What a reviewer should not have to look for: the documents quote the code as it is, versions agree, `core/` stays pure, files stay readable.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file in lines: beyond that it has two subjects.
const LINES_MAX: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[track_caller]
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && !matches!(name.to_str(), Some("target" | "node_modules" | ".git" | ".next")) {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "js") {
            found.push(path);
        }
    }
}

#[test]
fn the_readme_quotes_the_examples_as_they_are() {
    let readme = read("README.md");
    let mut quotes = 0;
    for part in readme.split("<!-- include ").skip(1) {
        let (path, rest) = part.split_once(" -->\n").expect("`<!-- include PATH -->` on a line of its own");
        let quoted = rest.split_once("\n").and_then(|(_fence, rest)| rest.split_once("```\n")).map(|(code, _)| code);
        assert_eq!(quoted, Some(read(path).as_str()), "README.md quotes {path}");
        quotes += 1;
    }
    assert!(quotes > 0);
}

#[test]
fn the_version_is_the_same_everywhere_and_in_the_changelog() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CHANGELOG.md").contains(&format!("\n## {version}")));
    for package in ["worker", "dutch-master"] {
        assert!(read(&format!("sdk-node/{package}/package.json")).contains(&format!("\"version\": \"{version}\"")), "{package}");
    }
}

#[test]
fn the_core_reads_no_clock_opens_nothing_and_logs_nothing() {
    let mut core = Vec::new();
    files(&root().join("master/src/core"), &mut core);
    assert!(core.len() > 5);
    for path in core {
        let text = fs::read_to_string(&path).expect("a source file");
        for word in ["std::fs", "std::io", "std::env", "std::time", "std::process", "tokio", "nix::", "tracing", "unsafe", "rand"] {
            let found = text.lines().find(|line| line.contains(word) && !line.trim_start().starts_with("//"));
            assert_eq!(found, None, "{} has {word}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_has_one_subject() {
    let mut all = Vec::new();
    files(&root(), &mut all);
    assert!(all.len() > 50);
    for path in all {
        let text = fs::read_to_string(&path).expect("a source file");
        assert!(text.lines().count() <= LINES_MAX, "{} has more than {LINES_MAX} lines", path.display());
        let first = text.lines().find(|line| !line.starts_with("#!") && *line != "'use strict'").unwrap_or_default();
        assert!(first.starts_with("//") || first.starts_with("/*"), "{} does not begin by saying what it is for", path.display());
    }
}
