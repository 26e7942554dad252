//! Going on where the program that this process was before has left off.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::process::parent_id;

use nix::sys::signal::SigSet;

use super::account::Account;
use super::adoption::Adoption;
use super::callbacks::Callbacks;
use super::connection::{Connection, ConnectionId, Role};
use super::control::Clients;
use super::control_socket::ControlSocket;
use super::descriptors::Inherited;
use super::event_loop::{EventLoop, SWEEP_READS_MAX};
use super::failpoint::{self, Place};
use super::handover::{self, Handover, HandoverError, Received};
use super::hook::Hooks;
use super::listeners::Listeners;
use super::master::Master;
use super::metrics::Outlet;
use super::pid_file::PidFile;
use super::process::Process;
use super::rest::Rest;
use super::spawn;
use super::state::State;
use super::systemd::ServiceManager;
use super::upgrade::HANDOVER;
use super::workers::Stage;
use crate::core::{Event, ExitStatus, Time, WorkerId};
use crate::options::Options;

/// What this process was handed over by the program that it was before.
#[derive(Debug)]
pub struct Inheritance {
    handover: Handover<State>,
    inherited: Inherited,
    from: String,
}

/// What the loop goes on with.
#[derive(Debug)]
pub(super) struct Succession {
    from: String,
    connections: BTreeMap<ConnectionId, Connection>,
    last_connection: ConnectionId,
    clients: Clients,
    hooks: Hooks,
    /// Those whose hook runs or waits to run.
    hooked: Vec<WorkerId>,
    adoption: Adoption,
    started_at: Time,
    started_at_unix: f64,
    accept_again_at: Option<Time>,
    look_at_memory_at: Option<Time>,
}

/// Whether this program could take over from the master that has started it and hands over what can be read here. Returns what the program around the master wants to be known.
///
/// # Errors
/// [`HandoverError`]: it could not.
pub fn can_take_over(from: impl io::Read) -> Result<String, HandoverError> {
    let Received { handover, pid, .. } = handover::read::<State>(from)?;
    if pid.is_some_and(|master| master != parent_id()) {
        return Err(HandoverError::Wrapped);
    }
    Ok(handover.context)
}

impl Inheritance {
    /// What there is, if this process has been another program. To be called once, before the process has any descriptors of its own but those of a runtime.
    ///
    /// # Errors
    /// [`HandoverError`]: then nothing can be gone on with, and the workers wait for another start.
    pub fn receive() -> Result<Option<Inheritance>, HandoverError> {
        let Some(number) = std::env::var(HANDOVER).ok().and_then(|text| number_for(&text, std::process::id())) else { return Ok(None) };
        failpoint::reached(Place::AfterExec);
        let memory = File::open(format!("/proc/self/fd/{number}"))?;
        let Received { handover, from, descriptors, .. } = handover::read(memory)?;
        let inherited = Inherited::claim(&descriptors)?;
        spawn::limit_was(handover.limit);
        Ok(Some(Inheritance { handover, inherited, from }))
    }

    /// The options of the master.
    pub fn options(&self) -> &Options {
        &self.handover.options
    }

    /// What the program around it wanted to be known.
    pub fn context(&self) -> &str {
        &self.handover.context
    }
}

/// Lets the signals come that have waited since the program before this one gave way. To be called when whoever wants them listens to them.
pub fn let_signals_come() {
    // It only fails for a signal set that is none.
    let _ = SigSet::all().thread_unblock();
}

/// Which descriptor is meant, if it is this process that is.
fn number_for(text: &str, pid: u32) -> Option<u32> {
    let (number, its) = text.split_once(':')?;
    (its.parse() == Ok(pid)).then(|| number.parse().ok())?
}

impl Master {
    /// Goes on with what was handed over. Needs a runtime.
    ///
    /// # Errors
    /// A descriptor is missing or cannot be waited for. Then everything that was handed over has been closed: a master that is prepared as usual has the pool back, as after the death of the one before.
    pub fn succeed(Inheritance { handover, mut inherited, from }: Inheritance, manager: ServiceManager) -> io::Result<Master> {
        let inherited = &mut inherited;
        let Handover { mut state, options, name, here, metrics, .. } = handover;
        let connections = handover.connections.into_iter().map(|(id, handed)| Ok((id, Connection::handed(handed, inherited)?)));
        let connections = connections.collect::<io::Result<_>>()?;
        let hooked = handover.hooks.workers().collect();
        let succession = Succession {
            from,
            connections,
            last_connection: handover.last_connection,
            clients: handover.clients,
            hooks: Hooks::handed(handover.hooks)?,
            hooked,
            adoption: handover.adoption,
            started_at: handover.started_at,
            started_at_unix: handover.started_at_unix,
            accept_again_at: handover.accept_again_at,
            look_at_memory_at: handover.look_at_memory_at,
        };
        let mut listeners = Listeners::handed(handover.listeners, std::mem::take(&mut state.registry), inherited)?;
        listeners.still_under_manager(manager.telling.is_wanted());
        let control_socket = ControlSocket::handed(handover.control_socket, inherited)?;
        let metrics = options.metrics.as_ref().map(|to| Outlet::handed(to, metrics, inherited)).transpose()?;
        let pid_file = options.pid_file.as_deref().map(PidFile::written).transpose()?;
        spawn::raise_descriptor_limit();
        Ok(Master {
            options: options.as_ref().clone(),
            callbacks: Callbacks::default(),
            account: Account::of(&options).map_err(io::Error::other)?,
            name,
            here,
            read_again: None,
            invocation: None,
            rest: Rest::default(),
            listeners,
            left: Some(state),
            succession: Some(succession),
            metrics,
            telling: manager.telling.handed(handover.telling),
            pid_file,
            control_socket,
        })
    }
}

impl EventLoop {
    /// Everything is as it was, and what has happened since is waiting in the kernel.
    pub(super) fn go_on(&mut self, succession: Succession) {
        let Succession { from, connections, last_connection, clients, hooks, hooked, adoption, started_at, started_at_unix, .. } = succession;
        (self.connections, self.last_connection, self.clients, self.hooks, self.adoption) = (connections, last_connection, clients, hooks, adoption);
        (self.started_at, self.started_at_unix) = (started_at, started_at_unix);
        (self.accept_again_at, self.look_at_memory_at) = (succession.accept_again_at, succession.look_at_memory_at);
        let mut gone = Vec::new();
        for (id, worker) in self.workers.iter_mut() {
            match worker.pid.zip(worker.began).map(|(pid, began)| Process::adopt(pid, began)) {
                Some(Some(process)) => worker.lives(process),
                Some(None) => gone.push(id),
                None if hooked.contains(&id) => worker.stage = Stage::Hook,
                // A master that died may have started it: that is still to be seen.
                None => worker.stage = Stage::Awaited,
            }
        }
        for (id, connection) in &mut self.connections {
            let Role::Worker(worker) = connection.role else { continue };
            let Some(worker) = self.workers.get_mut(worker) else { continue };
            worker.connection = Some(*id);
            worker.pid.into_iter().for_each(|pid| connection.peer.identify(pid));
        }
        gone.into_iter().for_each(|worker| self.ended_meanwhile(worker));
        self.reap_orphans();
        self.check_sockets();
        let became = format!("{from} has become {}", env!("CARGO_PKG_VERSION"));
        self.say_upgraded(&became);
        self.upgraded(became);
        failpoint::reached(Place::Upgraded);
    }

    /// One that is no child has gone without anybody seeing how.
    fn ended_meanwhile(&mut self, worker: WorkerId) {
        if let Some(connection) = self.workers.get(worker).and_then(|worker| worker.connection) {
            self.hear(connection, SWEEP_READS_MAX);
            self.forget_connection(connection);
        }
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.stage = Stage::Gone;
        }
        self.listeners.worker_gone(worker);
        self.note(Event::WorkerExited { worker, status: ExitStatus::Unknown });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_is_for_the_process_that_it_names() {
        assert_eq!(number_for("7:4711", 4711), Some(7));
        for other in ["7:4712", "7", "", "x:4711", "-1:4711"] {
            assert_eq!(number_for(other, 4711), None, "{other}");
        }
    }
}
