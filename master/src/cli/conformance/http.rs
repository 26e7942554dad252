//! An HTTP/1.1 client that never retries and tells how a connection ended.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longest head of a response: a bound to what a worker can make the kit read.
const HEAD_MAX: usize = 64 * 1024;

/// Longest body.
const BODY_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(timeout)).and(stream.set_write_timeout(Some(timeout))),
            Stream::Unix(stream) => stream.set_read_timeout(Some(timeout)).and(stream.set_write_timeout(Some(timeout))),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Client {
    stream: Stream,
    unread: Vec<u8>,
    path: String,
}

/// A response, as far as the kit cares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Response {
    pub(super) status: u16,
    /// It says that the connection will not be used again.
    pub(super) closes: bool,
}

impl Client {
    pub(super) fn new(stream: Stream, path: &str, patience: Duration) -> io::Result<Client> {
        stream.set_timeout(patience)?;
        Ok(Client { stream, unread: Vec::new(), path: path.into() })
    }

    /// The connection, to see whether there is something to read.
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The bytes of a request.
    pub(super) fn request(&self) -> String {
        format!("GET {} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: dutch-master-conformance\r\n\r\n", self.path)
    }

    pub(super) fn get(&mut self) -> Result<Response, String> {
        self.send(&self.request())?;
        self.response()
    }

    pub(super) fn send(&mut self, text: &str) -> Result<(), String> {
        self.stream.write_all(text.as_bytes()).map_err(|error| how(&error))
    }

    pub(super) fn response(&mut self) -> Result<Response, String> {
        loop {
            let head = self.head()?;
            let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| format!("no HTTP response: {:?}", head.lines().next()))?;
            let field = |name: &str| {
                head.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
            };
            let says = |name, word| field(name).is_some_and(|value| value.to_ascii_lowercase().split(',').any(|part| part.trim() == word));
            let is_old = head.starts_with("HTTP/1.0");
            let mut closes = says("connection", "close") || is_old && !says("connection", "keep-alive");
            match (status, field("content-length").map(str::parse)) {
                (100..200, _) => continue,
                (204 | 304, _) => {}
                _ if says("transfer-encoding", "chunked") => self.chunks()?,
                (_, Some(Ok(length))) => self.skip(length)?,
                (_, Some(Err(_))) => return Err("a Content-Length that is no number".into()),
                // Its end is that of the connection.
                (_, None) => {
                    closes = true;
                    while self.read()? > 0 {}
                }
            }
            return Ok(Response { status, closes });
        }
    }

    /// Reads until the connection ends: whether it did so without a reset.
    pub(super) fn end(&mut self) -> Result<(), String> {
        while self.read()? > 0 {}
        Ok(())
    }

    fn head(&mut self) -> Result<String, String> {
        loop {
            if let Some(at) = self.unread.windows(4).position(|part| part == b"\r\n\r\n") {
                let head = self.unread.drain(..at + 4).collect::<Vec<_>>();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            if self.unread.len() > HEAD_MAX {
                return Err(format!("a head of more than {HEAD_MAX} bytes"));
            }
            if self.read()? == 0 {
                return Err(if self.unread.is_empty() { "the connection ended without a response" } else { "the connection ended within a response" }.into());
            }
        }
    }

    fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|part| part == b"\r\n") {
                let line = self.unread.drain(..at + 2).collect::<Vec<_>>();
                return Ok(String::from_utf8_lossy(&line).trim().to_owned());
            }
            if self.unread.len() > HEAD_MAX || self.read()? == 0 {
                return Err("a chunked body that is none".into());
            }
        }
    }

    fn chunks(&mut self) -> Result<(), String> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| format!("a chunk of size {size:?}"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            self.skip(size)?;
            self.line()?;
        }
    }

    fn skip(&mut self, length: usize) -> Result<(), String> {
        if length > BODY_MAX {
            return Err(format!("a body of more than {BODY_MAX} bytes"));
        }
        while self.unread.len() < length {
            if self.read()? == 0 {
                return Err("the connection ended within a response".into());
            }
        }
        self.unread.drain(..length);
        Ok(())
    }

    fn read(&mut self) -> Result<usize, String> {
        let mut buffer = [0; 8_192];
        let n = self.stream.read(&mut buffer).map_err(|error| how(&error))?;
        self.unread.extend_from_slice(&buffer[..n]);
        Ok(n)
    }
}

/// How a connection failed, in the words of the specification.
fn how(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "a reset of the connection".into(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "nothing in time".into(),
        _ => error.to_string(),
    }
}
