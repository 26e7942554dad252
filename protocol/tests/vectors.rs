//! The vectors against this crate, in both directions: bytes to message, and where the encoding is canonical, message to bytes.
//! `UPDATE_VECTORS=1` rewrites the hex of the canonical ones from their messages.

#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use dutch_master_protocol::codec::{self, FrameDecoder, HEADER, Malformed};
use dutch_master_protocol::control::{FromControl, ToControl};
use dutch_master_protocol::message::{FromMaster, FromWorker, codes};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Vectors that this crate does not meet yet, with what is wrong. One that it meets has to be taken off the list.
const DEVIATIONS: &[(&str, &[&str])] = &[];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    spec: String,
    count: usize,
    notes: std::collections::BTreeMap<String, String>,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    id: String,
    rule: String,
    from: String,
    to: String,
    comment: String,
    #[serde(default)]
    flags: Vec<String>,
    hex: String,
    fds: u8,
    #[serde(default)]
    message: Value,
    result: Verdict,
    error: Option<String>,
    #[serde(default = "yes")]
    canonical: bool,
}

#[derive(Deserialize, PartialEq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Valid,
    Invalid,
    Acceptable,
}

fn yes() -> bool {
    true
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        dutch_master_protocol::hex::bytes(&self.hex).unwrap_or_else(|| panic!("{}: no hex", self.id))
    }

    /// What the crate makes of the bytes: the message as JSON, null for an event to be ignored.
    fn decode(&self) -> Result<Value, Malformed> {
        match (self.from.as_str(), self.to.as_str()) {
            ("worker", "master") => read(&self.bytes(), &FromWorker::Unknown),
            ("master", "worker") => read(&self.bytes(), &FromMaster::Unknown),
            ("control", "master") => read(&self.bytes(), &FromControl::Unknown),
            ("master", "control") => read(&self.bytes(), &ToControl::Unknown),
            other => panic!("{}: nobody speaks from and to {other:?}", self.id),
        }
    }

    /// The message as this crate's types say it: a word that they do not know is `other` there, and stays what it is in the vector.
    fn understood(&self) -> Value {
        match self.flags.iter().any(|flag| flag == "unknown-value") {
            true => serde_json::from_value::<FromMaster>(self.message.clone()).and_then(serde_json::to_value).unwrap(),
            false => self.message.clone(),
        }
    }

    /// The bytes that the crate makes of the message.
    fn encode(&self) -> Vec<u8> {
        fn write<M: DeserializeOwned + Serialize>(vector: &Vector) -> Vec<u8> {
            let message: M = serde_json::from_value(vector.message.clone()).unwrap_or_else(|error| panic!("{}: {error}", vector.id));
            codec::encode(&message).unwrap()
        }
        match (self.from.as_str(), self.to.as_str()) {
            ("worker", "master") => write::<FromWorker>(self),
            ("master", "worker") => write::<FromMaster>(self),
            ("control", "master") => write::<FromControl>(self),
            ("master", "control") => write::<ToControl>(self),
            other => panic!("{}: nobody speaks from and to {other:?}", self.id),
        }
    }

    /// What is wrong with the crate, as far as this vector shows.
    fn check(&self) -> Result<(), String> {
        let decoded = self.decode();
        match (self.result, &decoded) {
            (Verdict::Invalid, Ok(message)) => Err(format!("should be refused, was taken for {message}")),
            (Verdict::Invalid, Err(error)) if self.error.as_deref() != Some(error.code()) => Err(format!("refused with {}: {error}", error.code())),
            (Verdict::Invalid, Err(_)) | (Verdict::Acceptable, Err(_)) => Ok(()),
            (Verdict::Valid, Err(error)) => Err(format!("refused: {error}")),
            (Verdict::Valid | Verdict::Acceptable, Ok(message)) if *message != self.understood() => Err(format!("taken for {message}")),
            (Verdict::Valid, Ok(_)) if self.canonical && self.encode() != self.bytes() => Err(format!("encoded as {}", grouped(&self.encode()))),
            (Verdict::Valid | Verdict::Acceptable, Ok(_)) => Ok(()),
        }
    }
}

fn read<M: DeserializeOwned + Serialize + PartialEq>(bytes: &[u8], unknown: &M) -> Result<Value, Malformed> {
    let mut decoder = FrameDecoder::default();
    decoder.push(bytes);
    let Some(body) = decoder.next_frame()?.map(<[u8]>::to_vec) else { return Err(Malformed::Message("the stream ends within a frame".into())) };
    let message: M = codec::decode(&body)?;
    assert!(decoder.is_empty(), "a vector is one frame");
    Ok(if message == *unknown { Value::Null } else { serde_json::to_value(&message).unwrap() })
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/messages.json")
}

fn load() -> File {
    serde_json::from_str(&fs::read_to_string(path()).unwrap()).unwrap()
}

/// Hex grouped by MessagePack token, as the files have it. For canonical frames, which use few types.
fn grouped(frame: &[u8]) -> String {
    let (header, mut rest) = frame.split_at(HEADER);
    let mut groups = vec![hex(header)];
    while let Some(first) = rest.first() {
        let length = match *first {
            0xa0..=0xbf => 1 + usize::from(first & 31),
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 | 0xdc | 0xde => 3,
            0xce | 0xd2 => 5,
            0xcf | 0xd3 => 9,
            0xd9 => 2 + usize::from(rest[1]),
            0xda => 3 + usize::from(rest[1]) * 256 + usize::from(rest[2]),
            _ => 1,
        };
        let (token, after) = rest.split_at(length);
        groups.push(hex(token));
        rest = after;
    }
    groups.join(" ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names of the variants or constants that stand in a source file between `start` and the next closing brace in the first column of its block.
fn declared<'a>(source: &'a str, start: &str, name: impl Fn(&'a str) -> Option<&'a str>) -> Vec<&'a str> {
    let block = source.split_once(start).unwrap_or_else(|| panic!("{start:?} is gone")).1;
    block.lines().take_while(|line| *line != "}").filter_map(|line| name(line.trim())).collect()
}

fn variant(line: &str) -> Option<&str> {
    let name = line.split(['(', ',']).next()?;
    (line.ends_with(',') && name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric)).then_some(name)
}

fn kebab(name: &str) -> String {
    name.char_indices().flat_map(|(at, c)| (at > 0 && c.is_uppercase()).then_some('-').into_iter().chain(c.to_lowercase())).collect()
}

#[test]
fn every_vector_holds() {
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        update();
    }
    let mut wrong = Vec::new();
    for vector in &load().vectors {
        let (id, deviation) = (&vector.id, DEVIATIONS.iter().find(|(_, ids)| ids.contains(&vector.id.as_str())));
        match (vector.check(), deviation) {
            (Err(why), None) => wrong.push(format!("{id} ({}): {why}", vector.comment)),
            (Err(_), Some((why, _))) => say(&format!("KNOWN DEVIATION: {id}: {why}")),
            (Ok(()), Some(_)) => wrong.push(format!("{id} holds now: take it off DEVIATIONS")),
            (Ok(()), None) => {}
        }
    }
    assert!(wrong.is_empty(), "{} vectors do not hold:\n{}", wrong.len(), wrong.join("\n"));
}

/// Past the capture of output, so that it is seen when the test passes.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Rewrites the hex where it differs and nothing else, so that the rest of the file stays as it was written.
fn update() {
    let mut text = fs::read_to_string(path()).unwrap();
    for vector in load().vectors.iter().filter(|vector| vector.result == Verdict::Valid && vector.canonical) {
        let (frame, id) = (vector.encode(), serde_json::to_string(&vector.id).unwrap());
        if frame != vector.bytes() {
            let at = text.find(&format!("\"id\": {id}")).unwrap();
            let start = at + text[at..].find("\"hex\": \"").unwrap() + "\"hex\": \"".len();
            let end = start + text[start..].find('"').unwrap();
            text.replace_range(start..end, &grouped(&frame));
            say(&format!("rewritten: {id}"));
        }
    }
    fs::write(path(), text).unwrap();
}

#[test]
fn the_file_is_whole_and_consistent() {
    let file = load();
    assert_eq!(file.spec, "SPEC.md 1");
    assert_eq!(file.count, file.vectors.len(), "count guards against a truncated file");
    let ids: BTreeSet<_> = file.vectors.iter().map(|vector| &vector.id).collect();
    assert_eq!(ids.len(), file.vectors.len(), "ids are unique");
    for vector in &file.vectors {
        let id = &vector.id;
        assert!(id.starts_with(&format!("{}/", vector.rule)) && !vector.comment.is_empty(), "{id}");
        assert!(vector.flags.iter().all(|flag| file.notes.contains_key(flag)), "{id}: a flag without a note");
        let says = vector.message.get("fds").and_then(Value::as_u64).unwrap_or(0);
        assert_eq!(u64::from(vector.fds), says, "{id}: descriptors that follow");
        match vector.result {
            Verdict::Valid | Verdict::Acceptable => assert!(vector.error.is_none(), "{id}"),
            Verdict::Invalid => assert!(vector.error.is_some() && vector.message.is_null(), "{id}"),
        }
        let canonical = vector.result == Verdict::Valid && vector.canonical;
        assert!(!canonical || grouped(&vector.bytes()) == vector.hex, "{id}: hex is grouped by token");
    }
    let used: BTreeSet<_> = file.vectors.iter().flat_map(|vector| &vector.flags).collect();
    assert_eq!(used, file.notes.keys().collect(), "notes explain the flags that are used");
}

#[test]
fn every_message_has_a_canonical_vector() {
    let (messages, control) = (include_str!("../src/message.rs"), include_str!("../src/control.rs"));
    let enums = [
        (messages, "pub enum FromWorker {", "worker", "master"),
        (messages, "pub enum FromMaster {", "master", "worker"),
        (control, "pub enum FromControl {", "control", "master"),
        (control, "pub enum ToControl {", "master", "control"),
    ];
    let vectors = load().vectors;
    let has = |from: &str, to: &str, event: &str| {
        vectors.iter().any(|v| v.result == Verdict::Valid && v.canonical && (v.from.as_str(), v.to.as_str()) == (from, to) && v.message["event"] == event)
    };
    for (source, start, from, to) in enums {
        let variants = declared(source, start, variant);
        assert!(variants.len() > 4, "{start}: {variants:?}");
        for event in variants.into_iter().filter(|name| *name != "Unknown").map(kebab) {
            assert!(has(from, to, &event), "no canonical vector of {event} from {from} to {to}");
        }
    }
}

#[test]
fn every_error_code_and_every_flaw_has_a_vector() {
    let vectors = load().vectors;
    let constant = |line: &'static str| line.strip_prefix("pub const ")?.split('"').nth(1);
    let declared_codes = declared(include_str!("../src/message.rs"), "pub mod codes {", constant);
    assert!(declared_codes.contains(&codes::MALFORMED) && declared_codes.len() > 10, "{declared_codes:?}");
    for code in declared_codes {
        assert!(vectors.iter().any(|v| v.message["event"] == "error" && v.message["code"] == code), "no vector of an error with code {code}");
    }
    let met: BTreeSet<_> = vectors
        .iter()
        .filter_map(|vector| match vector.decode() {
            Err(Malformed::Body { what, .. }) => Some(format!("{what:?}")),
            Err(Malformed::Empty) => Some("Empty".into()),
            Err(Malformed::TooLarge(_)) => Some("TooLarge".into()),
            Err(Malformed::Message(_)) => Some("Message".into()),
            Ok(_) => None,
        })
        .collect();
    let flaws = declared(include_str!("../src/codec.rs"), "pub enum Flaw {", variant);
    assert!(flaws.len() > 5, "{flaws:?}");
    for flaw in flaws.into_iter().chain(["Empty", "TooLarge", "Message"]) {
        assert!(met.contains(flaw), "no vector is refused as {flaw}");
    }
}
