//! Writes lines without ever holding up the master: a log that nobody reads loses lines, and later says how many.

use std::fmt;
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

/// Why lines are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// There is no room, and nobody makes any.
    Unread,
    /// They cannot be written.
    Failed(Errno),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Unread => f.write_str("nobody read them"),
            Loss::Failed(errno) => io::Error::from(*errno).fmt(f),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Sink {
    lost: u64,
    why: Option<Loss>,
    /// A line was cut, and the next one has to begin on its own.
    cut: bool,
    waited_at: Option<Instant>,
}

impl Sink {
    /// Writes a line, or counts it as lost; `tell` makes the line that tells of lost ones. Returns why, if it is the first one that is.
    pub(super) fn write<W: Write + AsFd>(&mut self, out: &mut W, line: &[u8], tell: impl Fn(u64, Loss) -> Vec<u8>) -> Option<Loss> {
        let before = self.lost;
        let written = self.try_write(out, line, tell);
        if let Err(why) = written {
            self.lost += 1;
            self.why = Some(why);
        }
        written.err().filter(|_| before == 0)
    }

    fn try_write<W: Write + AsFd>(&mut self, out: &mut W, line: &[u8], tell: impl Fn(u64, Loss) -> Vec<u8>) -> Result<(), Loss> {
        if self.cut {
            self.put(out, b"\n")?;
            self.cut = false;
        }
        if self.lost > 0 {
            self.put(out, &tell(self.lost, self.why.unwrap_or(Loss::Unread)))?;
            self.lost = 0;
        }
        self.put(out, line)
    }

    /// Writes all of it, or says why not.
    fn put<W: Write + AsFd>(&mut self, out: &mut W, bytes: &[u8]) -> Result<(), Loss> {
        let mut outcome = Ok(());
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
                Err(error) => {
                    outcome = Err(Loss::Failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))));
                    break;
                }
            }
        }
        if !rest.is_empty() && rest.len() < bytes.len() {
            self.cut = true;
        }
        if rest.is_empty() { Ok(()) } else { outcome.and(Err(Loss::Unread)) }
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

    fn tell(lost: u64, why: Loss) -> Vec<u8> {
        format!("lost {lost}: {why}\n").into_bytes()
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
        sink.write(&mut out, b"first\n", tell);
        let filled = fill(&mut out);
        for _ in 0..3 {
            sink.write(&mut out, b"lost\n", tell);
        }
        let mut before = vec![0; b"first\n".len() + filled];
        reader.read_exact(&mut before).unwrap();
        sink.waited_at = None;
        sink.write(&mut out, b"last\n", tell);
        drop(out);
        let mut after = String::new();
        reader.read_to_string(&mut after).unwrap();
        assert!(before.starts_with(b"first\n"));
        assert_eq!(after, "lost 3: nobody read them\nlast\n");
    }

    #[test]
    fn after_a_line_that_had_to_wait_the_next_ones_are_lost_rather_than_wait() {
        let (_reader, mut out) = io::pipe().unwrap();
        fill(&mut out);
        let mut sink = Sink { waited_at: Some(Instant::now()), ..Sink::default() };
        let begin = Instant::now();
        for _ in 0..50 {
            sink.lost = 0;
            sink.write(&mut out, b"line\n", tell);
            assert_eq!(sink.lost, 1);
        }
        assert!(begin.elapsed() < Duration::from_secs(1), "none of the fifty waited its 200 ms");
    }

    #[test]
    fn a_log_whose_reader_went_away_stops_nothing() {
        let (reader, mut out) = io::pipe().unwrap();
        drop(reader);
        let mut sink = Sink::default();
        sink.write(&mut out, b"line\n", tell);
        assert_eq!(sink.lost, 1);
    }
}
