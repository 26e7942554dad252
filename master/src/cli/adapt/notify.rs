//! A notify socket of the program's own, as systemd gives one: what it says there is passed on to the master.

use std::fs::DirEntry;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use tokio::net::UnixDatagram;

/// Longest notification that is read; the rest of a longer one is lost, as systemd would have it.
const NOTIFICATION_MAX: usize = 4_096;

/// Where the folders of the sockets are: the system's temporary folder may have a long name, and the path of a socket is short.
const FOLDERS: &str = "/tmp";

/// What the names of these folders begin with.
const PREFIX: &str = "dm-adapt-";

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
        sweep(Path::new(FOLDERS));
        let folder = Path::new(FOLDERS).join(format!("{PREFIX}{}-{}", std::process::id(), dutch_master::trial::token()?));
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

/// Removes what adapters have left that were killed: folders whose socket nobody reads. Those of other users stay, and so does one whose socket is yet to come.
fn sweep(folders: &Path) {
    let Ok(entries) = std::fs::read_dir(folders) else { return };
    let is_ours = |entry: &DirEntry| entry.metadata().is_ok_and(|folder| folder.is_dir() && folder.uid() == geteuid().as_raw());
    let ours = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) && is_ours(entry));
    for folder in ours.map(|entry| entry.path()) {
        let heard = net::UnixDatagram::unbound().and_then(|socket| socket.connect(folder.join("notify")));
        if heard.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            let _ = std::fs::remove_dir_all(folder);
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

    #[test]
    fn what_a_killed_adapter_left_is_swept_and_nothing_else() {
        let folders = std::env::temp_dir().join(format!("dm-notify-{}", std::process::id()));
        let folder = |name: &str| {
            let folder = folders.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            folder.join("notify")
        };
        let live = net::UnixDatagram::bind(folder("dm-adapt-1-a")).unwrap();
        drop(net::UnixDatagram::bind(folder("dm-adapt-2-b")).unwrap());
        drop(net::UnixDatagram::bind(folder("another-3-c")).unwrap());
        folder("dm-adapt-4-about-to-bind");
        sweep(&folders);
        let mut left: Vec<_> = std::fs::read_dir(&folders).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["another-3-c", "dm-adapt-1-a", "dm-adapt-4-about-to-bind"]);
        drop(live);
        std::fs::remove_dir_all(&folders).unwrap();
    }
}
