//! The ways in which one and the same message may reach a worker (SPEC 3.1, 3.4 to 3.6).

use dutch_master_protocol::codec;
use dutch_master_protocol::limits::VALUES_MAX;
use dutch_master_protocol::message::FromMaster;
use serde_json::{Map, Value, json};

/// Pieces that are written one after the other.
pub(super) type Manner = fn(&FromMaster) -> Vec<Vec<u8>>;

/// An event of no version, with keys of every kind.
pub(super) fn unknown_event() -> Vec<u8> {
    canonical(&json!({ "event": "x-kit-dance", "seq": [1, -1, null, true, "text", { "event": 1 }] }))
}

/// Another one, with as many values as a message may have; five of them are the message, its two keys, the name and the array.
pub(super) fn of_most_values() -> Vec<u8> {
    canonical(&json!({ "event": "x-kit-crowd", "x": vec![Value::Null; VALUES_MAX - 5] }))
}

/// As a master sends it.
pub(super) fn plain(message: &FromMaster) -> Vec<Vec<u8>> {
    vec![canonical(&value(message))]
}

/// Byte by byte.
pub(super) fn in_pieces(message: &FromMaster) -> Vec<Vec<u8>> {
    plain(message).concat().into_iter().map(|byte| vec![byte]).collect()
}

/// Right behind a message that is to be ignored.
pub(super) fn glued(message: &FromMaster) -> Vec<Vec<u8>> {
    vec![[unknown_event(), plain(message).concat()].concat()]
}

/// In the longest encoding of everything, with `event` behind other keys.
pub(super) fn widest(message: &FromMaster) -> Vec<Vec<u8>> {
    let mut body = Vec::new();
    wide(&value(message), &mut body);
    vec![framed(&body)]
}

/// With keys that no version has.
pub(super) fn with_unknown_keys(message: &FromMaster) -> Vec<Vec<u8>> {
    let mut value = value(message);
    if let Value::Object(map) = &mut value {
        map.insert("x-kit-a".into(), json!({ "event": "disconnect", "list": [[[]], {}] }));
        map.insert("x-kit-z".into(), json!([null, false, -32_769, 9_007_199_254_740_992_u64, "é"]));
    }
    vec![canonical(&value)]
}

/// With optional keys written out: nil, or their default.
pub(super) fn with_nils(message: &FromMaster) -> Vec<Vec<u8>> {
    let mut value = value(message);
    let optional: &[&str] = match message {
        FromMaster::Welcome(_) => &["heartbeat_ms", "orphan_timeout_ms", "features"],
        FromMaster::Listener(_) => &["name", "data"],
        FromMaster::Error(_) => &["seq"],
        FromMaster::Disconnect(_) | FromMaster::ReturnListener(_) | FromMaster::Unknown => &[],
    };
    if let Value::Object(map) = &mut value {
        for key in optional {
            map.entry(*key).or_insert(Value::Null);
        }
        if let Some(Value::Object(address)) = map.get_mut("address") {
            for key in ["host", "port", "path"] {
                address.entry(key).or_insert(Value::Null);
            }
            address.insert("ipv6_only".into(), Value::Bool(false));
        }
    }
    vec![canonical(&value)]
}

fn value(message: &FromMaster) -> Value {
    // These are plain data: strings, integers, lists and maps.
    serde_json::to_value(message).unwrap_or(Value::Object(Map::new()))
}

/// A frame of a value whose `event` comes first.
fn canonical(value: &Value) -> Vec<u8> {
    codec::encode(value).unwrap_or_default()
}

pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body].concat()
}

/// Integers of 64 bits, the others with lengths of 32.
fn wide(value: &Value, out: &mut Vec<u8>) {
    let with_length = |out: &mut Vec<u8>, marker, length: usize| {
        out.push(marker);
        out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    };
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        // Signed, although it is not negative: allowed as well.
        Value::Number(number) => {
            out.push(0xd3);
            out.extend(number.as_i64().unwrap_or_default().to_be_bytes());
        }
        Value::String(text) => {
            with_length(out, 0xdb, text.len());
            out.extend(text.as_bytes());
        }
        Value::Array(values) => {
            with_length(out, 0xdd, values.len());
            values.iter().for_each(|value| wide(value, out));
        }
        Value::Object(map) => {
            with_length(out, 0xdf, map.len());
            for (key, value) in map.iter().rev() {
                with_length(out, 0xdb, key.len());
                out.extend(key.as_bytes());
                wide(value, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dutch_master_protocol::message::{Address, Disconnect, DisconnectReason, Listener, Welcome};

    use super::*;

    #[test]
    fn each_manner_says_the_same() {
        let welcome = Welcome { protocol: 1, worker: 3, generation: 300, size: 2, names: vec!["web".into()], ..Welcome::default() };
        let address = Some(Address::tcp(Some([127, 0, 0, 1].into()), 8000));
        let listener = Listener { seq: 70_000, key: "web".into(), name: None, data: None, address, fds: 1 };
        let messages = [
            FromMaster::Welcome(welcome),
            FromMaster::Listener(listener),
            FromMaster::Disconnect(Disconnect { reason: DisconnectReason::ScaleDown, timeout_ms: 27_000 }),
        ];
        for message in messages {
            for manner in [plain, in_pieces, glued, widest, with_unknown_keys, with_nils] as [Manner; 6] {
                let mut decoder = codec::FrameDecoder::default();
                decoder.push(&manner(&message).concat());
                let mut last = None;
                while let Some(frame) = decoder.next_frame().unwrap() {
                    last = Some(codec::decode::<FromMaster>(frame).unwrap());
                }
                assert_eq!(last.as_ref(), Some(&message));
            }
        }
    }
}
