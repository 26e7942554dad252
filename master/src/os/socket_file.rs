//! The file of a Unix socket: bound without disturbing one that is served, in place of one that is not, and removed only while it is still ours.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};

use super::check::may_make;

/// A socket file that we made. Dropping it leaves the file.
#[derive(Debug, Clone)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// Binds a stream socket at `path`, not listening yet. `prepare` may change it before anybody can find it under its name.
    ///
    /// # Errors
    /// `AddrInUse` when someone serves that path, or it is no socket.
    pub(super) fn bind(path: &Path, prepare: impl FnOnce(&OwnedFd, &Path) -> io::Result<()>) -> io::Result<(OwnedFd, SocketFile)> {
        let socket = new_socket()?;
        match bind_to(&socket, path) {
            Err(Errno::EADDRINUSE) if is_left_over(path)? => {
                // Renamed over the old one, so that at no time there is none.
                let new = successor(path);
                match bind_to(&socket, &new) {
                    Err(Errno::EADDRINUSE) if is_left_over(&new)? => {
                        std::fs::remove_file(&new)?;
                        bind_to(&socket, &new)?;
                    }
                    outcome => outcome?,
                }
                let in_place = prepare(&socket, &new).and_then(|()| std::fs::rename(&new, path));
                in_place.inspect_err(|_| remove(&new))?;
            }
            outcome => {
                outcome?;
                prepare(&socket, path).inspect_err(|_| remove(path))?;
            }
        }
        let file = SocketFile { path: path.into(), inode: inode(path)? };
        Ok((socket, file))
    }

    /// Whether one could be had there. One that is served is looked at no further: it may be that of a master that goes on.
    pub(super) fn check(path: &Path) -> io::Result<()> {
        match path.symlink_metadata() {
            Ok(there) if !there.file_type().is_socket() => Err(Errno::EADDRINUSE.into()),
            Ok(_) | Err(_) => may_make(path),
        }
    }

    /// The one that this process made, under another program.
    pub(super) fn handed(path: &Path, inode: (u64, u64)) -> SocketFile {
        SocketFile { path: path.into(), inode }
    }

    pub(super) fn inode(&self) -> (u64, u64) {
        self.inode
    }

    /// The one that a dead master made. Where none is left, it is never in place.
    pub(super) fn found(path: &Path) -> SocketFile {
        SocketFile { path: path.into(), inode: inode(path).unwrap_or_default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still there, and no other has taken its place.
    pub(super) fn is_in_place(&self) -> bool {
        inode(&self.path).is_ok_and(|inode| inode == self.inode)
    }

    /// Removes the file, unless another has taken its place.
    pub(super) fn remove(&self) {
        if self.is_in_place() {
            remove(&self.path);
        }
    }
}

/// Whether someone listens at this path. Never waits, however long the queue there is.
pub(super) fn is_served(path: &Path) -> bool {
    let connected = new_socket().and_then(|socket| Ok(connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?));
    match connected {
        Ok(()) => true,
        // Its queue is full.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Whether it is a socket that nobody listens at.
fn is_left_over(path: &Path) -> io::Result<bool> {
    Ok(path.symlink_metadata()?.file_type().is_socket() && !is_served(path))
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?)
}

fn bind_to(socket: &OwnedFd, path: &Path) -> nix::Result<()> {
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

/// Under what name its successor is made. Four bytes more than the longest path are what Linux still takes.
pub(super) fn successor(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|extension| extension == "sock") {
        return path.with_extension("new");
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Takes back what was made, if it is there.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("dm-{name}-{}.sock", std::process::id()))
    }

    fn bind(path: &Path) -> io::Result<(OwnedFd, SocketFile)> {
        SocketFile::bind(path, |socket, _| Ok(nix::sys::socket::listen(socket, nix::sys::socket::Backlog::MAXCONN)?))
    }

    #[test]
    fn a_socket_that_is_served_is_left_alone_and_one_that_is_not_is_replaced() {
        let path = path("stale");
        let served = UnixListener::bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(served);
        let (_socket, file) = bind(&path).unwrap();
        assert!(is_served(&path));
        file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_is_never_replaced() {
        let path = path("file");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_under_the_successors_name_is_never_removed_unless_it_is_a_dead_socket() {
        let path = path("successor");
        let new = successor(&path);
        drop(UnixListener::bind(&path).unwrap());
        std::fs::write(&new, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&new).unwrap(), b"precious");
        std::fs::remove_file(&new).unwrap();
        drop(UnixListener::bind(&new).unwrap());
        let (_socket, file) = bind(&path).unwrap();
        file.remove();
        assert!(!new.exists());
    }

    #[test]
    fn a_socket_that_cannot_be_prepared_leaves_no_file_and_what_was_there_as_it_was() {
        let path = path("unprepared");
        let refuse = |_: &OwnedFd, _: &Path| Err(io::ErrorKind::PermissionDenied.into());
        SocketFile::bind(&path, refuse).unwrap_err();
        assert!(!path.exists());
        drop(UnixListener::bind(&path).unwrap());
        SocketFile::bind(&path, refuse).unwrap_err();
        assert!(path.exists() && !successor(&path).exists());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_longer_ours_is_not_removed() {
        let path = path("moved");
        let (_socket, file) = bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        file.remove();
        assert!(path.exists());
        std::fs::remove_file(&path).unwrap();
    }
}
