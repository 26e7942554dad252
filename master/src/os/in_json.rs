//! How what JSON has no form for is written into the state: shared values as themselves, the system's names and values as text where they are text, else as bytes.

/// A value behind an [`Arc`](std::sync::Arc).
pub(super) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::os) fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub(in crate::os) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// Bytes, as text of hexadecimal digits.
pub(super) mod bytes {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::os) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        serializer.serialize_str(&bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect::<String>())
    }

    pub(in crate::os) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |letter: u8| u8::try_from(char::from(letter).to_digit(16)?).ok();
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some((digit(*high)? << 4) | digit(*low)?),
            _ => None,
        };
        text.as_bytes().chunks(2).map(byte).collect::<Option<_>>().ok_or_else(|| D::Error::custom("not bytes in hexadecimal digits"))
    }

    #[cfg(test)]
    mod tests {
        use super::super::super::outbox;

        #[test]
        fn bytes_come_back_as_they_were() {
            let queued = outbox::Queued::Frame((0..=255).collect());
            let written = serde_json::to_string(&queued).unwrap();
            assert!(written.contains("00010203") && written.contains("fdfeff"), "{written}");
            assert_eq!(serde_json::from_str::<outbox::Queued>(&written).unwrap(), queued);
            for wrong in ["0", "0g", "+1", "ä"] {
                let told = serde_json::from_str::<outbox::Queued>(&serde_json::json!({ "Frame": wrong }).to_string());
                assert!(told.is_err(), "{wrong}");
            }
        }
    }
}

/// Variables of an environment.
pub(super) mod environment {
    use std::borrow::Cow;
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::os::snapshots::Environment;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Word<'a> {
        Text(Cow<'a, str>),
        Bytes(Cow<'a, [u8]>),
    }

    impl<'a> From<&'a OsStr> for Word<'a> {
        fn from(word: &'a OsStr) -> Word<'a> {
            word.to_str().map_or_else(|| Word::Bytes(word.as_bytes().into()), |text| Word::Text(text.into()))
        }
    }

    impl From<Word<'_>> for OsString {
        fn from(word: Word<'_>) -> OsString {
            match word {
                Word::Text(text) => text.into_owned().into(),
                Word::Bytes(bytes) => OsString::from_vec(bytes.into_owned()),
            }
        }
    }

    pub(in crate::os) fn serialize<S: Serializer>(variables: &Environment, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(variables.iter().map(|(name, value)| (Word::from(name.as_os_str()), Word::from(value.as_os_str()))))
    }

    pub(in crate::os) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Environment, D::Error> {
        let variables = Vec::<(Word<'_>, Word<'_>)>::deserialize(deserializer)?;
        Ok(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Holder(#[serde(with = "super")] Environment);

        #[test]
        fn an_environment_comes_back_as_it_was_whatever_bytes_are_in_it() {
            let odd = OsString::from_vec(vec![b'a', 0xff, b'"']);
            let holder = Holder([("TEXT".into(), "a \"b\"\n".into()), ("ODD".into(), odd)].into_iter().collect());
            let written = serde_json::to_string(&holder).unwrap();
            assert_eq!(serde_json::from_str::<Holder>(&written).unwrap(), holder);
        }
    }
}
