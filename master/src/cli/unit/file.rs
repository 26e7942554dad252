//! A unit as systemd puts it together: the file, or the template that it is an instance of, with the drop-ins of both that lie beside it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;

/// Most bytes of a unit or a drop-in: many times the longest, and an end when it is the wrong file.
const FILE_MAX: u64 = 1 << 20;

/// The settings by section and name, in their order. Of most names the last one counts; an empty one takes back those before it.
#[derive(Debug, Default)]
pub(in crate::cli) struct Unit {
    settings: BTreeMap<(String, String), Vec<String>>,
    file: PathBuf,
}

impl Unit {
    /// Reads it. An instance need not have a file of its own.
    pub(in crate::cli) fn load(file: &Path) -> Result<Unit, String> {
        let name = file.file_name().unwrap_or_default();
        let template = template(name);
        let cannot = |read: &Path, error| format!("cannot read {}: {error}", read.display());
        let text = match (read(file), &template) {
            // The error names what was asked for.
            (Err(error), Some(template)) if error.kind() == io::ErrorKind::NotFound => read(&file.with_file_name(template)).map_err(|_| error),
            (text, _) => text,
        };
        let mut unit = Unit::read(&text.map_err(|error| cannot(file, error))?);
        // An enabled instance is a link, and its drop-ins lie beside what it leads to.
        let real = file.canonicalize().ok();
        let folders = [file.parent(), real.as_deref().and_then(Path::parent)].map(|folder| folder.unwrap_or(Path::new("")));
        let names = template.as_deref().into_iter().chain([name]);
        for drop_in in drop_ins(names.flat_map(|name| folders.iter().map(move |folder| folder.join(name)))).values() {
            unit.add(&read(drop_in).map_err(|error| cannot(drop_in, error))?);
        }
        Ok(Unit { file: file.into(), ..unit })
    }

    pub(super) fn read(text: &str) -> Unit {
        let mut unit = Unit::default();
        unit.add(text);
        unit
    }

    #[cfg(test)]
    pub(super) fn named(name: &str) -> Unit {
        Unit { file: name.into(), ..Unit::default() }
    }

    pub(super) fn add(&mut self, text: &str) {
        let mut section = String::new();
        for line in lines(text) {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.into();
            } else if let Some((name, value)) = line.split_once('=') {
                let values = self.settings.entry((section.clone(), name.trim().into())).or_default();
                match value.trim() {
                    "" => values.clear(),
                    value => values.push(value.into()),
                }
            }
        }
    }

    pub(super) fn is_socket(&self) -> bool {
        self.settings.keys().any(|(section, _)| section == "Socket")
    }

    pub(super) fn get(&self, section: &str, name: &str) -> Option<&str> {
        self.all(section, name).last().map(String::as_str)
    }

    /// Where a name may be there several times.
    pub(super) fn all(&self, section: &str, name: &str) -> &[String] {
        self.settings.get(&(section.into(), name.into())).map_or(&[], Vec::as_slice)
    }

    pub(super) fn service(&self, name: &str) -> Option<&str> {
        self.get("Service", name)
    }

    /// Where it was looked for.
    pub(in crate::cli) fn file(&self) -> &Path {
        &self.file
    }

    /// `NAME.service`, `TEMPLATE@.service` or `TEMPLATE@INSTANCE.service`.
    pub(super) fn name(&self) -> &str {
        self.file.file_name().and_then(OsStr::to_str).unwrap_or_default()
    }
}

/// The text of a file, if it is one that ends: a pipe would keep us waiting for whoever fills it.
fn read(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    // A unit that is masked is a link to /dev/null.
    if !kind.is_file() && !path.canonicalize().is_ok_and(|real| real == Path::new("/dev/null")) {
        return Err(if kind.is_dir() { io::ErrorKind::IsADirectory.into() } else { io::Error::other("it is no regular file") });
    }
    let mut text = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX { Err(io::Error::other(format!("it is longer than {} KiB", FILE_MAX / 1024))) } else { Ok(text) }
}

/// The lines without comments, each with what it is continued by: a comment neither ends a line that goes on nor goes on itself.
fn lines(text: &str) -> Vec<String> {
    let (mut lines, mut goes_on) = (Vec::<String>::new(), false);
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        let part = line.strip_suffix('\\');
        match lines.last_mut().filter(|_| goes_on) {
            Some(begun) => *begun = format!("{begun} {}", part.unwrap_or(line)),
            None => lines.push(part.unwrap_or(line).into()),
        }
        goes_on = part.is_some();
    }
    lines
}

/// `TEMPLATE@.service` of `TEMPLATE@INSTANCE.service`.
fn template(name: &OsStr) -> Option<OsString> {
    let (template, instance) = name.to_str()?.split_once('@')?;
    let (instance, kind) = instance.rsplit_once('.')?;
    (!instance.is_empty()).then(|| format!("{template}@.{kind}").into())
}

/// In the order in which they are read; of those with one name the last one counts.
fn drop_ins(units: impl Iterator<Item = PathBuf>) -> BTreeMap<OsString, PathBuf> {
    let folders = units.map(|unit| {
        let mut folder = unit.into_os_string();
        folder.push(".d");
        PathBuf::from(folder)
    });
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten()).filter_map(|entry| Some(entry.ok()?.path()));
    let drop_ins = files.filter(|path| path.extension().is_some_and(|extension| extension == "conf"));
    drop_ins.filter_map(|path| Some((path.file_name()?.to_owned(), path))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writes files into a folder of this test's, and takes it away in the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            Folder(std::env::temp_dir().join(format!("dm-unit-{name}-{}", std::process::id())))
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("[Service]\n{text}\n")).unwrap();
        }

        fn load(&self, name: &str) -> Result<Unit, String> {
            Unit::load(&self.0.join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_instance_is_its_template_with_the_drop_ins_of_both() {
        let folder = Folder::new("instance");
        folder.write("a@.service", "Type=simple\nRestart=no\nUser=app");
        folder.write("a@.service.d/10.conf", "Type=exec\nGroup=app");
        folder.write("a@.service.d/30.conf", "Restart=always");
        folder.write("a@x.service.d/10.conf", "Type=notify");
        folder.write("a@x.service.d/20.conf", "Restart=on-failure");
        folder.write("a@x.service.d/notes", "User=root");
        let unit = folder.load("a@x.service").unwrap();
        let of = |name: &str| unit.service(name);
        assert_eq!((of("Type"), of("Restart"), of("User"), of("Group")), (Some("notify"), Some("always"), Some("app"), None));
        assert_eq!(unit.name(), "a@x.service");
        let unit = folder.load("a@.service").unwrap();
        assert_eq!((unit.service("Type"), unit.service("Group")), (Some("exec"), Some("app")));
        assert!(folder.load("b@x.service").unwrap_err().contains("b@x.service: No such file"));
    }

    #[test]
    fn comments_and_continued_lines_are_taken_as_systemd_takes_them() {
        let unit = Unit::read("[Service]\n# ends so \\\nType=notify\r\nExecStart=a \\\r\n  # between \\\n;too\n b \\\n\nUser=app\nGroup=a\nGroup=\n");
        let of = |name: &str| unit.service(name);
        assert_eq!((of("Type"), of("User"), of("Group")), (Some("notify"), Some("app"), None));
        assert_eq!(of("ExecStart").unwrap().split_whitespace().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn each_drop_in_is_a_file_of_its_own() {
        let folder = Folder::new("own");
        folder.write("a.service", "Type=notify\n[Install]\nAlias=b \\");
        fs::create_dir(folder.0.join("a.service.d")).unwrap();
        fs::write(folder.0.join("a.service.d/1.conf"), "User=of no section\n[Service]\nGroup=app").unwrap();
        let unit = folder.load("a.service").unwrap();
        assert_eq!((unit.service("Group"), unit.service("User"), unit.get("Install", "User")), (Some("app"), None, None));
    }

    #[test]
    fn what_has_no_end_is_not_read_and_the_file_is_named() {
        let folder = Folder::new("endless");
        folder.write("a.service", "Type=notify");
        fs::create_dir(folder.0.join("a.service.d")).unwrap();
        let drop_in = folder.0.join("a.service.d/1.conf");
        nix::unistd::mkfifo(&drop_in, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(folder.load("a.service").unwrap_err().ends_with("a.service.d/1.conf: it is no regular file"));
        fs::remove_file(&drop_in).unwrap();
        std::os::unix::fs::symlink("/dev/null", &drop_in).unwrap();
        assert_eq!(folder.load("a.service").unwrap().service("Type"), Some("notify"));
        fs::write(folder.0.join("b.service"), " ".repeat(FILE_MAX as usize + 1)).unwrap();
        assert!(folder.load("b.service").unwrap_err().ends_with("b.service: it is longer than 1024 KiB"));
        assert!(Unit::load(Path::new("/dev/zero")).unwrap_err().ends_with("/dev/zero: it is no regular file"));
    }

    #[test]
    fn an_enabled_instance_is_a_link_to_its_template() {
        let folder = Folder::new("link");
        folder.write("a@.service", "Type=simple");
        folder.write("a@x.service.d/10.conf", "Type=notify");
        fs::create_dir(folder.0.join("wants")).unwrap();
        std::os::unix::fs::symlink("../a@.service", folder.0.join("wants/a@x.service")).unwrap();
        assert_eq!(folder.load("wants/a@x.service").unwrap().service("Type"), Some("notify"));
    }
}
