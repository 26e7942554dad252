//! A master from its options to its exit code: what can fail visibly is done before the first worker is spawned.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::AccessFlags;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tokio::sync::mpsc::Receiver;
use tracing::{error, info, warn};

use super::account::Account;
use super::adapted;
use super::adoption::Adoption;
use super::callbacks::{self, Callbacks, Evaluation};
use super::clock;
use super::control::Clients;
use super::control_socket::ControlSocket;
use super::error::StartError;
use super::event_loop::EventLoop;
use super::hook::{Hooks, with_room_for_a_queue};
use super::listeners::Listeners;
use super::metrics::{self, Counts, Outlet};
use super::node;
use super::orders::{evaluate, in_full};
use super::pid_file::PidFile;
use super::program::Program;
use super::reload::{ReadAgain, Reread};
use super::request::Request;
use super::rest::Rest;
use super::snapshots::{self, Snapshots};
use super::spawn;
use super::state::{State, StateFile};
use super::succession::Succession;
use super::systemd::{ServiceManager, Telling};
use super::upgrade::{Invocation, Upgrades};
use super::upkeep::ControlUpkeep;
use super::workers::Workers;
use crate::core::Pool;
use crate::options::{MetricsTo, Options};

/// A master that has everything that it needs, and has not started a worker yet. Dropping it gives everything back.
#[derive(Debug)]
pub struct Master {
    pub(super) options: Options,
    pub(super) callbacks: Callbacks,
    pub(super) account: Option<Account>,
    pub(super) name: String,
    pub(super) here: PathBuf,
    pub(super) read_again: Option<ReadAgain>,
    pub(super) invocation: Option<Invocation>,
    pub(super) rest: Rest,
    pub(super) listeners: Listeners,
    /// What a master of this name left: when it died, or to this one by name.
    pub(super) left: Option<State>,
    pub(super) succession: Option<Succession>,
    pub(super) metrics: Option<Outlet>,
    pub(super) telling: Telling,
    pub(super) pid_file: Option<PidFile>,
    pub(super) control_socket: ControlSocket,
}

impl Master {
    /// Takes the name, binds the configured listeners, and checks that the worker can be run.
    ///
    /// # Errors
    /// [`StartError`]: everything that can be seen before a worker is spawned.
    pub fn prepare(options: Options) -> Result<Master, StartError> {
        Master::prepare_with(options, Callbacks::default())
    }

    /// The same for a program that wants to be asked.
    ///
    /// # Errors
    /// [`StartError`]: everything that can be seen before a worker is spawned.
    pub fn prepare_with(options: Options, callbacks: Callbacks) -> Result<Master, StartError> {
        Master::prepare_under(ServiceManager::default(), options, callbacks)
    }

    /// The same under a service manager, which lends and keeps sockets, and is told how it goes.
    ///
    /// # Errors
    /// [`StartError`]: everything that can be seen before a worker is spawned.
    pub fn prepare_under(manager: ServiceManager, options: Options, callbacks: Callbacks) -> Result<Master, StartError> {
        let account = Account::of(&options)?;
        check_system()?;
        let place = Place::of(&options);
        place.check()?;
        check_worker(&options, &place.directory, account.as_ref(), callbacks.before_fork.is_some())?;
        let Place { here, name, .. } = place;
        spawn::raise_descriptor_limit();
        let control_socket = ControlSocket::claim(&name, options.socket.as_deref(), account.as_ref())?;
        let (mut left, unread) = match State::left_at(control_socket.state()) {
            Ok(left) => (left, None),
            Err(error) => (None, Some(error)),
        };
        let mut listeners = left.as_mut().map_or_else(Listeners::default, |left| Listeners::of_the_dead(left.take_listeners()));
        listeners.lend_no_rights(account.as_ref().is_some_and(Account::is_another_user));
        let ServiceManager { telling, sockets, is_to_keep } = manager;
        listeners.under_manager(sockets, is_to_keep && telling.is_wanted());
        let is_known = unread.as_ref().map_or(Ok(left.is_some()), Err);
        options
            .listen
            .iter()
            .try_for_each(|spec| listeners.configure(spec).map_err(|error| error.with_those_left_behind(&spec.address, control_socket.path(), is_known)))?;
        if let Some(unread) = unread {
            warn!(reason = in_full(unread), "What a dead master left cannot be used");
        }
        listeners.inherit_the_rest();
        listeners.take_handed_over();
        adapted::check(&options, listeners.configured_names())?;
        account.iter().for_each(|account| warn_of_open_folders(&options, account));
        let metrics = options.metrics.as_ref().map(Outlet::prepare).transpose()?;
        options.metrics.iter().for_each(warn_of_unread_metrics);
        let pid_file = match &options.pid_file {
            Some(path) => Some(PidFile::write(path).map_err(|source| StartError::PidFile { path: path.clone(), source })?),
            None => None,
        };
        Ok(Master {
            options,
            callbacks,
            account,
            name,
            here,
            read_again: None,
            invocation: None,
            succession: None,
            rest: Rest::default(),
            listeners,
            left,
            metrics,
            telling,
            pid_file,
            control_socket,
        })
    }

    /// Says how to read the configuration again; without it, [`Request::Reload`] is refused. It is called from the master's loop, and must not wait for anything but files.
    #[must_use]
    pub fn with_reload(self, read_again: impl FnMut() -> Result<Reread, String> + Send + 'static) -> Master {
        Master { read_again: Some(ReadAgain(Box::new(read_again))), ..self }
    }

    /// Says how this program is run; without it, an upgrade is refused. Everything that may happen between an exec and the end of the program before it must be fit to be left undone.
    #[must_use]
    pub fn with_upgrade(self, invocation: Invocation) -> Master {
        Master { invocation: Some(invocation), ..self }
    }

    /// What is called, from the master's loop, a second after the last thing happened: to give back memory that is needed only while something does.
    #[must_use]
    pub fn with_rest(mut self, give_back: impl FnMut() + Send + 'static) -> Master {
        self.rest.give_back = Some(Box::new(give_back));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its control socket is.
    pub fn control_socket(&self) -> &Path {
        self.control_socket.path()
    }

    /// Starts the workers and keeps them until a stop is asked for. Returns the exit code. To be awaited on a current-thread runtime with I/O and time enabled, from the thread that stays.
    pub async fn run(mut self, mut requests: Receiver<Request>) -> u8 {
        let control_path = self.control_socket.path().to_path_buf();
        let state = StateFile::at(self.control_socket.state().to_path_buf());
        let acceptor = match self.control_socket.acceptor() {
            Ok(acceptor) => acceptor,
            Err(reason) => {
                error!(%reason, "Cannot accept connections");
                return 1;
            }
        };
        let metrics_copy = match self.metrics.as_ref().filter(|_| self.invocation.is_some()).map(Outlet::copy).transpose() {
            Ok(copy) => copy.flatten(),
            Err(reason) => {
                error!(%reason, "Cannot serve metrics");
                return 1;
            }
        };
        let (mut metrics_out, metrics_askers) = match self.metrics.take().map(Outlet::open).transpose() {
            Ok(metrics) => metrics.unwrap_or_default(),
            Err(reason) => {
                error!(%reason, "Cannot serve metrics");
                return 1;
            }
        };
        let (size, surroundings) = match callbacks::first(&mut self.callbacks, &mut requests).await {
            Ok(Some(evaluated)) => (evaluated.num_workers, Some(evaluated.surroundings)),
            Ok(None) => (evaluate(self.options.num_workers), None),
            Err(code) => return code,
        };
        let succession = self.succession.take();
        if succession.is_none() {
            info!(numWorkers = size, "Starting cluster");
        }
        let is_successor = self.left.is_some();
        let (pool, workers, snapshots, counts) = match self.left.take() {
            Some(State { pool, workers, snapshots, counts, .. }) => (pool, workers, snapshots, counts),
            None => (Pool::new(with_room_for_a_queue(self.options.core()), size), Workers::default(), Snapshots::default(), Counts::default()),
        };
        let mut event_loop = EventLoop {
            pool,
            account: self.account.take(),
            name: std::mem::take(&mut self.name),
            here: std::mem::take(&mut self.here),
            read_again: self.read_again.take(),
            control_path,
            acceptor,
            control_upkeep: ControlUpkeep::default(),
            requests: Some(requests),
            callbacks: std::mem::take(&mut self.callbacks),
            evaluation: Evaluation::default(),
            surroundings,
            listeners: std::mem::take(&mut self.listeners),
            workers,
            hooks: Hooks::default(),
            snapshots,
            connections: BTreeMap::new(),
            last_connection: 0,
            clients: Clients::default(),
            counts,
            metrics_askers,
            metrics_copy,
            upgrades: Upgrades::of(self.invocation.take()),
            facts: VecDeque::new(),
            started_at: clock::now(),
            started_at_unix: metrics::unix_time(),
            accept_again_at: None,
            look_at_memory_at: None,
            adoption: Adoption::default(),
            telling: std::mem::take(&mut self.telling),
            launches: VecDeque::new(),
            state,
            is_unwritten: true,
            rest: std::mem::take(&mut self.rest),
            write_again_at: None,
            exit_code: None,
            options: Arc::new(self.options.clone()),
        };
        event_loop.listeners.are_served();
        event_loop.begin_watch();
        match succession {
            Some(succession) => event_loop.go_on(succession),
            None if is_successor => event_loop.take_over(),
            None => {}
        }
        let code = event_loop.run().await;
        event_loop.end_preflight();
        event_loop.state.remove();
        event_loop.send_last_words().await;
        // The name, and the address for metrics, are given up before the connections end: whoever waits for their end finds them free. So the loop has its acceptor before them.
        event_loop.metrics_copy = None;
        metrics_out.shutdown().await;
        drop(self.pid_file);
        drop(event_loop);
        code
    }
}

/// Where it runs, and under which name.
pub(super) struct Place {
    here: PathBuf,
    /// Where workers start, with the links in it.
    pub(super) directory: PathBuf,
    pub(super) name: String,
}

impl Place {
    pub(super) fn of(options: &Options) -> Place {
        let here = working_directory();
        let directory = options.dir.as_ref().map_or_else(|| here.clone(), |dir| here.join(dir));
        let name = options.name.clone().unwrap_or_else(|| default_name(&directory, &options.worker));
        Place { here, directory, name }
    }

    /// Whether files can have the name, and the state the directories.
    pub(super) fn check(&self) -> Result<(), StartError> {
        if !is_name(&self.name) {
            return Err(StartError::Name { name: self.name.clone() });
        }
        let resolved = self.directory.canonicalize().unwrap_or_default();
        let no_text = [&self.here, &self.directory, &resolved].into_iter().find(|path| path.to_str().is_none());
        no_text.map_or(Ok(()), |path| Err(StartError::NoText { path: path.clone() }))
    }
}

/// Who can write to the folder of a socket can put something else in its place.
fn warn_of_open_folders(options: &Options, account: &Account) {
    let folders = options.listen.iter().filter_map(|spec| Path::new(spec.address.path.as_ref()?).parent());
    for folder in folders.filter(|folder| account.is_another_user() && account.may(AccessFlags::W_OK, folder)) {
        warn!(directory = %folder.display(), "Workers can replace the socket of a listener: their user may write to its directory");
    }
}

/// Other collectors may read what they like, so it is no error.
fn warn_of_unread_metrics(to: &MetricsTo) {
    if let MetricsTo::File(path) = to
        && path.extension() != Some(OsStr::new("prom"))
    {
        warn!(path = %path.display(), "node_exporter does not read the file for metrics: it reads files that end in .prom");
    }
}

/// Pidfds are what makes signalling safe; without them there is no master.
pub(super) fn check_system() -> Result<(), StartError> {
    let_children_be_reaped();
    pidfd_open(getpid(), PidfdFlags::empty()).map(drop).map_err(|errno| StartError::System { what: "watch processes by pidfd", source: errno.into() })
}

/// Where our parent left SIGCHLD ignored, the kernel would reap the workers itself, and their numbers could be another's before we know.
#[allow(unsafe_code)]
fn let_children_be_reaped() {
    use nix::libc;
    // SAFETY: the first call only asks, and fills a struct of plain integers, for which zero is a value; the second one installs no handler, and replaces none.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN {
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
    }
}

/// A hook may still have to make what is missing; then only its outcome counts.
pub(super) fn check_worker(options: &Options, directory: &Path, account: Option<&Account>, has_callback: bool) -> Result<(), StartError> {
    let environment = snapshots::environment(std::env::vars_os(), &options.env);
    let directory = snapshots::resolve(directory)?;
    if has_callback || options.before_fork.is_some() {
        return Ok(());
    }
    let program = Program::find(options, &directory, &environment)?;
    if let Some(account) = account {
        account.must("enter", AccessFlags::X_OK, &directory)?;
        account.must("run", AccessFlags::X_OK, &program.path)?;
    }
    if options.is_script() {
        node::check_typescript(options, &program.path).map_err(super::program::ProgramError::from)?;
    }
    Ok(())
}

/// The working directory with the links through which the user came to it: one that moves is to be followed.
pub fn working_directory() -> PathBuf {
    let real = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let inode = |path: &Path| path.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let shown = std::env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute());
    shown.filter(|shown| inode(shown).is_some_and(|its| inode(&real) == Some(its))).unwrap_or(real)
}

/// The worker's file stem plus a short hash of directory and worker as given: the same command in the same place is the same master.
fn default_name(directory: &Path, worker: &Path) -> String {
    let stem = worker.file_stem().unwrap_or_default().to_string_lossy();
    let stem: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).take(NAME_STEM_MAX).collect();
    let stem = stem.trim_start_matches(['.', '-']);
    let hash = fnv1a(directory.as_os_str().as_bytes().iter().chain(&[0]).chain(worker.as_os_str().as_bytes()));
    let stem = if stem.is_empty() { "worker" } else { stem };
    format!("{stem}-{:08x}", (hash ^ (hash >> 32)) & 0xffff_ffff)
}

/// Longest part of a default name that comes from the worker's: the control socket's path has to fit.
const NAME_STEM_MAX: usize = 32;

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['.', '-']) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A hash that stays the same whatever compiled this program: a successor has to find the same name. (FNV-1a, 64 bits.)
pub(super) fn fnv1a<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_tells_the_worker_and_depends_on_where_it_was_started() {
        let name = default_name(Path::new("/srv/shop/current"), Path::new("app.js"));
        assert_eq!(name, default_name(Path::new("/srv/shop/current"), Path::new("app.js")));
        assert_ne!(name, default_name(Path::new("/srv/other/current"), Path::new("app.js")));
        let (stem, hash) = name.rsplit_once('-').unwrap();
        assert_eq!((stem, hash.len()), ("app", 8), "{name}");
        for worker in ["./-x y", ".hidden", "bin/ä.js"] {
            let name = default_name(Path::new("/"), Path::new(worker));
            assert!(is_name(&name), "{name}");
        }
        assert_eq!(format!("{:x}", fnv1a(b"foobar".iter())), "85944171f73967e8", "the published value");
    }
}
