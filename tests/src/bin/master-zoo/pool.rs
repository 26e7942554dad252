//! The workers, and what becomes of what they say.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, exit};
use std::thread;
use std::time::Duration;

use dutch_master_protocol::control::{Done, Outcome, ToControl};
use dutch_master_protocol::message::{Address, Disconnect, DisconnectReason, ErrorMessage, FromMaster, FromWorker, Kind, Listen, Listener, codes};
use dutch_master_protocol::{env, socket};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::connection::say;
use crate::{Fault, Result, with};

/// Everything that the threads share.
pub(crate) struct Pool {
    pub(crate) fault: Fault,
    pub(crate) command: Vec<String>,
    pub(crate) path: PathBuf,
    pub(crate) workers: BTreeMap<u32, Worker>,
    pub(crate) generation: u32,
    pub(crate) listener: Option<TcpListener>,
    pub(crate) data: Option<String>,
    /// A client that waits for the end of a restart.
    pub(crate) waiting: Option<UnixStream>,
    pub(crate) is_stopping: bool,
}

pub(crate) struct Worker {
    pub(crate) token: String,
    pub(crate) pid: u32,
    pub(crate) connection: Option<UnixStream>,
    /// Why it has to go once a replacement serves.
    pub(crate) goes: Option<DisconnectReason>,
    pub(crate) is_replaced: bool,
    pub(crate) is_going: bool,
    pub(crate) held: Vec<String>,
}

impl Pool {
    #[allow(unsafe_code)]
    pub(crate) fn spawn(&mut self) -> Result<()> {
        let id = self.workers.keys().next_back().map_or(1, |last| last + 1);
        let token = format!("{:032x}", u128::from(id) << 64 | u128::from(std::process::id()));
        let (program, arguments) = self.command.split_first().ok_or("no worker")?;
        let mut command = Command::new(program);
        command.args(arguments).env(env::SOCKET, &self.path).env(env::TOKEN, &token).env(env::WORKER_ID, id.to_string()).env(env::SLOT, "0");
        command.env_remove("LISTEN_FDS").env_remove("WATCHDOG_USEC").env_remove("NOTIFY_SOCKET");
        // SAFETY: `setsid` is async-signal-safe.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
        let mut child = command.spawn()?;
        let pid = child.id();
        thread::spawn(move || child.wait().map(|_| with(|pool| pool.exited(id))));
        self.workers.insert(id, Worker { token, pid, connection: None, goes: None, is_replaced: false, is_going: false, held: Vec::new() });
        Ok(())
    }

    pub(crate) fn replace(&mut self, id: u32) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.is_replaced) else { return };
        worker.is_replaced = true;
        if !self.is_stopping {
            let _failed = self.spawn();
        }
    }

    fn end(&self, id: u32) {
        if let Some(worker) = self.workers.get(&id).filter(|_| self.fault != Fault::EndsNobody) {
            let _gone = kill(Pid::from_raw(worker.pid.cast_signed()), Signal::SIGTERM);
        }
    }

    pub(crate) fn said(&mut self, id: u32, connection: &UnixStream, message: FromWorker) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match message {
            FromWorker::Listen(listen) => self.answer(id, connection, &listen),
            FromWorker::Close(close) => worker.held.retain(|key| *key != close.key),
            FromWorker::Listening(_) => self.serves(id),
            FromWorker::RequestRestart(_) => {
                worker.goes = Some(DisconnectReason::Request);
                self.replace(id);
            }
            FromWorker::Leaving(_) => {
                worker.is_going = true;
                self.replace(id);
            }
            FromWorker::Disconnect(_) => {
                worker.is_going = true;
                self.replace(id);
                self.end(id);
            }
            FromWorker::Hello(_) | FromWorker::Heartbeat(_) | FromWorker::Message(_) | FromWorker::Listener(_) | FromWorker::Error(_) | FromWorker::Unknown => {
            }
        }
    }

    fn answer(&mut self, id: u32, connection: &UnixStream, listen: &Listen) {
        let refuse = |code: &str| say(connection, &FromMaster::Error(ErrorMessage { seq: Some(listen.seq), code: code.into(), message: "no".into() }));
        let (Some(worker), Some(shared)) = (self.workers.get_mut(&id), &self.listener) else { return };
        let (key, fd): (String, OwnedFd) = match (&listen.name, &listen.address) {
            (Some(name), None) if name != "web" => return refuse(codes::UNKNOWN_NAME),
            (Some(name), None) if worker.held.contains(name) => return refuse("EADDRINUSE"),
            (Some(name), None) => match shared.try_clone() {
                Ok(socket) => (name.clone(), socket.into()),
                Err(_) => return refuse("EMFILE"),
            },
            (None, Some(Address { kind: Kind::Tcp, .. })) => match TcpListener::bind("127.0.0.1:0") {
                Ok(socket) => ("tcp".into(), socket.into()),
                Err(_) => return refuse("EMFILE"),
            },
            (None, Some(_)) | (Some(_), Some(_)) | (None, None) => return refuse("EINVAL"),
        };
        let address = Some(Address::tcp(Some([127, 0, 0, 1].into()), shared.local_addr().map_or(0, |address| address.port())));
        let data = self.data.get_or_insert_with(|| listen.data.clone().unwrap_or_default()).clone();
        worker.held.push(key.clone());
        say(connection, &FromMaster::Listener(Listener { seq: listen.seq, key, name: listen.name.clone(), data: Some(data), address, fds: 1 }));
        if self.fault == Fault::DropsDescriptors {
            let _gone = (&mut &*connection).write_all(&[0]);
        } else {
            let _gone = socket::send_fd(connection.as_fd(), fd.as_fd());
        }
    }

    /// A worker serves: older ones may go.
    fn serves(&mut self, id: u32) {
        for (_, older) in self.workers.iter_mut().filter(|(other, worker)| **other < id && worker.goes.is_some()) {
            match (&older.connection, older.goes.take()) {
                (Some(connection), Some(reason)) => say(connection, &FromMaster::Disconnect(Disconnect { reason, timeout_ms: 27_000 })),
                (None, Some(_)) => {
                    let _gone = kill(Pid::from_raw(older.pid.cast_signed()), Signal::SIGTERM);
                }
                (_, None) => {}
            }
            older.is_going = true;
        }
        if let Some(client) = self.waiting.take() {
            say(&client, &ToControl::Done(Done { outcome: Outcome::Done, by: None, message: None }));
        }
    }

    /// A connection ended: after a second its worker counts as lost.
    pub(crate) fn lost(&mut self, id: u32) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.connection = None;
            thread::spawn(move || {
                thread::sleep(Duration::from_secs(1));
                with(|pool| {
                    if let Some(worker) = pool.workers.get_mut(&id).filter(|worker| worker.connection.is_none() && !worker.is_going) {
                        worker.goes = Some(DisconnectReason::Request);
                        pool.replace(id);
                    }
                });
            });
        }
    }

    fn exited(&mut self, id: u32) {
        self.replace(id);
        self.workers.remove(&id);
        if self.is_stopping {
            let _gone = fs::remove_file(&self.path);
            exit(0);
        }
    }
}
