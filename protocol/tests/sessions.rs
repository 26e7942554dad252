//! The sessions for implementers, as bytes: however a peer's bytes are cut on their way, the same messages arrive.

#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::{BTreeMap, BTreeSet};

use dutch_master_protocol::codec::{self, FrameDecoder, Malformed};
use dutch_master_protocol::hex;
use serde_json::Value;

fn sessions() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../vectors/sessions.json")).unwrap();
    file["sessions"].as_array().unwrap().clone()
}

/// Heartbeats come from where requests are served, so they are no part of a session.
#[test]
fn every_message_is_in_a_session_of_a_worker() {
    let file: Value = serde_json::from_str(include_str!("../vectors/worker-sessions.json")).unwrap();
    let twin: Value = serde_json::from_str(include_str!("../messages.json")).unwrap();
    let sessions = file["sessions"].as_array().unwrap();
    assert_eq!(file["count"], sessions.len(), "count guards against a truncated file");
    let steps = || sessions.iter().flat_map(|session| session["steps"].as_array().unwrap());
    let events = |what: &str| steps().filter_map(|step| step[what]["event"].as_str()).collect::<BTreeSet<_>>();
    let (said, heard) = (events("say"), events("hear"));
    for message in twin["messages"].as_array().unwrap() {
        let event = message["event"].as_str().unwrap();
        let is_from = |side: &str| message["from"].as_array().unwrap().iter().any(|from| from == side || from == "both");
        let is_to = |side: &str| message["to"] == side || message["to"] == "both";
        if is_from("worker") && is_to("master") {
            assert!(said.contains(event) || event == "heartbeat", "no worker says {event}");
        }
        if is_from("master") && is_to("worker") {
            assert!(heard.contains(event), "no worker hears {event}");
        }
    }
    assert!(said.len() > 8 && heard.len() > 4);
}

/// All that each peer of a session sends on its connection.
fn streams(session: &Value) -> BTreeMap<String, Vec<u8>> {
    let mut streams = BTreeMap::<String, Vec<u8>>::new();
    for step in session["steps"].as_array().unwrap() {
        let by = step["by"].as_str().unwrap_or("worker").to_owned();
        if step["next_worker"] == true
            && let Some(stream) = streams.remove("worker")
        {
            streams.insert("old".into(), stream);
        }
        let sent = match (&step["send"], &step["send_hex"]) {
            (message @ Value::Object(_), _) => codec::encode(message).unwrap(),
            (_, Value::String(text)) => hex::bytes(text).unwrap(),
            _ => continue,
        };
        streams.entry(by).or_default().extend(sent);
    }
    streams
}

/// What arrives, up to the first that is no frame.
fn arrives(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Malformed>) {
    let (mut decoder, mut bodies) = (FrameDecoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(body)) => bodies.push(body.to_vec()),
                Err(malformed) => return (bodies, Some(malformed)),
            }
        }
    }
    (bodies, None)
}

#[test]
fn every_session_cut_at_any_byte_is_the_same_session() {
    let mut cuts = 0;
    for session in sessions() {
        for (by, stream) in streams(&session) {
            let whole = arrives(&[&stream]);
            assert!(!whole.0.is_empty() || whole.1.is_some(), "{}: {by} says something", session["id"]);
            for cut in 0..=stream.len() {
                let (start, end) = stream.split_at(cut);
                assert_eq!(arrives(&[start, end]), whole, "{}: {by}, cut at {cut}", session["id"]);
                cuts += 1;
            }
            let one_by_one: Vec<_> = stream.chunks(1).collect();
            assert_eq!(arrives(&one_by_one), whole, "{}: {by}, byte by byte", session["id"]);
        }
    }
    assert!(cuts > 2_000, "{cuts}");
}
