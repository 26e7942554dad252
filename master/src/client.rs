//! One control connection to a master: says hello, asks, and takes answers. For the command line, and for programs that embed a master.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dutch_master_protocol::codec::{self, FrameDecoder, Malformed};
use dutch_master_protocol::control::{FromControl, ToControl};
use dutch_master_protocol::message::{ErrorMessage, Hello, Role, VERSION};
use dutch_master_protocol::socket;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a master may take to answer what it can answer at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of one read: an answer is small.
const READ_SIZE: usize = 4_096;

/// Why a master could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no master answers at {}", .0.display())]
    NobodyThere(PathBuf),
    /// It cannot be reached.
    #[error("cannot connect to {}: {error}", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The connection failed.
    #[error("the connection to the master failed: {0}")]
    Connection(#[from] io::Error),
    /// The connection ended too early.
    #[error("the master ended the connection")]
    Ended,
    /// It says nothing.
    #[error("the master{} did not answer within {} s{}", numbered(*pid), seconds(*waited), hint(*pid))]
    Silent {
        /// Its process, once there was a connection.
        pid: Option<i32>,
        /// How long it had.
        waited: Duration,
    },
    /// It refused.
    #[error("the master refused: {} ({})", .0.message, .0.code)]
    Refused(ErrorMessage),
    /// It speaks otherwise than version 1 has it.
    #[error("the master's answer makes no sense: {0}")]
    Malformed(#[from] Malformed),
    /// It answered something else than what was asked.
    #[error("the master answered something unexpected")]
    Unexpected,
}

fn numbered(pid: Option<i32>) -> String {
    pid.map_or(String::new(), |pid| format!(" (pid {pid})"))
}

/// To the hundredth.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

/// What may be the matter with a process that does not answer.
fn hint(pid: Option<i32>) -> String {
    let stat = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    match (pid, stat.as_deref().and_then(|stat| stat.rsplit(") ").next())) {
        (Some(pid), Some(rest)) if rest.starts_with(['T', 't']) => format!(": it is stopped; `kill -CONT {pid}` lets it go on"),
        _ => "; it is blocked, or the machine is overloaded".into(),
    }
}

/// A connection whose master said welcome.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: FrameDecoder,
    pid: Option<i32>,
}

impl Client {
    /// Connects and says hello.
    pub async fn connect(path: &Path) -> Result<Client, ClientError> {
        Client::connect_within(path, ANSWER_TIMEOUT).await
    }

    /// The same for those who do not wait as long as a master may take.
    pub async fn connect_within(path: &Path, patience: Duration) -> Result<Client, ClientError> {
        let patience = patience.min(ANSWER_TIMEOUT);
        let until = Instant::now() + patience;
        let silent = |pid| ClientError::Silent { pid, waited: patience };
        let connecting = timeout_at(until, UnixStream::connect(path)).await.map_err(|_| silent(None))?;
        let stream = connecting.map_err(|error| {
            let nobody_there = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
            if nobody_there { ClientError::NobodyThere(path.into()) } else { ClientError::Connect { path: path.into(), error } }
        })?;
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let mut client = Client { stream, decoder: FrameDecoder::default(), pid };
        let sdk = Some(concat!("dutch-master/", env!("CARGO_PKG_VERSION")).into());
        let hello = Hello { protocol: VERSION, role: Role::Control, sdk, pid: Some(std::process::id()), ..Hello::default() };
        let welcome = timeout_at(until, client.ask(&FromControl::Hello(hello))).await.map_err(|_| silent(pid))?;
        // One that ends before its first word is a master that has just died.
        let welcome = welcome.map_err(|error| if matches!(error, ClientError::Ended) { ClientError::NobodyThere(path.into()) } else { error })?;
        if matches!(welcome, ToControl::Welcome(_)) { Ok(client) } else { Err(ClientError::Unexpected) }
    }

    /// Sends a request and takes the first answer to it.
    pub async fn ask(&mut self, request: &FromControl) -> Result<ToControl, ClientError> {
        let silent = self.silent();
        let answer = async {
            self.send(request).await?;
            self.next().await?.ok_or(ClientError::Ended)
        };
        timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| silent)?
    }

    /// The next answer, which comes at once.
    pub async fn prompt_next(&mut self) -> Result<ToControl, ClientError> {
        let silent = self.silent();
        timeout(ANSWER_TIMEOUT, self.next()).await.map_err(|_| silent)??.ok_or(ClientError::Ended)
    }

    fn silent(&self) -> ClientError {
        ClientError::Silent { pid: self.pid, waited: ANSWER_TIMEOUT }
    }

    /// The next answer, whenever it comes; `None`: the master ended the connection. Nothing is lost when the waiting is given up.
    pub async fn next(&mut self) -> Result<Option<ToControl>, ClientError> {
        loop {
            if let Some(body) = self.decoder.next_frame()? {
                let message = codec::decode(body)?;
                if let ToControl::Error(error) = message {
                    return Err(ClientError::Refused(error));
                }
                if message != ToControl::Unknown {
                    return Ok(Some(message));
                }
                continue;
            }
            let mut buffer = [0; READ_SIZE];
            match self.stream.async_io(Interest::READABLE, || socket::receive(self.stream.as_fd(), &mut buffer)).await {
                Ok(received) if received.bytes == 0 => return Ok(None),
                Ok(received) => self.decoder.push(&buffer[..received.bytes]),
                // A master that dies with a request of ours unread resets the connection.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn send(&mut self, request: &FromControl) -> Result<(), ClientError> {
        let frame = codec::encode(request)?;
        let mut rest = &frame[..];
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It may have said why before it hung up.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
