//! Accepting and answering, with a thread for each connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dutch_master_protocol::message::{Close, DisconnectReason, FromMaster, FromWorker};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::fault::Fault;
use crate::master::{Heard, Master};
use crate::{Order, Result, Worker, locked};

/// How long idle connections stay open when the worker was told to go.
const IDLE_GRACE: Duration = Duration::from_secs(2);

/// Accepts until there is an order, or the orphan timeout has passed.
pub(crate) fn serve(worker: &Arc<Worker>, master: &mut Master, listener: &TcpListener, orphan: Option<Duration>) -> Result<Order> {
    let mut leave_at = None;
    loop {
        if let Some(order) = worker.order() {
            return Ok(order);
        }
        if leave_at.is_some_and(|at| at <= Instant::now()) {
            return Ok(Order::new(DisconnectReason::Other, Duration::from_secs(30)));
        }
        let mut fds = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(master.socket.as_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        poll(&mut fds, PollTimeout::from(20_u8))?;
        let [knocked, spoken] = [0, 1].map(|at| fds.get(at).and_then(PollFd::any).unwrap_or(false));
        if knocked {
            accept(worker, listener);
        }
        if spoken {
            hear(worker, master);
            if master.socket.is_none() {
                leave_at = orphan.map(|orphan| Instant::now() + orphan);
            }
        }
    }
}

/// Everything that the master has said by now.
pub(crate) fn hear(worker: &Worker, master: &mut Master) {
    while let Ok(heard) = master.hear() {
        match heard {
            Heard::More => {}
            Heard::Message(FromMaster::Disconnect(_), _) if worker.fault == Fault::IgnoresDisconnect => {}
            Heard::Message(FromMaster::Disconnect(order), _) => worker.note(&order),
            Heard::Message(FromMaster::Listener(listener), fd) => {
                drop(fd);
                let _gone = master.say(&FromWorker::Close(Close { key: listener.key }));
            }
            Heard::Message(FromMaster::Error(error), _) if error.seq.is_none() => master.hang_up(),
            Heard::Message(..) => {}
        }
        let more = master.socket.as_ref().is_some_and(|socket| {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        });
        if !more {
            return;
        }
    }
}

/// Takes one connection, if another worker was not faster.
pub(crate) fn accept(worker: &Arc<Worker>, listener: &TcpListener) -> bool {
    static ACCEPTED: AtomicU64 = AtomicU64::new(0);
    let Ok((stream, _)) = listener.accept() else { return false };
    let id = ACCEPTED.fetch_add(1, Ordering::Relaxed);
    locked(&worker.connections).insert(id, true);
    let worker = Arc::clone(worker);
    thread::spawn(move || {
        let _client_is_gone = converse(&worker, id, stream);
        locked(&worker.connections).remove(&id);
    });
    true
}

/// Answers requests until one side has enough, then ends the connection in an orderly way.
fn converse(worker: &Worker, id: u64, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    let (mut request, mut idle, mut is_last) = (Vec::new(), false, false);
    while !is_last {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => request.push(byte[0]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        if worker.fault == Fault::ExitsBeforeDraining && worker.order().is_some() {
            return Ok(());
        }
        idle &= request.is_empty();
        locked(&worker.connections).insert(id, !idle);
        let order = worker.order();
        if request.ends_with(b"\r\n\r\n") {
            (is_last, idle) = (order.is_some(), true);
            let connection = if is_last { "close" } else { "keep-alive" };
            stream.write_all(format!("HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: 5\r\n\r\nhello").as_bytes())?;
            request.clear();
        }
        match order {
            Some(_) if idle && worker.fault == Fault::ResetsIdle => return Ok(()),
            Some(_) if is_last && worker.fault == Fault::NoLinger => return Ok(()),
            Some(order) if worker.fault == Fault::NewIsIdle && order.given.elapsed() > IDLE_GRACE => break,
            Some(order) if idle && order.given.elapsed() > IDLE_GRACE || Instant::now() + Duration::from_millis(300) > order.deadline => break,
            Some(_) | None => {}
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        match stream.read(&mut [0; 1_024]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
