//! Starting a process without copying this one: until the program runs, the child borrows the master's memory, and the master waits. The usual fork copies page tables for a memory that is thrown
//! away at once; that made the start of sixteen workers a tenth slower, and embedded in a large process it would cost more.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::io::{self, PipeReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use super::exec_error::ELF;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sched::{CloneFlags, clone};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, write};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The child's stack: it makes a handful of system calls, and `execvpe` may build one more list of arguments on it.
const STACK_BYTES: usize = 64 * 1_024;

/// What the exec of a script without an interpreter line may put on that stack, with a margin for everything else.
const ARGUMENTS_MAX: usize = STACK_BYTES / 2 / size_of::<*const c_char>();

/// How long a child that becomes another user's may take to become another program: far more than a slow disk needs.
const EXEC_MAX: Duration = Duration::from_secs(5);

/// How often it is looked whether such a child was stopped; usually it has become its program long before the first time.
const STOPPED_CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Where the child's standard output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Where ours goes.
    Inherit,
    /// To standard error.
    ToStandardError,
}

/// Everything that the child needs, made before it exists: it must not allocate.
struct Image {
    directory: Option<CString>,
    _owners: (Vec<CString>, Vec<CString>),
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    output: Output,
}

/// Runs the program of `command` with its arguments, its directory, and exactly the variables that it sets; standard input is empty. `prepare` is run in the child before the program is.
///
/// # Safety
/// `prepare` makes nothing but system calls: it runs in the memory of this process, on a small stack, while other threads may hold locks. Signals are blocked when it begins; unless no handler of this
/// process is left, it must not let them in.
#[allow(unsafe_code)]
pub(super) unsafe fn launch(command: &Command, output: Output, mut prepare: impl FnMut() -> io::Result<()>) -> io::Result<libc::pid_t> {
    let image = Image::new(command, output)?;
    let failure = AtomicI32::new(0);
    let child = || -> isize {
        let error = prepare().and_then(|()| image.run());
        failure.store(error.err().and_then(|error| error.raw_os_error()).unwrap_or(libc::EINVAL), Ordering::Relaxed);
        127
    };
    let mut stack = vec![0; STACK_BYTES];
    // No handler of ours may run in the child: it would find a copy of this thread in the middle of something.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // SAFETY: with CLONE_VFORK this thread goes on only when the child has become another program or has ended, so that what it borrows outlives it; it has a stack of its own, and descriptors, directory
    // and signal handlers are copies. What it runs makes system calls only.
    let cloned = unsafe { clone(Box::new(child), &mut stack, CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK, Some(libc::SIGCHLD)) };
    before.thread_set_mask()?;
    let pid = cloned?;
    match failure.into_inner() {
        0 => Ok(pid.as_raw()),
        errno => {
            let _ = waitpid(pid, None);
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// As [`launch`], for a child that becomes another user's before it is another program. From then on that user's other processes may signal it, and one that stops it must not stop this process, too:
/// it is a copy, which is waited for with a bound.
///
/// # Safety
/// As for [`launch`].
#[allow(unsafe_code)]
pub(super) unsafe fn launch_apart(command: &Command, output: Output, mut prepare: impl FnMut() -> io::Result<()>) -> io::Result<libc::pid_t> {
    let image = Image::new(command, output)?;
    // Closed by becoming another program, which is how that is told.
    let (told, tell) = io::pipe()?;
    let child = || -> isize {
        let error = prepare().and_then(|()| image.run());
        let errno = error.err().and_then(|error| error.raw_os_error()).unwrap_or(libc::EINVAL);
        let _ = write(&tell, &errno.to_ne_bytes());
        127
    };
    let mut stack = vec![0; STACK_BYTES];
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // SAFETY: the child has copies of everything and a stack of its own. What it runs makes system calls only.
    let cloned = unsafe { clone(Box::new(child), &mut stack, CloneFlags::empty(), Some(libc::SIGCHLD)) };
    before.thread_set_mask()?;
    let pid = cloned?;
    drop(tell);
    await_exec(pid, told).inspect_err(|_| {
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
    })?;
    Ok(pid.as_raw())
}

/// Waits until the child is another program, says why it is not, or has ended; the last is for whoever waits for its end.
fn await_exec(pid: Pid, mut told: PipeReader) -> io::Result<()> {
    let until = Instant::now() + EXEC_MAX;
    loop {
        let mut fds = [PollFd::new(&told, PollFlags::IN)];
        if poll(&mut fds, Some(&STOPPED_CHECK)).is_ok_and(|ready| ready > 0) {
            let mut errno = [0; size_of::<i32>()];
            return match told.read_exact(&mut errno) {
                Ok(()) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
                Err(_) => Ok(()),
            };
        }
        let status = waitid(Id::Pid(pid), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
        if matches!(status, Ok(WaitStatus::Stopped(..))) {
            return Err(io::Error::other("another process of its user stopped it before it ran"));
        }
        if Instant::now() > until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it did not run within {} s", EXEC_MAX.as_secs())));
        }
    }
}

impl Image {
    fn new(command: &Command, output: Output) -> io::Result<Image> {
        let arguments: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).map(terminated).collect::<Result<_, _>>()?;
        if arguments.len() > ARGUMENTS_MAX {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        let variables = command.get_envs().filter_map(|(name, value)| {
            let mut variable = name.to_owned();
            variable.push("=");
            variable.push(value?);
            Some(variable)
        });
        let environment: Vec<_> = variables.map(|variable| terminated(&variable)).collect::<Result<_, _>>()?;
        let list = |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        let directory = command.get_current_dir().map(|directory| terminated(directory.as_os_str())).transpose()?;
        Ok(Image { directory, arguments: list(&arguments), environment: list(&environment), _owners: (arguments, environment), output })
    }

    /// In the child: becomes the program. Returns only if that fails.
    #[allow(unsafe_code)]
    fn run(&self) -> io::Result<()> {
        const NOTHING: &CStr = c"/dev/null";
        // SAFETY: plain system calls with valid arguments; both lists end with a null pointer and point to texts that `self` owns.
        unsafe {
            if let Some(directory) = &self.directory {
                Errno::result(libc::chdir(directory.as_ptr()))?;
            }
            // Closed first, so that the lowest free descriptor is standard input.
            libc::close(libc::STDIN_FILENO);
            Errno::result(libc::open(NOTHING.as_ptr(), libc::O_RDONLY))?;
            if self.output == Output::ToStandardError {
                Errno::result(libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO))?;
            }
            libc::execve(self.arguments[0], self.arguments.as_ptr(), self.environment.as_ptr());
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::ENOEXEC) && is_elf(CStr::from_ptr(self.arguments[0])) {
                return Err(error);
            }
            // As for a shell: a script without an interpreter line is run by sh. A program for another processor would only confuse that.
            libc::execvpe(self.arguments[0], self.arguments.as_ptr(), self.environment.as_ptr());
        }
        Err(io::Error::last_os_error())
    }
}

/// Whether a file begins as a program for the processor does. Makes system calls only.
fn is_elf(path: &CStr) -> bool {
    let mut beginning = [0; ELF.len()];
    let read = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty()).and_then(|file| nix::unistd::read(&file, &mut beginning));
    read.is_ok() && beginning == *ELF
}

fn terminated(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[allow(unsafe_code)]
    fn start(command: &Command) -> io::Result<Pid> {
        // SAFETY: nothing is prepared.
        unsafe { launch(command, Output::Inherit, || Ok(())) }.map(Pid::from_raw)
    }

    #[track_caller]
    fn exit_code(command: &Command) -> i32 {
        let pid = start(command).unwrap();
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => code,
            other => panic!("{other:?} instead of an exit"),
        }
    }

    #[test]
    fn a_program_or_directory_that_is_not_there_is_an_error_and_leaves_no_child() {
        for (program, directory) in [("/no/such/program", "/"), ("/bin/sh", "/no/such/directory")] {
            let error = start(Command::new(program).current_dir(directory)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn what_cannot_be_prepared_is_not_run() {
        let refuse = || Err(io::Error::from_raw_os_error(libc::EPERM));
        #[allow(unsafe_code)]
        // SAFETY: it does nothing.
        let outcome = unsafe { launch(&Command::new("/bin/true"), Output::Inherit, refuse) };
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_child_apart_tells_the_same_errors_and_leaves_nothing() {
        let refuse = || Err(io::Error::from_raw_os_error(libc::EPERM));
        #[allow(unsafe_code)]
        // SAFETY: what is prepared makes no more than a system call.
        let outcomes = unsafe {
            [
                launch_apart(&Command::new("/bin/true"), Output::Inherit, refuse),
                launch_apart(&Command::new("/no/such/program"), Output::Inherit, || Ok(())),
                launch_apart(&Command::new("/bin/true"), Output::Inherit, || Ok(kill(Pid::this(), Signal::SIGSTOP)?)),
            ]
        };
        let errors = outcomes.map(|outcome| outcome.unwrap_err());
        assert_eq!((errors[0].raw_os_error(), errors[1].kind()), (Some(libc::EPERM), io::ErrorKind::NotFound));
        assert!(errors[2].to_string().contains("stopped it"), "{}", errors[2]);
    }

    #[test]
    fn a_child_apart_runs_its_program() {
        #[allow(unsafe_code)]
        // SAFETY: nothing is prepared.
        let pid = unsafe { launch_apart(Command::new("/bin/sh").args(["-c", "exit 7"]).env("PATH", "/bin"), Output::Inherit, || Ok(())) };
        assert!(matches!(waitpid(Pid::from_raw(pid.unwrap()), None), Ok(WaitStatus::Exited(_, 7))));
    }

    #[test]
    fn it_gets_its_arguments_its_directory_exactly_its_variables_and_an_empty_standard_input() {
        let script = r#"test "$1" = 'a b' && test "$A" = 'b c' && test -z "$HOME" && test "$(pwd)" = /usr && ! read -r line"#;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh", "a b"]).env_clear().env("A", "b c").env("PATH", "/usr/bin:/bin").current_dir("/usr");
        assert_eq!(exit_code(&command), 0);
    }

    #[test]
    fn a_script_without_an_interpreter_line_is_run_by_sh() {
        let script = std::env::temp_dir().join(format!("dm-launch-{}", std::process::id()));
        fs::write(&script, "exit 3\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let code = exit_code(&Command::new(&script));
        assert_eq!(code, 3);
        fs::write(&script, b"\x7fELF\x02exit 3\n").unwrap();
        let refused = start(&Command::new(&script)).unwrap_err();
        fs::remove_file(script).unwrap();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOEXEC), "a program for another processor is not");
    }
}
