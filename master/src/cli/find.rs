//! Which master a command means: `--socket`, else `--name`, else `DUTCH_MASTER_SOCKET`, else the only one that the user runs.

use std::env;
use std::path::PathBuf;

use dutch_master::runtime_dir::{self, Running};
use dutch_master_protocol::env::SOCKET;

use super::args::Which;
use super::exit::Failure;

/// The control socket of the master that is meant.
pub(super) fn socket(which: &Which) -> Result<PathBuf, Failure> {
    let from_environment = || env::var_os(SOCKET).filter(|path| !path.is_empty()).map(PathBuf::from);
    match (&which.socket, &which.name) {
        (Some(socket), _) => Ok(socket.clone()),
        (None, Some(name)) => named(all()?, name).map_err(|failure| unless_died(failure, |died| died == name)),
        (None, None) => from_environment().map_or_else(|| only(all()?).map_err(|failure| unless_died(failure, |_| true)), Ok),
    }
}

/// A service whose master died serves on: that is told instead, where such a one is meant.
fn unless_died(failure: Failure, is_meant: impl Fn(&str) -> bool) -> Failure {
    if !matches!(failure, Failure::NoMaster | Failure::NoSuchMaster { .. }) {
        return failure;
    }
    let died: Vec<_> = runtime_dir::died().into_iter().filter(|name| is_meant(name)).collect();
    if died.is_empty() { failure } else { Failure::Died(died) }
}

/// Every master that runs and that the user may talk to, by name.
pub(super) fn all() -> Result<Vec<Running>, Failure> {
    runtime_dir::running().map_err(|error| Failure::Directory { error })
}

fn named(running: Vec<Running>, name: &str) -> Result<PathBuf, Failure> {
    let (same, others): (Vec<_>, Vec<_>) = running.into_iter().partition(|master| master.name == name);
    match &same[..] {
        [master] => Ok(master.socket.clone()),
        [] => Err(Failure::NoSuchMaster { name: name.into(), running: others }),
        [..] => Err(Failure::SameName { name: name.into(), running: same }),
    }
}

fn only(mut running: Vec<Running>) -> Result<PathBuf, Failure> {
    match (running.pop(), running.is_empty()) {
        (None, _) => Err(Failure::NoMaster),
        (Some(master), true) => Ok(master.socket),
        (Some(master), false) => {
            running.push(master);
            Err(Failure::Several(running))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(names: &[&str]) -> Vec<Running> {
        names.iter().map(|name| Running { name: (*name).into(), pid: 7, socket: format!("/run/{name}.sock").into() }).collect()
    }

    #[test]
    fn the_only_master_needs_no_name() {
        assert_eq!(only(running(&["a"])).unwrap(), PathBuf::from("/run/a.sock"));
        let none = only(running(&[])).unwrap_err();
        assert_eq!((none.code(), none.to_string().contains("start WORKER")), (3, true));
    }

    #[test]
    fn of_several_masters_one_must_be_chosen() {
        let several = only(running(&["a", "b"])).unwrap_err();
        assert_eq!(several.code(), 3);
        assert_eq!(
            several.to_string(),
            "several masters run (`dutch-master status --all` tells them apart); choose one by --name:\n  a  (pid 7)\n  b  (pid 7)"
        );
    }

    #[test]
    fn of_two_masters_of_one_name_none_is_taken_for_the_other() {
        let mut both = running(&["shop", "shop", "blog"]);
        both[1].socket = "/run/dutch-master/shop/shop.sock".into();
        let error = named(both, "shop").unwrap_err();
        let told = "several masters of the name `shop` run; choose one by --socket:\n  /run/shop.sock  (pid 7)\n  /run/dutch-master/shop/shop.sock  (pid 7)";
        assert_eq!((error.code(), error.to_string()), (3, told.into()));
    }

    #[test]
    fn a_name_that_no_master_has_lists_those_that_run() {
        assert_eq!(named(running(&["a", "b"]), "b").unwrap(), PathBuf::from("/run/b.sock"));
        let error = named(running(&["a", "b"]), "c").unwrap_err();
        assert_eq!((error.code(), error.to_string()), (3, "no master of the name `c` runs; these do:\n  a  (pid 7)\n  b  (pid 7)".into()));
    }
}
