//! `conformance --master`: plays whole sessions against a master, well-behaved and hostile ones, each against a fresh one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dutch_master_protocol::codec;
use serde_json::Value;

use super::case::{Fault, Verdict, differs};
use super::peer::{Heard, Peer, readable};
use super::process::Process;
use super::puppet::Puppet;
use super::session::{Session, Step, What, differences, filled_in};
use super::trial::last_lines;

/// The master under test: its command, to which that of its worker is added.
#[derive(Debug)]
pub(super) struct TestedMaster {
    pub(super) command: Vec<String>,
    pub(super) patience: Duration,
}

/// A master with the processes that it started.
struct Stage<'a> {
    tested: &'a TestedMaster,
    folder: PathBuf,
    acceptor: UnixListener,
    master: Process,
    puppets: Vec<Puppet>,
    peers: BTreeMap<String, Peer>,
    /// The `seq` of what came last, for answers.
    seq: Value,
}

/// Plays one session; and what the master wrote last.
pub(super) fn play(session: &Session, tested: &TestedMaster) -> (Verdict, Vec<String>) {
    match Stage::set(tested) {
        Ok(mut stage) => (stage.play(session), last_lines(&stage.folder)),
        Err(error) => (Err(error.into()), Vec::new()),
    }
}

impl<'a> Stage<'a> {
    fn set(tested: &'a TestedMaster) -> io::Result<Stage<'a>> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let folder = PathBuf::from(format!("/tmp/dm-kit-m-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let acceptor = UnixListener::bind(folder.join("kit"))?;
        let (program, arguments) = tested.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).arg(std::env::current_exe()?).args(["conformance", "--puppet"]).arg(folder.join("kit"));
        // A name or a lock of another one must not be in the way; and what is not for workers is there for it to take out.
        command.env("XDG_RUNTIME_DIR", &folder).env_remove("RUNTIME_DIRECTORY").env("LISTEN_FDS", "0").env("WATCHDOG_USEC", "60000000");
        let log = File::create(folder.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let master = Process::start(command)?;
        Ok(Stage { tested, folder, acceptor, master, puppets: Vec::new(), peers: BTreeMap::new(), seq: Value::Null })
    }

    fn play(&mut self, session: &Session) -> Verdict {
        self.next_worker()?;
        for (nth, step) in session.steps.iter().enumerate() {
            self.step(step).map_err(|fault| match fault {
                Fault::Differs { expected, actual } => Fault::Differs { expected: format!("in step {}: {expected}", nth + 1), actual },
                other => other,
            })?;
        }
        if self.master.exit(Duration::ZERO)?.is_some() && !session.ends_master {
            return differs("a master that goes on", "its end");
        }
        Ok(())
    }

    fn next_worker(&mut self) -> Verdict {
        if !readable(self.acceptor.as_fd(), Instant::now() + self.tested.patience)? {
            return differs("a worker that is started", "none");
        }
        let puppet = Puppet::greet(self.acceptor.accept()?.0)?;
        if !puppet.born.surplus.is_empty() {
            return differs("no variables that are meant for the master alone (2.1.1)", puppet.born.surplus.join(", "));
        }
        if !puppet.born.leads {
            return differs("a worker that leads a session of its own (2.3)", "one that does not");
        }
        // The newest one is `worker`, the one before it `old`.
        if let Some(peer) = self.peers.remove("worker") {
            self.peers.insert("old".into(), peer);
        }
        self.puppets.push(puppet);
        Ok(())
    }

    fn puppet(&mut self, of: &str) -> Verdict<&mut Puppet> {
        let at = self.puppets.len().checked_sub(if of == "old" { 2 } else { 1 });
        at.and_then(|at| self.puppets.get_mut(at)).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
    }

    fn peer(&mut self, of: &str) -> Verdict<&mut Peer> {
        if !self.peers.contains_key(of) {
            let peer = match of {
                "worker" | "old" => self.puppet(of)?.connect()?,
                // Whoever knows the path.
                _ => Peer::new(UnixStream::connect(&self.puppet("worker")?.born.socket)?)?,
            };
            self.peers.insert(of.into(), peer);
        }
        self.peers.get_mut(of).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
    }

    fn step(&mut self, Step { by, what }: &Step) -> Verdict {
        let patience = self.tested.patience;
        match what {
            What::Send(message) => {
                let token = self.puppet(by)?.born.token.clone();
                let frame = codec::encode(&filled_in(message, &token, &self.seq)).unwrap_or_default();
                self.peer(by)?.send(&frame);
                Ok(())
            }
            What::SendHex(hex) => {
                let bytes = dutch_master_protocol::hex::bytes(hex).unwrap_or_default();
                self.peer(by)?.send(&bytes);
                Ok(())
            }
            What::SendFd(_) => {
                let null = File::open("/dev/null")?;
                self.peer(by)?.send_fd(null.as_fd());
                Ok(())
            }
            What::Expect(expected) => self.expect(by, expected),
            What::Ends(_) => match self.peer(by)?.hear::<Value>(patience)? {
                Heard::End => {
                    self.peers.remove(by);
                    Ok(())
                }
                Heard::Silence => differs("the end of the connection", "nothing"),
                Heard::Message(message) => differs("the end of the connection", message.to_string()),
            },
            What::Exits(_) => match readable(self.puppet(by)?.stream().as_fd(), Instant::now() + patience)? {
                true => Ok(()),
                false => differs("the end of the worker's process, by a signal of the master", "a worker that lives on"),
            },
            What::HangUp(_) => {
                self.peers.remove(by);
                Ok(())
            }
            What::NextWorker(_) => self.next_worker(),
            What::MasterExits(_) => match self.master.exit(patience)? {
                Some(_) => Ok(()),
                None => differs("the end of the master", "a master that goes on"),
            },
        }
    }

    /// The next message; what tells a control client of progress is passed over, unless it is wanted.
    fn expect(&mut self, by: &str, expected: &Value) -> Verdict {
        let until = Instant::now() + self.tested.patience;
        loop {
            match self.peer(by)?.hear::<Value>(until.saturating_duration_since(Instant::now()))? {
                Heard::Message(message) if message["event"] == "progress" && expected["event"] != "progress" => {}
                Heard::Message(message) => {
                    if let Some(difference) = differences(expected, &message) {
                        return differs(expected.to_string(), format!("{message} ({difference})"));
                    }
                    if message["event"] == "listener" && message["fds"] == 1 {
                        let patience = self.tested.patience;
                        drop(self.peer(by)?.descriptor(patience)?);
                    }
                    self.seq = message["seq"].clone();
                    return Ok(());
                }
                Heard::End => return differs(expected.to_string(), "the end of the connection"),
                Heard::Silence => return differs(expected.to_string(), "nothing"),
            }
        }
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.peers.clear();
        // Hung up on, the puppets end.
        self.puppets.clear();
        self.master.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
