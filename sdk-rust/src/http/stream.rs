//! A connection's bytes, on their way between the socket and hyper: reports what happens, and hands the socket back when hyper is done with it.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio_util::either::Either;

use super::acceptor::Stream;
use super::activity::Activity;

/// How every HTTP/2 connection begins.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) struct Watched {
    /// There until it is dropped.
    stream: Option<Stream>,
    hand_back: Option<oneshot::Sender<Stream>>,
    activity: Arc<Activity>,
    begun: bool,
}

impl Watched {
    /// The watched stream, and where the bare one comes back when it is dropped.
    pub(super) fn new(stream: Stream, activity: Arc<Activity>) -> (Watched, oneshot::Receiver<Stream>) {
        let (hand_back, handed_back) = oneshot::channel();
        (Watched { stream: Some(stream), hand_back: Some(hand_back), activity, begun: false }, handed_back)
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Whether there is something to read that the runtime has not learnt of yet.
    fn bytes_wait(&self) -> bool {
        let socket = match &self.stream {
            None => return false,
            Some(Either::Left(tcp)) => tcp.as_raw_fd(),
            Some(Either::Right(unix)) => unix.as_raw_fd(),
        };
        recv(socket, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).is_ok_and(|bytes| bytes > 0)
    }

    fn written(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.write_blocked(result.is_pending());
        result
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let (Some(stream), Some(hand_back)) = (self.stream.take(), self.hand_back.take()) {
            let _ = hand_back.send(stream); // Nobody wants it any more when the connection was cut.
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = this.stream()?.poll_read(context, buffer);
        if read.is_pending() && this.activity.is_ended() && !this.bytes_wait() {
            return Poll::Ready(Ok(())); // End of the stream, as far as hyper is concerned.
        }
        ready!(read)?;
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() {
            this.activity.bytes_read();
            if !std::mem::replace(&mut this.begun, true) && bytes.starts_with(HTTP2_PREFACE) {
                this.activity.speaks_http2();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.stream()?.poll_write(context, bytes);
        self.written(result)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = self.stream()?.poll_write_vectored(context, slices);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::worker::Worker;

    #[tokio::test]
    async fn a_request_that_arrives_as_the_idle_grace_ends_is_read() {
        let (mut client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let activity = Arc::new(Activity::new(Worker::standalone()));
        let (mut watched, _handed_back) = Watched::new(Either::Right(tokio::net::UnixStream::from_std(server).unwrap()), Arc::clone(&activity));
        activity.end();
        client.write_all(b"request").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(watched.read(&mut buffer).await.unwrap(), 7);
        assert!(!activity.is_ended(), "the rest of the request is not cut off");
        activity.end();
        assert_eq!(watched.read(&mut buffer).await.unwrap(), 0);
    }
}
