//! What JavaScript asks of the master: the same as `dutch-master restart`, `scale` and `status` do, over the same control socket.

use std::path::Path;
use std::sync::mpsc as blocking;

use dutch_master::client::{Client, ClientError};
use dutch_master::core::SizeChange;
use dutch_master_protocol::control::{Done, FromControl, Outcome, Restart, Scale, Status, ToControl};
use serde_json::{Value, json};

use crate::outlet::{Outlet, Report, with_causes};

/// A question and where the answer goes.
pub(crate) struct Question {
    pub(crate) kind: Kind,
    pub(crate) reply: Reply,
}

pub(crate) enum Kind {
    Restart,
    Scale(SizeChange),
    Status,
}

pub(crate) enum Reply {
    /// A report with this number.
    Report(u32),
    /// To a thread that waits.
    Waiting(blocking::Sender<Result<String, String>>),
}

impl Question {
    /// Asks, waits for the outcome, and passes it on.
    pub(crate) async fn answer(self, socket: &Path, outlet: &Outlet) {
        let answer = match self.kind {
            Kind::Restart => outcome(socket, &FromControl::Restart(Restart {})).await,
            Kind::Scale(SizeChange::To(to)) => outcome(socket, &FromControl::Scale(Scale { to: Some(to), by: None })).await,
            Kind::Scale(SizeChange::By(by)) => outcome(socket, &FromControl::Scale(Scale { to: None, by: Some(by) })).await,
            Kind::Status => status(socket).await,
        };
        match self.reply {
            Reply::Report(seq) => {
                let answer = answer.unwrap_or_else(|error| json!({ "outcome": "refused", "reason": reason(error) }));
                outlet.send(Report { kind: "answer", seq: Some(seq), json: Some(answer.to_string()), ..Report::default() });
            }
            // Nobody waits any more.
            Reply::Waiting(sender) => drop(sender.send(answer.map(|status| status.to_string()).map_err(reason))),
        }
    }
}

fn reason(error: ClientError) -> String {
    if let ClientError::Refused(refusal) = error { refusal.message } else { with_causes(&error) }
}

/// How it ended, with the generation of a restart, the size of a scaling, and the reason of a failure.
async fn outcome(socket: &Path, request: &FromControl) -> Result<Value, ClientError> {
    let mut client = Client::connect(socket).await?;
    let (mut generation, mut size) = (None, None);
    let mut answer = Some(client.ask(request).await?);
    loop {
        match answer {
            Some(ToControl::Accepted(accepted)) => (generation, size) = (accepted.generation, accepted.size),
            Some(ToControl::Done(Done { outcome, by, message })) => {
                let outcome = match outcome {
                    Outcome::Done => "done",
                    Outcome::Superseded => "superseded",
                    Outcome::GivenUp => "given-up",
                    Outcome::Stopped => "stopped",
                };
                return Ok(json!({ "outcome": outcome, "generation": generation, "size": size, "by": by, "reason": message }));
            }
            // The end of the master is the end of its restart.
            None => return Ok(json!({ "outcome": "stopped", "generation": generation, "size": size })),
            Some(_) => {}
        }
        answer = client.next().await?;
    }
}

async fn status(socket: &Path) -> Result<Value, ClientError> {
    let mut client = Client::connect(socket).await?;
    let (mut pool, mut workers, mut listeners) = (None, Vec::new(), Vec::new());
    let mut answer = client.ask(&FromControl::Status(Status {})).await?;
    loop {
        match answer {
            ToControl::Pool(status) => pool = serde_json::to_value(status).ok(),
            ToControl::Worker(worker) => workers.extend(serde_json::to_value(worker)),
            ToControl::Listener(listener) => listeners.extend(serde_json::to_value(listener)),
            ToControl::Done(_) => {
                let Some(Value::Object(mut status)) = pool else { return Err(ClientError::Unexpected) };
                status.insert("workers".into(), workers.into());
                status.insert("listeners".into(), listeners.into());
                return Ok(Value::Object(status));
            }
            ToControl::Welcome(_) | ToControl::Accepted(_) | ToControl::Progress(_) | ToControl::MetricsText(_) | ToControl::Error(_) | ToControl::Unknown => {}
        }
        answer = client.prompt_next().await?;
    }
}
