//! Whole sessions as data (protocol/vectors/sessions.json).

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

const FILE: &str = include_str!("../../../../protocol/vectors/sessions.json");

/// What one session shows.
#[derive(Debug, Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) comment: String,
    pub(super) steps: Vec<Step>,
    /// The master is asked to stop in it.
    #[serde(default)]
    pub(super) ends_master: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Step {
    /// Whose connection it is about.
    #[serde(default = "worker")]
    pub(super) by: String,
    #[serde(flatten)]
    pub(super) what: What,
}

fn worker() -> String {
    "worker".into()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// This message is sent to the master.
    Send(Value),
    /// These bytes are.
    SendHex(String),
    /// A zero byte with a descriptor is.
    SendFd(IgnoredAny),
    /// The next message of the master has these keys and values; others are free.
    Expect(Value),
    /// The master ends the connection.
    Ends(IgnoredAny),
    /// The master ends the worker's process.
    Exits(IgnoredAny),
    /// The connection is closed by its other side.
    HangUp(IgnoredAny),
    /// The master starts another worker, which is `worker` from now on; the former one is `old`.
    NextWorker(IgnoredAny),
    /// The master itself ends.
    MasterExits(IgnoredAny),
}

/// All of them, in the file's order.
pub(super) fn all() -> Result<Vec<Session>, serde_json::Error> {
    #[derive(Deserialize)]
    struct File {
        sessions: Vec<Session>,
    }
    serde_json::from_str::<File>(FILE).map(|file| file.sessions)
}

/// A message with what is known at the time alone: the worker's token, and the number that is to be answered.
pub(super) fn filled_in(message: &Value, token: &str, seq: &Value) -> Value {
    match message {
        Value::String(text) if text == "$TOKEN" => token.into(),
        Value::String(text) if text == "$SEQ" => seq.clone(),
        Value::Array(items) => items.iter().map(|item| filled_in(item, token, seq)).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), filled_in(value, token, seq))).collect::<serde_json::Map<_, _>>().into(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => message.clone(),
    }
}

/// The first key of which the message has another value than was expected.
pub(super) fn differences(expected: &Value, message: &Value) -> Option<String> {
    let expected = expected.as_object()?;
    expected.iter().find_map(|(key, value)| match (value, &message[key]) {
        (Value::Object(_), actual) => differences(value, actual),
        (value, actual) if value == actual => None,
        (_, actual) => Some(format!("`{key}` is {actual}")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_sessions_can_be_read_and_their_count_is_right() {
        let sessions = all().unwrap();
        let file: Value = serde_json::from_str(FILE).unwrap();
        assert_eq!(file["count"], sessions.len());
        assert!(sessions.len() > 15);
    }

    #[test]
    fn only_what_is_expected_is_compared() {
        let message = json!({ "event": "listener", "seq": 3, "address": { "port": 1, "kind": "tcp" } });
        assert_eq!(differences(&json!({ "event": "listener", "address": { "kind": "tcp" } }), &message), None);
        assert_eq!(differences(&json!({ "seq": 4 }), &message).as_deref(), Some("`seq` is 3"));
        assert_eq!(filled_in(&json!({ "token": "$TOKEN", "seq": "$SEQ" }), "t", &json!(7)), json!({ "token": "t", "seq": 7 }));
    }
}
