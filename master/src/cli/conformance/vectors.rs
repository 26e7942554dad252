//! Single messages as data (protocol/vectors/messages.json): those that a worker has to refuse.

use dutch_master_protocol::hex;
use serde::Deserialize;

const FILE: &str = include_str!("../../../../protocol/vectors/messages.json");

#[derive(Debug, Deserialize)]
pub(super) struct Vector {
    pub(super) id: String,
    pub(super) comment: String,
    to: String,
    #[serde(default)]
    flags: Vec<String>,
    hex: String,
    result: String,
}

impl Vector {
    pub(super) fn bytes(&self) -> Vec<u8> {
        hex::bytes(&self.hex).unwrap_or_default()
    }
}

/// Those to a worker that are invalid for one of these reasons (the flags of the file), in the given sections.
pub(super) fn invalid(sections: &[&str], flags: &[&str]) -> Result<Vec<Vector>, serde_json::Error> {
    #[derive(Deserialize)]
    struct File {
        vectors: Vec<Vector>,
    }
    let mut vectors = serde_json::from_str::<File>(FILE)?.vectors;
    vectors.retain(|vector| {
        let is_of = |section: &&str| vector.id.starts_with(*section);
        vector.to == "worker" && vector.result == "invalid" && sections.iter().any(is_of) && vector.flags.iter().any(|flag| flags.contains(&flag.as_str()))
    });
    Ok(vectors)
}
