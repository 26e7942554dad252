//! The effective configuration as text: a configuration file in which every value says where it comes from.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use dutch_master::core::Surge;
use dutch_master::options::{ListenSpec, MetricsTo, NumWorkers, ReadyOn};
use dutch_master::{Options, Outlook};

use super::{Configuration, Origins};
use crate::cli::rights;
use crate::cli::settings::Log;
use crate::cli::status::address;

/// The column of the origins, if the value leaves it free.
const ORIGIN_COLUMN: usize = 40;

/// All of it. What comes out can be used as a file.
pub(in crate::cli) fn text(configuration: &Configuration) -> String {
    let Configuration { options, log, origins } = configuration;
    let outlook = Outlook::of(options);
    let mut text = String::new();
    for (key, value) in entries(options, log, &outlook) {
        let line = match value {
            Value::Set(value) | Value::Becomes(value) => format!("{key} = {value}"),
            Value::Unset(why) => format!("# {key}: {why}"),
        };
        let origin = origins.of(key);
        let what = match (key, &outlook.worker) {
            // It stays as it was given: from the directory, whose links may move, it is looked for anew for each worker.
            ("worker", Some(worker)) => format!("{origin}; now {}", worker.display()),
            ("dir", _) => origins.of_directory(options.dir.as_deref()),
            _ => origin.to_string(),
        };
        add(&mut text, &line, &what);
    }
    variables(&mut text, options, origins);
    text
}

fn add(text: &mut String, line: &str, origin: &str) {
    let _ = writeln!(text, "{line:ORIGIN_COLUMN$}  # {origin}");
}

fn variables(text: &mut String, options: &Options, origins: &Origins) {
    // The last one of a name counts, as it does for the workers.
    let variables: BTreeMap<_, _> = options.env.iter().map(|(name, value)| (name, value)).collect();
    if !variables.is_empty() {
        text.push_str("\n[worker_environment]\n");
    }
    for (name, value) in variables {
        add(text, &format!("{} = {}", bare_or_quoted(name), string(value)), &origins.of_variable(name).to_string());
    }
}

/// A value, or what holds while there is none.
pub(super) enum Value {
    Set(String),
    /// What the surroundings make of it, given or not.
    Becomes(String),
    Unset(String),
}

/// Every key but the variables, in the order of the documentation.
pub(super) fn entries(options: &Options, log: &Log, outlook: &Outlook) -> Vec<(&'static str, Value)> {
    // Without `..`: whatever is added has to be shown.
    let Options {
        worker,
        args,
        num_workers,
        listen,
        dir: _, // as it is seen from here
        env: _,
        before_fork,
        user,
        group,
        groups,
        umask,
        limit,
        no_new_privs,
        restart_signal,
        start_timeout,
        kill_timeout,
        orphan_timeout,
        settle_time,
        surge,
        restart_attempts,
        max_lifetime,
        max_memory,
        max_requests,
        heartbeat,
        keep_trying,
        ready_on,
        adapt,
        name,
        socket,
        pid_file,
        metrics,
        node_args,
        node_sdk,
        node: _, // for embedding programs alone
    } = options;
    let or = |value: Option<String>, why: &str| value.map_or_else(|| Value::Unset(why.into()), Value::Set);
    let path = |path: &Option<std::path::PathBuf>| path.as_deref().map(self::path);
    vec![
        ("worker", Value::Set(self::path(worker))),
        ("args", Value::Set(strings(args))),
        ("num_workers", Value::Set(size(*num_workers))),
        ("listen", Value::Set(strings(listen.iter().map(listener)))),
        ("dir", Value::Becomes(self::path(&outlook.directory))),
        ("before_fork", or(before_fork.as_deref().map(string), "no hook")),
        ("user", or(user.as_deref().map(string), "the master's own")),
        ("group", or(group.as_deref().map(string), "the user's")),
        ("groups", or(groups.as_ref().map(strings), "those of the user")),
        ("umask", or(umask.map(|mask| string(&rights::octal(mask))), "the master's own")),
        ("limit", Value::Set(strings(limit.iter().map(ToString::to_string)))),
        ("no_new_privs", or(no_new_privs.map(|is_on| is_on.to_string()), "true where `user`, `group` or `groups` is set")),
        ("start_timeout", Value::Set(time(*start_timeout))),
        ("kill_timeout", Value::Set(time(*kill_timeout))),
        ("settle_time", Value::Set(time(*settle_time))),
        ("orphan_timeout", Value::Set(orphan_timeout.map_or(never(), time))),
        ("surge", Value::Set(self::surge(*surge))),
        ("restart_attempts", Value::Set(restart_attempts.to_string())),
        ("max_lifetime", Value::Set(max_lifetime.map_or(never(), time))),
        ("max_memory", Value::Set(max_memory.map_or(never(), memory))),
        ("max_requests", Value::Set(max_requests.map_or(never(), |requests| requests.to_string()))),
        ("heartbeat", Value::Set(heartbeat.map_or(never(), time))),
        ("keep_trying", Value::Set(keep_trying.to_string())),
        (
            "ready_on",
            Value::Set(string(match ready_on {
                ReadyOn::Listening => "listening",
                ReadyOn::Hello => "hello",
            })),
        ),
        ("adapt", or(adapt.as_deref().map(string), "the worker speaks the protocol")),
        ("restart_signal", Value::Set(string(restart_signal))),
        ("name", or(name.as_deref().map(string), &format!("{}, made from worker and directory", outlook.name))),
        ("socket", or(path(socket), &format!("{}, in the runtime directory", outlook.control_socket.display()))),
        ("pid_file", or(path(pid_file), "none")),
        ("metrics", or(metrics.as_ref().map(|to| string(&metrics_to(to))), "not served")),
        ("log_format", Value::Set(choice(&log.format))),
        ("log_level", Value::Set(choice(&log.level))),
        ("log_file", or(path(&log.file), "standard error")),
        ("node_args", Value::Set(strings(node_args))),
        ("node_sdk", or(path(node_sdk), "looked for beside the app, then beside dutch-master")),
    ]
}

fn bare_or_quoted(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_bare { key.to_owned() } else { string(key) }
}

/// JSON's escapes are among TOML's.
fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn strings<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| string(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

fn path(path: &Path) -> String {
    string(&path.to_string_lossy())
}

fn size(num_workers: NumWorkers) -> String {
    match num_workers {
        NumWorkers::Fixed(size) => size.to_string(),
        NumWorkers::Auto => string("auto"),
    }
}

fn listener(listen: &ListenSpec) -> String {
    let ListenSpec { name, address: its, access } = listen;
    let address = address(its);
    let address = format!("{}{}", address.strip_prefix("*:").unwrap_or(&address), rights::access_text(access));
    name.as_ref().map_or(address.clone(), |name| format!("{name}={address}"))
}

fn metrics_to(to: &MetricsTo) -> String {
    match to {
        MetricsTo::Serve(its) => address(its),
        MetricsTo::File(path) => format!("file:{}", path.display()),
    }
}

/// In the largest unit that leaves a whole number, up to seconds: `90s` is easier to compare than `1m 30s`.
fn time(duration: Duration) -> String {
    let text = match duration.subsec_nanos() {
        0 => format!("{}s", duration.as_secs()),
        nanos if nanos % 1_000_000 == 0 => format!("{}ms", duration.as_millis()),
        _ => humantime::format_duration(duration).to_string(),
    };
    string(&text)
}

fn never() -> String {
    string("never")
}

/// In the largest unit that leaves a whole number.
fn memory(bytes: u64) -> String {
    let (unit, shift) = [("G", 30), ("M", 20), ("K", 10)].into_iter().find(|(_, shift)| bytes.trailing_zeros() >= *shift).unwrap_or(("", 0));
    string(&format!("{}{unit}", bytes >> shift))
}

fn surge(surge: Surge) -> String {
    match surge {
        Surge::Percent(percent) => string(&format!("{percent}%")),
        Surge::Count(count) => count.to_string(),
        Surge::All => string("all"),
    }
}

fn choice(choice: &impl ValueEnum) -> String {
    string(choice.to_possible_value().unwrap_or_default().get_name())
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, Source};
    use super::*;
    use crate::cli::settings::Settings;
    use crate::cli::values;

    fn source(command_line: Settings, file: Option<&Path>) -> Source {
        Source { command_line, file: file.map(Path::to_path_buf) }
    }

    fn file(name: &str, text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("dm-config-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn every_value_says_where_it_comes_from() {
        let path =
            file("origins", "worker = \"app.js\"\nnum_workers = 3\nkill_timeout = \"5s\"\nenv = [\"C=3\"]\n[worker_environment]\nA = \"1\"\nB = \"2\"\n");
        let above = Settings { num_workers: Some(NumWorkers::Auto), env: Some(vec![("B".into(), "9".into())]), ..Settings::default() };
        let text = text(&source(above, Some(&path)).read().unwrap());
        let place = path.display();
        for (start, end) in [
            ("worker = \"app.js\"", format!("# {place}:1")),
            ("num_workers = \"auto\"", "# command line".into()),
            ("kill_timeout = \"5s\"", format!("# {place}:3")),
            ("surge = \"25%\"", "# default".into()),
            ("A = \"1\"", format!("# {place}:6")),
            ("B = \"9\"", "# command line".into()),
            ("C = \"3\"", format!("# {place}:4")),
        ] {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
            assert!(line.ends_with(&end), "{line}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_printed_is_a_file_with_the_same_meaning() {
        let command_line = Settings {
            worker: Some(vec!["a\"b.js".into(), "--x".into(), "\u{7f}\n".into()]),
            listen: Some(["8000", "a=[::1]:9000", "b=unix:/run/b=c.sock,mode=0660,group=7"].iter().map(|text| values::listen(text).unwrap()).collect()),
            dir: Some("/srv/app".into()),
            env: Some(vec![("A b".into(), "1".into()), ("A b".into(), "2".into())]),
            orphan_timeout: Some(values::orphan_timeout("never").unwrap()),
            user: Some("7".into()),
            groups: Some(Vec::new()),
            umask: Some(0o27),
            limit: Some(vec![rights::limit("core=0:unlimited").unwrap()]),
            max_memory: Some(values::memory("1.5G").unwrap()),
            max_requests: Some(values::requests("1000").unwrap()),
            metrics: Some(MetricsTo::File("/var/a b.prom".into())),
            kill_timeout: Some(Duration::from_millis(1_500)),
            ..Settings::default()
        };
        let before = source(command_line, None).read().unwrap();
        let path = file("same", &text(&before));
        let after = source(Settings::default(), Some(&path)).read().unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(after.options, Options { env: vec![("A b".into(), "2".into())], ..before.options });
    }

    #[test]
    fn a_file_without_a_worker_needs_one_on_the_command_line() {
        let path = file("worker", "num_workers = 3\n");
        assert!(matches!(source(Settings::default(), Some(&path)).read(), Err(ConfigError::NoWorker(_))));
        let worker = Settings { worker: Some(vec!["app.js".into()]), ..Settings::default() };
        let configuration = source(worker, Some(&path)).read().unwrap();
        assert_eq!((configuration.options.num_workers, configuration.options.dir), (NumWorkers::Fixed(3), None), "it is looked for here, where it is named");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_worker_that_a_file_names_is_looked_for_in_its_folder() {
        let path = file("folder", "worker = \"app.js\"\n");
        assert_eq!(source(Settings::default(), Some(&path)).read().unwrap().options.dir.as_deref(), path.parent());
        std::fs::remove_file(path).unwrap();
    }

    /// The table of the documentation: key, default, when a change takes effect.
    fn documented() -> Vec<(String, String, String)> {
        let text = include_str!("../../../../docs/configuration.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.map(|row| {
            let cells: Vec<_> = row.split(" | ").collect();
            (cells[0].trim_end_matches('`').into(), cells[1].trim_matches('`').into(), cells[2].into())
        })
        .collect()
    }

    #[test]
    fn the_documentation_has_every_key_with_its_default() {
        let options = Options::new("-");
        let shown = entries(&options, &source(Settings::default(), None).log(), &Outlook::of(&options));
        let documented = documented();
        let keys: Vec<_> = documented.iter().map(|(key, ..)| key.as_str()).collect();
        assert_eq!(keys, super::super::keys::KEYS.map(|(key, _)| key));
        for (key, value) in shown {
            let (_, default, _) = documented.iter().find(|(documented, ..)| documented == key).unwrap();
            match value {
                Value::Set(value) if key != "worker" => assert_eq!(*default, value, "{key}"),
                Value::Set(_) | Value::Becomes(_) | Value::Unset(_) => assert_eq!(default, "–", "{key}"),
            }
        }
    }

    #[test]
    fn the_documentation_says_which_keys_need_a_new_start() {
        let fixed: Vec<_> = documented().into_iter().filter(|(.., when)| when == "start").map(|(key, ..)| key).collect();
        let log = [super::super::FIXED_LOG_KEYS.as_slice(), dutch_master::FIXED_KEYS].concat();
        assert!(fixed.iter().all(|key| log.contains(&key.as_str())) && fixed.len() == log.len(), "{fixed:?} {log:?}");
    }
}
