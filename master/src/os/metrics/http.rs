//! A web server for one page, beside the master's loop and on its thread: one request on a connection, everything bounded, and the loop is asked for nothing but the page.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Asker;
use crate::os::control_socket::Acceptor;
use crate::os::readiness::register;

/// Most connections at once: a scraper needs one for a moment. The oldest makes room, so that those who say nothing keep nobody out.
const CONNECTIONS_MAX: usize = 16;

/// Most bytes of a request's head: a browser's cookies fit in, and sixteen of them are nothing.
const REQUEST_MAX: usize = 8 * 1024;

/// Most header lines: several times what a scraper sends.
const HEADERS_MAX: usize = 64;

/// How long a connection may take from beginning to end.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes that are taken and thrown away behind a request, so that whoever sent them gets the answer instead of a reset.
const IGNORED_MAX: usize = 64 * 1024;

/// How long no connection is accepted after the system refused to make one: it lacks descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Answers whoever comes, without end.
pub(super) async fn serve(acceptor: Acceptor, asker: Asker) -> Infallible {
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let socket = next(&acceptor).await;
        while connections.try_join_next().is_some() {}
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            debug!("Metrics: {CONNECTIONS_MAX} connections are open, the oldest is closed");
            oldest.abort();
            // Its descriptor is given back before the next is taken: however fast they come, there are never more.
            connections.join_next().await;
        }
        let asker = asker.clone();
        open.push_back(connections.spawn(async move {
            // However it ends, it is over: the client has to look after itself.
            let _ = timeout(CONNECTION_TIMEOUT, answer(socket, &asker)).await;
        }));
    }
}

async fn next(acceptor: &Acceptor) -> OwnedFd {
    loop {
        poll_fn(|cx| acceptor.poll_acceptable(cx)).await;
        match acceptor.accept() {
            Ok(Some(socket)) => return socket,
            Ok(None) => {}
            Err(error) => {
                warn!(reason = %error, "Cannot accept connections for metrics for the moment");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(socket: OwnedFd, asker: &Asker) -> io::Result<()> {
    let connection = register(socket, Interest::READABLE | Interest::WRITABLE)?;
    let response = match read_request(&connection).await? {
        Verdict::Page { with_body } => {
            let page = asker.page().await.ok_or(io::ErrorKind::NotConnected)?;
            response("200 OK", "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n", &page, with_body)
        }
        Verdict::Refused(status) => {
            let allow = if status == METHOD_NOT_ALLOWED { "Allow: GET, HEAD\r\n" } else { "" };
            response(status, &format!("Content-Type: text/plain; charset=utf-8\r\n{allow}"), &format!("{status}\n"), true)
        }
    };
    write_all(&connection, response.as_bytes()).await?;
    shutdown(connection.as_raw_fd(), Shutdown::Write)?;
    let (mut ignored, mut buffer) = (0, [0; 1_024]);
    while ignored < IGNORED_MAX {
        match read(&connection, &mut buffer).await? {
            0 => break,
            n => ignored += n,
        }
    }
    Ok(())
}

fn response(status: &str, headers: &str, body: &str, with_body: bool) -> String {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    if with_body { head + body } else { head }
}

async fn read_request(connection: &AsyncFd<OwnedFd>) -> io::Result<Verdict> {
    let (mut request, mut buffer) = (Vec::new(), [0; 1_024]);
    loop {
        match read(connection, &mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => request.extend_from_slice(&buffer[..n]),
        }
        if let Some(verdict) = judge(&request) {
            return Ok(verdict);
        }
    }
}

async fn read(connection: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    connection.async_io(Interest::READABLE, |fd| Ok(recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)).await
}

async fn write_all(connection: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let written = connection.async_io(Interest::WRITABLE, |fd| Ok(send(fd.as_raw_fd(), bytes, flags)?)).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

const BAD_REQUEST: &str = "400 Bad Request";
const NOT_FOUND: &str = "404 Not Found";
const METHOD_NOT_ALLOWED: &str = "405 Method Not Allowed";

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Page { with_body: bool },
    Refused(&'static str),
}

/// What the request whose first bytes these are gets; `None`: that is not known yet.
fn judge(bytes: &[u8]) -> Option<Verdict> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_MAX => None,
        Ok(httparse::Status::Partial) | Err(_) => Some(Verdict::Refused(BAD_REQUEST)),
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.and_then(|target| target.split('?').next());
            Some(match (request.method, path) {
                (_, path) if path != Some("/metrics") => Verdict::Refused(NOT_FOUND),
                (Some("GET"), _) => Verdict::Page { with_body: true },
                (Some("HEAD"), _) => Verdict::Page { with_body: false },
                _ => Verdict::Refused(METHOD_NOT_ALLOWED),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_the_page_or_a_status_that_says_why_not() {
        let page = |with_body| Some(Verdict::Page { with_body });
        let refused = |status| Some(Verdict::Refused(status));
        for (request, verdict) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", page(true)),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", page(true)),
            ("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", page(false)),
            ("GET / HTTP/1.1\r\n\r\n", refused(NOT_FOUND)),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", refused(NOT_FOUND)),
            ("POST / HTTP/1.1\r\n\r\n", refused(NOT_FOUND)),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", refused(METHOD_NOT_ALLOWED)),
            ("\x16\x03\x01\x02 a TLS hello", refused(BAD_REQUEST)),
            ("GET /metrics\r\n\r\n", refused(BAD_REQUEST)),
            ("GET /metrics HTTP/9\r\n\r\n", refused(BAD_REQUEST)),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n", None),
            ("G", None),
        ] {
            assert_eq!(judge(request.as_bytes()), verdict, "{request:?}");
        }
    }

    #[test]
    fn a_head_without_an_end_is_refused_at_its_limit() {
        let endless = |length: usize| format!("GET /metrics HTTP/1.1\r\nA: {}", "a".repeat(length - 26));
        assert_eq!(judge(endless(REQUEST_MAX - 1).as_bytes()), None);
        assert_eq!(judge(endless(REQUEST_MAX).as_bytes()), Some(Verdict::Refused(BAD_REQUEST)));
        let many = |lines| format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(lines));
        assert_eq!(judge(many(HEADERS_MAX).as_bytes()), Some(Verdict::Page { with_body: true }));
        assert_eq!(judge(many(HEADERS_MAX + 1).as_bytes()), Some(Verdict::Refused(BAD_REQUEST)));
    }
}
