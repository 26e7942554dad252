//! The runtime directory: where a master's control socket and lock are, and which masters run.
//!
//! `NAME.sock` is the control socket, `NAME.lock` is locked for the master's life and says its pid and where its socket is, `NAME.state` is for the next master if this one dies.

use std::ffi::OsString;
use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::check::may_make;
use super::lock::{self, Lock};
use super::socket_file::is_served;
use super::state;

/// A master that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Its process id, for people: never signal by it.
    pub pid: u32,
    /// Its control socket.
    pub socket: PathBuf,
}

/// Why the runtime directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeDirError {
    /// It cannot be made or looked at.
    #[error("cannot use the runtime directory {}: {source}; RUNTIME_DIRECTORY or XDG_RUNTIME_DIR may name another place{}", path.display(), writable(source))]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else is there.
    #[error("the runtime directory {} is no directory; move away what is there", path.display())]
    NotADirectory {
        /// Where.
        path: PathBuf,
    },
    /// It belongs to another user, who could replace what is in it.
    #[error("the runtime directory {} belongs to uid {owner} and not to uid {}; name another by RUNTIME_DIRECTORY or XDG_RUNTIME_DIR", path.display(), geteuid())]
    NotOurs {
        /// Where.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// Others could replace what is in it.
    #[error("the runtime directory {} has mode {mode:04o}, so that other users could reach the master; run `chmod 700 {}`", path.display(), path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// What helps where nothing can be written at all.
fn writable(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::ReadOnlyFilesystem { "; a container with a read-only root needs a small tmpfs there" } else { "" }
}

/// Which permissions of other users make a directory unfit.
#[derive(Debug, Clone, Copy)]
enum Forbidden {
    /// Writing: whoever made the directory may have opened it for reading.
    Writing = 0o022,
    /// Everything: it is ours alone.
    Everything = 0o077,
    /// Reading and writing: root's workers may be others, who have to come through to the socket that they are told of.
    Listing = 0o066,
}

/// The runtime directory of this user, which need not exist: `RUNTIME_DIRECTORY`, else `XDG_RUNTIME_DIR/dutch-master`, else `/run/dutch-master` for root, else a directory of the user's
/// own under the system's temporary folder.
pub fn path() -> PathBuf {
    choose(|name| std::env::var_os(name), geteuid().as_raw()).0
}

/// Where the control socket of the master of this name is, unless it was started with a socket elsewhere.
pub fn socket_of(name: &str) -> PathBuf {
    path().join(format!("{name}.sock"))
}

/// Where systemd makes the directories of services with `RuntimeDirectory=dutch-master/NAME`, as the units of this project have it.
const SERVICES: &str = "/run/dutch-master";

/// The masters that run and that this user may talk to, by name: those of the runtime directory, and those of services, each of which has a directory of its own.
///
/// # Errors
/// When the runtime directory cannot be read. That it does not exist is no error: then none runs.
pub fn running() -> io::Result<Vec<Running>> {
    // A service that asks from within means itself.
    if std::env::var_os("RUNTIME_DIRECTORY").is_some() { running_in(&path(), &[]) } else { running_in(&path(), &[&path(), Path::new(SERVICES)]) }
}

/// Names of masters of the runtime directory that died, and whose workers serve on.
pub fn died() -> Vec<String> {
    let states =
        path().read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|it| it == "state"));
    let died = states.filter(|path| living(&path.with_extension("lock")).is_none() && state::has_living_workers(path));
    let mut names: Vec<_> = died.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

/// Those of `own`, and those of the directories within each of `services`.
fn running_in(own: &Path, services: &[&Path]) -> io::Result<Vec<Running>> {
    let entries = match own.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries?),
    };
    // What cannot be read there belongs to others.
    let of_services = services.iter().flat_map(|place| place.read_dir()).flatten().filter_map(|entry| entry.ok()?.path().read_dir().ok()).flatten();
    let mut running: Vec<_> = entries.into_iter().flatten().chain(of_services).filter_map(|entry| living(&entry.ok()?.path())).collect();
    running.sort_by(|a, b| (&a.name, &a.socket).cmp(&(&b.name, &b.socket)));
    running.dedup();
    Ok(running)
}

/// The master that holds this lock file, if one lives. Asking its socket leaves the lock alone: a master that is just starting must find it free.
fn living(lock_file: &Path) -> Option<Running> {
    let name = lock_file.file_name()?.to_str()?.strip_suffix(".lock")?.to_owned();
    let holder = lock::read_holder(lock_file)?;
    is_served(&holder.socket).then_some(Running { name, pid: holder.pid, socket: holder.socket })
}

/// What workers of another user need to come through to the control socket: they cannot list what is there, and everything in it is closed to them but that.
const PASSAGE: u32 = 0o011;

/// Makes the runtime directory where it is missing, and checks that it is fit. Workers of another user get a passage.
pub(super) fn prepare(has_passage: bool) -> Result<PathBuf, RuntimeDirError> {
    let (path, forbidden) = choose(|name| std::env::var_os(name), geteuid().as_raw());
    let made = DirBuilder::new().mode(0o700).recursive(true).create(&path);
    // `symlink_metadata`: a link is not ours to trust.
    let metadata = made.and_then(|()| path.symlink_metadata()).or_else(|source| match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_dir() => Ok(metadata),
        _ => Err(RuntimeDirError::Io { path: path.clone(), source }),
    })?;
    check(&path, &metadata, geteuid().as_raw(), forbidden)?;
    if has_passage && metadata.mode() & PASSAGE != PASSAGE {
        let open = || std::fs::set_permissions(&path, Permissions::from_mode(metadata.mode() & 0o7777 | PASSAGE));
        open().map_err(|source| RuntimeDirError::Io { path: path.clone(), source })?;
    }
    Ok(path)
}

/// Where the runtime directory is or would be made, if it is fit or could be.
pub(super) fn check_place() -> Result<PathBuf, RuntimeDirError> {
    let (path, forbidden) = choose(|name| std::env::var_os(name), geteuid().as_raw());
    let missing = |above: &Path| above.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let found = match path.ancestors().take_while(|above| missing(above)).last() {
        Some(first) => may_make(first).map(|()| None),
        None => path.symlink_metadata().map(Some),
    };
    if let Some(metadata) = found.map_err(|source| RuntimeDirError::Io { path: path.clone(), source })? {
        check(&path, &metadata, geteuid().as_raw(), forbidden)?;
    }
    Ok(path)
}

/// Removes what dead masters left: whatever belongs to a lock that nobody holds, unless workers may be waiting for the next master of that name.
pub(super) fn sweep(directory: &Path) {
    let Ok(entries) = directory.read_dir() else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        // Only what says that a master wrote it: the directory may be one that a service shares with its master.
        if path.extension().is_some_and(|extension| extension == "lock")
            && lock::read_holder(&path).is_some()
            && let Ok(lock) = Lock::try_take(&path)
        {
            if state::may_be_needed(&path.with_extension("state")) {
                lock.leave();
                continue;
            }
            for left in ["sock", "new", "state", "state.new"] {
                let _ = std::fs::remove_file(path.with_extension(left));
            }
            drop(lock);
        }
    }
}

fn choose(variable: impl Fn(&str) -> Option<OsString>, uid: u32) -> (PathBuf, Forbidden) {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd separates several directories by colons; the first one is ours.
    let given = variable("RUNTIME_DIRECTORY").and_then(|list| list.to_str()?.split(':').next().map(PathBuf::from)).filter(|path| path.is_absolute());
    if let Some(path) = given {
        return (path, Forbidden::Writing);
    }
    let path = match (absolute("XDG_RUNTIME_DIR"), uid) {
        (Some(base), _) => base.join("dutch-master"),
        (None, 0) => PathBuf::from("/run/dutch-master"),
        (None, uid) => absolute("TMPDIR").unwrap_or_else(|| "/tmp".into()).join(format!("dutch-master-{uid}")),
    };
    (path, if uid == 0 { Forbidden::Listing } else { Forbidden::Everything })
}

fn check(path: &Path, metadata: &Metadata, us: u32, forbidden: Forbidden) -> Result<(), RuntimeDirError> {
    let path = path.to_path_buf();
    match metadata {
        metadata if !metadata.is_dir() => Err(RuntimeDirError::NotADirectory { path }),
        metadata if metadata.uid() != us => Err(RuntimeDirError::NotOurs { path, owner: metadata.uid() }),
        metadata if metadata.mode() & forbidden as u32 != 0 => Err(RuntimeDirError::Open { path, mode: metadata.mode() & 0o7777 }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn chosen(variables: &[(&str, &str)], uid: u32) -> PathBuf {
        choose(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()), uid).0
    }

    #[test]
    fn the_directory_is_the_first_that_the_environment_offers() {
        assert_eq!(chosen(&[("RUNTIME_DIRECTORY", "/run/a:/run/b"), ("XDG_RUNTIME_DIR", "/x")], 7), Path::new("/run/a"));
        assert_eq!(chosen(&[("XDG_RUNTIME_DIR", "/x"), ("TMPDIR", "/t")], 0), Path::new("/x/dutch-master"));
        assert_eq!(chosen(&[("TMPDIR", "/t")], 0), Path::new("/run/dutch-master"));
        assert_eq!(chosen(&[("TMPDIR", "/t")], 7), Path::new("/t/dutch-master-7"));
        assert_eq!(chosen(&[], 7), Path::new("/tmp/dutch-master-7"));
        assert_eq!(chosen(&[("XDG_RUNTIME_DIR", ""), ("RUNTIME_DIRECTORY", "")], 7), Path::new("/tmp/dutch-master-7"));
    }

    #[test]
    fn masters_are_found_in_the_own_directory_and_in_those_of_services() {
        let folder = std::env::temp_dir().join(format!("dm-found-{}", std::process::id()));
        let (own, services) = (folder.join("own"), folder.join("run"));
        let start = |place: PathBuf, name: &str| {
            std::fs::create_dir_all(&place).unwrap();
            let socket = place.join(format!("{name}.sock"));
            (UnixListener::bind(&socket).unwrap(), Lock::take(&place.join(format!("{name}.lock")), &socket).unwrap())
        };
        let names = |own: &Path, services: &[&Path]| running_in(own, services).unwrap().into_iter().map(|master| master.name).collect::<Vec<_>>();
        assert_eq!(names(&own, &[&own, &services]), Vec::<String>::new());
        let _shop = start(services.join("shop"), "shop");
        assert_eq!(names(&own, &[&own, &services]), ["shop"], "there need not be a directory of one's own");
        let (_mine, _blog) = (start(own.clone(), "mine"), start(services.join("blog"), "blog"));
        let dead = start(services.join("dead"), "dead");
        drop(dead.0);
        assert_eq!(names(&own, &[&own, &services]), ["blog", "mine", "shop"]);
        // For root both are the same place.
        assert_eq!(names(&services, &[&services, &services]), ["blog", "shop"]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_directory_that_others_could_reach_or_replace_is_refused() {
        let folder = std::env::temp_dir().join(format!("dm-check-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let link = folder.with_extension("link");
        symlink(&folder, &link).unwrap();
        let us = geteuid().as_raw();
        let verdict = |mode: u32, path: &Path, us, forbidden| {
            std::fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            check(path, &path.symlink_metadata().unwrap(), us, forbidden)
        };
        assert!(verdict(0o700, &folder, us, Forbidden::Everything).is_ok());
        assert!(verdict(0o755, &folder, us, Forbidden::Writing).is_ok());
        assert!(verdict(0o711, &folder, us, Forbidden::Listing).is_ok());
        assert!(matches!(verdict(0o711, &folder, us, Forbidden::Everything), Err(RuntimeDirError::Open { .. })));
        assert!(matches!(verdict(0o755, &folder, us, Forbidden::Listing), Err(RuntimeDirError::Open { .. })));
        assert!(matches!(verdict(0o755, &folder, us, Forbidden::Everything), Err(RuntimeDirError::Open { mode: 0o755, .. })));
        assert!(matches!(verdict(0o770, &folder, us, Forbidden::Writing), Err(RuntimeDirError::Open { .. })));
        assert!(matches!(verdict(0o700, &folder, us + 1, Forbidden::Everything), Err(RuntimeDirError::NotOurs { .. })));
        assert!(matches!(verdict(0o700, &link, us, Forbidden::Everything), Err(RuntimeDirError::NotADirectory { .. })));
        std::fs::remove_file(&link).unwrap();
        std::fs::remove_dir(&folder).unwrap();
    }
}
