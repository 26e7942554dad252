//! Where the programs are that the tests run: beside the test itself, wherever cargo puts what it builds.

use std::path::{Path, PathBuf};

/// A program of this workspace.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its program");
    let built = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    built.unwrap_or_else(|| panic!("{name} has not been built: run `make test`"))
}

/// A file of the repository.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn repository(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace");
    let file = root.join(path);
    assert!(file.exists(), "{} is missing: run `make test`", file.display());
    file
}
