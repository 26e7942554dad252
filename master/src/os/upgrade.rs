//! Another program takes this one's place, by exec: the process stays, and with it every child, every connection and every lock. First it is asked whether it can (`preflight`); what it then gets is `handover`, and what it does with that `succession`.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::task::{Context, Poll};

use dutch_master_protocol::message::codes;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::execve;

use super::clock;
use super::descriptors::Kept;
use super::event_loop::EventLoop;
use super::failpoint::{self, Place};
use super::handover::{self, Handover};
use super::line::Message;
use super::orders::in_full;
use super::preflight::{Preflight, TIMEOUT_MS};
use super::process::Process;
use super::request::Request;
use super::spawn;
use crate::core::Time;

/// In the environment of the program that takes over: the number of the descriptor behind which it finds what is handed over, and the pid of this process, so that nobody else takes it for his.
pub(super) const HANDOVER: &str = "DUTCH_MASTER_HANDOVER";

/// Turns of the loop in which what the signals of this process have asked for becomes a request.
const TURNS_FOR_SIGNALS: u32 = 4;

/// How the program around the master is run, so that another can be run in its place.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The path that it was started by: a deploy puts another program there.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<OsString>,
    /// What it wants its successor to know.
    pub context: String,
}

/// Upgrades of this master.
#[derive(Debug, Default)]
pub(super) struct Upgrades {
    /// `None`: the master is part of a program that cannot be replaced.
    pub(super) invocation: Option<Invocation>,
    preflight: Option<Preflight>,
    /// It said that it can.
    approved: Option<PathBuf>,
}

/// Why an upgrade does not even begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotBegun {
    /// There is no program to replace.
    #[error("this master is part of another program, which only its own start replaces")]
    Embedded,
    /// One at a time.
    #[error("another upgrade is under way")]
    Busy,
    /// A path that means something else here than where it was given.
    #[error("the program's path is not absolute: {}", .0.display())]
    Relative(PathBuf),
    /// It cannot be run.
    #[error("cannot run {}: {source}", program.display())]
    Program {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl NotBegun {
    pub(super) fn code(&self) -> &'static str {
        match self {
            NotBegun::Embedded => codes::UNSUPPORTED,
            NotBegun::Busy => "EBUSY",
            NotBegun::Relative(_) | NotBegun::Program { .. } => "EINVAL",
        }
    }
}

impl Upgrades {
    pub(super) fn of(invocation: Option<Invocation>) -> Upgrades {
        Upgrades { invocation, ..Upgrades::default() }
    }

    /// Ready when the program that is asked has ended.
    pub(super) fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.preflight.as_ref().map_or(Poll::Pending, |preflight| preflight.poll_exit(cx))
    }

    /// Its process.
    pub(super) fn process(&self) -> Option<&Process> {
        self.preflight.as_ref().map(Preflight::process)
    }

    /// Until when it has to answer.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.preflight.as_ref().map(|preflight| preflight.deadline)
    }

    /// Whether another program is to take this one's place now.
    pub(super) fn is_due(&self) -> bool {
        self.approved.is_some()
    }
}

impl EventLoop {
    /// Asks a program whether it can take over. `None`: the one that is now where this one was started from.
    pub(super) fn request_upgrade(&mut self, program: Option<PathBuf>, signal: Option<&str>) -> Result<(), NotBegun> {
        self.report_request(Message::UpgradeRequested, signal);
        self.begin_upgrade(program).inspect_err(|not_begun| self.say_upgrade_refused(&not_begun.to_string()))
    }

    fn begin_upgrade(&mut self, program: Option<PathBuf>) -> Result<(), NotBegun> {
        let invocation = self.upgrades.invocation.as_ref().ok_or(NotBegun::Embedded)?;
        if self.upgrades.preflight.is_some() || self.upgrades.approved.is_some() {
            return Err(NotBegun::Busy);
        }
        let program = program.unwrap_or_else(|| invocation.program.clone());
        if !program.is_absolute() {
            return Err(NotBegun::Relative(program));
        }
        let asked = handover::memory().and_then(|memory| {
            self.write_handover(&memory)?;
            Preflight::begin(program.clone(), &invocation.args, memory, clock::now())
        });
        self.upgrades.preflight = Some(asked.map_err(|source| NotBegun::Program { program, source })?);
        Ok(())
    }

    /// The program that was asked may have answered.
    pub(super) fn preflight_ended(&mut self) {
        match self.upgrades.preflight.take_if(|preflight| preflight.has_ended()).map(Preflight::outcome) {
            Some(Ok(program)) => self.upgrades.approved = Some(program),
            Some(Err(why)) => self.refuse_upgrade(&why),
            None => {}
        }
    }

    pub(super) fn preflight_expired(&mut self, now: Time) {
        if let Some(preflight) = self.upgrades.preflight.take_if(|preflight| preflight.deadline <= now) {
            self.refuse_upgrade(&format!("{} did not answer within {} s", preflight.program.display(), TIMEOUT_MS / 1_000));
            self.hooks.put_down(preflight.into_process());
        }
    }

    fn refuse_upgrade(&mut self, why: &str) {
        self.say_upgrade_refused(why);
        self.upgrade_refused(why);
    }

    /// Becomes the program that has said that it can take over; returns if that fails, and then nothing has changed. What comes meanwhile waits in the kernel: signals are blocked from here until the successor listens to them.
    pub(super) async fn become_another(&mut self) {
        let Some(program) = self.upgrades.approved.take() else { return };
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        // Those that have come already are on their way to us through the runtime.
        for _ in 0..TURNS_FOR_SIGNALS {
            tokio::task::yield_now().await;
            self.take_waiting_requests().await;
        }
        if self.exit_code.is_none() {
            self.write_state();
            let failed = self.exec(&program.into_os_string());
            self.refuse_upgrade(&in_full(failed));
        }
        if let Ok(mask) = mask {
            // It is what the system has just told us.
            let _ = mask.thread_set_mask();
        }
    }

    /// The loop ends: nobody wants the answer any more.
    pub(super) fn end_preflight(&mut self) {
        if let Some(preflight) = self.upgrades.preflight.take() {
            self.hooks.put_down(preflight.into_process());
        }
    }

    async fn take_waiting_requests(&mut self) {
        while let Some(request) = self.next_waiting_request().await {
            self.requested(request);
            self.decide();
        }
    }

    async fn next_waiting_request(&mut self) -> Option<Request> {
        let requests = self.requests.as_mut()?;
        poll_fn(|cx| {
            Poll::Ready(match requests.poll_recv(cx) {
                Poll::Ready(request) => request,
                Poll::Pending => None,
            })
        })
        .await
    }

    /// Returns only if it fails.
    fn exec(&self, program: &OsStr) -> io::Error {
        let attempt = || -> io::Result<Infallible> {
            let memory = handover::memory()?;
            let kept = self.write_handover(&memory)?;
            let args = self.upgrades.invocation.iter().flat_map(|invocation| invocation.args.iter().map(OsString::as_os_str));
            let args = [program].into_iter().chain(args).map(c_string).collect::<io::Result<Vec<_>>>()?;
            let mut environment = vec![c_string(OsStr::new(&format!("{HANDOVER}={}:{}", memory.as_raw_fd(), std::process::id())))?];
            for (name, value) in std::env::vars_os().filter(|(name, _)| name != HANDOVER) {
                let variable: Vec<_> = [name.as_bytes(), b"=", value.as_bytes()].concat();
                environment.push(c_string(OsStr::from_bytes(&variable))?);
            }
            let program = c_string(program)?;
            failpoint::reached(Place::BeforeExec);
            // Last of all; and no child is started in between.
            let outcome = kept.survive_exec(true).and_then(|()| Ok(execve(&program, &args, &environment)?));
            kept.survive_exec(false)?;
            outcome
        };
        match attempt() {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Writes down everything as it is now. Returns the descriptors that go with it.
    fn write_handover<'a>(&'a self, memory: &'a OwnedFd) -> io::Result<Kept<'a>> {
        let mut kept = Kept::default();
        kept.keep(memory.as_fd());
        let handover = Handover {
            state: self.current(),
            options: self.options.clone(),
            name: self.name.clone(),
            here: self.here.clone(),
            control_socket: self.acceptor.hand_over(&mut kept),
            listeners: self.listeners.hand_over(&mut kept),
            connections: self.connections.iter().map(|(id, connection)| (*id, connection.hand_over(&mut kept))).collect(),
            last_connection: self.last_connection,
            clients: self.clients.clone(),
            hooks: self.hooks.hand_over(),
            adoption: self.adoption.clone(),
            metrics: self.metrics_copy.as_ref().map(|copy| copy.hand_over(&mut kept)),
            telling: self.telling.hand_over(),
            started_at: self.started_at,
            started_at_unix: self.started_at_unix,
            accept_again_at: self.accept_again_at,
            look_at_memory_at: self.look_at_memory_at,
            limit: spawn::own_limit(),
            context: self.upgrades.invocation.as_ref().map_or_else(String::new, |invocation| invocation.context.clone()),
        };
        handover::write(memory, &handover, kept.numbers())?;
        Ok(kept)
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}
