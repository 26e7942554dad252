//! One connection: frames are read, and what is in them goes to the pool.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::exit;

use dutch_master_protocol::codec::{FrameDecoder, Malformed, decode, encode};
use dutch_master_protocol::limits::JSON_MAX;
use dutch_master_protocol::message::{ErrorMessage, FromMaster, FromWorker, Hello, Role, VERSION, Welcome, codes};
use dutch_master_protocol::socket;
use serde::Serialize;

use crate::{Fault, with};

/// How a connection has to end.
enum End {
    Gone,
    Refused(&'static str),
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> End {
        End::Refused(malformed.code())
    }
}

/// Whose connection it is.
#[derive(Clone, Copy)]
enum Who {
    Unknown,
    Worker(u32),
    Client,
}

pub(crate) fn serve(connection: UnixStream) {
    let (mut who, fault) = (Who::Unknown, with(|pool| pool.fault));
    let end = hear(&connection, &mut who, fault);
    if let End::Refused(code) = end {
        let is_garbage = [codes::MALFORMED, codes::TOO_LARGE, codes::BAD_DESCRIPTORS].contains(&code);
        if is_garbage && fault == Fault::DiesOfGarbage {
            exit(1);
        }
        if fault != Fault::SaysNoWhy {
            say(&connection, &FromMaster::Error(ErrorMessage { seq: None, code: code.into(), message: "that is against the rules".into() }));
        }
    }
    let _gone = connection.shutdown(std::net::Shutdown::Both);
    if let Who::Worker(id) = who {
        with(|pool| pool.lost(id));
    }
}

fn hear(connection: &UnixStream, who: &mut Who, fault: Fault) -> End {
    let mut decoder = FrameDecoder::default();
    loop {
        let mut buffer = [0; 4_096];
        let received = match socket::receive(connection.as_fd(), &mut buffer) {
            Ok(received) if received.bytes > 0 => received,
            Ok(_) | Err(_) => return End::Gone,
        };
        if !received.fds.is_empty() {
            return End::Refused(codes::BAD_DESCRIPTORS);
        }
        decoder.push(&buffer[..received.bytes]);
        loop {
            let outcome = match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => handle(connection, who, frame, fault),
                Err(malformed) => Err(malformed.into()),
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // what is left is the pool's business
fn handle(connection: &UnixStream, who: &mut Who, frame: &[u8], fault: Fault) -> std::result::Result<(), End> {
    match *who {
        Who::Unknown => match decode(frame)? {
            FromWorker::Hello(hello) => *who = greet(connection, &hello)?,
            FromWorker::Listen(_)
            | FromWorker::Close(_)
            | FromWorker::Listening(_)
            | FromWorker::RequestRestart(_)
            | FromWorker::Leaving(_)
            | FromWorker::Disconnect(_)
            | FromWorker::Heartbeat(_)
            | FromWorker::Message(_)
            | FromWorker::Listener(_)
            | FromWorker::Error(_)
            | FromWorker::Unknown => return Err(End::Refused(codes::UNEXPECTED)),
        },
        Who::Worker(id) => match decode(frame)? {
            FromWorker::Unknown if fault == Fault::RefusesUnknown => return Err(End::Refused(codes::MALFORMED)),
            FromWorker::Hello(_) | FromWorker::Listener(_) => return Err(End::Refused(codes::UNEXPECTED)),
            FromWorker::Message(message) if message.json.len() > JSON_MAX => return Err(End::Refused(codes::TOO_LARGE)),
            message => with(|pool| pool.said(id, connection, message)),
        },
        Who::Client => {
            let request = decode(frame)?;
            with(|pool| pool.asked(connection, &request));
        }
    }
    Ok(())
}

fn greet(connection: &UnixStream, hello: &Hello) -> std::result::Result<Who, End> {
    if hello.protocol < VERSION {
        return Err(End::Refused(codes::BAD_VERSION));
    }
    with(|pool| {
        let welcome = Welcome { protocol: VERSION, generation: pool.generation, size: 1, names: vec!["web".into()], ..Welcome::default() };
        if hello.role == Role::Control {
            say(connection, &FromMaster::Welcome(welcome));
            return Ok(Who::Client);
        }
        let any = pool.fault == Fault::TakesAnyToken;
        let found = pool.workers.iter_mut().rev().find(|(_, worker)| any || hello.token.as_ref() == Some(&worker.token));
        let Some((id, worker)) = found else { return Err(End::Refused(codes::BAD_TOKEN)) };
        if worker.connection.is_some() && !any {
            return Err(End::Refused(codes::LIMIT));
        }
        worker.connection = connection.try_clone().ok();
        say(connection, &FromMaster::Welcome(Welcome { worker: *id, ..welcome }));
        Ok(Who::Worker(*id))
    })
}

pub(crate) fn say(mut connection: &UnixStream, message: &impl Serialize) {
    let _gone = connection.write_all(&encode(message).unwrap_or_default());
}
