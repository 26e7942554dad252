//! A program that is to take the master's place is first run beside it: it reads what would be handed over, and says whether it can go on with that. One that does not say so changes nothing.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::process::Process;
use super::spawn;
use crate::core::{ExitStatus, Time};

/// How long it may take, in milliseconds: reading the state takes some milliseconds, a busy machine seconds.
pub(super) const TIMEOUT_MS: u64 = 10_000;

/// The command of a `dutch-master` that is run so; what follows it and two dashes are the arguments that the master was started with.
pub const COMMAND: &str = "preflight";

/// Most bytes of its output that are looked at.
const OUTPUT_MAX: u64 = 64 * 1024;

/// Most characters of a stranger's output that are told.
const TOLD_MAX: usize = 200;

/// What it says, in one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It can; its version.
    TakesOver(String),
    /// It cannot, and why.
    Refuses(String),
}

/// The program while it is asked.
#[derive(Debug)]
pub(super) struct Preflight {
    pub(super) program: PathBuf,
    pub(super) deadline: Time,
    process: Process,
    output: OwnedFd,
}

impl Preflight {
    /// Asks.
    ///
    /// # Errors
    /// It cannot be run.
    pub(super) fn begin(program: PathBuf, args: &[OsString], handover: OwnedFd, now: Time) -> io::Result<Preflight> {
        if is_garbage(&program) {
            return Err(Errno::ENOEXEC.into());
        }
        // What it says beyond the pipe's length nobody reads: it fails or is killed in time.
        let (output, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut command = Command::new(&program);
        command.arg(COMMAND).arg("--").args(args);
        command.stdin(handover).stdout(Stdio::from(theirs.try_clone()?)).stderr(theirs);
        let process = spawn::beside(&mut command)?;
        Ok(Preflight { program, deadline: now.after(TIMEOUT_MS), process, output })
    }

    /// Ready when it has ended.
    pub(super) fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.process.poll_exit(cx)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.process.has_exited()
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// It has taken too long.
    pub(super) fn into_process(self) -> Process {
        self.process
    }

    /// What it said; it must have ended. An error tells why it is unfit.
    pub(super) fn outcome(self) -> Result<PathBuf, String> {
        let status = self.process.reap();
        let mut output = Vec::new();
        // Where something that it started still has the pipe, what has come so far has to do.
        let _ = File::from(self.output).take(OUTPUT_MAX).read_to_end(&mut output);
        judge(&self.program, status, &String::from_utf8_lossy(&output)).map(|()| self.program)
    }
}

/// Neither a program nor a script: the C library would have a shell run it, as commands.
fn is_garbage(program: &Path) -> bool {
    let mut begin = [0; 4];
    // What cannot be read may be executable all the same; the system says. A pipe is not waited for.
    let is_read = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(program).and_then(|mut file| file.read_exact(&mut begin));
    match is_read {
        Ok(()) => begin != *b"\x7fELF" && !begin.starts_with(b"#!"),
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

fn judge(program: &Path, status: ExitStatus, output: &str) -> Result<(), String> {
    let verdict = output.lines().find_map(|line| serde_json::from_str(line).ok());
    let program = program.display();
    match (verdict, status) {
        (Some(Verdict::TakesOver(_)), ExitStatus::Code(0)) => Ok(()),
        (Some(Verdict::Refuses(why)), _) => Err(format!("{program} refuses: {why}")),
        (Some(Verdict::TakesOver(_)) | None, _) => {
            let said: String = output.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TOLD_MAX).collect();
            let said = if said.is_empty() { "and said nothing".into() } else { format!("and said: {said}") };
            Err(format!("{program} cannot take over: it {status} {said}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_that_says_so_and_ends_well_takes_over() {
        let judged = |status, output: &str| judge(Path::new("/new"), status, output);
        let yes = serde_json::to_string(&Verdict::TakesOver("9.9.9".into())).unwrap();
        assert_eq!(yes, r#"{"takes-over":"9.9.9"}"#, "what other versions say");
        assert_eq!(judged(ExitStatus::Code(0), &format!("a warning\n{yes}\n")), Ok(()));
        for (status, output, told) in [
            (ExitStatus::Code(3), yes.as_str(), "/new cannot take over: it exited with code 3"),
            (ExitStatus::Code(0), "", "and said nothing"),
            (ExitStatus::Signal(11), "usage:\n  new", "and said: usage: new"),
            (ExitStatus::Code(1), r#"{"refuses":"too old"}"#, "/new refuses: too old"),
        ] {
            let reason = judged(status, output).unwrap_err();
            assert!(reason.contains(told), "{reason}");
        }
        assert!(judged(ExitStatus::Code(1), &"x".repeat(1_000)).unwrap_err().len() < 300);
    }
}
