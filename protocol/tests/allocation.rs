//! What a peer's bytes can make the decoder allocate: never what a length promises, and nothing that grows beyond the frame. One test, because memory is counted for the whole process.

#![allow(clippy::unwrap_used)] // a test may panic

use dutch_master_protocol::codec::{self, Flaw, FrameDecoder, HEADER, Malformed};
use dutch_master_protocol::limits::{DEPTH_MAX, FRAME_MAX, VALUES_MAX};
use dutch_master_protocol::message::FromWorker;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Room for an error's text and the like.
const LITTLE: usize = 1_024;

/// Bytes of one read, as the master reads.
const READ: usize = 16 * 1_024;

/// The most that was allocated at one time, beyond what was before.
fn peak<T>(act: impl FnOnce() -> T) -> (usize, T) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let outcome = act();
    (MEMORY.peak_usage().saturating_sub(before), outcome)
}

fn map_of(length: usize) -> Vec<u8> {
    [&[0xde][..], &u16::try_from(length).unwrap().to_be_bytes()].concat()
}

/// As many different keys as fit into a frame, each with the shortest value.
fn most_keys() -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0;
    for n in 0u16.. {
        let [first, second] = [n / 128, n % 128].map(|byte| u8::try_from(byte % 128).unwrap());
        if entries.len() + 3 + 4 + 1 > FRAME_MAX || n / 128 > 127 {
            break;
        }
        entries.extend([0xa2, first, second, 0xc0]);
        count += 1;
    }
    [map_of(count), entries].concat()
}

/// A `hello` of so many values, most of them in one list: strings in `features`, or whatever it is in a key that nobody knows.
fn hello_with(key: &str, values: usize, each: &[u8]) -> Vec<u8> {
    let count = u32::try_from(values - 7).unwrap();
    let key = [&[0xa0 | u8::try_from(key.len()).unwrap()], key.as_bytes()].concat();
    [b"\x83\xa5event\xa5hello\xa8protocol\x01", &key[..], b"\xdd", &count.to_be_bytes(), &each.repeat(values - 7)].concat()
}

/// The same key again and again.
fn one_key_often() -> Vec<u8> {
    let count = (FRAME_MAX - 3) / 2;
    [map_of(count), [0xa0, 0xc0].repeat(count)].concat()
}

/// Maps within maps, each of them promising more than there can be.
fn promises() -> Vec<u8> {
    (0..DEPTH_MAX).flat_map(|_| [0xdf, 0xff, 0xff, 0xff, 0xff, 0xa1, b'x']).collect()
}

/// A string of 4 GiB, and an array of as many values.
fn long_values() -> [Vec<u8>; 2] {
    [[0x81, 0xa5], [0x81, 0xa5]].map(|start| [&start[..], b"event"].concat()).map(|start| [start, vec![0xdb, 0xff, 0xff, 0xff, 0xff]].concat())
}

#[test]
fn nothing_is_allocated_for_a_promise_nor_beyond_the_frame() {
    // A length alone.
    let (allocated, _) = peak(|| {
        let mut decoder = FrameDecoder::default();
        decoder.push(&u32::try_from(FRAME_MAX).unwrap().to_be_bytes());
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder
    });
    assert!(allocated <= LITTLE, "{allocated} bytes for a length of {FRAME_MAX}");

    // Frames that are refused as MessagePack, whatever they promise and however many keys they have.
    let refused = [[most_keys(), vec![0xc0]].concat(), one_key_often(), promises()].into_iter().chain(long_values());
    for body in refused {
        assert!(body.len() <= FRAME_MAX);
        let (allocated, outcome) = peak(|| codec::decode::<FromWorker>(&body));
        assert!(outcome.is_err());
        // A list that grows is there twice for a moment.
        assert!(allocated <= 2 * FRAME_MAX, "{allocated} bytes to refuse {} bytes that begin with {:02x?}", body.len(), &body[..8]);
    }

    // The largest frames, one behind the other: what is kept is one of them and one read, in a buffer that grew by doubling.
    let mut frame = vec![0; HEADER + FRAME_MAX];
    frame[..HEADER].copy_from_slice(&u32::try_from(FRAME_MAX).unwrap().to_be_bytes());
    let stream = frame.repeat(20);
    let (allocated, frames) = peak(|| {
        let (mut decoder, mut frames) = (FrameDecoder::default(), 0);
        for read in stream.chunks(READ) {
            decoder.push(read);
            while decoder.next_frame().unwrap().is_some() {
                frames += 1;
            }
        }
        frames
    });
    assert_eq!(frames, 20);
    assert!(allocated <= 3 * (HEADER + FRAME_MAX + READ), "{allocated} bytes for frames of {FRAME_MAX}");

    // Well-formed messages cost more than their bytes while they are taken apart, by the size of what a value becomes: the number of values bounds it.
    let word = [&[0xd9, 60][..], &[b'x'; 60]].concat();
    let accepted = [hello_with("features", VALUES_MAX, &[0xa0]), hello_with("features", VALUES_MAX, &word), hello_with("unknown", VALUES_MAX, &[0x90])];
    for body in accepted {
        let (allocated, outcome) = peak(|| codec::decode::<FromWorker>(&body));
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(allocated <= 2 * FRAME_MAX, "{allocated} bytes to take apart {}", body.len());
    }
    for body in [hello_with("features", FRAME_MAX - 64, &[0xa0]), hello_with("unknown", FRAME_MAX - 64, &[0x90]), most_keys()] {
        let (allocated, outcome) = peak(|| codec::decode::<FromWorker>(&body));
        assert!(matches!(outcome, Err(Malformed::Body { what: Flaw::TooManyValues, .. })), "{outcome:?}");
        assert!(allocated <= LITTLE + VALUES_MAX * size_of::<u16>(), "{allocated} bytes to refuse {}", body.len());
    }
}
