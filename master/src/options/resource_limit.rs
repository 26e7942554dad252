//! Limits of the system for a process, as `NAME=SOFT[:HARD]` and as data.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A limit of the system for a process; `None`: unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// What is limited.
    pub resource: Resource,
    /// What holds at first; the process may change it up to `hard`.
    pub soft: Option<u64>,
    /// What only root may raise.
    pub hard: Option<u64>,
}

/// What the system limits for each process, by the names of `ulimit` and of systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // setrlimit(2) says what each of them is
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// Every limit by its name.
const RESOURCES: [(&str, Resource); 14] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// It has another form.
    #[error("write it like `nofile=65536` or `nofile=1024:65536`")]
    Form,
    /// There is no such limit.
    #[error("there is no limit `{0}`; these are known: {names}", names = RESOURCES.map(|(name, _)| name).join(", "))]
    Unknown(String),
    /// It is no value.
    #[error("`{0}` is neither a number nor `unlimited`")]
    Value(String),
    /// What holds at first is above what can hold.
    #[error("the first value may not be above the second")]
    Order,
}

impl FromStr for ResourceLimit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<ResourceLimit, LimitError> {
        let (name, values) = text.split_once('=').ok_or(LimitError::Form)?;
        let (_, resource) = RESOURCES.iter().find(|(known, _)| *known == name).ok_or_else(|| LimitError::Unknown(name.into()))?;
        let value = |text: &str| match text {
            "unlimited" => Ok(None),
            number => number.parse().map(Some).map_err(|_| LimitError::Value(number.into())),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let limit = ResourceLimit { resource: *resource, soft: value(soft)?, hard: value(hard)? };
        if limit.soft.unwrap_or(u64::MAX) > limit.hard.unwrap_or(u64::MAX) { Err(LimitError::Order) } else { Ok(limit) }
    }
}

impl fmt::Display for ResourceLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = RESOURCES.iter().find(|(_, resource)| *resource == self.resource).map_or("", |(name, _)| name);
        let value = |value: Option<u64>| value.map_or("unlimited".into(), |value| value.to_string());
        let (soft, hard) = (value(self.soft), value(self.hard));
        if soft == hard { write!(f, "{name}={soft}") } else { write!(f, "{name}={soft}:{hard}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_one_value_or_two_and_is_told_as_it_was_given() {
        for text in ["nofile=65536", "core=0:unlimited", "stack=unlimited"] {
            assert_eq!(text.parse::<ResourceLimit>().unwrap().to_string(), text);
        }
        assert_eq!("nofile=1:2".parse(), Ok(ResourceLimit { resource: Resource::Nofile, soft: Some(1), hard: Some(2) }));
        let wrongs = [
            ("nofile", "nofile=65536"),
            ("files=3", "nofile"),
            ("nofile=2:1", "above"),
            ("nofile=unlimited:1", "above"),
            ("nofile=x", "unlimited"),
            ("nofile=", "number"),
        ];
        for (wrong, words) in wrongs {
            let refused = wrong.parse::<ResourceLimit>().unwrap_err().to_string();
            assert!(refused.contains(words), "{wrong}: {refused}");
        }
    }
}
