//! `dutch-master top` in a terminal of its own.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;

use crate::process::{Folder, HANG, Running, program, run};

/// A terminal of 100 by 30: what is typed, what is shown, and the side of the program.
struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    inside: File,
}

impl Terminal {
    #[allow(unsafe_code)]
    fn new() -> Terminal {
        let outside = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&outside).unwrap();
        unlockpt(&outside).unwrap();
        let path = ptsname_r(&outside).unwrap();
        let inside = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(&path).unwrap();
        assert!(Command::new("stty").args(["-F", &path, "cols", "100", "rows", "30"]).status().unwrap().success());
        // SAFETY: the descriptor was just given up by its owner.
        let keyboard = File::from(unsafe { OwnedFd::from_raw_fd(outside.into_raw_fd()) });
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(n) = reader.read(&mut buffer) {
                if n == 0 || sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { keyboard, screen, shown: String::new(), inside }
    }

    /// Runs a program as the shell of a terminal does it.
    fn run(&self, of: &Command) -> std::process::Child {
        let inside = || Stdio::from(self.inside.try_clone().unwrap());
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(of.get_program()).args(of.get_args());
        for (name, value) in of.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        session.env("TERM", "xterm").current_dir(of.get_current_dir().unwrap()).stdin(inside()).stdout(inside()).stderr(inside()).spawn().unwrap()
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        while !self.shown.contains(text) {
            match self.screen.recv_timeout(HANG) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("`{text}` did not come: {:?}", self.shown),
            }
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }
}

fn master(folder: &Folder) -> Running {
    let mut master = Running::start(program(folder, &["start", "-n", "1", "--name", "web", "sleep", "1000"]));
    master.wait_for("Creating new worker");
    master
}

#[test]
fn top_shows_the_pool_and_what_happens_and_gives_the_terminal_back() {
    let folder = Folder::new("top");
    let master = master(&folder);
    let mut terminal = Terminal::new();
    let mut top = terminal.run(&program(&folder, &["top"]));
    terminal.wait_for("\u{1b}[?1049h");
    terminal.wait_for("starting, 0 of 1 workers running");
    master.signal(Signal::SIGTTIN);
    terminal.wait_for("Pool scaled: 2 workers");
    terminal.type_in("q");
    terminal.wait_for("\u{1b}[?1049l");
    assert_eq!(top.wait().unwrap().code(), Some(0));
}

#[test]
fn top_ends_with_the_master() {
    let folder = Folder::new("top-end");
    let master = master(&folder);
    let mut terminal = Terminal::new();
    let mut top = terminal.run(&program(&folder, &["top"]));
    terminal.wait_for("starting, 0 of 1 workers running");
    master.signal(Signal::SIGTERM);
    terminal.wait_for("The master has ended.");
    assert_eq!(top.wait().unwrap().code(), Some(0));
    assert_eq!(master.end().code, Some(0));
}

#[test]
fn top_without_a_terminal_says_what_to_use_instead() {
    let folder = Folder::new("top-pipe");
    let said = run(program(&folder, &["top"]));
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
    assert!(said.stderr.contains("status --watch"), "{said:?}");
}
