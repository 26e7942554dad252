//! A folder of another user, with programs that it can run, and what is seen of it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use dutch_master_tests::harness::{Master, PATIENCE, Start, binary};
use dutch_master_tests::load::{Load, Mode, Plan};
use nix::unistd::geteuid;
use tempfile::TempDir;

/// Whether this test can run.
pub(crate) fn is_root(test: &str) -> bool {
    if !geteuid().is_root() {
        println!("skipped: {test}: only root can start workers as another user");
    }
    geteuid().is_root()
}

/// The lowest number of users that nobody else is: a test stops everything that its user has.
fn first_uid() -> u32 {
    200_000 + 100 * (std::process::id() % 1_000_000)
}

/// How many worlds there were.
static WORLDS: AtomicU32 = AtomicU32::new(0);

/// A folder that this user owns, and programs that it can run wherever the repository is.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) uid: u32,
}

impl World {
    pub(crate) fn new() -> World {
        let folder = tempfile::Builder::new().prefix("dm").tempdir_in("/tmp").expect("a temporary folder can be made");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let uid = first_uid() + WORLDS.fetch_add(1, Relaxed);
        if geteuid().is_root() {
            chown(folder.path(), Some(uid), Some(uid)).expect("root may");
        }
        World { folder, uid }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        let copy = self.path(name);
        if !copy.exists() {
            fs::copy(binary(name), &copy).expect("it can be copied");
        }
        copy
    }

    pub(crate) fn http_worker(&self) -> Start {
        self.of_another_user(Start::new(self.program("http-worker")))
    }

    pub(crate) fn of_another_user(&self, start: Start) -> Start {
        let uid = self.uid.to_string();
        start.option("--dir", self.folder.path()).option("--settle-time", "0s").option("--user", &uid).option("--group", &uid)
    }

    /// What the hostile worker wrote.
    #[track_caller]
    pub(crate) fn report(&self) -> BTreeMap<String, String> {
        let text = self.await_file("report");
        text.lines().filter_map(|line| line.split_once(' ')).map(|(name, outcome)| (name.into(), outcome.into())).collect()
    }

    #[track_caller]
    pub(crate) fn await_file(&self, name: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match fs::read_to_string(self.path(name)) {
                Ok(text) => return text,
                Err(error) => assert!(Instant::now() < until, "{name}: {error}"),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A line of a file in `/proc`.
pub(crate) fn line(pid: i32, file: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process lives");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn load(master: &Master) -> Load {
    Load::start(Plan { mode: Mode::PerRequest, clients: 10, think_ms: 0..=20, ..Plan::new(master.address()) })
}
