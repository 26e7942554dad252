//! What the fuzzer begins with: the vectors and the sessions of the protocol, and the inputs that are kept.

use std::fs;
use std::path::Path;

use dutch_master_protocol::{codec, hex};
use serde_json::Value;

use crate::script::{self, By, Step, TOKEN, What};

const MESSAGES: &str = include_str!("../../protocol/vectors/messages.json");
const SESSIONS: &str = include_str!("../../protocol/vectors/sessions.json");

/// Name and bytes.
pub type Seed = (String, Vec<u8>);

fn entries(file: &str, list: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(file).unwrap_or_default();
    file[list].as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::bytes(text(value)).unwrap_or_default()
}

/// For the decoder: every vector, valid or not, as one read.
pub fn decoder() -> Vec<Seed> {
    entries(MESSAGES, "vectors").iter().map(|vector| (text(&vector["id"]).into(), [&[255], &bytes(&vector["hex"])[..]].concat())).collect()
}

/// For the master: every session, as far as its peers do something in it.
pub fn master() -> Vec<Seed> {
    entries(SESSIONS, "sessions").iter().map(|session| (text(&session["id"]).into(), script::write(&steps(session)))).collect()
}

/// What the fuzzer has found for a target, beyond the above: each reaches code that no other does, or once broke something.
///
/// # Errors
/// When a file cannot be read.
pub fn kept(target: &str) -> std::io::Result<Vec<Seed>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    paths.sort_by_key(fs::DirEntry::path);
    paths.into_iter().map(|entry| Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?))).collect()
}

/// After each answer that is expected the next step waits for what was said before.
fn steps(session: &Value) -> Vec<Step> {
    session["steps"].as_array().into_iter().flatten().filter_map(step).collect()
}

fn step(step: &Value) -> Option<Step> {
    let by = match step["by"].as_str() {
        None | Some("worker") => By::Worker,
        Some("old") => By::Old,
        Some("client") => By::Client,
        Some(_) => By::Stranger,
    };
    let what = match step.as_object()?.keys().find(|key| *key != "by")?.as_str() {
        "send" => What::Send(codec::encode(&with_token(&step["send"])).ok()?),
        "send_hex" => What::Send(bytes(&step["send_hex"])),
        "send_fd" => What::SendFd,
        "hang_up" => What::HangUp,
        "next_worker" => What::NextWorker,
        _ => What::Settle,
    };
    Some(Step { by, what })
}

fn with_token(message: &Value) -> Value {
    let token = || String::from_utf8_lossy(&TOKEN).into_owned();
    message
        .as_object()
        .map(|map| map.iter().map(|(key, value)| (key.clone(), if value == "$TOKEN" { token().into() } else { value.clone() })).collect())
        .map_or(Value::Null, Value::Object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vector_and_each_session_is_a_seed() {
        assert!(decoder().len() > 100 && decoder().iter().all(|(_, input)| input.len() > 1));
        assert!(master().len() > 20);
        let longest = master().into_iter().map(|(_, input)| script::read(&input).len()).max();
        assert!(longest > Some(10), "{longest:?}");
    }
}
