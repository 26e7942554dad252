//! One connection of a client, and one exchange over it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::failure::Failure;
use super::response::Response;
use super::tally::Tally;

/// Bytes per read: most responses in one.
const READ_SIZE: usize = 16_384;

/// An open connection; counted as such while it lives.
pub(super) struct Connection {
    stream: TcpStream,
    tally: Arc<Tally>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr, tally: &Arc<Tally>) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        tally.opened();
        Ok(Connection { stream, tally: Arc::clone(tally) })
    }

    /// Waits until the server ends the connection while nothing was asked of it.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        match self.stream.read_u8().await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("bytes that nobody asked for")),
        }
    }

    /// Writes the request and reads its response. A server may answer before it has read all, so what it said counts even where writing failed.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Response, Failure> {
        let (mut reader, mut writer) = self.stream.split();
        let (written, response) = tokio::join!(writer.write_all(request), read(&mut reader));
        match (written, response) {
            (Err(error), Err(Failure::Eof)) => Err(error.into()),
            (_, response) => response,
        }
    }
}

async fn read(reader: &mut (impl AsyncReadExt + Unpin)) -> Result<Response, Failure> {
    let mut bytes = Vec::with_capacity(READ_SIZE);
    loop {
        if reader.read_buf(&mut bytes).await? == 0 {
            return Err(Failure::Eof);
        }
        if let Some(response) = Response::parse(&bytes)? {
            return Ok(response);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tally.closed();
    }
}
