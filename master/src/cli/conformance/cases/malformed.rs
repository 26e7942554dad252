//! What a worker does with bytes that break the rules (SPEC 3.8): it ends the connection, does not act on them, and serves on.

use dutch_master_protocol::message::{Disconnect, DisconnectReason, FromMaster, FromWorker};

use crate::cli::conformance::case::{Case, Verdict, differs, must, should};
use crate::cli::conformance::manner::{framed, plain};
use crate::cli::conformance::peer::Heard;
use crate::cli::conformance::steps::{TIMEOUT_MS, answered, said};
use crate::cli::conformance::trial::Trial;

pub(super) const CASES: &[Case] = &[
    must("3.1.2/zero", "ends the connection at a frame of length 0, and serves on", |trial| broken(trial, &[0; 4])),
    must("3.1.2/too-large", "ends the connection at a length above 65,536, and serves on", |trial| broken(trial, &[0x00, 0x01, 0x00, 0x01])),
    must("3.2.1/no-map", "ends the connection at a frame that is no map", |trial| broken(trial, &framed(b"\xa5hello"))),
    must("3.2.1/behind", "ends the connection at bytes behind the map", |trial| broken(trial, &framed(b"\x81\xa5event\xa1x\xc0"))),
    must("3.3.1", "ends the connection at a float, also in a key that it does not know", |trial| {
        broken(trial, &framed(b"\x82\xa5event\xa1x\xa1y\xca\0\0\0\0"))
    }),
    must("3.3.2", "ends the connection at a key that stands twice", |trial| broken(trial, &framed(b"\x83\xa5event\xa1x\xa1y\x01\xa1y\x02"))),
    must("3.3.4", "ends the connection at a string that is not UTF-8", |trial| broken(trial, &framed(b"\x82\xa5event\xa1x\xa1y\xa2\xc3\x28"))),
    must("3.3.6", "ends the connection at a value that the end of the frame cuts off", |trial| broken(trial, &framed(b"\x82\xa5event\xa1x\xa1y\xd9\x20abc"))),
    should("3.8.1/code", "says `error` with the code before it ends the connection", code),
];

/// Sends it, and behind it an order that must not be followed.
fn sent(trial: &mut Trial<'_>, bytes: &[u8]) -> Verdict {
    trial.running()?;
    let order = plain(&FromMaster::Disconnect(Disconnect { reason: DisconnectReason::Restart, timeout_ms: TIMEOUT_MS })).concat();
    trial.send(&[bytes, &order].concat())
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
