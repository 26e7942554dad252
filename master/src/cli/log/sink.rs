//! Writes lines to standard error without ever holding up the master: a log that nobody reads loses lines, and later says how many.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a line waits for a reader. Once that was in vain, later lines do not wait at all until there is room again.
const WAIT_MS: u16 = 200;

/// How long after a line that had to wait no other one does: a reader that is slow but never stops would otherwise hold up the master with every line.
const WAIT_AGAIN: Duration = Duration::from_secs(1);

/// What a pipe takes without blocking when it says that it is writable (PIPE_BUF).
const CHUNK: usize = 4_096;

/// Tries after an interruption: a signal that comes back with each try (SIGTTOU) must not turn into a loop.
const INTERRUPTIONS_MAX: u8 = 3;

#[derive(Default)]
pub(super) struct Sink {
    lost: u64,
    /// A line was cut, and the next one has to begin on its own.
    cut: bool,
    waited_at: Option<Instant>,
}

impl Sink {
    /// Writes a line, or counts it as lost; `tell` makes the line that tells of lost ones.
    pub(super) fn write(&mut self, line: &[u8], tell: impl Fn(u64) -> Vec<u8>) {
        self.write_to(&mut io::stderr().lock(), line, tell);
    }

    fn write_to<W: Write + AsFd>(&mut self, out: &mut W, line: &[u8], tell: impl Fn(u64) -> Vec<u8>) {
        if self.cut && self.put(out, b"\n") {
            self.cut = false;
        }
        if self.lost > 0 && !self.cut && self.put(out, &tell(self.lost)) {
            self.lost = 0;
        }
        if self.lost > 0 || self.cut || !self.put(out, line) {
            self.lost += 1;
        }
    }

    /// Whether all of it was written.
    fn put<W: Write + AsFd>(&mut self, out: &mut W, bytes: &[u8]) -> bool {
        let mut may_wait = self.lost == 0 && self.waited_at.is_none_or(|at| at.elapsed() >= WAIT_AGAIN);
        let (mut rest, mut interruptions) = (bytes, 0);
        while !rest.is_empty() && interruptions < INTERRUPTIONS_MAX {
            if !is_writable(out, 0) {
                if !std::mem::take(&mut may_wait) {
                    break;
                }
                let writable = is_writable(out, WAIT_MS);
                self.waited_at = Some(Instant::now());
                if !writable {
                    break;
                }
            }
            match out.write(&rest[..rest.len().min(CHUNK)]) {
                Ok(written) => rest = &rest[written..],
                // Writable for others, who were faster: the descriptor may be shared with workers.
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => interruptions += 1,
                Err(_) => break,
            }
        }
        if !rest.is_empty() && rest.len() < bytes.len() {
            self.cut = true;
        }
        rest.is_empty()
    }
}

fn is_writable(out: &impl AsFd, wait_ms: u16) -> bool {
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut fds, PollTimeout::from(wait_ms)) {
        Ok(0) | Err(Errno::EINTR) => false,
        // What cannot be polled is written to; a reader that went away shows as an error of the write.
        Ok(_) | Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Read};

    use super::*;

    fn tell(lost: u64) -> Vec<u8> {
        format!("lost {lost}\n").into_bytes()
    }

    /// Fills a pipe and says with how many bytes.
    fn fill(out: &mut PipeWriter) -> usize {
        let mut filled = 0;
        while is_writable(out, 0) {
            filled += out.write(&[b'.'; CHUNK]).unwrap();
        }
        filled
    }

    #[test]
    fn a_log_that_nobody_reads_loses_lines_and_later_says_how_many() {
        let (mut reader, mut out) = io::pipe().unwrap();
        let mut sink = Sink::default();
        sink.write_to(&mut out, b"first\n", tell);
        let filled = fill(&mut out);
        for _ in 0..3 {
            sink.write_to(&mut out, b"lost\n", tell);
        }
        let mut before = vec![0; b"first\n".len() + filled];
        reader.read_exact(&mut before).unwrap();
        sink.waited_at = None;
        sink.write_to(&mut out, b"last\n", tell);
        drop(out);
        let mut after = String::new();
        reader.read_to_string(&mut after).unwrap();
        assert!(before.starts_with(b"first\n"));
        assert_eq!(after, "lost 3\nlast\n");
    }

    #[test]
    fn after_a_line_that_had_to_wait_the_next_ones_are_lost_rather_than_wait() {
        let (_reader, mut out) = io::pipe().unwrap();
        fill(&mut out);
        let mut sink = Sink { waited_at: Some(Instant::now()), ..Sink::default() };
        let begin = Instant::now();
        for _ in 0..50 {
            sink.lost = 0;
            sink.write_to(&mut out, b"line\n", tell);
            assert_eq!(sink.lost, 1);
        }
        assert!(begin.elapsed() < Duration::from_secs(1), "none of the fifty waited its 200 ms");
    }

    #[test]
    fn a_log_whose_reader_went_away_stops_nothing() {
        let (reader, mut out) = io::pipe().unwrap();
        drop(reader);
        let mut sink = Sink::default();
        sink.write_to(&mut out, b"line\n", tell);
        assert_eq!(sink.lost, 1);
    }
}
