//! What is run for a worker: found anew at every spawn, because the directory may have moved on to another release.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::node::{self, NodeError};
use super::snapshots::Environment;
use crate::options::Options;

/// Where programs are looked for when PATH is not set.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) args: Vec<OsString>,
    /// It is Node, with the SDK preloaded.
    pub(super) is_node: bool,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The directory is not there.
    #[error("cannot use the directory {}: {source}; name another by --dir, or make it", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing to make a worker from; the core orders none of a generation that it did not begin.
    #[error("generation {generation} is not known")]
    NoSnapshot {
        /// Which.
        generation: crate::core::GenerationId,
    },
    /// There is no such file.
    #[error("the worker {} is not in {}; {}", worker.display(), directory.display(), several_words(worker).unwrap_or("correct its name, or name its directory by --dir"))]
    NoSuchFile {
        /// As given.
        worker: PathBuf,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// It is neither in the directory nor in PATH.
    #[error("the worker {} is neither in {} nor in PATH; {}", worker.display(), directory.display(), several_words(worker).unwrap_or("correct its name, or give its path"))]
    NotFound {
        /// As given.
        worker: PathBuf,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// It is a directory.
    #[error("the worker {} is a directory; name the program or the script in it", path.display())]
    IsDirectory {
        /// Which.
        path: PathBuf,
    },
    /// It says how to run one.
    #[error("{} is a configuration file and no worker; `-c {}` reads it", path.display(), path.display())]
    Configuration {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be run.
    #[error("the worker {} is not executable; `chmod +x` makes it so", path.display())]
    NotExecutable {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("the worker {} is no file that this user can read; `chmod +r` makes it so", path.display())]
    NotReadable {
        /// Which.
        path: PathBuf,
    },
    /// Node or its SDK is missing.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl Program {
    /// Finds what `options` ask for, as seen from `directory`.
    pub(super) fn find(options: &Options, directory: &Path, environment: &Environment) -> Result<Program, ProgramError> {
        let program = Program::find_worker(options, directory, environment)?;
        Ok(match &options.adapt {
            Some(when) => program.adapted(when),
            None => program,
        })
    }

    /// This program as a worker that runs the other one.
    fn adapted(self, when: &str) -> Program {
        let path = std::env::current_exe().unwrap_or_else(|_| "dutch-master".into());
        let before = ["adapt", "--ready-on", when, "--"].map(OsString::from);
        let args = before.into_iter().chain([self.path.into_os_string()]).chain(self.args).collect();
        Program { path, args, is_node: false }
    }

    fn find_worker(options: &Options, directory: &Path, environment: &Environment) -> Result<Program, ProgramError> {
        let worker = &options.worker;
        let here = directory.join(worker);
        let args = options.args.iter().map(OsString::from);
        let search_path = environment.get(OsStr::new("PATH")).map_or(OsStr::new(USUAL_PATH), OsString::as_os_str);
        if options.is_run_by_node() {
            return match () {
                // The one that was named looks for the module itself, as `require` does.
                () if options.node.is_some() && is_module(&here) => Program::of_node(options, here, options.node.clone(), args),
                () if here.is_dir() => Err(ProgramError::IsDirectory { path: here }),
                () if !here.exists() => Err(ProgramError::NoSuchFile { worker: worker.clone(), directory: directory.into() }),
                () if !here.is_file() || access(&here, AccessFlags::R_OK).is_err() => Err(ProgramError::NotReadable { path: here }),
                () => Program::of_node(options, here, find_in(search_path, directory, OsStr::new("node")), args),
            };
        }
        // A file of that name in the directory comes first: `start app` means ./app.
        let found = match here.is_file() {
            true => Some(here),
            // A directory may have the name of a program.
            false if here.is_dir() && find_in(search_path, directory, worker.as_os_str()).is_none() => return Err(ProgramError::IsDirectory { path: here }),
            false if worker.as_os_str().as_bytes().contains(&b'/') => {
                return Err(ProgramError::NoSuchFile { worker: worker.clone(), directory: directory.into() });
            }
            false => find_in(search_path, directory, worker.as_os_str()),
        };
        match found {
            None => Err(ProgramError::NotFound { worker: worker.clone(), directory: directory.into() }),
            Some(path) if !is_executable(&path) && path.extension().is_some_and(|extension| extension == "toml") => Err(ProgramError::Configuration { path }),
            Some(path) if !is_executable(&path) => Err(ProgramError::NotExecutable { path }),
            Some(path) => Ok(Program { path, args: args.collect(), is_node: false }),
        }
    }

    /// The file of the worker itself, whoever runs it, if it is there.
    pub(super) fn file(options: &Options, directory: &Path, environment: &Environment) -> Option<PathBuf> {
        if options.is_run_by_node() {
            return Some(directory.join(&options.worker)).filter(|script| script.is_file());
        }
        Program::find_worker(options, directory, environment).ok().map(|program| program.path)
    }

    fn of_node(options: &Options, script: PathBuf, node: Option<PathBuf>, args: impl Iterator<Item = OsString>) -> Result<Program, ProgramError> {
        let runner = node::find(options, &script, &node)?;
        let args = runner.args.into_iter().chain([script.into_os_string()]).chain(args).collect();
        Ok(Program { path: runner.node, args, is_node: true })
    }
}

/// What may be wrong with a worker that is not there and has a space in its name.
fn several_words(worker: &Path) -> Option<&'static str> {
    let has_space = worker.as_os_str().as_bytes().contains(&b' ');
    has_space.then_some("give its arguments apart from it: as words of their own, or as `args` in the file")
}

/// Whether `require` would look there: a file, with or without its ending, or a folder that is a module.
fn is_module(path: &Path) -> bool {
    let with = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    path.is_file() || [".js", ".json", ".node", "/package.json", "/index.js"].into_iter().any(|ending| with(ending).is_file())
}

/// The first executable file of this name in a list of directories; relative ones are seen from `directory`.
fn find_in(search_path: &OsStr, directory: &Path, name: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(search_path).map(|entry| directory.join(entry).join(name)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("dm-program-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn file(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        }

        fn find(&self, options: &Options, path: Option<&str>) -> Result<Program, ProgramError> {
            let environment = path.map(|path| ("PATH".into(), path.into())).into_iter().collect();
            Program::find(options, &self.0, &environment)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_in_the_directory_comes_before_one_in_path() {
        let folder = Folder::new("path");
        let there = folder.file("bin/service", 0o755);
        assert_eq!(folder.find(&Options::new("service"), Some("/nowhere:bin")).unwrap().path, there);
        let here = folder.file("service", 0o755);
        assert_eq!(folder.find(&Options::new("service"), Some("bin")).unwrap().path, here);
        assert_eq!(folder.find(&Options::new("./service"), None).unwrap().path.canonicalize().unwrap(), here.canonicalize().unwrap());
    }

    #[test]
    fn without_a_path_the_usual_places_are_searched() {
        assert!(Folder::new("usual").find(&Options::new("sh"), None).unwrap().path.ends_with("sh"));
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_reason() {
        let folder = Folder::new("refused");
        let find = |worker: &str| folder.find(&Options::new(worker), Some("/bin"));
        assert!(matches!(find("nonesuch"), Err(ProgramError::NotFound { .. })));
        assert!(matches!(find("./nonesuch"), Err(ProgramError::NoSuchFile { .. })));
        assert!(matches!(find("nonesuch.js"), Err(ProgramError::NoSuchFile { .. })));
        folder.file("plain", 0o644);
        assert!(matches!(find("plain"), Err(ProgramError::NotExecutable { .. })));
        std::fs::create_dir(folder.0.join("folder.js")).unwrap();
        assert!(matches!(find("folder.js"), Err(ProgramError::IsDirectory { .. })));
        assert!(matches!(find("."), Err(ProgramError::IsDirectory { .. })));
        folder.file("dutch-master.toml", 0o644);
        assert!(matches!(find("dutch-master.toml"), Err(ProgramError::Configuration { .. })));
    }

    #[test]
    fn an_adapted_program_is_run_by_this_one() {
        let folder = Folder::new("adapted");
        let program = folder.file("bin/service", 0o755);
        let options = Options { args: vec!["--fd".into(), "{fd}".into()], adapt: Some("notify".into()), ..Options::new("service") };
        let found = folder.find(&options, Some("bin")).unwrap();
        let expected: Vec<OsString> = vec!["adapt".into(), "--ready-on".into(), "notify".into(), "--".into(), program.into(), "--fd".into(), "{fd}".into()];
        assert_eq!(found, Program { path: std::env::current_exe().unwrap(), args: expected, is_node: false });
        assert!(folder.find(&Options { adapt: Some("accept".into()), ..Options::new("nonesuch") }, Some("bin")).is_err());
    }

    #[test]
    fn a_script_is_run_by_node_with_the_sdk_preloaded() {
        let folder = Folder::new("script");
        let node = folder.file("bin/node", 0o755);
        let script = folder.file("app/app.js", 0o644);
        let mut options = Options::new("app/app.js");
        (options.args, options.node_args) = (vec!["--port".into(), "8000".into()], vec!["--inspect".into()]);
        options.node_sdk = Some("/nowhere".into());
        let refused = folder.find(&options, Some("bin")).unwrap_err();
        assert!(refused.to_string().contains("/nowhere"), "{refused}");
        options.node_sdk = None;
        let preload = folder.file("node_modules/dutch-master-worker/preload.js", 0o644);
        let program = folder.find(&options, Some("bin")).unwrap();
        let expected: Vec<OsString> =
            vec!["--inspect".into(), "--require".into(), preload.canonicalize().unwrap().into(), script.into(), "--port".into(), "8000".into()];
        assert_eq!(program, Program { path: node, args: expected, is_node: true });
        assert!(matches!(folder.find(&options, Some("/nowhere")), Err(ProgramError::Node(NodeError::NotFound))));
    }

    #[test]
    fn a_node_that_was_named_runs_every_module_whatever_its_name() {
        let folder = Folder::new("named");
        folder.file("node_modules/dutch-master-worker/preload.js", 0o644);
        for (worker, file) in [("app", "app.js"), ("bin/www", "bin/www"), ("service", "service/index.js")] {
            folder.file(file, 0o644);
            let options = Options { node: Some("/usr/bin/node".into()), ..Options::new(worker) };
            let program = folder.find(&options, None).unwrap();
            assert_eq!((program.path.to_str(), program.args.last()), (Some("/usr/bin/node"), Some(&folder.0.join(worker).into_os_string())));
        }
        let options = Options { node: Some("/usr/bin/node".into()), ..Options::new("nonesuch") };
        assert!(matches!(folder.find(&options, None), Err(ProgramError::NoSuchFile { .. })));
    }
}
