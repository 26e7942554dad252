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
use tokio::time::timeout;

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
    #[error("the master did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
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

/// A connection whose master said welcome.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: FrameDecoder,
}

impl Client {
    /// Connects and says hello.
    pub async fn connect(path: &Path) -> Result<Client, ClientError> {
        let connecting = timeout(ANSWER_TIMEOUT, UnixStream::connect(path)).await.map_err(|_| ClientError::Silent)?;
        let stream = connecting.map_err(|error| {
            let nobody_there = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
            if nobody_there { ClientError::NobodyThere(path.into()) } else { ClientError::Connect { path: path.into(), error } }
        })?;
        let mut client = Client { stream, decoder: FrameDecoder::default() };
        let sdk = Some(concat!("dutch-master/", env!("CARGO_PKG_VERSION")).into());
        let hello = Hello { protocol: VERSION, role: Role::Control, sdk, pid: Some(std::process::id()), ..Hello::default() };
        let welcome = client.ask(&FromControl::Hello(hello)).await?;
        if matches!(welcome, ToControl::Welcome(_)) { Ok(client) } else { Err(ClientError::Unexpected) }
    }

    /// Sends a request and takes the first answer to it.
    pub async fn ask(&mut self, request: &FromControl) -> Result<ToControl, ClientError> {
        let answer = async {
            self.send(request).await?;
            self.next().await?.ok_or(ClientError::Ended)
        };
        timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| ClientError::Silent)?
    }

    /// The next answer, which comes at once.
    pub async fn prompt_next(&mut self) -> Result<ToControl, ClientError> {
        timeout(ANSWER_TIMEOUT, self.next()).await.map_err(|_| ClientError::Silent)??.ok_or(ClientError::Ended)
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
