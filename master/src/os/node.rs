//! Script workers: which Node runs them, with which SDK preloaded.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, poll};

use crate::options::Options;

/// Name of the SDK's package.
const PACKAGE: &str = "dutch-master-worker";

/// The file of the package that Node loads before the script.
const PRELOAD: &str = "preload.js";

/// Options of Node after which it, or something it loads, may understand TypeScript whatever its version.
const LOADERS: [&str; 7] = ["--experimental-strip-types", "--experimental-transform-types", "--import", "--require", "-r", "--loader", "--experimental-loader"];

/// How long Node may take to say its version, in milliseconds: a start must not hang on it.
const VERSION_TIMEOUT: u16 = 10_000;

/// How to run a script.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) node: PathBuf,
    /// All arguments before the script.
    pub(super) args: Vec<OsString>,
}

/// Why a script cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No Node.
    #[error("the worker is a script, but there is no `node` in PATH; install Node.js 20 or newer, or set PATH")]
    NotFound,
    /// No SDK.
    #[error("the Node SDK ({PACKAGE}) is neither in a node_modules folder of {} or above nor beside dutch-master; install it there, or say --node-sdk PATH", app.display())]
    NoSdk {
        /// Folder of the script.
        app: PathBuf,
    },
    /// No SDK where it should be.
    #[error("--node-sdk: there is no {PRELOAD} in {}; name the folder of the package dutch-master-worker", path.display())]
    NoSdkThere {
        /// The folder that was named.
        path: PathBuf,
    },
    /// This Node does not run TypeScript.
    #[error("{} {version} does not run TypeScript by itself: Node 22.18, 23.6 or newer does; or name a loader, as in --node-args='--import tsx'", node.display())]
    NoTypeScript {
        /// The program.
        node: PathBuf,
        /// What it says of itself.
        version: String,
    },
}

/// How `script` is run by the Node that was found in PATH.
pub(super) fn find(options: &Options, script: &Path, node: &Option<PathBuf>) -> Result<Runner, NodeError> {
    let node = node.clone().ok_or(NodeError::NotFound)?;
    let preload = sdk(options.node_sdk.as_deref(), script)?.join(PRELOAD);
    let args = options.node_args.iter().map(OsString::from).chain(["--require".into(), preload.into()]).collect();
    Ok(Runner { node, args })
}

/// The folder of the SDK: the one that was named, else as `require` finds it from the script, else what came with this program.
fn sdk(named: Option<&Path>, script: &Path) -> Result<PathBuf, NodeError> {
    let has_it = |folder: &PathBuf| folder.join(PRELOAD).is_file();
    if let Some(folder) = named {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
        return Some(folder.clone()).filter(has_it).ok_or(NodeError::NoSdkThere { path: folder });
    }
    let script = script.canonicalize().unwrap_or_else(|_| script.into());
    let app = script.parent().unwrap_or(&script);
    let installed = app.ancestors().map(|folder| folder.join("node_modules").join(PACKAGE));
    let program = std::env::current_exe().and_then(|program| program.canonicalize()).unwrap_or_default();
    let bin = program.parent().map(Path::to_path_buf).unwrap_or_default();
    // An installation prefix, and a checkout's target/debug or target/release.
    let beside = [bin.join("../lib/node_modules").join(PACKAGE), bin.join("../../sdk-node/worker")];
    installed.chain(beside).find(has_it).map(|folder| folder.canonicalize().unwrap_or(folder)).ok_or_else(|| NodeError::NoSdk { app: app.into() })
}

/// Whether the Node that was found runs TypeScript. Asks it, so it is done once, before the first spawn.
pub(super) fn check_typescript(options: &Options, node: &Path) -> Result<(), NodeError> {
    let loads = |arg: &String| LOADERS.iter().any(|loader| arg == loader || arg.strip_prefix(loader).is_some_and(|rest| rest.starts_with('=')));
    if options.worker.extension().is_none_or(|extension| extension != "ts") || options.node_args.iter().any(loads) {
        return Ok(());
    }
    // One that cannot even say its version will say why when it is to run a worker.
    let Ok(Some(version)) = version_of(node) else { return Ok(()) };
    if runs_typescript(&version) { Ok(()) } else { Err(NodeError::NoTypeScript { node: node.into(), version }) }
}

/// What this Node says of its version; `None`: it takes too long.
fn version_of(node: &Path) -> io::Result<Option<String>> {
    let mut child = Command::new(node).arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let answers = match &child.stdout {
        Some(stdout) => poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)], VERSION_TIMEOUT)? > 0,
        None => false,
    };
    if !answers {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    Ok(answers.then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

fn runs_typescript(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    match (numbers.next(), numbers.next()) {
        (Some(22), Some(minor)) => minor >= 18,
        (Some(23), Some(minor)) => minor >= 6,
        (Some(major), _) => major >= 24,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typescript_needs_a_node_that_strips_types_or_a_loader() {
        for (version, runs) in
            [("v20.20.2", false), ("v22.17.1", false), ("v22.18.0", true), ("v23.5.0", false), ("v23.6.0", true), ("v24.0.0", true), ("", false)]
        {
            assert_eq!(runs_typescript(version), runs, "{version}");
        }
        let mut options = Options::new("app.ts");
        assert!(matches!(check_typescript(&options, Path::new("/bin/echo")), Err(NodeError::NoTypeScript { .. })));
        options.node_args = vec!["--import=tsx".into()];
        assert!(check_typescript(&options, Path::new("/bin/echo")).is_ok());
        assert!(check_typescript(&Options::new("app.js"), Path::new("/bin/echo")).is_ok());
    }
}
