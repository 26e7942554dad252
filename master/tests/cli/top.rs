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
use crate::screen::Screen;

/// A terminal: what is typed, what is shown, and the side of the program.
struct Terminal {
    keyboard: File,
    output: Receiver<Vec<u8>>,
    screen: Screen,
    /// All that was written to it.
    written: Vec<u8>,
    inside: File,
}

impl Terminal {
    #[allow(unsafe_code)]
    fn new(columns: usize, rows: usize) -> Terminal {
        let outside = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&outside).unwrap();
        unlockpt(&outside).unwrap();
        let path = ptsname_r(&outside).unwrap();
        let inside = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(&path).unwrap();
        assert!(Command::new("stty").args(["-F", &path, "cols", &columns.to_string(), "rows", &rows.to_string()]).status().unwrap().success());
        // SAFETY: the descriptor was just given up by its owner.
        let keyboard = File::from(unsafe { OwnedFd::from_raw_fd(outside.into_raw_fd()) });
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(n) = reader.read(&mut buffer) {
                if n == 0 || sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { keyboard, output, screen: Screen::new(columns, rows), written: Vec::new(), inside }
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

    /// Waits until this was written to it.
    #[track_caller]
    fn wait_for_written(&mut self, text: &str) {
        self.wait_until(text, |terminal| String::from_utf8_lossy(&terminal.written).contains(text));
    }

    /// Waits until this can be read on it.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |terminal| terminal.screen.text().contains(text));
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Terminal) -> bool) {
        let deadline = Instant::now() + HANG;
        while !is_so(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => {
                    self.screen.write(&bytes);
                    self.written.extend(bytes);
                }
                Err(_) => panic!("`{what}` did not come:\n{}", self.screen.text()),
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
    let mut terminal = Terminal::new(100, 30);
    let mut top = terminal.run(&program(&folder, &["top"]));
    terminal.wait_for_written("[?1049h");
    terminal.wait_for("starting, 0 of 1 workers running");
    master.signal(Signal::SIGTTIN);
    terminal.wait_for("Pool scaled: 2 workers");
    terminal.type_in("q");
    terminal.wait_for_written("[?1049l");
    assert_eq!(top.wait().unwrap().code(), Some(0));
}

#[test]
fn top_ends_with_the_master() {
    let folder = Folder::new("top-end");
    let master = master(&folder);
    let mut terminal = Terminal::new(100, 30);
    let mut top = terminal.run(&program(&folder, &["top"]));
    terminal.wait_for("starting, 0 of 1 workers running");
    master.signal(Signal::SIGTERM);
    terminal.wait_for_written("The master has ended.");
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

#[test]
fn top_in_a_small_terminal_leaves_out_columns_and_scrolls() {
    let folder = Folder::new("top-small");
    let mut master = Running::start(program(&folder, &["start", "-n", "20", "--name", "web", "-l", "127.0.0.1:0", "sleep", "1000"]));
    (0..20).for_each(|_| drop(master.wait_for("Creating new worker")));
    for (columns, rows, head, page) in [
        (40, 10, "WORKER  STATE     GENERATION  MEMORY", 3),
        (60, 15, "WORKER  STATE     GENERATION  PID", 5),
        (80, 24, "WORKER  SLOT  STATE     GENERATION  PID", 11),
    ] {
        let mut terminal = Terminal::new(columns, rows);
        let mut top = terminal.run(&program(&folder, &["top"]));
        terminal.wait_for(head);
        let part = |first: u32| format!("workers {first}-{} of 20", first + page - 1);
        terminal.wait_for(&part(1));
        let (last, below) = (21 - page, (2 + page).min(21 - page));
        let above = below.saturating_sub(page).max(1);
        let keys =
            [("j", 2), ("\u{1b}[B", 3), ("k", 2), ("\u{1b}[6~", below), ("\u{1b}[5~", above), ("\u{1b}[F", last), ("\u{1b}[A", last - 1), ("\u{1b}[H", 1)];
        for (keys, first) in keys {
            terminal.type_in(keys);
            terminal.wait_for(&part(first));
            terminal.wait_for(&format!("\n{first}  "));
        }
        terminal.type_in("q");
        assert_eq!(top.wait().unwrap().code(), Some(0));
    }
    master.signal(Signal::SIGTERM);
    assert_eq!(master.end().code, Some(0));
}
