//! The same messages in every form that they may have (SPEC 3.1, 3.4 to 3.6, 6.13).

use crate::cli::conformance::case::{Case, Verdict, must};
use crate::cli::conformance::manner::{self, Manner, framed};
use crate::cli::conformance::trial::Trial;

pub(super) const CASES: &[Case] = &[
    must("3.1.4/pieces", "takes frames that arrive byte by byte", |trial| whole_life(trial, manner::in_pieces)),
    must("3.1.4/glued", "takes several frames that arrive at once", |trial| whole_life(trial, manner::glued)),
    must("3.3.8", "takes a message of 1,024 values", most_values),
    must("3.4.1", "takes the widest encoding of every value, and keys in any order", |trial| whole_life(trial, manner::widest)),
    must("3.5.1", "takes optional keys that are nil", |trial| whole_life(trial, manner::with_nils)),
    must("3.6.1/unknown", "ignores events that it does not know, at any time", unknown_events),
    must("3.6.1/own", "ignores events that only workers send", own_events),
    must("3.6.2", "ignores keys that it does not know", |trial| whole_life(trial, manner::with_unknown_keys)),
    must("6.13/reason", "takes a reason that it does not know for `restart`", unknown_reason),
];

/// Every message that a worker must understand, in this manner.
fn whole_life(trial: &mut Trial<'_>, manner: Manner) -> Verdict {
    trial.manner = manner;
    trial.running()?;
    trial.restart()?;
    trial.drained()
}

fn most_values(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    trial.send(&manner::of_most_values())?;
    trial.restart()?;
    trial.drained()
}

fn unknown_events(trial: &mut Trial<'_>) -> Verdict {
    trial.welcome()?;
    trial.send(&manner::unknown_event())?;
    trial.listening()?;
    trial.send(&manner::unknown_event())?;
    trial.restart()?;
    trial.send(&manner::unknown_event())?;
    trial.drained()
}

fn own_events(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    // {"event": "heartbeat"} and {"event": "leaving"}
    trial.send(&framed(b"\x81\xa5event\xa9heartbeat"))?;
    trial.send(&framed(b"\x81\xa5event\xa7leaving"))?;
    trial.restart()?;
    trial.drained()
}

fn unknown_reason(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    // {"event": "disconnect", "reason": "x-kit", "timeout_ms": 60000}
    trial.send(&framed(b"\x83\xa5event\xaadisconnect\xa6reason\xa5x-kit\xaatimeout_ms\xcd\xea\x60"))?;
    trial.drained()
}
