//! A notify socket of the program's own, as systemd gives one: what it says there is passed on to the master.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;

/// Longest notification that is read; the rest of a longer one is lost, as systemd would have it.
const NOTIFICATION_MAX: usize = 4_096;

/// What a program may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Ready,
    Stopping,
    Status(String),
}

#[derive(Debug)]
pub(super) struct Notify {
    folder: PathBuf,
    socket: UnixDatagram,
}

impl Notify {
    pub(super) fn bind() -> io::Result<Notify> {
        // The system's temporary folder may have a long name, and the path of a socket is short.
        let folder = PathBuf::from(format!("/tmp/dm-adapt-{}-{}", std::process::id(), dutch_master::trial::token()?));
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let socket = UnixDatagram::bind(folder.join("notify"));
        match socket {
            Ok(socket) => Ok(Notify { folder, socket }),
            Err(error) => std::fs::remove_dir(&folder).and(Err(error)),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("notify")
    }

    /// What it says next, in its order; what is not known is passed over.
    pub(super) async fn hear(&self) -> Vec<Said> {
        let mut buffer = [0; NOTIFICATION_MAX];
        match self.socket.recv(&mut buffer).await {
            Ok(n) => said(&String::from_utf8_lossy(&buffer[..n])),
            Err(_) => Vec::new(),
        }
    }
}

fn said(text: &str) -> Vec<Said> {
    let known = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Said::Ready),
        ("STOPPING", "1") => Some(Said::Stopping),
        ("STATUS", status) => Some(Said::Status(status.to_owned())),
        _ => None,
    };
    text.lines().filter_map(known).collect()
}

impl Drop for Notify {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all::<&Path>(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_line_by_line_and_unknown_ones_passed_over() {
        let expected = vec![Said::Status("up: 1=1".into()), Said::Ready, Said::Stopping];
        assert_eq!(said("MAINPID=5\nSTATUS=up: 1=1\nREADY=1\nX_OWN=1\nSTOPPING=1\n"), expected);
        assert_eq!(said("READY=0\nnonsense\n"), []);
    }
}
