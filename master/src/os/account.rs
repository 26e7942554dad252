//! Another user for the workers: looked up once, before anything is started, because the system's user database may be slow or far away.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::libc;
use nix::sys::prctl;
use nix::unistd::{AccessFlags, Gid, Group, Uid, User, getegid, geteuid, getgrouplist, getgroups};

use super::snapshots::Environment;
use crate::options::Options;

/// Variables that tell a program who it runs as.
const WHO: [&str; 4] = ["USER", "LOGNAME", "HOME", "SHELL"];

/// Why workers cannot run as this user.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no such user.
    #[error("there is no user {name:?}; `getent passwd` lists them, and a number needs no entry there")]
    NoUser {
        /// As given.
        name: String,
    },
    /// There is no such group.
    #[error("there is no group {name:?}; `getent group` lists them, and a number needs no entry there")]
    NoGroup {
        /// As given.
        name: String,
    },
    /// A number without an entry belongs to no group.
    #[error("user {uid} is not in the user database, so that its group is not known; name one by --group")]
    GroupUnknown {
        /// The number.
        uid: u32,
    },
    /// The database cannot be asked.
    #[error("cannot look up {name:?}: {source}")]
    LookUp {
        /// As given.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Only root may.
    #[error(
        "workers cannot run as another user: only root may start them so, and this master's uid is {uid}; start it as root, or leave out --user, --group and --groups"
    )]
    NotRoot {
        /// The master's.
        uid: u32,
    },
    /// The account could not run the worker.
    #[error("{who}, whom the workers run as, may not {what} {}; grant it, or choose another place or --user", path.display())]
    Denied {
        /// The account.
        who: String,
        /// What it has to do.
        what: &'static str,
        /// With what.
        path: PathBuf,
    },
}

/// The user and the groups of workers that are not the master's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
    name: String,
    /// What `WHO` says by default of this user, and what the master's own parent said of the master.
    variables: Vec<(&'static str, OsString, Option<OsString>)>,
}

impl Account {
    /// The one that the options ask for; none: that of the master.
    pub(super) fn of(options: &Options) -> Result<Option<Account>, AccountError> {
        let Options { user, group, groups, .. } = options;
        if user.is_none() && group.is_none() && groups.is_none() {
            return Ok(None);
        }
        let entry = user.as_deref().map(user_of).transpose()?;
        let uid = entry.as_ref().map_or_else(geteuid, Passwd::uid);
        let gid = match (group, &entry) {
            (Some(name), _) => group_of(name)?,
            (None, Some(Passwd::Known(user))) => user.gid,
            (None, Some(Passwd::Number(uid))) => return Err(AccountError::GroupUnknown { uid: uid.as_raw() }),
            (None, None) => getegid(),
        };
        let groups = match (groups, &entry) {
            (Some(names), _) => names.iter().map(|name| group_of(name)).collect::<Result<_, _>>()?,
            (None, Some(Passwd::Known(user))) => groups_in_files(user, gid)?,
            (None, Some(Passwd::Number(_))) => Vec::new(),
            (None, None) => getgroups().unwrap_or_default(),
        };
        if !geteuid().is_root() {
            let is_own = options.groups.is_none() && uid == geteuid() && gid == getegid();
            return if is_own { Ok(None) } else { Err(AccountError::NotRoot { uid: geteuid().as_raw() }) };
        }
        let name = user.clone().unwrap_or_else(|| format!("user {uid}"));
        let variables = entry.map_or_else(Vec::new, Passwd::variables);
        Ok(Some(Account { uid, gid, groups, name, variables }))
    }

    /// Whether its processes are others' to the master.
    pub(super) fn is_another_user(&self) -> bool {
        self.uid != geteuid()
    }

    /// For people.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Tells a worker who it is, where the environment only says who the master is.
    pub(super) fn introduce(&self, environment: &Environment) -> impl Iterator<Item = (&'static str, &OsString)> {
        let says = |name: &str| environment.get(OsString::from(name).as_os_str()).cloned();
        self.variables
            .iter()
            .filter(move |(name, _, inherited)| says(name).is_none_or(|value| Some(value) == *inherited))
            .map(|(name, value, _)| (*name, value))
    }

    /// Refuses what would let every worker fail.
    pub(super) fn must(&self, what: &'static str, access: AccessFlags, path: &Path) -> Result<(), AccountError> {
        if self.may(access, path) { Ok(()) } else { Err(AccountError::Denied { who: self.name.clone(), what, path: path.into() }) }
    }

    /// Whether it may do that with a file. The kernel is asked by a thread that has this account's rights to files, and no other: it cannot be signalled by that user.
    pub(super) fn may(&self, access: AccessFlags, path: &Path) -> bool {
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
        // Where the system no longer lets a process be examined, after one of its threads was someone else, that is undone.
        let dumpable = prctl::get_dumpable();
        let answer = thread::scope(|scope| scope.spawn(|| self.ask(access, &path)).join());
        if dumpable == Ok(true) {
            let _ = prctl::set_dumpable(true);
        }
        answer.unwrap_or(true)
    }

    /// In a thread of its own, which ends with this.
    #[allow(unsafe_code)]
    fn ask(&self, access: AccessFlags, path: &CString) -> bool {
        let groups: Vec<libc::gid_t> = self.groups.iter().map(|group| group.as_raw()).collect();
        // SAFETY: system calls with plain numbers, a list that outlives the call and whose length is given with it, and a text that ends with a zero. They change the rights of this thread alone:
        // the C library's functions of these names would change those of every thread.
        let outcome = unsafe {
            libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
            libc::syscall(libc::SYS_setfsgid, self.gid.as_raw());
            libc::syscall(libc::SYS_setfsuid, self.uid.as_raw());
            libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), access.bits(), libc::AT_EACCESS)
        };
        // Kernels before 5.8 do not know the question; then the worker's start answers it.
        outcome == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EACCES)
    }
}

/// A user by name or number.
enum Passwd {
    Known(Box<User>),
    Number(Uid),
}

impl Passwd {
    fn uid(&self) -> Uid {
        match self {
            Passwd::Known(user) => user.uid,
            Passwd::Number(uid) => *uid,
        }
    }

    fn variables(self) -> Vec<(&'static str, OsString, Option<OsString>)> {
        let values: [OsString; 4] = match self {
            Passwd::Known(user) => [user.name.clone().into(), user.name.into(), user.dir.into(), user.shell.into()],
            // Whatever is inherited would be the master's.
            Passwd::Number(uid) => [uid.to_string().into(), uid.to_string().into(), "/".into(), "/bin/sh".into()],
        };
        WHO.into_iter().zip(values).map(|(name, value)| (name, value, std::env::var_os(name))).collect()
    }
}

fn looked_up<T>(name: &str, outcome: nix::Result<Option<T>>) -> Result<Option<T>, AccountError> {
    outcome.map_err(|errno| AccountError::LookUp { name: name.into(), source: errno.into() })
}

fn user_of(name: &str) -> Result<Passwd, AccountError> {
    if let Some(user) = looked_up(name, User::from_name(name))? {
        return Ok(Passwd::Known(Box::new(user)));
    }
    let uid = number(name).map(Uid::from_raw).ok_or_else(|| AccountError::NoUser { name: name.into() })?;
    Ok(looked_up(name, User::from_uid(uid))?.map_or(Passwd::Number(uid), |user| Passwd::Known(Box::new(user))))
}

/// A user's number.
pub(super) fn uid_of(name: &str) -> Result<Uid, AccountError> {
    user_of(name).map(|entry| entry.uid())
}

/// A group's number.
pub(super) fn group_of(name: &str) -> Result<Gid, AccountError> {
    match looked_up(name, Group::from_name(name))? {
        Some(group) => Ok(group.gid),
        None => number(name).map(Gid::from_raw).ok_or_else(|| AccountError::NoGroup { name: name.into() }),
    }
}

/// The highest one means "leave it as it is" to the system.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

fn groups_in_files(user: &User, gid: Gid) -> Result<Vec<Gid>, AccountError> {
    let failed = |source| AccountError::LookUp { name: user.name.clone(), source };
    let name = CString::new(user.name.as_str()).map_err(|error| failed(error.into()))?;
    getgrouplist(&name, gid).map_err(|errno| failed(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(user: Option<&str>, group: Option<&str>, groups: Option<&[&str]>) -> Result<Option<Account>, AccountError> {
        let groups = groups.map(|groups| groups.iter().map(|group| (*group).to_owned()).collect());
        Account::of(&Options { user: user.map(Into::into), group: group.map(Into::into), groups, ..Options::new("app") })
    }

    #[test]
    fn who_asks_for_nothing_gets_the_masters_own() {
        assert_eq!(asking(None, None, None).unwrap(), None);
    }

    #[test]
    fn an_unknown_name_is_refused_and_the_remedy_told() {
        for (user, group, words) in
            [(Some("nobody-at-all"), None, "getent passwd"), (None, Some("nothing-at-all"), "getent group"), (Some("4294967295"), None, "no user")]
        {
            let error = asking(user, group, None).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(matches!(asking(Some("54321"), None, None), Err(AccountError::GroupUnknown { uid: 54_321 })));
    }

    #[test]
    fn only_root_can_give_workers_another_user() {
        if geteuid().is_root() {
            let account = asking(Some("54321"), Some("54322"), Some(&["54323"])).unwrap().unwrap();
            assert_eq!((account.uid.as_raw(), account.gid.as_raw(), account.groups), (54_321, 54_322, vec![Gid::from_raw(54_323)]));
        } else {
            assert!(matches!(asking(Some("54321"), Some("54322"), None), Err(AccountError::NotRoot { .. })));
            assert_eq!(asking(Some(&geteuid().to_string()), None, None).unwrap(), None);
        }
    }

    #[test]
    fn a_worker_is_told_who_it_is_unless_the_configuration_says_otherwise() {
        let variables = vec![("HOME", "/home/www".into(), Some("/root".into())), ("USER", "www".into(), None)];
        let account = Account { uid: Uid::from_raw(7), gid: Gid::from_raw(7), groups: Vec::new(), name: "www".into(), variables };
        let told = |environment: &[(&str, &str)]| {
            let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            account.introduce(&environment).map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(told(&[]), ["HOME", "USER"]);
        assert_eq!(told(&[("HOME", "/root"), ("USER", "me")]), ["HOME"]);
        assert_eq!(told(&[("HOME", "/srv")]), ["USER"]);
    }

    #[test]
    fn what_a_user_may_do_with_a_file_is_what_the_kernel_says() {
        if !geteuid().is_root() {
            return; // Nobody else can ask as another user.
        }
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("dm-account-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        let account = asking(Some("54321"), Some("54322"), None).unwrap().unwrap();
        for (mode, may) in [(0o600, false), (0o644, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(account.may(AccessFlags::R_OK, &path), may, "{mode:o}");
        }
        assert!(matches!(account.must("write", AccessFlags::W_OK, &path), Err(AccountError::Denied { .. })));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(geteuid().as_raw(), 0);
    }
}
