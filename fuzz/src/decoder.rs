//! The decoder on any stream of bytes: however it is cut, it gives the same, and what it takes for a message it can write and read again.

use std::fmt::Debug;

use dutch_master_protocol::codec::{self, FrameDecoder, HEADER, Malformed};
use dutch_master_protocol::control::{FromControl, ToControl};
use dutch_master_protocol::limits::FRAME_MAX;
use dutch_master_protocol::message::{FromMaster, FromWorker};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first byte says how the rest is cut into reads.
pub fn run(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let whole = frames(stream.chunks(stream.len().max(1)));
    assert_eq!(whole, frames(stream.chunks(usize::from(*cut) + 1)), "cut at every {} bytes", u16::from(*cut) + 1);
    assert_eq!(whole, read_exactly(stream), "read to the end of each frame alone");
    for body in whole.iter().flatten() {
        there_and_back::<FromWorker>(body);
        there_and_back::<FromMaster>(body);
        there_and_back::<FromControl>(body);
        there_and_back::<ToControl>(body);
    }
}

type Frames = Vec<Result<Vec<u8>, Malformed>>;

/// The frames of a stream that arrives in these pieces, up to the first that is none.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Frames {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(body)) => frames.push(Ok(body.to_vec())),
                Err(malformed) => {
                    frames.push(Err(malformed));
                    return frames;
                }
            }
        }
    }
    frames
}

/// The same for a reader that asks how much is missing, and reads no further.
fn read_exactly(mut stream: &[u8]) -> Frames {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    loop {
        match decoder.next_frame() {
            Ok(None) => {}
            Ok(Some(body)) => {
                frames.push(Ok(body.to_vec()));
                assert!(decoder.is_empty(), "nothing was read beyond the frame");
            }
            Err(malformed) => {
                frames.push(Err(malformed));
                return frames;
            }
        }
        let missing = decoder.missing().unwrap_or(usize::MAX);
        assert!((1..=FRAME_MAX.max(HEADER)).contains(&missing), "{missing} bytes are missing");
        let Some((piece, rest)) = stream.split_at_checked(missing) else { return frames };
        decoder.push(piece);
        stream = rest;
    }
}

/// What was read can be written, and read again as the same.
fn there_and_back<M: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    let Ok(message) = codec::decode::<M>(body) else { return };
    // What is not known cannot be written, and what came in the shortest encoding without its defaults may not fit with them.
    let Ok(frame) = codec::encode(&message) else { return };
    let again = codec::decode::<M>(&frame[HEADER..]);
    assert_eq!(again.as_ref(), Ok(&message), "read again as something else");
}
