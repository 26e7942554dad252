//! Whose turn it is to accept. All workers of a pool are woken by each connection, and share one queue: one that has connections already holds back a moment, so that one with fewer comes first.
//!
//! Otherwise the worker that the system happens to run takes one connection after the other: of 64 that came at once, one of four workers was seen to get all of them. Nobody tells a worker how
//! many connections the others have; that each waits the longer, the more it has itself, does without. One that has none never waits, and the longest pause is [`STEPS_MAX`] steps.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::libc;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::Socket;
use tokio::io::unix::AsyncFd;

use super::acceptor::{Fixed, watch};

/// How long a worker holds back for each doubling of its connections, where it has a processor to itself: about as long as another one needs to wake up and accept. Half of that was measured to
/// spread connections less evenly, without being faster. Where workers share processors, it takes the longer until the others have run.
const HOLD_BACK_STEP: Duration = Duration::from_micros(100);

/// Most steps: reached with a thousand connections, and little for a connection that is going to be one of so many.
const STEPS_MAX: f64 = 10.0;

/// One worker's part in it.
pub(super) struct Turn {
    pool_size: u32,
    step: Duration,
    /// The runtime's own timers count milliseconds.
    timer: AsyncFd<Timer>,
    /// How many connections it may take before it holds back again.
    left: u32,
}

impl Turn {
    pub(super) fn new(pool_size: u32) -> io::Result<Turn> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let processors = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        Ok(Turn { pool_size, step: step(pool_size, processors), timer: watch(Timer(timer))?, left: 0 })
    }

    /// Waits until this worker may take a connection. False: others have taken all of them.
    pub(super) async fn comes(&mut self, listener: &Socket, load: usize) -> bool {
        if self.pool_size > 1 && load > 0 && self.left == 0 {
            // The pause is for those who could come first; where nothing is left to come for, it can be saved.
            if queue_length(listener) == Some(0) {
                return false;
            }
            self.pause(hold_back(self.step, load)).await;
            // With many waiting, one turn is for as many as fall to each worker: to hold back for each of them would cost speed.
            self.left = share(queue_length(listener).unwrap_or(0), self.pool_size);
        }
        self.left = self.left.saturating_sub(1);
        true
    }

    /// The queue is empty.
    pub(super) fn is_over(&mut self) {
        self.left = 0;
    }

    async fn pause(&self, duration: Duration) {
        let armed = self.timer.get_ref().0.set(Expiration::OneShot(TimeSpec::from_duration(duration)), TimerSetTimeFlags::empty());
        // Without a timer it does not hold back. An expiration need not be read: setting the timer again forgets it.
        if armed.is_ok()
            && let Ok(mut expired) = self.timer.readable().await
        {
            expired.clear_ready();
        }
    }
}

struct Timer(TimerFd);

impl Fixed for Timer {}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// How long a worker with so many connections holds back.
#[allow(clippy::cast_precision_loss)] // a number of connections
fn hold_back(step: Duration, load: usize) -> Duration {
    step.mul_f64((1.0 + load as f64).log2().min(STEPS_MAX))
}

fn step(pool_size: u32, processors: u32) -> Duration {
    HOLD_BACK_STEP * pool_size.div_ceil(processors).max(1)
}

/// How many of those that wait fall to one worker, at least one.
fn share(waiting: u32, pool_size: u32) -> u32 {
    waiting.div_ceil(pool_size).max(1)
}

/// How many connections wait, where the system tells: for TCP.
#[allow(unsafe_code)]
fn queue_length(listener: &Socket) -> Option<u32> {
    // SAFETY: a struct of plain integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    // SAFETY: both pointers are valid for this call, and `length` says how much the kernel may write.
    let outcome = unsafe { libc::getsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length) };
    // For a listening socket the kernel puts the length of the queue into this field.
    (outcome == 0).then_some(info.tcpi_unacked)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_worker_holds_back_the_longer_the_more_connections_it_has_but_not_for_ever() {
        let holds_back: Vec<_> = [0, 1, 3, 7, 8, 1_023, 100_000].into_iter().map(|load| hold_back(HOLD_BACK_STEP, load).as_micros()).collect();
        assert_eq!(holds_back, [0, 100, 200, 300, 316, 1_000, 1_000]);
    }

    #[test]
    fn workers_that_share_processors_hold_back_longer() {
        let steps = [(2, 2), (4, 2), (5, 2), (2, 64)].map(|(pool_size, processors)| step(pool_size, processors).as_micros());
        assert_eq!(steps, [100, 200, 300, 100]);
    }

    #[test]
    fn a_turn_is_for_as_many_connections_as_fall_to_each_worker() {
        assert_eq!([share(0, 4), share(1, 4), share(4, 4), share(5, 4), share(64, 2)], [1, 1, 1, 2, 32]);
    }

    fn listener() -> (TcpListener, Socket) {
        let bound = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = bound.try_clone().unwrap().into();
        (bound, socket)
    }

    #[tokio::test]
    async fn with_connections_of_its_own_a_worker_holds_back_for_a_whole_turn() {
        let (bound, socket) = listener();
        let clients: Vec<_> = (0..4).map(|_| TcpStream::connect(bound.local_addr().unwrap()).unwrap()).collect();
        let mut turn = Turn::new(2).unwrap();
        let before = Instant::now();
        assert!(turn.comes(&socket, 1_023).await);
        assert!(before.elapsed() >= HOLD_BACK_STEP * 10, "it holds back");
        assert_eq!(turn.left, 1, "two of the four waiting fall to it");
        drop(clients);
    }

    #[tokio::test]
    async fn the_pause_lasts_each_time_it_is_made() {
        let turn = Turn::new(2).unwrap();
        for _ in 0..3 {
            let before = Instant::now();
            turn.pause(HOLD_BACK_STEP).await;
            assert!(before.elapsed() >= HOLD_BACK_STEP);
        }
    }

    #[tokio::test]
    async fn where_nothing_waits_any_more_it_is_nobodys_turn() {
        let (_bound, socket) = listener();
        assert!(!Turn::new(2).unwrap().comes(&socket, 1).await);
        assert!(Turn::new(2).unwrap().comes(&socket, 0).await, "with no connection it does not even ask");
        assert!(Turn::new(1).unwrap().comes(&socket, 1).await, "alone it does not, either");
    }
}
