//! `dutch-master status`: what a master and its workers are doing, as tables or as JSON.

use std::fmt::Write;

use dutch_master::memory;
use dutch_master_protocol::control::{Failing, FromControl, ListenerStatus, Phase, PoolStatus, Status, ToControl, WorkerStatus};
use dutch_master_protocol::message::{Address, Kind};
use serde::Serialize;

use super::client::{Client, ClientError};

/// Everything that a master tells about itself. As JSON its keys are those of the protocol, and they stay.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pool: PoolStatus,
    workers: Vec<WorkerReport>,
    listeners: Vec<ListenerStatus>,
}

/// A worker, as the master knows it and as the system does.
#[derive(Debug, Serialize)]
struct WorkerReport {
    #[serde(flatten)]
    status: WorkerStatus,
    /// Its processes' share of the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
}

/// Asks one master.
pub(super) async fn ask(client: &mut Client) -> Result<Report, ClientError> {
    let ToControl::Pool(pool) = client.ask(&FromControl::Status(Status {})).await? else { return Err(ClientError::Unexpected) };
    let mut report = Report { pool, workers: Vec::new(), listeners: Vec::new() };
    loop {
        match client.prompt_next().await? {
            ToControl::Worker(status) => report.workers.push(WorkerReport { status, memory_bytes: None }),
            ToControl::Listener(listener) => report.listeners.push(listener),
            ToControl::Done(_) => break,
            ToControl::Welcome(_)
            | ToControl::Pool(_)
            | ToControl::Accepted(_)
            | ToControl::Progress(_)
            | ToControl::MetricsText(_)
            | ToControl::Error(_)
            | ToControl::Unknown => {
                return Err(ClientError::Unexpected);
            }
        }
    }
    report.workers.sort_by_key(|worker| (worker.status.slot, worker.status.id));
    let mut memory = memory::of_sessions(report.workers.iter().filter_map(|worker| worker.status.pid));
    report.workers.iter_mut().for_each(|worker| worker.memory_bytes = worker.status.pid.and_then(|pid| memory.remove(&pid)));
    Ok(report)
}

/// For people.
pub(super) fn text(report: &Report) -> String {
    let mut text = summary(report);
    if !report.workers.is_empty() {
        text = text + "\n" + &table(WORKER_COLUMNS, worker_rows(report));
    }
    if !report.listeners.is_empty() {
        text = text + "\n" + &table(LISTENER_COLUMNS, listener_rows(report));
    }
    text
}

/// What there is to say of the pool as a whole, in a few lines.
pub(super) fn summary(report: &Report) -> String {
    let pool = &report.pool;
    let mut text = format!("{}  {}, {} of {} workers running, generation {}", pool.name, phase(pool.phase), pool.running, pool.size, pool.generation);
    if let Some(committed) = pool.committed.filter(|committed| *committed != pool.generation) {
        let _ = write!(text, " (committed: {committed})");
    }
    if pool.mixed {
        text.push_str(", mixed");
    }
    let _ = write!(text, "\n  {} in {}", harmless(&pool.command.join(" ")), harmless(&pool.dir));
    let _ = write!(text, "\n  master {}, pid {}, up {}, {}", pool.version, pool.pid, age(pool.uptime_ms), counted(pool.restarts, "restart", "restarts"));
    for (number, one, many) in [(pool.crashes, "crash", "crashes"), (pool.failed_starts, "failed start", "failed starts")] {
        if let Some(number) = number.filter(|number| *number > 0) {
            let _ = write!(text, ", {}", counted(number, one, many));
        }
    }
    text.push('\n');
    if let Some(why) = &pool.given_up {
        let _ = writeln!(text, "  The last restart was given up: {why}");
    }
    if let Some(failing) = &pool.failing {
        let _ = writeln!(text, "  {}", failures(failing));
    }
    text
}

fn failures(Failing { failures, reason, worker, retry_in_ms, .. }: &Failing) -> String {
    let whose = worker.map_or(String::new(), |worker| format!(" (worker {worker})"));
    let next = match retry_in_ms {
        // A delay that is nearly over is not told as none.
        Some(ms) => format!("the next one is tried in {}", age(ms.next_multiple_of(1_000))),
        None => "the next one is being tried".into(),
    };
    match failures {
        1 => format!("A worker failed{whose}: {}; {next}", harmless(reason)),
        _ => format!("Workers fail, {failures} in a row, the last one{whose}: {}; {next}", harmless(reason)),
    }
}

pub(super) const WORKER_COLUMNS: [&str; 9] = ["WORKER", "SLOT", "STATE", "GENERATION", "PID", "AGE", "RESTARTS", "MEMORY", "SDK"];

/// The workers, by slot.
pub(super) fn worker_rows(report: &Report) -> impl Iterator<Item = [String; 9]> {
    report.workers.iter().map(|WorkerReport { status: worker, memory_bytes }| {
        let sdk = worker.sdk.clone().unwrap_or("-".into());
        let memory = memory_bytes.map_or("-".into(), memory_text);
        let (id, slot, generation) = (worker.id.to_string(), worker.slot.to_string(), worker.generation.to_string());
        [id, slot, worker.state.clone(), generation, known(worker.pid), age(worker.age_ms), known(worker.restarts), memory, sdk]
    })
}

pub(super) const LISTENER_COLUMNS: [&str; 4] = ["LISTENER", "ADDRESS", "WAITING", "BACKLOG"];

/// The listeners.
pub(super) fn listener_rows(report: &Report) -> impl Iterator<Item = [String; 4]> {
    report.listeners.iter().map(|listener| {
        let name = listener.name.clone().unwrap_or(if listener.configured { "-" } else { "(on request)" }.into());
        [name, address(&listener.address), known(listener.queued), known(listener.backlog)]
    })
}

fn known(number: Option<u32>) -> String {
    number.map_or("-".into(), |number| number.to_string())
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Restarting => "restarting",
        Phase::Stopping => "stopping",
    }
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The two largest units that matter.
fn age(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m {}s", seconds % 60),
        3_600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// As `--listen` takes it.
pub(super) fn address(address: &Address) -> String {
    let port = address.port.unwrap_or_default();
    let inet = match address.host {
        None => format!("*:{port}"),
        Some(host) => std::net::SocketAddr::new(host, port).to_string(),
    };
    match address.kind {
        Kind::Tcp => inet,
        Kind::Udp => format!("udp:{inet}"),
        Kind::Unix => format!("unix:{}", address.path.as_deref().unwrap_or_default()),
    }
}

/// Text of others without what a terminal would obey: control characters, and those that turn the direction of writing. Much of it comes from workers.
pub(super) fn harmless(text: &str) -> String {
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

/// Columns as wide as their longest cell, without anything at the end of a line.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(String::from)).chain(rows.map(|row| row.map(|cell| harmless(&cell)))).collect();
    let widths: [usize; N] = std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    let mut text = String::new();
    for row in &rows {
        let line = row.iter().zip(widths).fold(String::new(), |line, (cell, width)| format!("{line}{cell:width$}  "));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// In the unit that leaves at most four digits.
fn memory_text(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    match kib {
        ..1024.0 => format!("{kib:.0} KiB"),
        ..1_048_576.0 => format!("{:.1} MiB", kib / 1024.0),
        _ => format!("{:.1} GiB", kib / 1_048_576.0),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc\u{202e}d é"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d é");
    }

    pub(in crate::cli) fn report() -> Report {
        let status = |id, slot, state: &str| WorkerStatus {
            id,
            slot,
            generation: 2,
            state: state.into(),
            pid: Some(4_000 + id),
            age_ms: 61_000,
            sdk: Some("node/0.1.0".into()),
            restarts: Some(1),
        };
        let running = WorkerReport { status: status(3, 0, "running"), memory_bytes: Some(45_678_901) };
        let starting = WorkerReport { status: WorkerStatus { pid: None, sdk: None, ..status(4, 1, "starting") }, memory_bytes: None };
        Report {
            pool: PoolStatus {
                name: "app-1a2b".into(),
                pid: 4_000,
                version: "0.1.0".into(),
                phase: Phase::Restarting,
                size: 2,
                running: 1,
                generation: 2,
                committed: Some(1),
                mixed: false,
                given_up: None,
                failing: None,
                restarts: 1,
                crashes: Some(0),
                failed_starts: Some(0),
                command: vec!["app.js".into(), "--x".into()],
                dir: "/srv/app".into(),
                uptime_ms: 90_061_000,
            },
            workers: vec![running, starting],
            listeners: vec![ListenerStatus {
                key: "web".into(),
                name: Some("web".into()),
                address: Address::tcp(None, 8_000),
                configured: true,
                queued: Some(3),
                backlog: Some(511),
            }],
        }
    }

    /// So many running workers, from 3 on.
    pub(in crate::cli) fn report_of(workers: u32) -> Report {
        let mut report = report();
        let first = report.workers.remove(0);
        let worker = |slot| WorkerReport { status: WorkerStatus { id: 3 + slot, slot, ..first.status.clone() }, ..first };
        report.workers = (0..workers).map(worker).collect();
        report
    }

    #[test]
    fn people_see_the_pool_its_workers_and_its_listeners() {
        let expected = "\
app-1a2b  restarting, 1 of 2 workers running, generation 2 (committed: 1)
  app.js --x in /srv/app
  master 0.1.0, pid 4000, up 1d 1h, 1 restart

WORKER  SLOT  STATE     GENERATION  PID   AGE    RESTARTS  MEMORY    SDK
3       0     running   2           4003  1m 1s  1         43.6 MiB  node/0.1.0
4       1     starting  2           -     1m 1s  1         -         -

LISTENER  ADDRESS  WAITING  BACKLOG
web       *:8000   3        511
";
        assert_eq!(text(&report()), expected);
    }

    #[test]
    fn a_restart_that_was_given_up_is_told() {
        let mut report = report();
        report.pool.mixed = true;
        report.pool.given_up = Some("the worker exited with code 1".into());
        let text = text(&report);
        assert!(text.contains("(committed: 1), mixed\n"), "{text}");
        assert!(text.contains("given up: the worker exited with code 1\n"), "{text}");
    }

    #[test]
    fn a_crash_loop_is_told_with_its_last_failure_and_the_next_try() {
        let mut report = report();
        (report.pool.crashes, report.pool.failed_starts) = (Some(1), Some(7));
        let mut failing =
            Failing { failures: 4, reason: "the worker exited with code 1".into(), worker: Some(9), code: Some(1), signal: None, retry_in_ms: Some(2_250) };
        let mut told = |failing: &Failing| {
            report.pool.failing = Some(failing.clone());
            text(&report)
        };
        let expected = "1 restart, 1 crash, 7 failed starts\n  Workers fail, 4 in a row, the last one (worker 9): the worker exited with code 1; the next one is tried in 3s\n";
        assert!(told(&failing).contains(expected), "{}", told(&failing));
        (failing.failures, failing.retry_in_ms, failing.reason) = (1, None, "no\u{1b}[2J".into());
        let expected = "\n  A worker failed (worker 9): no\u{fffd}[2J; the next one is being tried\n";
        assert!(told(&failing).contains(expected), "{}", told(&failing));
    }

    #[test]
    fn json_has_one_object_with_workers_and_listeners() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["name"], "app-1a2b");
        assert_eq!(json["phase"], "restarting");
        assert_eq!((&json["workers"][0]["pid"], &json["workers"][0]["memory_bytes"]), (&4_003.into(), &45_678_901.into()));
        assert_eq!(json["listeners"][0]["address"]["port"], 8_000);
    }

    /// The fields of a value by their paths, with their types: `workers[].id`.
    fn fields(path: &str, value: &Value, found: &mut BTreeMap<String, &'static str>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(items) => {
                items.iter().filter(|item| item.is_object()).for_each(|item| fields(&format!("{path}[]"), item, found));
                "array"
            }
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| fields(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value, found));
                "object"
            }
        };
        if !path.is_empty() && !path.ends_with("[]") {
            found.insert(path.into(), kind);
        }
    }

    #[test]
    fn the_documentation_lists_every_field_of_the_json_with_its_type_and_whether_it_is_always_there() {
        let (mut least, mut most) = (report(), report());
        least.pool = PoolStatus { committed: None, given_up: None, crashes: None, failed_starts: None, ..least.pool };
        let worker = WorkerStatus { pid: None, sdk: None, restarts: None, ..least.workers.remove(0).status };
        least.workers = vec![WorkerReport { status: worker, memory_bytes: None }];
        let address = Address { port: None, ..Address::tcp(None, 0) };
        least.listeners = vec![ListenerStatus { key: "a".into(), name: None, address, configured: false, queued: None, backlog: None }];
        most.pool.given_up = Some("why".into());
        most.pool.failing =
            Some(Failing { failures: 2, reason: "why".into(), worker: Some(1), code: Some(1), signal: Some("SIGSEGV".into()), retry_in_ms: Some(1) });
        least.pool.failing = Some(Failing { failures: 2, reason: "why".into(), worker: None, code: None, signal: None, retry_in_ms: None });
        most.listeners[0].address = Address { host: Some("::1".parse().unwrap()), path: Some("/a".into()), ipv6_only: true, ..Address::tcp(None, 80) };
        let written = |report: &Report| {
            let mut found = BTreeMap::new();
            fields("", &serde_json::to_value(report).unwrap(), &mut found);
            found
        };
        let (mut least, most) = (written(&least), written(&most));
        // Its fields are always there when it is.
        least.remove("failing");
        let rows = include_str!("../../../docs/status.md").lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: BTreeMap<_, _> =
            rows.map(|row| row.split_once("` | ").unwrap()).map(|(field, row)| (field.into(), row.splitn(3, " | ").take(2).collect())).collect();
        let expected: BTreeMap<String, Vec<_>> =
            most.into_iter().map(|(field, kind)| (field.clone(), vec![kind, if least.contains_key(&field) { "yes" } else { "no" }])).collect();
        assert_eq!(documented, expected);
    }

    #[test]
    fn an_age_shows_the_two_largest_units() {
        for (ms, text) in [(0, "0s"), (59_999, "59s"), (60_000, "1m 0s"), (3_661_000, "1h 1m"), (90_000_000, "1d 1h")] {
            assert_eq!(age(ms), text);
        }
    }

    #[test]
    fn an_address_is_shown_as_it_is_given() {
        assert_eq!(address(&Address::tcp(Some("::1".parse().unwrap()), 80)), "[::1]:80");
        assert_eq!(address(&Address::unix("/run/a.sock")), "unix:/run/a.sock");
    }

    #[test]
    fn memory_is_told_in_a_unit_that_people_read() {
        for (bytes, expected) in [(0, "0 KiB"), (1_023 * 1024, "1023 KiB"), (1 << 20, "1.0 MiB"), (45_678_901, "43.6 MiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(memory_text(bytes), expected);
        }
    }
}
