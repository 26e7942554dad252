//! What a worker does with bytes that break the rules (SPEC 3.8): it ends the connection, does not act on them, and serves on.

use dutch_master_protocol::message::{Disconnect, DisconnectReason, FromMaster, FromWorker};

use crate::cli::conformance::case::{Case, Fault, Verdict, differs, must, should, untested};
use crate::cli::conformance::manner::{framed, plain};
use crate::cli::conformance::peer::Heard;
use crate::cli::conformance::steps::{TIMEOUT_MS, answered, said};
use crate::cli::conformance::trial::Trial;
use crate::cli::conformance::vectors;

pub(super) const CASES: &[Case] = &[
    must("3.1.2/zero", "ends the connection at a frame of length 0, and serves on", |trial| broken(trial, &[0; 4])),
    must("3.1.2/too-large", "ends the connection at a length above 65,536, and serves on", |trial| broken(trial, &[0x00, 0x01, 0x00, 0x01])),
    must("3.2.1/no-map", "ends the connection at a frame that is no map", |trial| broken(trial, &framed(b"\xa5hello"))),
    must("3.2.1/behind", "ends the connection at bytes behind the map", |trial| broken(trial, &framed(b"\x81\xa5event\xa1x\xc0"))),
    must("3.2.2", "ends the connection at a map without an `event` that is a string", |trial| each(trial, &["3.2/"], &["missing-key", "wrong-type"])),
    must("3.3.1", "ends the connection at a float, binary or extension, also where it would ignore it", |trial| each(trial, &["3.3/"], &["forbidden-type"])),
    must("3.3.2", "ends the connection at a key that stands twice, or is no string", |trial| each(trial, &["3.3/"], &["duplicate-key", "key-not-a-string"])),
    must("3.3.3", "ends the connection at an integer beyond 2^53", |trial| each(trial, &["3.3/"], &["integer-range"])),
    must("3.3.4", "ends the connection at a string that is not UTF-8", |trial| each(trial, &["3.3/"], &["not-utf8"])),
    must("3.3.5", "ends the connection at values that are nested too deep", |trial| each(trial, &["3.3/"], &["too-deep"])),
    must("3.3.6", "ends the connection at a value that the end of the frame cuts off", |trial| each(trial, &["3.3/"], &["cut"])),
    must("3.3.7/type", "ends the connection at a value of another type than the key's", |trial| each(trial, &["6."], &["wrong-type"])),
    must("3.3.7/range", "ends the connection at an integer out of the key's range", |trial| each(trial, &["6."], &["key-range"])),
    must("3.5.2", "ends the connection at a message without a key that it needs", |trial| each(trial, &["6."], &["missing-key"])),
    should("3.8.1/code", "says `error` with the code before it ends the connection", code),
];

/// Sends it, and behind it an order that must not be followed.
fn sent(trial: &mut Trial<'_>, bytes: &[u8]) -> Verdict {
    trial.running()?;
    let order = plain(&FromMaster::Disconnect(Disconnect { reason: DisconnectReason::Restart, timeout_ms: TIMEOUT_MS })).concat();
    trial.send(&[bytes, &order].concat())
}

/// The vectors of these sections that are invalid for one of these reasons, each with a worker of its own.
fn each(trial: &mut Trial<'_>, sections: &[&str], flags: &[&str]) -> Verdict {
    let vectors = vectors::invalid(sections, flags).map_err(std::io::Error::from)?;
    for (nth, vector) in vectors.iter().enumerate() {
        if nth > 0 {
            *trial = Trial::new(trial.tested)?;
        }
        broken(trial, &vector.bytes()).map_err(|fault| match fault {
            Fault::Differs { expected, actual } => Fault::Differs { expected: format!("{expected}, at the vector {}: {}", vector.id, vector.comment), actual },
            other => other,
        })?;
    }
    if vectors.is_empty() { untested("no vector is about it") } else { Ok(()) }
}

fn broken(trial: &mut Trial<'_>, bytes: &[u8]) -> Verdict {
    sent(trial, bytes)?;
    loop {
        match trial.hear()? {
            Heard::End => break,
            Heard::Message(FromWorker::Error(_)) => {}
            Heard::Message(FromWorker::Disconnect(_)) => {
                return differs("the end of the connection, without acting on what came behind", "`disconnect`, as an answer to the order behind it");
            }
            other => return differs("the end of the connection", said(&other)),
        }
    }
    // Without HTTP the process itself must do as a sign of life.
    if trial.tested.path.is_none() || trial.given().is_empty() {
        let exit = trial.process()?.exit(std::time::Duration::from_millis(300))?;
        return exit.map_or(Ok(()), |status| differs("a worker that lives on", format!("its end ({status})")));
    }
    answered(trial.client()?.get()).map(drop)
}

fn code(trial: &mut Trial<'_>) -> Verdict {
    sent(trial, &[0; 4])?;
    match trial.hear()? {
        Heard::Message(FromWorker::Error(error)) if error.seq.is_none() && error.code == "malformed" => Ok(()),
        other => differs("`error` with the code `malformed`", said(&other)),
    }
}
