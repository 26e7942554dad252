//! The configuration file: TOML with the options of `start` as keys. Every fault is told with its place and with what would have been right, and all of them at once.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use nix::libc::{ENXIO, O_NONBLOCK};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::place::Places;
use crate::cli::metrics;
use crate::cli::rights;
use crate::cli::settings::{Settings, name_given_twice};
use crate::cli::values;

/// Most bytes of a file: a thousand times what anybody needs, and an end when it is the wrong one.
const FILE_MAX: u64 = 1 << 20;

/// Why a file gives no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}: {source}; {}", path.display(), remedy(source))]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is no file that can be read again and again.
    #[error("the configuration file {} is no regular file", path.display())]
    NotRegular { path: PathBuf },
    /// It is too long.
    #[error("the configuration file {} is longer than {} KiB", path.display(), FILE_MAX / 1024)]
    TooLong { path: PathBuf },
    /// Something in it is wrong.
    #[error("{}", lines(.0))]
    Faults(Vec<Fault>),
}

impl FileError {
    /// One line for each thing that is wrong.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            FileError::Faults(faults) => faults.iter().map(Fault::to_string).collect(),
            FileError::Unreadable { .. } | FileError::NotRegular { .. } | FileError::TooLong { .. } => vec![self.to_string()],
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { "the user who runs this must be allowed to read it" } else { "--config names another one" }
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

/// Something wrong at a place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    path: PathBuf,
    line: usize,
    column: usize,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path.display(), self.line, self.column, self.message)
    }
}

/// What a file gives, and the line of each key and of each variable (`worker_environment.NAME`).
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) settings: Settings,
    pub(super) lines: BTreeMap<String, usize>,
}

/// Reads a file. Relative paths in it are seen from its folder.
pub(super) fn read(path: &Path) -> Result<Contents, FileError> {
    let text = text(path)?;
    parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(|found| {
        let places = Places::of(&text);
        let fault = |(at, message): (usize, String)| {
            let (line, column) = places.place(at);
            Fault { path: path.into(), line, column, message }
        };
        FileError::Faults(found.into_iter().map(fault).collect())
    })
}

fn text(path: &Path) -> Result<String, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.into(), source };
    // Anything else could keep a running master waiting that reads it again: a pipe would already when it is opened.
    let file = match OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path) {
        Err(error) if error.raw_os_error() == Some(ENXIO) => None,
        opened => Some(opened.map_err(unreadable)?).filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file())),
    };
    let file = file.ok_or_else(|| FileError::NotRegular { path: path.into() })?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(FileError::TooLong { path: path.into() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let (line, column) = Places::of(&String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()])).end();
        FileError::Faults(vec![Fault { path: path.into(), line, column, message: "the file is not UTF-8 here".into() }])
    })
}

/// Faults by their offset in the text.
type Faults = Vec<(usize, String)>;

fn parse(text: &str, base: &Path) -> Result<Contents, Faults> {
    let document = DeTable::parse(text).map_err(|error| vec![(error.span().unwrap_or_default().start, one_line(error.message()))])?;
    let places = Places::of(text);
    let mut reader = Reader { base, contents: Contents::default(), faults: Vec::new(), args: None };
    for (key, value) in document.get_ref() {
        reader.contents.lines.insert(key.get_ref().to_string(), places.place(key.span().start).0);
        reader.key(key, value);
    }
    if let Some(DeValue::Table(variables)) = document.get_ref().get("worker_environment").map(Spanned::get_ref) {
        for name in variables.keys() {
            reader.contents.lines.insert(format!("worker_environment.{}", name.get_ref()), places.place(name.span().start).0);
        }
    }
    reader.finish()
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}

struct Reader<'a> {
    base: &'a Path,
    contents: Contents,
    faults: Faults,
    args: Option<(usize, Vec<String>)>,
}

/// A value with the place where it stands.
type Value<'i> = Spanned<DeValue<'i>>;

/// One thing that is wrong, and where.
fn wrong(at: Range<usize>, message: impl Into<String>) -> Faults {
    vec![(at.start, message.into())]
}

impl Reader<'_> {
    fn key(&mut self, key: &Spanned<toml::de::DeString<'_>>, value: &Value<'_>) {
        let found = self.take(key.get_ref(), key.span(), value).err();
        self.faults.extend(found.into_iter().flatten());
    }

    fn take(&mut self, key: &str, key_span: Range<usize>, value: &Value<'_>) -> Result<(), Faults> {
        let base = self.base;
        let settings = &mut self.contents.settings;
        let path = |value: &Value<'_>| one(key, value, |text| values::absolute_from(base, text));
        match key {
            "worker" => settings.worker = Some(vec![one(key, value, not_empty)?]),
            "args" => self.args = Some((key_span.start, list(key, value, keep)?)),
            "num_workers" => settings.num_workers = Some(one(key, value, values::num_workers)?),
            "listen" => settings.listen = Some(listeners(value, base)?),
            "dir" => settings.dir = Some(one(key, value, |text| not_empty(text).map(|dir| base.join(dir)))?),
            "env" => add(&mut settings.env, list(key, value, values::env)?),
            "worker_environment" => add(&mut settings.env, self::variables(value)?),
            "before_fork" => settings.before_fork = Some(one(key, value, not_empty)?),
            "user" => settings.user = Some(one(key, value, rights::account)?),
            "group" => settings.group = Some(one(key, value, rights::account)?),
            "groups" => settings.groups = Some(list(key, value, rights::account)?),
            "umask" => settings.umask = Some(one(key, value, rights::mode)?),
            "limit" => settings.limit = Some(list(key, value, rights::limit)?),
            "no_new_privs" => settings.no_new_privs = Some(switch(key, value)?),
            "start_timeout" => settings.start_timeout = Some(one(key, value, values::positive_duration)?),
            "kill_timeout" => settings.kill_timeout = Some(one(key, value, values::positive_duration)?),
            "settle_time" => settings.settle_time = Some(one(key, value, values::duration)?),
            "orphan_timeout" => settings.orphan_timeout = Some(one(key, value, values::orphan_timeout)?),
            "surge" => settings.surge = Some(one(key, value, values::surge)?),
            "restart_attempts" => settings.restart_attempts = Some(one(key, value, values::attempts)?),
            "max_lifetime" => settings.max_lifetime = Some(one(key, value, values::lifetime)?),
            "max_memory" => settings.max_memory = Some(one(key, value, values::memory)?),
            "max_requests" => settings.max_requests = Some(one(key, value, values::requests)?),
            "heartbeat" => settings.heartbeat = Some(one(key, value, values::heartbeat)?),
            "keep_trying" => settings.keep_trying = Some(switch(key, value)?),
            "ready_on" => settings.ready_on = Some(one(key, value, choice)?),
            "adapt" => settings.adapt = Some(one(key, value, crate::cli::adapt::when)?),
            "restart_signal" => settings.restart_signal = Some(one(key, value, values::restart_signal)?),
            "name" => settings.name = Some(one(key, value, values::name)?),
            "socket" => settings.socket = Some(one(key, value, |text| values::socket_path_from(base, text))?),
            "pid_file" => settings.pid_file = Some(path(value)?),
            "metrics" => settings.metrics = Some(one(key, value, |text| metrics::target_from(base, text))?),
            "log_format" => settings.log_format = Some(one(key, value, choice)?),
            "log_level" => settings.log_level = Some(one(key, value, choice)?),
            "log_file" => settings.log_file = Some(path(value)?),
            "node_args" => settings.node_args = Some(list(key, value, keep)?),
            "node_sdk" => settings.node_sdk = Some(path(value)?),
            heading if value.get_ref().is_table() => return Err(wrong(key_span, keys::unknown_table(heading))),
            unknown => return Err(wrong(key_span, keys::unknown(unknown))),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Contents, Faults> {
        if let Some((at, args)) = self.args {
            match &mut self.contents.settings.worker {
                Some(words) => words.extend(args),
                None if self.faults.is_empty() => self.faults.push((at, "`args` belong to a `worker`, and there is none in this file".into())),
                None => {}
            }
        }
        self.faults.sort();
        if self.faults.is_empty() { Ok(self.contents) } else { Err(self.faults) }
    }
}

fn add(variables: &mut Option<Vec<(String, String)>>, more: Vec<(String, String)>) {
    variables.get_or_insert_default().extend(more);
}

/// A single value: text, or a number where text that is one would do.
fn one<T>(key: &str, value: &Value<'_>, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Faults> {
    let (text, is_text) = match value.get_ref() {
        DeValue::String(text) => (text.to_string(), true),
        DeValue::Integer(number) if number.radix() == 10 && !keys::is_text(key) => (number.as_str().trim_start_matches('+').into(), false),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            return Err(wrong(value.span(), wanted(key, value)));
        }
    };
    let quote = if is_text { "\"" } else { "" };
    read(&text).map_err(|refused| wrong(value.span(), format!("`{key}`: {quote}{text}{quote}: {refused}")))
}

/// Several of them; each that is wrong is told.
fn list<T>(key: &str, value: &Value<'_>, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Faults> {
    match value.get_ref() {
        DeValue::Array(items) => all(items.iter().map(|item| one(key, item, &read))),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            Err(wrong(value.span(), wanted(key, value)))
        }
    }
}

fn all<T>(outcomes: impl Iterator<Item = Result<T, Faults>>) -> Result<Vec<T>, Faults> {
    let (mut right, mut faults) = (Vec::new(), Faults::new());
    for outcome in outcomes {
        match outcome {
            Ok(value) => right.push(value),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(right) } else { Err(faults) }
}

/// A single listener needs no list.
fn listeners(value: &Value<'_>, base: &Path) -> Result<Vec<dutch_master::options::ListenSpec>, Faults> {
    let read = |text: &str| values::listen_from(base, text);
    let listen = if value.get_ref().is_array() { list("listen", value, read)? } else { vec![one("listen", value, read)?] };
    match name_given_twice(&listen) {
        Some(name) => Err(wrong(value.span(), format!("`listen`: two listeners have the name `{name}`"))),
        None => Ok(listen),
    }
}

fn switch(key: &str, value: &Value<'_>) -> Result<bool, Faults> {
    value.get_ref().as_bool().ok_or_else(|| wrong(value.span(), wanted(key, value)))
}

fn variables(value: &Value<'_>) -> Result<Vec<(String, String)>, Faults> {
    let Some(table) = value.get_ref().as_table() else { return Err(wrong(value.span(), wanted("worker_environment", value))) };
    all(table.iter().map(|(name, value)| variable(name.get_ref(), name.span(), value)))
}

fn variable(name: &str, span: Range<usize>, value: &Value<'_>) -> Result<(String, String), Faults> {
    if keys::is_known(name) {
        // In TOML whatever follows a table's head belongs to the table.
        let below = "stands below [worker_environment] and would be a variable; move it above (a variable of that name can be set by `env`)";
        return Err(wrong(span, format!("`{name}` {below}")));
    }
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(wrong(span, "the name of a variable is not empty and has no `=` in it"));
    }
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            return Err(wrong(value.span(), format!("`worker_environment.{name}`: a string is wanted, not {}", kind(value))));
        }
    };
    Ok((name.to_owned(), text))
}

fn choice<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let names: Vec<_> = T::value_variants().iter().filter_map(ValueEnum::to_possible_value).map(|value| format!("\"{}\"", value.get_name())).collect();
        format!("one of these is wanted: {}", names.join(", "))
    })
}

fn keep(text: &str) -> Result<String, String> {
    if text.contains('\0') { Err("a NUL character cannot be passed on".into()) } else { Ok(text.into()) }
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".into()) } else { keep(text) }
}

fn wanted(key: &str, value: &Value<'_>) -> String {
    let hint = match (key, value.get_ref()) {
        ("worker", DeValue::Array(_)) => "; its arguments go into `args`",
        ("env", DeValue::Table(_)) => "; the table of variables is [worker_environment]",
        _ => "",
    };
    format!("`{key}`: {} is wanted, not {}{hint}", keys::wanted(key), kind(value))
}

fn kind(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests;
