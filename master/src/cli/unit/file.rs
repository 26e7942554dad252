//! A unit as systemd puts it together: the file, or the template that it is an instance of, with the drop-ins of both that lie beside it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// The settings by section and name; the last one of a name counts.
#[derive(Debug, Default)]
pub(in crate::cli) struct Unit {
    settings: BTreeMap<(String, String), String>,
    file: PathBuf,
}

impl Unit {
    /// Reads it. An instance need not have a file of its own.
    pub(in crate::cli) fn load(file: &Path) -> Result<Unit, String> {
        Unit::put_together(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
    }

    fn put_together(file: &Path) -> io::Result<Unit> {
        let name = file.file_name().unwrap_or_default();
        let template = template(name);
        let text = match (std::fs::read_to_string(file), &template) {
            (Err(error), Some(template)) if error.kind() == io::ErrorKind::NotFound => {
                // The error names what was asked for.
                std::fs::read_to_string(file.with_file_name(template)).map_err(|_| error)?
            }
            (text, _) => text?,
        };
        let mut texts = vec![text];
        // An enabled instance is a link, and its drop-ins lie beside what it leads to.
        let real = file.canonicalize().ok();
        let folders = [file.parent(), real.as_deref().and_then(Path::parent)].map(|folder| folder.unwrap_or(Path::new("")));
        let names = template.as_deref().into_iter().chain([name]);
        for drop_in in drop_ins(names.flat_map(|name| folders.iter().map(move |folder| folder.join(name)))).values() {
            texts.push(std::fs::read_to_string(drop_in)?);
        }
        Ok(Unit { file: file.into(), ..Unit::read(&texts.join("\n")) })
    }

    pub(super) fn read(text: &str) -> Unit {
        let (mut unit, mut section) = (Unit::default(), String::new());
        for line in text.replace("\\\n", " ").lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.into();
            } else if let Some((name, value)) = line.split_once('=') {
                unit.settings.insert((section.clone(), name.trim().into()), value.trim().into());
            }
        }
        unit
    }

    pub(super) fn is_socket(&self) -> bool {
        self.settings.keys().any(|(section, _)| section == "Socket")
    }

    /// A setting that is not empty, which would be the default again.
    pub(super) fn get(&self, section: &str, name: &str) -> Option<&str> {
        self.settings.get(&(section.into(), name.into())).map(String::as_str).filter(|value| !value.is_empty())
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
    fn an_enabled_instance_is_a_link_to_its_template() {
        let folder = Folder::new("link");
        folder.write("a@.service", "Type=simple");
        folder.write("a@x.service.d/10.conf", "Type=notify");
        fs::create_dir(folder.0.join("wants")).unwrap();
        std::os::unix::fs::symlink("../a@.service", folder.0.join("wants/a@x.service")).unwrap();
        assert_eq!(folder.load("wants/a@x.service").unwrap().service("Type"), Some("notify"));
    }
}
