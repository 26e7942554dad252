//! Frames and messages as bytes, and back (SPEC 3). No I/O: whoever has bytes pushes them in and takes messages out.

use std::fmt;

use rmp::Marker;
use serde::{Serialize, de::DeserializeOwned};

use crate::limits::{DEPTH_MAX, FRAME_MAX, INTEGER_MAX, VALUES_MAX};
use crate::message::codes;

/// Bytes of the length in front of each frame.
pub const HEADER: usize = 4;

/// Why bytes are no message. Each has a code for the `error` message that answers it (SPEC 6.12).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The length in front is 0.
    #[error("a frame of length 0")]
    Empty,
    /// The length in front is above the limit.
    #[error("a frame of {0} bytes; the limit is {FRAME_MAX}")]
    TooLarge(u32),
    /// The body is no MessagePack, or uses a type that is not allowed here.
    #[error("{what} at byte {at} of the frame")]
    Body {
        /// What is wrong.
        what: Flaw,
        /// Where in the body, from 0.
        at: usize,
    },
    /// The map is no message: a key is missing, or has the wrong type.
    #[error("not a valid message: {0}")]
    Message(String),
}

impl Malformed {
    /// The code that goes into the `error` message.
    pub fn code(&self) -> &'static str {
        match self {
            Malformed::TooLarge(_) => codes::TOO_LARGE,
            Malformed::Empty | Malformed::Body { .. } | Malformed::Message(_) => codes::MALFORMED,
        }
    }
}

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It ends within a value.
    Cut,
    /// Bytes follow the map.
    Trailing,
    /// The outermost value is no map.
    NotAMap,
    /// A key is no string.
    KeyNotAString,
    /// The same key stands twice in one map.
    DuplicateKey,
    /// The value of `event` is no string.
    EventNotAString,
    /// A float, binary or extension value, or the byte that MessagePack never uses.
    ForbiddenType,
    /// An integer beyond ±2^53.
    IntegerRange,
    /// A string is not UTF-8.
    NotUtf8,
    /// Nested too deeply.
    TooDeep,
    /// More values than the limit.
    TooManyValues,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::Cut => "a value that is cut off",
            Flaw::Trailing => "bytes after the map",
            Flaw::NotAMap => "no map",
            Flaw::KeyNotAString => "a key that is no string",
            Flaw::DuplicateKey => "a key that stands twice",
            Flaw::EventNotAString => "an event that is no string",
            Flaw::ForbiddenType => "a type that is not allowed (float, binary, extension)",
            Flaw::IntegerRange => "an integer beyond 2^53",
            Flaw::NotUtf8 => "a string that is not UTF-8",
            Flaw::TooDeep => "nesting that is too deep",
            Flaw::TooManyValues => "more values than a message may have",
        })
    }
}

/// Encodes a message as one frame, in the canonical encoding: `event` first, shortest integers, absent keys left out.
///
/// ```
/// use dutch_master_protocol::{codec, message::{FromWorker, RequestRestart}};
/// let frame = codec::encode(&FromWorker::RequestRestart(RequestRestart::default())).unwrap();
/// assert_eq!(frame, b"\x00\x00\x00\x17\x81\xa5event\xafrequest-restart");
/// ```
///
/// # Errors
/// [`Malformed::TooLarge`] when the message does not fit into a frame.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, Malformed> {
    let mut frame = vec![0; HEADER];
    let mut serializer = rmp_serde::Serializer::new(&mut frame).with_struct_map().with_human_readable(); // IP addresses are text
    message.serialize(&mut serializer).map_err(|error| Malformed::Message(error.to_string()))?;
    let length = u32::try_from(frame.len() - HEADER).unwrap_or(u32::MAX);
    if length as usize > FRAME_MAX {
        return Err(Malformed::TooLarge(length));
    }
    frame[..HEADER].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Decodes the body of a frame, strictly: see [`Flaw`] for what is refused. Unknown keys are ignored.
///
/// # Errors
/// [`Malformed`] says what was wrong and where.
pub fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, Malformed> {
    check(body)?;
    rmp_serde::from_slice(body).map_err(|error| Malformed::Message(error.to_string()))
}

/// Collects bytes and cuts them into frames. Holds at most one frame and what one read brought beyond it.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    taken: usize,
}

impl FrameDecoder {
    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the body of the next complete frame; `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`Malformed::Empty`] and [`Malformed::TooLarge`], as soon as the length is there. The stream cannot be read on after an error.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let Some((header, rest)) = self.buffer[self.taken..].split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes(*header);
        match length as usize {
            0 => Err(Malformed::Empty),
            n if n > FRAME_MAX => Err(Malformed::TooLarge(length)),
            n if rest.len() < n => Ok(None),
            n => {
                let start = self.taken + HEADER;
                self.taken = start + n;
                Ok(Some(&self.buffer[start..start + n]))
            }
        }
    }

    /// How many bytes are still missing until the current header or frame is complete (at least 1). For readers that must not read past the end of a frame.
    ///
    /// # Errors
    /// As [`next_frame`](Self::next_frame).
    pub fn missing(&self) -> Result<usize, Malformed> {
        let pending = &self.buffer[self.taken..];
        let Some((header, rest)) = pending.split_first_chunk::<HEADER>() else { return Ok(HEADER - pending.len()) };
        match u32::from_be_bytes(*header) {
            0 => Err(Malformed::Empty),
            n if n as usize > FRAME_MAX => Err(Malformed::TooLarge(n)),
            n => Ok((n as usize).saturating_sub(rest.len()).max(1)),
        }
    }

    /// Takes one byte that is no frame: the zero byte that a descriptor arrives with. `None`: it has not arrived.
    pub fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.buffer.get(self.taken)?;
        self.taken += 1;
        Some(byte)
    }

    /// What was pushed and not taken: whoever pushes it into another decoder goes on there.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// Whether the stream ends here without cutting a frame.
    pub fn is_empty(&self) -> bool {
        self.taken == self.buffer.len()
    }
}

/// Checks that `body` is one map of the allowed types and nothing else. Allocates for the keys that it has seen, never for what a length promises; what serde makes of a value takes up to a hundred
/// times its bytes, so values are counted before.
fn check(body: &[u8]) -> Result<(), Malformed> {
    if body.len() > FRAME_MAX {
        return Err(Malformed::TooLarge(u32::try_from(body.len()).unwrap_or(u32::MAX)));
    }
    let mut checker = Checker { body, at: 0, values: 0 };
    match checker.peek() {
        Some(Marker::FixMap(_) | Marker::Map16 | Marker::Map32) => checker.value(DEPTH_MAX)?,
        Some(_) => return Err(checker.flaw(Flaw::NotAMap)),
        None => return Err(checker.flaw(Flaw::Cut)),
    }
    if checker.at == body.len() { Ok(()) } else { Err(checker.flaw(Flaw::Trailing)) }
}

struct Checker<'a> {
    body: &'a [u8],
    at: usize,
    /// How many were read.
    values: usize,
}

impl<'a> Checker<'a> {
    fn flaw(&self, what: Flaw) -> Malformed {
        Malformed::Body { what, at: self.at }
    }

    fn peek(&self) -> Option<Marker> {
        self.body.get(self.at).map(|byte| Marker::from_u8(*byte))
    }

    fn is_string(&self) -> bool {
        matches!(self.peek(), Some(Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let rest = &self.body[self.at..];
        let bytes = rest.get(..n).ok_or_else(|| self.flaw(Flaw::Cut))?;
        self.at += n;
        Ok(bytes)
    }

    /// A big-endian unsigned integer of `n` bytes.
    fn unsigned(&mut self, n: usize) -> Result<u64, Malformed> {
        Ok(self.take(n)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn string(&mut self, length: usize) -> Result<(), Malformed> {
        let start = self.at;
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(Malformed::Body { what: Flaw::NotUtf8, at: start + error.valid_up_to() }),
        }
    }

    fn key(&mut self) -> Result<&'a [u8], Malformed> {
        let before = self.at;
        match self.peek() {
            Some(_) if self.is_string() => self.value(0)?,
            Some(_) => return Err(self.flaw(Flaw::KeyNotAString)),
            None => return Err(self.flaw(Flaw::Cut)),
        }
        let header = match self.body[before] {
            0xd9 => 2,
            0xda => 3,
            0xdb => 5,
            _ => 1,
        };
        Ok(&self.body[before + header..self.at])
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<(), Malformed> {
        // Where each key begins: two bytes reach to the end of a frame.
        let mut keys: Vec<u16> = Vec::new();
        for _ in 0..length {
            let at = self.at;
            let key = self.key()?;
            keys.push(u16::try_from(at).unwrap_or(u16::MAX));
            let (start, is_string) = (self.at, self.is_string());
            self.value(depth)?;
            // serde would take an integer for the position of the event in its list.
            if depth + 1 == DEPTH_MAX && key == b"event" && !is_string {
                return Err(Malformed::Body { what: Flaw::EventNotAString, at: start });
            }
        }
        keys.sort_unstable_by_key(|at| (self.key_at(*at), *at));
        let second = keys.windows(2).filter(|pair| self.key_at(pair[0]) == self.key_at(pair[1])).map(|pair| pair[1]).min();
        second.map_or(Ok(()), |at| Err(Malformed::Body { what: Flaw::DuplicateKey, at: at.into() }))
    }

    /// A key that was read before.
    fn key_at(&self, at: u16) -> &'a [u8] {
        let mut reader = Checker { body: self.body, at: at.into(), values: 0 };
        reader.key().unwrap_or_default()
    }

    /// One value; containers may nest `depth` times.
    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        let start = self.at;
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.flaw(Flaw::TooManyValues));
        }
        let marker = Marker::from_u8(self.take(1)?[0]);
        let inner = depth.checked_sub(1).ok_or(Malformed::Body { what: Flaw::TooDeep, at: start });
        match marker {
            Marker::Null | Marker::True | Marker::False | Marker::FixPos(_) | Marker::FixNeg(_) => Ok(()),
            Marker::U8 | Marker::I8 => self.take(1).map(drop),
            Marker::U16 | Marker::I16 => self.take(2).map(drop),
            Marker::U32 | Marker::I32 => self.take(4).map(drop),
            Marker::U64 => match self.unsigned(8)? {
                n if n > INTEGER_MAX => Err(Malformed::Body { what: Flaw::IntegerRange, at: start }),
                _ => Ok(()),
            },
            Marker::I64 => match self.unsigned(8)?.cast_signed().unsigned_abs() {
                n if n > INTEGER_MAX => Err(Malformed::Body { what: Flaw::IntegerRange, at: start }),
                _ => Ok(()),
            },
            Marker::FixStr(n) => self.string(n.into()),
            Marker::Str8 => self.unsigned(1).and_then(|n| self.string(n as usize)),
            Marker::Str16 => self.unsigned(2).and_then(|n| self.string(n as usize)),
            Marker::Str32 => self.unsigned(4).and_then(|n| self.string(n as usize)),
            Marker::FixMap(n) => self.map(n.into(), inner?),
            Marker::Map16 => self.unsigned(2).and_then(|n| self.map(n as usize, inner?)),
            Marker::Map32 => self.unsigned(4).and_then(|n| self.map(n as usize, inner?)),
            Marker::FixArray(n) => self.array(n.into(), inner?),
            Marker::Array16 => self.unsigned(2).and_then(|n| self.array(n as usize, inner?)),
            Marker::Array32 => self.unsigned(4).and_then(|n| self.array(n as usize, inner?)),
            Marker::F32
            | Marker::F64
            | Marker::Bin8
            | Marker::Bin16
            | Marker::Bin32
            | Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16
            | Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32
            | Marker::Reserved => Err(Malformed::Body { what: Flaw::ForbiddenType, at: start }),
        }
    }

    fn array(&mut self, length: usize, depth: usize) -> Result<(), Malformed> {
        (0..length).try_for_each(|_| self.value(depth))
    }
}
