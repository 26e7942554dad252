//! The manual pages, made from the command line's description and the help: `dutch-master man | man -l -` shows one.

use std::fmt::Write;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::args::CommandLine;
use super::exit::{self, Failure};
use super::help;
use super::print::{note, try_say};

/// The order of the sections that are made from the help; others come first.
const LAST: [&str; 6] = ["SIGNALS", "EXIT STATUS", "ENVIRONMENT", "FILES", "NOTES", "EXAMPLES"];

/// Spaces before what goes on with the line above.
const CONTINUED: &str = "            ";

/// `dutch-master man`.
pub(super) fn run(of: Option<&str>) -> Result<u8, Failure> {
    let mut all = CommandLine::command();
    // So that each command knows its full name.
    all.build();
    let one = of.map_or(Some(&all), |name| all.get_subcommands().find(|command| command.get_name() == name));
    let Some(one) = one else {
        note(&format!("error: there is no command `{}`", of.unwrap_or_default()));
        return Ok(exit::USAGE);
    };
    try_say(&page(one))?;
    Ok(exit::DONE)
}

fn page(command: &Command) -> String {
    let man = Man::new(command.clone()).source(concat!("dutch-master ", env!("CARGO_PKG_VERSION"))).manual("dutch-master");
    let mut begin = Vec::new();
    // In memory: it cannot fail.
    let _ = man.render_title(&mut begin).and_then(|()| man.render_name_section(&mut begin)).and_then(|()| man.render_synopsis_section(&mut begin));
    let _ = man.render_description_section(&mut begin).and_then(|()| man.render_options_section(&mut begin));
    let mut page = String::from_utf8_lossy(&begin).into_owned();
    commands(&mut page, command);
    let mut help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if ["dutch-master", "start"].contains(&command.get_name()) {
        help = [&help, help::ENVIRONMENT, help::FILES].join("\n\n");
    }
    let mut sections = sections(&help);
    // Stable: what is not in the list stays as it is, before what is.
    sections.sort_by_key(|(title, _)| LAST.iter().position(|last| last == title).map_or(0, |at| at + 1));
    for (title, body) in sections {
        let _ = write!(page, ".SH \"{title}\"\n{body}");
    }
    page
}

/// Each with its sentence; pages of their own are asked for one by one.
fn commands(page: &mut String, command: &Command) {
    let shown: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help").collect();
    if shown.is_empty() {
        return;
    }
    page.push_str(".SH COMMANDS\n");
    for command in shown {
        item(page, &format!("dutch-master {}", command.get_name()), &command.get_about().map(ToString::to_string).unwrap_or_default());
    }
}

/// The help in sections: a block with a heading is one, the exit status is one, and what is left are notes.
fn sections(help: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    for block in help.split("\n\n").filter(|block| !block.is_empty()) {
        let (first, rest) = block.split_once('\n').unwrap_or((block, ""));
        let (title, body) = match (first.strip_suffix(':'), first.strip_prefix("Exit status: ")) {
            (Some(heading), _) => (title(heading), table(rest)),
            (None, Some(codes)) => ("EXIT STATUS".into(), exit_status(codes)),
            (None, None) => ("NOTES".into(), format!(".PP\n{}\n", block.lines().map(escaped).collect::<Vec<_>>().join("\n"))),
        };
        match sections.iter_mut().find(|(there, _)| *there == title) {
            Some((_, before)) => before.push_str(&body),
            None => sections.push((title, body)),
        }
    }
    sections
}

/// As manual pages call it.
fn title(heading: &str) -> String {
    let words = heading.split(',').next().unwrap_or_default();
    words.strip_suffix(" to the master").unwrap_or(words).to_uppercase()
}

/// Lines of two columns are terms with what they mean, others paragraphs.
fn table(lines: &str) -> String {
    let mut body = String::new();
    for line in lines.lines() {
        match line.trim().split_once("  ") {
            Some((term, meaning)) => item(&mut body, term, meaning.trim()),
            None if line.starts_with(CONTINUED) => body.extend([&escaped(line.trim()), "\n"]),
            None if line.trim().starts_with("dutch-master ") => item(&mut body, line.trim(), ""),
            None => body.extend([".PP\n", &escaped(line.trim()), "\n"]),
        }
    }
    body
}

/// `0 done; 1 failed.`
fn exit_status(codes: &str) -> String {
    let mut body = String::new();
    for part in codes.trim_end_matches('.').split("; ") {
        match part.split_once(' ').filter(|(code, _)| code.bytes().all(|byte| byte.is_ascii_digit())) {
            Some((code, meaning)) => item(&mut body, code, meaning),
            None => body.extend([".PP\n", &escaped(part), "\n"]),
        }
    }
    body
}

fn item(page: &mut String, term: &str, meaning: &str) {
    let _ = writeln!(page, ".TP\n\\fB{}\\fR", escaped(term));
    if !meaning.is_empty() {
        let _ = writeln!(page, "{}", escaped(meaning));
    }
}

/// Text in which nothing is taken for an order to the formatter.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_becomes_sections_in_their_usual_order() {
        let text = "A note\nthat goes on.\n\nSignals to the master:\n  SIGHUP  reload\n\nExamples:\n  dutch-master stop    ends it\n  dutch-master top\n\nExit status: 0 done; 130 Ctrl-C.";
        assert_eq!(
            sections(text),
            [
                ("NOTES", ".PP\nA note\nthat goes on.\n"),
                ("SIGNALS", ".TP\n\\fBSIGHUP\\fR\nreload\n"),
                ("EXAMPLES", ".TP\n\\fBdutch\\-master stop\\fR\nends it\n.TP\n\\fBdutch\\-master top\\fR\n"),
                ("EXIT STATUS", ".TP\n\\fB0\\fR\ndone\n.TP\n\\fB130\\fR\nCtrl\\-C\n"),
            ]
            .map(|(title, body)| (title.into(), body.into()))
        );
        let page = page(&CommandLine::command());
        let titles: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).map(|title| title.trim_matches('"')).collect();
        assert_eq!(titles, ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "FILES", "NOTES", "EXAMPLES"]);
    }

    #[test]
    fn nothing_is_taken_for_an_order_to_the_formatter() {
        assert_eq!(escaped(".so \\fB it's -n"), "\\&.so \\efB it\\(aqs \\-n");
    }
}
