//! What a case lets a worker and its master say to each other, step by step.

use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use dutch_master_protocol::message::{Disconnect, DisconnectReason, ErrorMessage, FromMaster, FromWorker, Hello, Listen, VERSION, Welcome};

use super::case::{Fault, Verdict, differs, untested};
use super::given::Given;
use super::http::{Client, Response};
use super::peer::Heard;
use super::trial::Trial;

/// The id of the worker under test.
pub(super) const WORKER: u32 = 3;

/// The name of the one listener that the kit has configured.
const NAME: &str = "web";

/// Announced when a case is not about time: long enough for every idle grace.
pub(super) const TIMEOUT_MS: u64 = 60_000;

/// Between two pieces of a message, so that they do not arrive as one.
const PAUSE: Duration = Duration::from_millis(1);

impl Trial<'_> {
    /// Its `hello`.
    pub(super) fn hello(&mut self) -> Verdict<Hello> {
        match self.hear()? {
            Heard::Message(FromWorker::Hello(hello)) => Ok(hello),
            other => differs("`hello`", said(&other)),
        }
    }

    pub(super) fn default_welcome(&self) -> Welcome {
        Welcome { protocol: VERSION, worker: WORKER, generation: 1, slot: 0, size: 2, names: vec![NAME.into()], ..Welcome::default() }
    }

    /// Up to and with `welcome`.
    pub(super) fn welcome(&mut self) -> Verdict {
        self.welcome_with(|welcome| welcome)
    }

    pub(super) fn welcome_with(&mut self, change: impl FnOnce(Welcome) -> Welcome) -> Verdict {
        self.hello()?;
        let welcome = change(self.default_welcome());
        self.say(&FromMaster::Welcome(welcome))
    }

    /// From `welcome` to the worker's `listening`.
    pub(super) fn listening(&mut self) -> Verdict {
        loop {
            match self.hear()? {
                Heard::Message(FromWorker::Listen(listen)) => self.give(&listen)?,
                Heard::Message(FromWorker::Listening(_)) => {
                    self.is_running = true;
                    return Ok(());
                }
                other => return differs("`listening`", said(&other)),
            }
        }
    }

    /// From nothing to a worker that runs.
    pub(super) fn running(&mut self) -> Verdict {
        self.welcome()?;
        self.listening()
    }

    /// Its next `listen`.
    pub(super) fn asks(&mut self) -> Verdict<Listen> {
        match self.hear()? {
            Heard::Message(FromWorker::Listen(listen)) => Ok(listen),
            Heard::Message(FromWorker::Listening(_)) => untested("the worker asks for no listener"),
            other => differs("`listen`", said(&other)),
        }
    }

    /// Answers a `listen` as a master does.
    pub(super) fn give(&mut self, listen: &Listen) -> Verdict {
        let refused = |code: &str, message: &str| FromMaster::Error(ErrorMessage { seq: Some(listen.seq), code: code.into(), message: message.into() });
        match (&listen.name, &listen.address) {
            (Some(name), None) if name != NAME => return self.say(&refused("unknown-name", "there is no such listener")),
            (Some(_), None) if self.given.iter().any(|given| given.message.name.is_some()) => return self.say(&refused("EADDRINUSE", "this worker holds it")),
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) | (None, None) => return differs("`listen` with exactly one of `name` and `address` (6.2)", "both or neither"),
        }
        let nth = self.make(listen)?;
        let message = FromMaster::Listener(self.given[nth].message.clone());
        self.say(&message)?;
        self.send_fd(nth)
    }

    /// Makes a listener without handing it over; its number.
    pub(super) fn make(&mut self, listen: &Listen) -> Verdict<usize> {
        self.given.push(Given::make(listen, self.number, self.given.len(), &self.folder)?);
        Ok(self.given.len() - 1)
    }

    pub(super) fn given(&self) -> &[Given] {
        &self.given
    }

    pub(super) fn say(&mut self, message: &FromMaster) -> Verdict {
        let pieces = (self.manner)(message);
        let several = pieces.len() > 1;
        let peer = self.connected()?;
        for piece in pieces {
            peer.send(&piece);
            if several {
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Verdict {
        self.connected()?.send(bytes);
        Ok(())
    }

    pub(super) fn send_fd(&mut self, nth: usize) -> Verdict {
        if let (Some(peer), Some(given)) = (&mut self.peer, self.given.get(nth)) {
            peer.send_fd(given.fd());
        }
        Ok(())
    }

    /// Breaks 4.1: one byte with the descriptor twice.
    pub(super) fn send_fd_twice(&mut self, nth: usize) -> Verdict {
        if let (Some(peer), Some(given)) = (&mut self.peer, self.given.get(nth)) {
            peer.send_fds(&[given.fd(), given.fd()]);
        }
        Ok(())
    }

    /// A running worker with a request that will never be complete, so that it is not drained at once; without HTTP one that just runs.
    pub(super) fn busy(&mut self) -> Verdict<Option<Client>> {
        self.running()?;
        if self.tested.path.is_none() {
            return Ok(None);
        }
        let mut client = self.client()?;
        let half = client.request().trim_end().to_owned();
        sent(client.send(&half))?;
        // Connections are accepted in order: when this one is answered, the other is in the worker's hands.
        answered(self.client()?.get())?;
        Ok(Some(client))
    }

    /// The order to go, given and read; with a worker that does not say `close` time has to do.
    pub(super) fn ordered(&mut self, timeout_ms: u64) -> Verdict {
        self.order(DisconnectReason::Restart, timeout_ms)?;
        match self.stopped_accepting() {
            Err(Fault::Untested(_)) => Ok(()),
            other => other,
        }
    }

    /// The order to go.
    pub(super) fn order(&mut self, reason: DisconnectReason, timeout_ms: u64) -> Verdict {
        self.say(&FromMaster::Disconnect(Disconnect { reason, timeout_ms }))
    }

    pub(super) fn restart(&mut self) -> Verdict {
        self.order(DisconnectReason::Restart, TIMEOUT_MS)
    }

    /// Its `disconnect`.
    pub(super) fn drained(&mut self) -> Verdict {
        let patience = self.patience();
        self.drained_within(patience)
    }

    pub(super) fn drained_within(&mut self, patience: Duration) -> Verdict {
        if self.is_drained {
            return Ok(());
        }
        match self.hear_within(patience)? {
            Heard::Message(FromWorker::Disconnect(_)) => Ok(()),
            // It was on its way, and changes nothing (5.2).
            Heard::Message(FromWorker::Listening(_)) => self.drained_within(patience),
            Heard::Silence => differs(format!("`disconnect` within {:.1} s", patience.as_secs_f32()), "nothing"),
            other => differs("`disconnect`", said(&other)),
        }
    }

    /// Waits until it has closed its listeners, by its word; one that says nothing is drained first.
    pub(super) fn stopped_accepting(&mut self) -> Verdict {
        let until = Instant::now() + self.patience();
        while self.closed.is_empty() {
            match self.connected()?.hear(until.saturating_duration_since(Instant::now()))? {
                Heard::Message(FromWorker::Close(close)) => self.closed.push(close.key),
                Heard::Message(FromWorker::Disconnect(_)) => {
                    self.is_drained = true;
                    return untested("the worker says no `close`, and is drained already");
                }
                Heard::Message(_) => {}
                Heard::End => return differs("`close` or `disconnect`", "the end of the connection"),
                Heard::Silence => return untested("the worker says no `close`"),
            }
        }
        Ok(())
    }

    /// Its exit.
    pub(super) fn exit(&mut self) -> Verdict<ExitStatus> {
        let patience = self.patience();
        self.exit_within(patience)
    }

    pub(super) fn exit_within(&mut self, patience: Duration) -> Verdict<ExitStatus> {
        match self.process()?.exit(patience)? {
            Some(status) => Ok(status),
            None => differs(format!("its end within {:.1} s", patience.as_secs_f32()), "a worker that lives on"),
        }
    }

    /// It ends, and not with success.
    pub(super) fn fails_within(&mut self, patience: Duration) -> Verdict {
        let status = self.exit_within(patience)?;
        if status.success() { differs("an exit status other than 0", status.to_string()) } else { Ok(()) }
    }
}

/// Sends the first part of a request, and the rest later.
pub(super) fn begun(client: &mut Client) -> Verdict<String> {
    let request = client.request();
    let (first, rest) = request.split_at(request.len() / 2);
    sent(client.send(first))?;
    Ok(rest.to_owned())
}

/// A request, or a part of it, was taken.
pub(super) fn sent(result: Result<(), String>) -> Verdict {
    result.or_else(|error| differs("a connection that takes a request", error))
}

/// A good response: whether it says `Connection: close`.
pub(super) fn answered(response: Result<Response, String>) -> Verdict<bool> {
    match response {
        Ok(response) if (200..400).contains(&response.status) => Ok(response.closes),
        Ok(response) => differs("a response of status 200", format!("status {}", response.status)),
        Err(error) => differs("a response", error),
    }
}

/// What was heard, in the words of the specification.
pub(super) fn said(heard: &Heard) -> String {
    match heard {
        Heard::End => "the end of the connection".into(),
        Heard::Silence => "nothing".into(),
        Heard::Message(FromWorker::Error(error)) => format!("`error` {}: {}", error.code, error.message),
        Heard::Message(message) => match serde_json::to_value(message) {
            Ok(value) => format!("`{}`", value["event"].as_str().unwrap_or_default()),
            Err(_) => "another message".into(),
        },
    }
}
