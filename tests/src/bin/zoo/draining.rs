//! Going.

use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::process::exit;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dutch_master_protocol::message::{Close, DisconnectReason, Drained, FromWorker};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::fault::Fault;
use crate::master::Master;
use crate::serving::{accept, hear};
use crate::{Order, Result, Worker, locked};

/// Goes, by the rules of section 12.
pub(crate) fn drain(worker: &Arc<Worker>, master: &mut Master, listener: TcpListener, order: Order) -> Result<()> {
    locked(&worker.order).get_or_insert(order);
    if order.reason == DisconnectReason::Stop {
        while accept(worker, &listener) {}
    }
    if worker.fault == Fault::ShutsListener {
        nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both)?;
    }
    if worker.fault == Fault::KeepsAccepting {
        let worker = Arc::clone(worker);
        thread::spawn(move || {
            loop {
                accept(&worker, &listener);
                thread::sleep(Duration::from_millis(5));
            }
        });
    } else if worker.fault == Fault::KeepsListener {
        std::mem::forget(listener);
    } else {
        drop(listener);
    }
    // Its connections end before it says anything, so that what a client sees does not depend on who is faster.
    while worker.fault == Fault::ExitsBeforeDraining && !locked(&worker.connections).is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    if let Some(key) = master.key.take() {
        master.say(&FromWorker::Close(Close { key }))?;
    }
    if worker.fault == Fault::ExitsBeforeDraining {
        master.say(&FromWorker::Disconnect(Drained::default()))?;
        exit(0);
    }
    while !locked(&worker.connections).is_empty() && worker.order().is_none_or(|order| Instant::now() < order.deadline) {
        let spoken = master.socket.as_ref().is_some_and(|socket| {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(20_u8)).is_ok_and(|ready| ready > 0)
        });
        match spoken {
            true => hear(worker, master),
            false if master.socket.is_none() => thread::sleep(Duration::from_millis(20)),
            false => {}
        }
    }
    master.say(&FromWorker::Disconnect(Drained::default()))?;
    if worker.fault == Fault::Floods {
        // Longer than the kit listens after the last word.
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
