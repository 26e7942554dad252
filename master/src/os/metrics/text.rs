//! The numbers as a page in Prometheus' text format (version 0.0.4). docs/metrics.md has the same table for people; a test compares them.

use std::fmt::{Display, Write};

use super::counts::{BUCKETS_MS, Counts, Histogram};

/// What a page shows: the pool as it is, and the numbers since the master started.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The master's name, a label of every number: one machine can have several masters.
    pub(super) name: &'a str,
    /// Seconds since 1970.
    pub(super) started_at: f64,
    pub(super) size: u32,
    pub(super) generation: u32,
    /// How many workers are in each state.
    pub(super) workers: &'a [(&'static str, u32)],
    pub(super) listeners: &'a [Queue],
    pub(super) counts: &'a Counts,
}

/// The accept queue of a listener.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) listener: String,
    pub(super) waiting: u32,
    pub(super) limit: u32,
}

/// Several numbers of one family, each with its labels.
type Samples<'a> = Vec<(Vec<(&'a str, &'a str)>, u64)>;

/// The page.
pub(super) fn text(facts: &Facts<'_>) -> String {
    let counts = facts.counts;
    let mut page = Page { text: String::new(), master: escaped(facts.name) };
    page.family("dutch_master_build_info", "gauge", "Always 1; the label tells the version of the master.");
    page.sample("dutch_master_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family("dutch_master_start_time_seconds", "gauge", "When the master started, in seconds since 1970.");
    page.sample("dutch_master_start_time_seconds", &[], format_args!("{:.3}", facts.started_at));
    page.one("dutch_master_size", "gauge", "How many workers the pool should have.", facts.size.into());
    page.one("dutch_master_generation", "gauge", "The generation that new workers belong to.", facts.generation.into());
    let workers = facts.workers.iter().map(|(state, count)| (vec![("state", *state)], u64::from(*count))).collect();
    page.some("dutch_master_workers", "gauge", "Workers by state.", workers);
    let restarts = [
        ("done", counts.restarts.done),
        ("superseded", counts.restarts.superseded),
        ("given_up", counts.restarts.given_up),
        ("stopped", counts.restarts.stopped),
    ];
    let restarts = restarts.into_iter().map(|(outcome, count)| (vec![("outcome", outcome)], count)).collect();
    page.some("dutch_master_restarts_total", "counter", "Rolling restarts by how they ended.", restarts);
    page.one("dutch_master_worker_starts_total", "counter", "Starts of workers that were begun: first ones, replacements, further attempts.", counts.starts);
    page.one("dutch_master_worker_failed_starts_total", "counter", "Starts that ended before the worker served.", counts.failed_starts);
    page.one(
        "dutch_master_worker_crashes_total",
        "counter",
        "Running workers that ended unexpectedly, lost their connection to the master, or were blocked.",
        counts.crashes,
    );
    page.one("dutch_master_worker_leaves_total", "counter", "Running workers that ended their service by themselves, or exited with status 0.", counts.leaves);
    page.one(
        "dutch_master_worker_kills_total",
        "counter",
        "Workers that were sent SIGKILL because they did not start or end in time, or were blocked.",
        counts.kills,
    );
    let recycled = [("lifetime", counts.recycled.lifetime), ("memory", counts.recycled.memory), ("requests", counts.recycled.requests)];
    let recycled = recycled.into_iter().map(|(reason, count)| (vec![("reason", reason)], count)).collect();
    page.some("dutch_master_worker_recycled_total", "counter", "Workers that reached a limit and are replaced for it.", recycled);
    page.histogram("dutch_master_worker_start_duration_seconds", "From the start of a worker's process until it serves.", &counts.start_duration);
    page.histogram(
        "dutch_master_worker_drain_duration_seconds",
        "From a worker's order to go, or its own word that it leaves, to its exit.",
        &counts.drain_duration,
    );
    let queues = |number: fn(&Queue) -> u32| facts.listeners.iter().map(|queue| (vec![("listener", queue.listener.as_str())], number(queue).into())).collect();
    page.some("dutch_master_listener_queue", "gauge", "Connections that wait to be accepted, of each TCP listener.", queues(|queue| queue.waiting));
    page.some("dutch_master_listener_queue_limit", "gauge", "How many connections may wait to be accepted, of each TCP listener.", queues(|queue| queue.limit));
    page.one(
        "dutch_master_connections_refused_total",
        "counter",
        "Connections to the control socket that were refused, or ended for what came over them.",
        counts.connections_refused,
    );
    page.one(
        "dutch_master_connections_cut_total",
        "counter",
        "Connections that had not ended when a worker's time to drain was over, as the workers say.",
        counts.connections_cut,
    );
    page.text
}

struct Page {
    text: String,
    /// Escaped.
    master: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{name}{{master=\"{}\"", self.master);
        for (label, its) in labels {
            let _ = write!(self.text, ",{label}=\"{}\"", escaped(its));
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.some(name, kind, help, vec![(Vec::new(), value)]);
    }

    fn some(&mut self, name: &str, kind: &str, help: &str, samples: Samples<'_>) {
        self.family(name, kind, help);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut so_far = 0;
        for (bound, count) in BUCKETS_MS.iter().zip(histogram.buckets) {
            so_far += count;
            self.sample(&bucket, &[("le", &seconds(*bound))], so_far);
        }
        self.sample(&bucket, &[("le", "+Inf")], histogram.count);
        self.sample(&format!("{name}_sum"), &[], seconds(histogram.sum_ms));
        self.sample(&format!("{name}_count"), &[], histogram.count);
    }
}

fn seconds(ms: u64) -> String {
    format!("{}", ms as f64 / 1_000.0)
}

/// What would end a label's value, or its line.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn page(listener: &str) -> String {
        let listeners = [Queue { listener: listener.into(), waiting: 3, limit: 511 }];
        let workers = [("running", 2), ("lost", 0)];
        text(&Facts { name: "web", started_at: 1.5, size: 2, generation: 1, workers: &workers, listeners: &listeners, counts: &Counts::default() })
    }

    #[test]
    fn every_number_names_its_master_and_has_its_labels() {
        let page = page("web");
        for line in [
            "dutch_master_size{master=\"web\"} 2",
            "dutch_master_start_time_seconds{master=\"web\"} 1.500",
            "dutch_master_workers{master=\"web\",state=\"running\"} 2",
            "dutch_master_restarts_total{master=\"web\",outcome=\"given_up\"} 0",
            "dutch_master_worker_start_duration_seconds_bucket{master=\"web\",le=\"0.025\"} 0",
            "dutch_master_worker_start_duration_seconds_bucket{master=\"web\",le=\"+Inf\"} 0",
            "dutch_master_listener_queue_limit{master=\"web\",listener=\"web\"} 511",
        ] {
            assert!(page.lines().any(|its| its == line), "{line}: {page}");
        }
    }

    #[test]
    fn a_label_cannot_end_its_line() {
        let page = page("unix:/a\"b\\c\nd");
        assert!(page.contains("{master=\"web\",listener=\"unix:/a\\\"b\\\\c\\nd\"} 3\n"), "{page}");
    }

    /// Name, type, labels, help.
    type Row = [String; 4];

    fn written() -> Vec<Row> {
        let page = page("web");
        let families = page.split("# HELP ").skip(1);
        families
            .map(|family| {
                let (name, rest) = family.split_once(' ').unwrap();
                let (help, rest) = rest.split_once('\n').unwrap();
                let (kind, samples) = rest.split_once('\n').unwrap();
                let labels: BTreeSet<_> =
                    samples.split([',', '{']).filter_map(|part| Some(part.split_once("=\"")?.0)).filter(|label| !["master", "le"].contains(label)).collect();
                let labels: Vec<_> = labels.into_iter().map(|label| format!("`{label}`")).collect();
                [name.into(), kind.rsplit(' ').next().unwrap().into(), labels.join(", "), help.into()]
            })
            .collect()
    }

    #[test]
    fn the_documentation_lists_exactly_what_is_written() {
        let text = include_str!("../../../../docs/metrics.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `dutch_master_"));
        let documented: Vec<Row> = rows
            .map(|row| {
                let mut cells = row.trim_end_matches('|').splitn(4, '|').map(str::trim);
                let mut next = || cells.next().unwrap_or_default();
                [format!("dutch_master_{}", next().trim_end_matches('`')), next().into(), next().into(), next().into()]
            })
            .collect();
        assert_eq!(documented, written());
    }
}
