//! What a start would refuse, seen without taking anything: no file is made, no address is kept, no lock is asked for. What another process has, an address or the name, is not looked at: it may be
//! the very master that the configuration is for.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::account::Account;
use super::adapted;
use super::control_socket::ControlSocket;
use super::error::StartError;
use super::listeners::foresee;
use super::master::{Master, Place, check_system, check_worker};
use super::metrics::Outlet;
use super::pid_file::PidFile;
use super::program::Program;
use super::snapshots;
use crate::options::Options;

/// What a start makes of options that leave it to the surroundings.
#[derive(Debug)]
pub struct Outlook {
    /// The master's name.
    pub name: String,
    /// The directory that workers start in, with the links in it.
    pub directory: PathBuf,
    /// What would be run now as a worker, by Node if it is a script; `None`: it is not there.
    pub worker: Option<PathBuf>,
    /// The control socket.
    pub control_socket: PathBuf,
}

impl Outlook {
    /// How it stands now.
    pub fn of(options: &Options) -> Outlook {
        let Place { directory, name, .. } = Place::of(options);
        let environment = snapshots::environment(std::env::vars_os(), &options.env);
        let worker = Program::file(options, &directory, &environment);
        let control_socket = ControlSocket::place(&super::runtime_dir::path(), &name, options.socket.as_deref());
        Outlook { name, directory, worker, control_socket }
    }
}

impl Master {
    /// Everything that [`prepare`](Self::prepare) would refuse, so far as that can be seen without taking anything; nothing: it can be started.
    pub fn check(options: &Options) -> Vec<StartError> {
        let mut faults = Vec::new();
        let account = Account::of(options).unwrap_or_else(|error| {
            faults.push(error.into());
            None
        });
        let account = account.as_ref();
        let place = Place::of(options);
        let mut look = |outcome: Result<(), StartError>| faults.extend(outcome.err());
        look(check_system());
        look(check_worker(options, &place.directory, account, false));
        look(place.check().and_then(|()| Ok(ControlSocket::check(&place.name, options.socket.as_deref(), account)?)));
        for outcome in foresee::all(&options.listen) {
            look(outcome.map_err(StartError::from));
        }
        look(adapted::check(options, adapted::configured(&options.listen)).map_err(StartError::from));
        look(options.metrics.as_ref().map_or(Ok(()), |to| Outlet::check(to, &options.listen)).map_err(StartError::from));
        look(options.pid_file.as_ref().map_or(Ok(()), |path| PidFile::check(path).map_err(|source| StartError::PidFile { path: path.clone(), source })));
        faults
    }
}

/// Whether a file can be made there, or another one put in its place.
pub(super) fn may_make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.metadata()?.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(access(folder, AccessFlags::W_OK | AccessFlags::X_OK)?)
}
