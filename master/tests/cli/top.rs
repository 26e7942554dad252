//! `dutch-master top` in a terminal of its own.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;

use crate::process::{Folder, HANG, Running, program, run};

/// A terminal of 100 by 30: what is typed, what is shown, and the side of the program.
struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: Vec<u8>,
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
        Terminal { keyboard, screen, shown: Vec::new(), inside }
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

    /// Waits until this was written, blanks apart: those that stand there already are skipped.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + HANG;
        let text: String = text.split_whitespace().collect();
        while !words(&String::from_utf8_lossy(&self.shown)).contains(&text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.shown.extend(bytes),
                Err(_) => panic!("`{text}` did not come: {:?}", String::from_utf8_lossy(&self.shown)),
            }
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }
}

/// Text without blanks and without what moves the cursor or colours; only the switch to the screen of its own and back is kept, as `[?1049h` and `[?1049l`.
fn words(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| match part.starts_with("[?1049") {
        true => part,
        false => part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap_or_default(),
    });
    rest.fold(first, |all, part| all + part).split_whitespace().collect()
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
    terminal.wait_for("[?1049h");
    terminal.wait_for("starting, 0 of 1 workers running");
    master.signal(Signal::SIGTTIN);
    terminal.wait_for("Pool scaled: 2 workers");
    terminal.type_in("q");
    terminal.wait_for("[?1049l");
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
