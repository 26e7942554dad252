//! The socket that workers and control clients connect to, and what makes it this master's alone: the lock on its name.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use dutch_master_protocol::limits::PATH_MAX;
use nix::sys::socket::{Backlog, SockFlag, accept4, listen};
use nix::unistd::AccessFlags;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::account::{Account, AccountError};
use super::descriptors::{Inherited, Kept};
use super::lock::{self, Lock, LockError};
use super::readiness::{clear_if_empty, register};
use super::remedy::remedy;
use super::runtime_dir::{self, RuntimeDirError};
use super::socket_access::FileAccess;
use super::socket_file::SocketFile;

/// Why a master cannot have its control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlSocketError {
    /// The runtime directory is unfit.
    #[error(transparent)]
    Directory(#[from] RuntimeDirError),
    /// The name or the socket is taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The path is too long for a socket.
    #[error("the control socket's path has {} bytes and may have {PATH_MAX}: {}; a shorter --name, --socket or XDG_RUNTIME_DIR helps", path.as_os_str().len(), path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Workers would not reach it.
    #[error("{0}; `--socket /run/NAME.sock` is such a place")]
    Unreachable(#[from] AccountError),
    /// It cannot be bound.
    #[error("cannot listen on the control socket {}: {source}{}", path.display(), remedy(source))]
    Bind {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The socket. Dropping it takes it out of the file system and gives up the name.
#[derive(Debug)]
pub(super) struct ControlSocket {
    path: PathBuf,
    file: SocketFile,
    /// Taken when the loop begins to accept.
    listener: Option<OwnedFd>,
    /// Who may connect: us alone, or workers of another user as well.
    access: FileAccess,
    /// Where its master writes down what the next one needs.
    state: PathBuf,
    /// Declared last: given up when the file has gone.
    locks: Vec<Lock>,
}

/// The socket as it is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    path: PathBuf,
    inode: (u64, u64),
    listener: RawFd,
    access: FileAccess,
    state: PathBuf,
    locks: Vec<lock::Handed>,
}

impl ControlSocket {
    pub(super) fn handed(handed: Handed, inherited: &mut Inherited) -> io::Result<ControlSocket> {
        let Handed { path, inode, listener, access, state, locks } = handed;
        let listener = Some(inherited.take(listener)?);
        let locks = locks.into_iter().map(|lock| Lock::handed(lock, inherited)).collect::<io::Result<_>>()?;
        Ok(ControlSocket { file: SocketFile::handed(&path, inode), path, listener, access, state, locks })
    }

    /// Where it is.
    pub(super) fn place(directory: &Path, name: &str, elsewhere: Option<&Path>) -> PathBuf {
        elsewhere.map_or_else(|| directory.join(format!("{name}.sock")), |path| std::path::absolute(path).unwrap_or_else(|_| path.into()))
    }

    fn fitting(directory: &Path, name: &str, elsewhere: Option<&Path>) -> Result<PathBuf, ControlSocketError> {
        let path = ControlSocket::place(directory, name, elsewhere);
        if path.as_os_str().len() > PATH_MAX { Err(ControlSocketError::TooLong { path }) } else { Ok(path) }
    }

    /// Whether it could be had; neither name nor path is taken.
    pub(super) fn check(name: &str, elsewhere: Option<&Path>, account: Option<&Account>) -> Result<(), ControlSocketError> {
        let directory = runtime_dir::check_place()?;
        let path = ControlSocket::fitting(&directory, name, elsewhere)?;
        // One that is still to be made will be ours.
        let is_there = |file: &Path| file.parent() != Some(&*directory) || directory.exists();
        lock_files(&directory, name, elsewhere.map(|_| path.as_path())).filter(|file| is_there(file)).try_for_each(|file| Lock::check(&file))?;
        if is_there(&path) {
            SocketFile::check(&path).map_err(|source| ControlSocketError::Bind { path: path.clone(), source })?;
        }
        let workers = account.filter(|account| account.is_another_user());
        if let (Some(workers), Some(folder)) = (workers, elsewhere.and_then(|_| path.parent())) {
            workers.must("connect to the control socket", AccessFlags::X_OK, folder)?;
        }
        Ok(())
    }

    /// Takes the name, sweeps what dead masters left, and listens.
    pub(super) fn claim(name: &str, elsewhere: Option<&Path>, account: Option<&Account>) -> Result<ControlSocket, ControlSocketError> {
        let workers = account.filter(|account| account.is_another_user());
        let directory = runtime_dir::prepare(workers.is_some())?;
        runtime_dir::sweep(&directory);
        let path = ControlSocket::fitting(&directory, name, elsewhere)?;
        let locks = lock_files(&directory, name, elsewhere.map(|_| path.as_path())).map(|file| Lock::take(&file, &path)).collect::<Result<_, _>>()?;
        let access = match workers {
            None => FileAccess { mode: Some(0o600), ..FileAccess::default() },
            // The kernel says who it is that connects; the group only keeps most others from trying.
            Some(account) => FileAccess { mode: Some(0o660), owner: None, group: Some(account.gid) },
        };
        // A master that was killed an instant ago may have let go of its lock and not yet of its socket.
        let is_taken = |error: &ControlSocketError| matches!(error, ControlSocketError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse);
        let (listener, file) = lock::patiently(|| bind(&path, access), is_taken)?;
        if let Some(account) = workers {
            account.must("connect to the control socket", AccessFlags::W_OK, &path).inspect_err(|_| file.remove())?;
        }
        Ok(ControlSocket { path, file, access, listener: Some(listener), state: directory.join(format!("{name}.state")), locks })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// The way in, for the loop.
    pub(super) fn acceptor(mut self) -> io::Result<ControlAcceptor> {
        let listener = self.listener.take().ok_or(io::ErrorKind::NotConnected)?;
        Ok(ControlAcceptor { acceptor: Acceptor::new(listener)?, socket: self })
    }
}

/// What has to be locked: the name, and the socket where it is elsewhere.
fn lock_files(directory: &Path, name: &str, elsewhere: Option<&Path>) -> impl Iterator<Item = PathBuf> {
    let beside = elsewhere.map(|path| {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        beside.into()
    });
    [directory.join(format!("{name}.lock"))].into_iter().chain(beside)
}

fn bind(path: &Path, access: FileAccess) -> Result<(OwnedFd, SocketFile), ControlSocketError> {
    let bound = SocketFile::bind(path, |socket, path| {
        access.set(path)?;
        Ok(listen(socket, Backlog::MAXCONN)?)
    });
    bound.map_err(|source| ControlSocketError::Bind { path: path.into(), source })
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.file.remove();
    }
}

/// Where connections come in.
#[derive(Debug)]
pub(super) struct Acceptor {
    listener: AsyncFd<OwnedFd>,
}

impl Acceptor {
    /// Of a socket that listens and never blocks.
    pub(super) fn new(listener: OwnedFd) -> io::Result<Acceptor> {
        Ok(Acceptor { listener: register(listener, Interest::READABLE)? })
    }

    /// Ready when a connection waits.
    pub(super) fn poll_acceptable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.listener.poll_read_ready(cx).map(drop)
    }

    /// The next connection, whatever the runtime believes about readiness; `None`: none waits.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let accepted = accept(&self.listener);
        clear_if_empty(&self.listener, &accepted);
        match accepted {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Where workers and control clients come in.
#[derive(Debug)]
pub(super) struct ControlAcceptor {
    acceptor: Acceptor,
    socket: ControlSocket,
}

impl ControlAcceptor {
    /// As [`Acceptor::poll_acceptable`].
    pub(super) fn poll_acceptable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.acceptor.poll_acceptable(cx)
    }

    /// As [`Acceptor::accept`].
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        self.acceptor.accept()
    }

    /// The files by which it is found and its name is kept, and whether each is still there: the socket's first.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, bool)> {
        let ControlSocket { file, locks, .. } = &self.socket;
        [(file.path(), file.is_in_place())].into_iter().chain(locks.iter().map(|lock| (lock.path(), lock.is_in_place())))
    }

    pub(super) fn hand_over<'a>(&'a self, kept: &mut Kept<'a>) -> Handed {
        let ControlSocket { path, file, access, state, locks, .. } = &self.socket;
        Handed {
            path: path.clone(),
            inode: file.inode(),
            listener: kept.keep(self.acceptor.listener.get_ref().as_fd()),
            access: *access,
            state: state.clone(),
            locks: locks.iter().map(|lock| lock.hand_over(kept)).collect(),
        }
    }

    /// Makes again what was removed: the socket at its path, and its locks.
    pub(super) fn restore(&mut self) -> Result<(), ControlSocketError> {
        let ControlSocket { path, file, locks, access, .. } = &mut self.socket;
        runtime_dir::prepare(access.group.is_some())?;
        locks.iter_mut().try_for_each(|lock| lock.renew(path))?;
        if !file.is_in_place() {
            let (listener, bound) = bind(path, *access)?;
            self.acceptor = Acceptor::new(listener).map_err(|source| ControlSocketError::Bind { path: path.clone(), source })?;
            *file = bound;
        }
        Ok(())
    }
}

#[allow(unsafe_code)]
fn accept(listener: &impl AsFd) -> io::Result<OwnedFd> {
    loop {
        match accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            // The peer has already gone, or a signal came: the next one, please.
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNABORTED) => {}
            // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
            outcome => return Ok(unsafe { OwnedFd::from_raw_fd(outcome?) }),
        }
    }
}
