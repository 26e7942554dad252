//! The connection to the master, without an SDK.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use dutch_master_protocol::codec::{FrameDecoder, Malformed, decode, encode};
use dutch_master_protocol::message::{ErrorMessage, FromMaster, FromWorker, Hello, Listen, VERSION, Welcome, codes, features};
use dutch_master_protocol::{env, socket};

use crate::Result;
use crate::fault::Fault;

/// The connection to the master. It reads exactly, with room for descriptors, unless that is its fault.
pub(crate) struct Master {
    pub(crate) socket: Option<UnixStream>,
    decoder: FrameDecoder,
    fds: Vec<OwnedFd>,
    fault: Fault,
    /// The key of the listener that it holds.
    pub(crate) key: Option<String>,
}

pub(crate) enum Heard {
    Message(FromMaster, Option<OwnedFd>),
    /// Nothing that is complete yet.
    More,
}

impl Master {
    pub(crate) fn connect(fault: Fault) -> Result<Master> {
        let socket = UnixStream::connect(std::env::var(env::SOCKET)?)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Master { socket: Some(socket), decoder: FrameDecoder::default(), fds: Vec::new(), fault, key: None })
    }

    pub(crate) fn hello(&mut self, fault: Fault) -> Result<Welcome> {
        let token = std::env::var(env::TOKEN)?;
        let token = if fault == Fault::WrongToken { token.chars().rev().collect() } else { token };
        let promised: &[&str] = if fault == Fault::PromisesFeatures { &[features::RESUME, features::HEARTBEAT, features::MAX_REQUESTS] } else { &[] };
        let features = promised.iter().map(|feature| (*feature).into()).collect();
        self.say(&FromWorker::Hello(Hello { protocol: VERSION, token: Some(token), sdk: Some("zoo".into()), features, ..Hello::default() }))?;
        loop {
            match self.wait()? {
                (FromMaster::Welcome(welcome), _) if welcome.protocol == VERSION => return Ok(welcome),
                (FromMaster::Unknown, _) => {}
                (other, _) => return Err(format!("no welcome: {other:?}").into()),
            }
        }
    }

    /// The first configured listener; none when it was told to go before it came.
    pub(crate) fn listener(&mut self, welcome: &Welcome) -> Result<Option<TcpListener>> {
        let name = welcome.names.first().cloned().ok_or("no listener is configured")?;
        self.say(&FromWorker::Listen(Listen { seq: 1, name: Some(name), ..Listen::default() }))?;
        loop {
            match self.wait()? {
                (FromMaster::Listener(listener), Some(fd)) if listener.seq == 1 => {
                    self.key = Some(listener.key);
                    return Ok(Some(fd.into()));
                }
                (FromMaster::Disconnect(_), _) if self.fault != Fault::IgnoresDisconnect => return Ok(None),
                (FromMaster::Error(error), _) if self.fault != Fault::IgnoresRefusal => return Err(error.message.into()),
                _ => {}
            }
        }
    }

    pub(crate) fn say(&self, message: &FromWorker) -> Result<()> {
        // A master that is gone needs no words.
        let _gone = self.socket.as_ref().map(|mut socket| socket.write_all(&encode(message).unwrap_or_default()));
        Ok(())
    }

    fn wait(&mut self) -> Result<(FromMaster, Option<OwnedFd>)> {
        loop {
            if let Heard::Message(message, fd) = self.hear()? {
                return Ok((message, fd));
            }
        }
    }

    /// Reads once, and takes a message if there is one. After an error the connection is over.
    pub(crate) fn hear(&mut self) -> Result<Heard> {
        let heard = self.read_and_take();
        if heard.is_err() {
            self.hang_up();
        }
        heard
    }

    /// For every copy of the connection.
    pub(crate) fn hang_up(&mut self) {
        let _gone = self.socket.take().map(|socket| socket.shutdown(Shutdown::Both));
    }

    fn read_and_take(&mut self) -> Result<Heard> {
        if let Some(message) = self.take()? {
            return Ok(message);
        }
        self.read()?;
        Ok(self.take()?.unwrap_or(Heard::More))
    }

    fn take(&mut self) -> Result<Option<Heard>> {
        let message = match self.decoder.next_frame() {
            Ok(None) => return Ok(None),
            Ok(Some(frame)) => decode(frame),
            Err(malformed) => Err(malformed),
        };
        if self.fault == Fault::IgnoresMalformed && matches!(message, Err(Malformed::Body { .. } | Malformed::Message(_))) {
            return Ok(Some(Heard::More));
        }
        let message = message.inspect_err(|malformed| {
            let error = ErrorMessage { seq: None, code: malformed.code().into(), message: malformed.to_string() };
            let _gone = self.say(&FromWorker::Error(error));
        })?;
        let fd = match &message {
            FromMaster::Listener(listener) => Some(self.descriptor(listener.fds)?),
            FromMaster::Welcome(_) | FromMaster::Error(_) | FromMaster::Disconnect(_) | FromMaster::ReturnListener(_) | FromMaster::Unknown => None,
        };
        Ok(Some(Heard::Message(message, fd)))
    }

    fn descriptor(&mut self, announced: u8) -> Result<OwnedFd> {
        let byte = loop {
            match self.decoder.next_byte() {
                Some(byte) => break byte,
                None => self.read()?,
            }
        };
        match (announced, byte, self.fds.pop()) {
            (1, 0, Some(fd)) if self.fds.is_empty() || self.fault == Fault::TakesTwo => Ok(fd),
            (announced, byte, fd) => {
                let message = format!("{announced} announced, byte {byte}, {}", if fd.is_some() { "one came" } else { "none came" });
                self.say(&FromWorker::Error(ErrorMessage { seq: None, code: codes::BAD_DESCRIPTORS.into(), message: message.clone() }))?;
                Err(message.into())
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        let socket = self.socket.as_mut().ok_or("no master")?;
        let mut buffer = vec![0; 4_096];
        let bytes = if self.fault == Fault::BufferedReads {
            socket.read(&mut buffer)?
        } else {
            let missing = self.decoder.missing()?;
            let received = socket::receive(socket.as_fd(), &mut buffer[..missing.min(4_096)])?;
            self.fds.extend(received.fds);
            received.bytes
        };
        self.decoder.push(&buffer[..bytes]);
        if bytes == 0 { Err("the master is gone".into()) } else { Ok(()) }
    }
}
