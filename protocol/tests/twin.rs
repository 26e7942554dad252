//! `messages.json`, the machine-readable twin of SPEC.md: it says what the tables of the document say, and knows the keys that the Rust types have.
//! `UPDATE_TWIN=1` writes it anew from the document.

#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dutch_master_protocol::{control, message};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::{Value, json};

const SPEC: &str = include_str!("../SPEC.md");

/// The messages and the maps within them, as the document has them.
fn from_the_document() -> Value {
    let (mut messages, mut maps) = (Vec::<Value>::new(), serde_json::Map::new());
    let (mut section, mut current, mut in_table, mut fenced) = (String::new(), Current::None, false, false);
    for line in SPEC.lines() {
        fenced ^= line.starts_with("```");
        if fenced {
            continue;
        }
        if let Some(heading) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()) {
            let (number, title) = heading.split_once(' ').unwrap_or((heading, ""));
            section = number.to_owned();
            current = match (number.matches('.').count(), title.split('`').nth(1)) {
                (1, Some(event)) if number.starts_with("6.") || number.starts_with("7.") => {
                    messages.push(json!({ "event": event, "section": number, "from": [], "keys": [] }));
                    Current::Message
                }
                (2, Some(map)) => Current::Map(map.to_owned()),
                (2, None) if title == "An address" => Current::Map("address".into()),
                _ => Current::None,
            };
        }
        let is_a_message = matches!(current, Current::Message);
        // A message without a heading of its own, as the answers to `status`.
        if let Some((event, _)) = line.strip_prefix("**`").and_then(|rest| rest.split_once("`**, master → client")).filter(|_| is_a_message) {
            messages.push(json!({ "event": event, "section": section, "from": ["master"], "to": "client", "keys": [] }));
        }
        if is_a_message && let Some(last) = messages.last_mut() {
            speakers(line, last);
        }
        in_table = match line.strip_prefix("| ") {
            Some(row) if row.starts_with("key | type | default") => true,
            Some(row) if in_table => {
                let key = key(row);
                match &current {
                    Current::Message => messages.last_mut().unwrap()["keys"].as_array_mut().unwrap().push(key),
                    Current::Map(map) => maps.entry(map).or_insert(json!([])).as_array_mut().unwrap().push(key),
                    Current::None => {}
                }
                true
            }
            Some(_) => false,
            None => in_table && line.starts_with("|-"),
        };
    }
    json!({ "protocol": 1, "messages": messages, "maps": maps })
}

enum Current {
    None,
    Message,
    Map(String),
}

/// Who says it to whom, from the sentence that begins so.
fn speakers(line: &str, message: &mut Value) {
    let mut from: Vec<String> = message["from"].as_array().unwrap().iter().map(|side| side.as_str().unwrap().to_owned()).collect();
    for (words, speaker, hearer) in [
        ("**Worker → master", "worker", "master"),
        ("**Master → worker", "master", "worker"),
        ("**Client → master", "client", "master"),
        ("**Master → client", "master", "client"),
        ("**Both directions", "both", "both"),
    ] {
        if line.contains(words) && !from.iter().any(|side| side == speaker) {
            from.push(speaker.into());
            message["to"] = if message["to"].is_null() { hearer.into() } else { "both".into() };
        }
    }
    message["from"] = json!(from);
}

/// A row of a table of keys.
fn key(row: &str) -> Value {
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let words: Vec<&str> = cells[1].split('`').skip(1).step_by(2).collect();
    let kind = if words.is_empty() { cells[1].to_owned() } else { "word".into() };
    let mut key = json!({ "name": cells[0].trim_matches('`'), "type": kind, "required": cells[2].is_empty(), "since": cells[3].parse::<u32>().unwrap() });
    if !words.is_empty() {
        key["words"] = json!(words);
    }
    if !cells[2].is_empty() {
        key["default"] = match cells[2].trim_matches('`') {
            "nil" => Value::Null,
            other => serde_json::from_str(other).unwrap_or_else(|_| other.into()),
        };
    }
    key
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("messages.json")
}

fn twin() -> Value {
    serde_json::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap()
}

#[test]
fn the_twin_says_what_the_document_says() {
    if std::env::var_os("UPDATE_TWIN").is_some() {
        // By rename: the other test may be reading it.
        let new = path().with_extension("new");
        std::fs::write(&new, format!("{:#}\n", from_the_document())).unwrap();
        std::fs::rename(new, path()).unwrap();
    }
    assert_eq!(twin(), from_the_document(), "UPDATE_TWIN=1 writes it anew");
}

#[test]
fn the_twin_has_the_keys_of_the_rust_types() {
    let twin = twin();
    let mut described: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for message in twin["messages"].as_array().unwrap() {
        let id = format!("{} {}", message["section"].as_str().unwrap(), message["event"].as_str().unwrap());
        described.insert(id, names(&message["keys"]));
    }
    for (map, keys) in twin["maps"].as_object().unwrap() {
        described.insert(map.clone(), names(keys));
    }
    let declared: BTreeMap<String, Vec<&str>> = DECLARED.iter().map(|(id, fields)| ((*id).to_owned(), sorted(fields().to_vec()))).collect();
    assert_eq!(described, declared);
}

fn names(keys: &Value) -> Vec<&str> {
    sorted(keys.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect())
}

fn sorted(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names
}

type Fields = fn() -> &'static [&'static str];

const DECLARED: [(&str, Fields); 32] = [
    ("6.1 hello", fields::<message::Hello>),
    ("6.2 listen", fields::<message::Listen>),
    ("6.3 close", fields::<message::Close>),
    ("6.4 listening", fields::<message::Listening>),
    ("6.5 request-restart", fields::<message::RequestRestart>),
    ("6.6 leaving", fields::<message::Leaving>),
    ("6.7 disconnect", fields::<message::Drained>),
    ("6.8 heartbeat", fields::<message::Heartbeat>),
    ("6.9 message", fields::<message::AppMessage>),
    ("6.10 welcome", fields::<message::Welcome>),
    ("6.11 listener", fields::<message::Listener>),
    ("6.12 error", fields::<message::ErrorMessage>),
    ("6.13 disconnect", fields::<message::Disconnect>),
    ("6.14 return-listener", fields::<message::ReturnListener>),
    ("7.1 status", fields::<control::Status>),
    ("7.1 pool", fields::<control::PoolStatus>),
    ("7.1 worker", fields::<control::WorkerStatus>),
    ("7.1 listener", fields::<control::ListenerStatus>),
    ("7.2 restart", fields::<control::Restart>),
    ("7.3 reload", fields::<control::Reload>),
    ("7.4 stop", fields::<control::Stop>),
    ("7.5 scale", fields::<control::Scale>),
    ("7.6 subscribe", fields::<control::Subscribe>),
    ("7.7 accepted", fields::<control::Accepted>),
    ("7.8 progress", fields::<control::Progress>),
    ("7.9 done", fields::<control::Done>),
    ("7.10 metrics", fields::<control::Metrics>),
    ("7.11 metrics-text", fields::<control::MetricsText>),
    ("7.12 upgrade", fields::<control::Upgrade>),
    ("address", fields::<message::Address>),
    ("failing", fields::<control::Failing>),
    ("resume", fields::<message::Resume>),
];

/// The fields that a struct would be read from: what it asks a deserializer for.
fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Spy<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Spy<'_> {
        type Error = de::value::Error;

        fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, fields: &'static [&'static str], _: V) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            Err(de::Error::custom("only the names were wanted"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("no struct"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut found: &'static [&'static str] = &[];
    let _names_only = T::deserialize(Spy(&mut found));
    found
}
