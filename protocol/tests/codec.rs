//! The codec as its users meet it: split streams, strictness, and that nothing a peer sends makes it panic.

use dutch_master_protocol::codec::{self, Flaw, FrameDecoder, Malformed};
use dutch_master_protocol::limits::FRAME_MAX;
use dutch_master_protocol::message::{AppMessage, FromWorker, Leaving, Listening, RequestRestart};
use proptest::prelude::*;

fn flaw(body: &[u8]) -> Flaw {
    match codec::decode::<FromWorker>(body) {
        Err(Malformed::Body { what, .. }) => what,
        other => panic!("expected a flaw, got {other:?}"),
    }
}

#[test]
fn unknown_events_and_keys_are_ignored() {
    assert_eq!(codec::decode::<FromWorker>(b"\x81\xa5event\xa5dance"), Ok(FromWorker::Unknown));
    let with_extra = b"\x82\xa5event\xa7leaving\xa1x\x92\x01\x81\xa1y\xc0";
    assert_eq!(codec::decode::<FromWorker>(with_extra), Ok(FromWorker::Leaving(Leaving::default())));
}

#[test]
fn the_event_key_may_stand_anywhere() {
    let body = b"\x82\xa6reason\xa1r\xa5event\xafrequest-restart";
    assert_eq!(codec::decode::<FromWorker>(body), Ok(FromWorker::RequestRestart(RequestRestart { reason: Some("r".into()) })));
}

#[test]
fn what_the_spec_forbids_is_refused_even_in_unknown_keys() {
    assert_eq!(flaw(b"\x82\xa5event\xa7leaving\xa1x\xcb\0\0\0\0\0\0\0\0"), Flaw::ForbiddenType);
    assert_eq!(flaw(b"\x82\xa5event\xa7leaving\xa1x\xc4\x01\0"), Flaw::ForbiddenType);
    assert_eq!(flaw(b"\x82\xa5event\xa7leaving\xa1x\xcf\0\x20\0\0\0\0\0\x01"), Flaw::IntegerRange);
    assert_eq!(flaw(b"\x82\xa5event\xa7leaving\xa1x\xd3\xff\xdf\xff\xff\xff\xff\xff\xff"), Flaw::IntegerRange);
    assert_eq!(flaw(b"\x82\xa5event\xa7leaving\xa5event\xa7leaving"), Flaw::DuplicateKey);
    assert_eq!(flaw(b"\x82\xa5event\xa7leaving\x01\x01"), Flaw::KeyNotAString);
    assert_eq!(flaw(b"\x81\xa5event\xa1\xff"), Flaw::NotUtf8);
    assert_eq!(flaw(b"\x81\xa5event\xa7leaving\xc0"), Flaw::Trailing);
    assert_eq!(flaw(b"\x91\xa5event"), Flaw::NotAMap);
    assert_eq!(flaw(b"\x81\xa5event"), Flaw::Cut);
    assert_eq!(flaw(b"\xdf\xff\xff\xff\xff"), Flaw::Cut);
    let mut deep = b"\x82\xa5event\xa7leaving\xa1x".to_vec();
    deep.extend([0x91; 100]);
    assert_eq!(flaw(&deep), Flaw::TooDeep);
}

#[test]
fn a_missing_or_mistyped_key_is_malformed_with_its_name() {
    let error = codec::decode::<FromWorker>(b"\x81\xa5event\xa5close").unwrap_err();
    assert!(error.to_string().contains("key"), "{error}");
    assert!(matches!(codec::decode::<FromWorker>(b"\x80"), Err(Malformed::Message(_))));
}

#[test]
fn a_message_above_the_frame_limit_is_not_encoded() {
    let message = FromWorker::Message(AppMessage { json: "x".repeat(FRAME_MAX) });
    assert!(matches!(codec::encode(&message), Err(Malformed::TooLarge(_))));
}

#[test]
fn lengths_out_of_range_are_refused_as_soon_as_they_are_there() {
    let mut decoder = FrameDecoder::default();
    decoder.push(&[0, 0, 0, 0]);
    assert_eq!(decoder.next_frame(), Err(Malformed::Empty));
    let mut decoder = FrameDecoder::default();
    decoder.push(&[0, 1, 0, 1]);
    assert_eq!(decoder.next_frame(), Err(Malformed::TooLarge(65_537)));
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = codec::decode::<FromWorker>(&body);
    }

    #[test]
    fn a_stream_split_anywhere_gives_the_same_frames(cuts in proptest::collection::vec(1usize..9, 1..80), reasons in proptest::collection::vec(".{0,20}", 1..6)) {
        let mut messages: Vec<_> = reasons.into_iter().map(|r| FromWorker::Leaving(Leaving { reason: Some(r) })).collect();
        messages.push(FromWorker::Listening(Listening::default()));
        let stream: Vec<u8> = messages.iter().flat_map(|m| codec::encode(m).unwrap()).collect();
        let (mut decoder, mut decoded, mut at, mut cuts) = (FrameDecoder::default(), Vec::new(), 0, cuts.into_iter().cycle());
        while at < stream.len() {
            let end = (at + cuts.next().unwrap()).min(stream.len());
            decoder.push(&stream[at..end]);
            at = end;
            while let Some(frame) = decoder.next_frame().unwrap() {
                decoded.push(codec::decode::<FromWorker>(frame).unwrap());
            }
        }
        prop_assert_eq!(decoded, messages);
        prop_assert!(decoder.is_empty());
    }
}
