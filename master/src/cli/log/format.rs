//! One event as one line: for people, as JSON, or as the `bunyan` command reads it.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::SystemTime;

use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::Value;
use tracing::Level;

use crate::cli::settings::LogFormat;

/// An event as it is to be shown.
pub(super) struct Line<'a> {
    pub(super) time: SystemTime,
    pub(super) level: Level,
    pub(super) message: &'a str,
    pub(super) fields: &'a [(&'static str, Value)],
}

/// How lines look.
#[derive(Debug)]
pub(super) enum Format {
    Pretty { coloured: bool },
    Json,
    Bunyan { hostname: String, pid: u32 },
}

/// Keys that a format uses for itself: a field of the same name gets a `_` behind it.
const JSON_KEYS: [&str; 3] = ["time", "level", "msg"];
const BUNYAN_KEYS: [&str; 7] = ["name", "hostname", "pid", "level", "msg", "time", "v"];

impl Format {
    /// For what goes to `out`.
    pub(super) fn new(format: LogFormat, out: &impl IsTerminal) -> Format {
        match format {
            LogFormat::Pretty => Format::Pretty { coloured: out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) },
            LogFormat::Json => Format::Json,
            LogFormat::Bunyan => {
                let hostname = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
                Format::Bunyan { hostname: hostname.unwrap_or_default(), pid: std::process::id() }
            }
        }
    }

    /// The line with its line break.
    pub(super) fn line(&self, line: &Line<'_>) -> Vec<u8> {
        let mut bytes = match self {
            Format::Pretty { coloured } => pretty(line, *coloured).into_bytes(),
            // Writing JSON with string keys to memory cannot fail.
            Format::Json => json(line).unwrap_or_default(),
            Format::Bunyan { hostname, pid } => bunyan(line, hostname, *pid).unwrap_or_default(),
        };
        bytes.push(b'\n');
        bytes
    }
}

fn time(line: &Line<'_>) -> String {
    humantime::format_rfc3339_millis(line.time).to_string()
}

fn pretty(line: &Line<'_>, coloured: bool) -> String {
    let paint = |code: &'static str| if coloured { code } else { "" };
    let (dim, bold, end) = (paint("\x1b[2m"), paint("\x1b[1m"), paint("\x1b[0m"));
    let (level, colour) = match line.level {
        Level::ERROR => ("ERROR", "\x1b[31m"),
        Level::WARN => (" WARN", "\x1b[33m"),
        Level::INFO => (" INFO", "\x1b[32m"),
        Level::DEBUG => ("DEBUG", "\x1b[34m"),
        Level::TRACE => ("TRACE", "\x1b[35m"),
    };
    let colour = paint(colour);
    let mut text = format!("{dim}{}{end} {colour}{level}{end} {bold}{}{end}", time(line), plain(line.message));
    for (name, value) in line.fields {
        let _ = match value.as_str().filter(|text| is_one_word(text)) {
            Some(word) => write!(text, " {dim}{name}={end}{word}"),
            None => write!(text, " {dim}{name}={end}{}", plain(&value.to_string())),
        };
    }
    text
}

/// Text without what could move a terminal's cursor or begin another line: much of it comes from workers.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '=')
}

fn json(line: &Line<'_>) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut bytes);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("time", &time(line))?;
    map.serialize_entry("level", &line.level.as_str().to_ascii_lowercase())?;
    map.serialize_entry("msg", line.message)?;
    fields(&mut map, line, &JSON_KEYS)?;
    map.end()?;
    Ok(bytes)
}

fn bunyan(line: &Line<'_>, hostname: &str, pid: u32) -> serde_json::Result<Vec<u8>> {
    let level = match line.level {
        Level::TRACE => 10,
        Level::DEBUG => 20,
        Level::INFO => 30,
        Level::WARN => 40,
        Level::ERROR => 50,
    };
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut bytes);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("name", "dutch-master")?;
    map.serialize_entry("hostname", hostname)?;
    map.serialize_entry("pid", &pid)?;
    map.serialize_entry("level", &level)?;
    fields(&mut map, line, &BUNYAN_KEYS)?;
    map.serialize_entry("msg", line.message)?;
    map.serialize_entry("time", &time(line))?;
    map.serialize_entry("v", &0)?;
    map.end()?;
    Ok(bytes)
}

fn fields<M: SerializeMap>(map: &mut M, line: &Line<'_>, taken: &[&str]) -> Result<(), M::Error> {
    line.fields
        .iter()
        .try_for_each(|(name, value)| if taken.contains(name) { map.serialize_entry(&format!("{name}_"), value) } else { map.serialize_entry(name, value) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(format: &Format, level: Level, message: &str, fields: &[(&'static str, Value)]) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        String::from_utf8(format.line(&Line { time, level, message, fields })).unwrap()
    }

    fn worker() -> [(&'static str, Value); 3] {
        [("workerId", 3.into()), ("signal", "SIGTERM".into()), ("reason", "too \"old\"\n".into())]
    }

    #[test]
    fn a_line_for_people_has_time_level_message_and_fields() {
        let line = shown(&Format::Pretty { coloured: false }, Level::INFO, "Worker exited", &worker());
        assert_eq!(line, "2023-11-14T22:13:20.123Z  INFO Worker exited workerId=3 signal=SIGTERM reason=\"too \\\"old\\\"\\n\"\n");
    }

    #[test]
    fn only_a_terminal_gets_colours_and_no_text_can_add_any() {
        let pretty = |coloured, message| shown(&Format::Pretty { coloured }, Level::WARN, message, &[("a", "\x1b[31m".into())]);
        assert!(pretty(true, "x").contains("\x1b[33m WARN\x1b[0m"));
        let line = pretty(false, "broken\x1b[2J\nline");
        assert!(!line.contains('\x1b') && line.lines().count() == 1, "{line}");
    }

    #[test]
    fn a_json_line_is_one_object() {
        let line = shown(&Format::Json, Level::WARN, "Worker exited", &worker());
        assert_eq!(
            line,
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"level\":\"warn\",\"msg\":\"Worker exited\",\"workerId\":3,\"signal\":\"SIGTERM\",\"reason\":\"too \\\"old\\\"\\n\"}\n"
        );
    }

    #[test]
    fn a_bunyan_record_has_all_that_bunyan_requires_and_keeps_its_own_keys() {
        let format = Format::Bunyan { hostname: "box".into(), pid: 7 };
        let record: Value = serde_json::from_str(&shown(&format, Level::ERROR, "Port taken", &[("pid", 9.into())])).unwrap();
        let expected = serde_json::json!({"v": 0, "level": 50, "name": "dutch-master", "hostname": "box", "pid": 7, "time": "2023-11-14T22:13:20.123Z", "msg": "Port taken", "pid_": 9});
        assert_eq!(record, expected);
    }
}
