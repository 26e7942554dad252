//! Starting a process that owes nothing to the master but what it is given: a session of its own, the three standard descriptors, default signals.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use dutch_master_protocol::env;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::account::Account;
use super::launch::{Output, launch, launch_apart};
use super::process::Process;
use super::program::Program;
use super::rights::Rights;
use super::snapshots::Environment;
use crate::core::WorkerId;

/// What makes a process a worker of this master.
#[derive(Debug)]
pub(super) struct Identity<'a> {
    pub(super) id: WorkerId,
    pub(super) slot: u32,
    pub(super) token: &'a str,
    pub(super) control_socket: &'a Path,
}

/// Whose a worker is, if not ours, and what it may do.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    pub(super) account: Option<&'a Account>,
    pub(super) rights: Rights,
}

/// Starts a worker.
pub(super) fn worker(program: &Program, directory: &Path, environment: &Environment, identity: &Identity<'_>, standing: Standing<'_>) -> io::Result<Process> {
    let mut command = worker_command(program, environment, identity);
    command.envs(standing.account.into_iter().flat_map(|account| account.introduce(environment)));
    start(command, directory, Output::Inherit, standing.rights)
}

/// How a worker is run; what is still to be said is where.
pub(super) fn worker_command(program: &Program, environment: &Environment, identity: &Identity<'_>) -> Command {
    let mut command = Command::new(&program.path);
    command.args(&program.args).env_clear().envs(environment);
    command.env(env::SOCKET, identity.control_socket).env(env::TOKEN, identity.token);
    command.env(env::WORKER_ID, identity.id.to_string()).env(env::SLOT, identity.slot.to_string());
    if program.is_node {
        // With it Node loads the worker's side of its cluster module, which the SDK then serves.
        command.env("NODE_UNIQUE_ID", identity.id.to_string());
    }
    command
}

/// Starts the hook that runs before a worker is. What it prints goes to standard error: standard output is the workers'.
pub(super) fn hook(line: &str, directory: &Path, environment: &Environment) -> io::Result<Process> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).env_clear().envs(environment);
    start(command, directory, Output::ToStandardError, Rights::default())
}

/// Starts a process of a session of its own by an ordinary fork, with its descriptors as the command has them.
pub(super) fn beside(command: &mut Command) -> io::Result<Process> {
    detach(command);
    watched(command.spawn()?.id())
}

fn start(mut command: Command, directory: &Path, output: Output, rights: Rights) -> io::Result<Process> {
    command.current_dir(directory).env("PWD", directory);
    watched(spawn_detached(&command, output, rights)?)
}

fn watched(child: u32) -> io::Result<Process> {
    Process::of_child(child).inspect_err(|_| {
        // A child that cannot be watched is not left behind.
        let pid = Pid::from_raw(child.cast_signed());
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
    })
}

/// Returns the pid alone: std's handle would wait for it by other means than ours.
#[allow(unsafe_code)]
fn spawn_detached(command: &Command, output: Output, rights: Rights) -> io::Result<u32> {
    let changes_user = rights.changes_user();
    let prepared = prepared(rights);
    // SAFETY: `prepared` makes nothing but system calls, and lets signals in only when no handler is left.
    let pid = unsafe { if changes_user { launch_apart(command, output, prepared)? } else { launch(command, output, prepared)? } };
    Ok(pid.cast_unsigned())
}

/// Lets the child of an ordinary fork be independent of this process.
#[allow(unsafe_code)]
pub(super) fn detach(command: &mut Command) {
    // SAFETY: `prepared` makes nothing but system calls, each of them async-signal-safe: the process that forks may have other threads.
    unsafe { command.pre_exec(prepared(Rights::default())) };
}

/// What a child does before its program runs.
fn prepared(rights: Rights) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let limit = OWN_LIMIT.get().copied();
    move || {
        become_independent()?;
        if let Some((soft, hard)) = limit {
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        }
        rights.take_on()
    }
}

/// The limits of open descriptors that this process was started with.
static OWN_LIMIT: OnceLock<Limit> = OnceLock::new();

/// Soft and hard.
pub(super) type Limit = (rlim_t, rlim_t);

/// The limit that this process was started with, if it is another one now.
pub(super) fn own_limit() -> Option<Limit> {
    OWN_LIMIT.get().copied()
}

/// This process was another program before, which has raised the limit.
pub(super) fn limit_was(limit: Option<Limit>) {
    if let Some(limit) = limit {
        // It is the first thing that this program does.
        let _ = OWN_LIMIT.set(limit);
    }
}

/// Takes as many descriptors as the system allows: a worker costs the master three, and the usual 1,024 would end at about 330 workers. Workers get the limit that the master was started with:
/// programs that use `select` rely on a low one.
pub(super) fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && OWN_LIMIT.set((soft, hard)).is_ok()
    {
        // Where that is refused, the limit stays as it is.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// In the child, before exec.
#[allow(unsafe_code)]
fn become_independent() -> io::Result<()> {
    // SAFETY: plain system calls with valid arguments; `sigset_t` is made by `sigemptyset` before it is read.
    unsafe {
        if libc::setsid() < 0 {
            return Err(io::Error::last_os_error());
        }
        // What the master ignores (SIGPIPE, and SIGHUP under nohup) would stay ignored across exec. The two that cannot be changed, and those of the C library, say EINVAL.
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        // Descriptors that the master's own parent left open are nobody's; kernels before 5.11 do not know this, and then they stay open.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        // An embedding program may keep its output from its children (Node does), but a worker's output is the master's. Where there is none, there is nothing to keep open.
        for output in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            libc::fcntl(output, libc::F_SETFD, 0);
        }
    }
    Ok(())
}

/// 128 random bits in hex.
pub(super) fn new_token() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    let n = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if n < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
