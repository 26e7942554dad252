//! The keys of the configuration file: what each holds, for messages about what is wrong.

/// A value that is text alone: a number there is a slip, or would lose its zeros.
const TEXT: &str = "a string";
/// A length of time.
const TIME: &str = "a string like \"30s\", \"1m30s\" or \"500ms\"";
/// A length of time without end, or with one.
const TIME_OR_NEVER: &str = "a string like \"30s\", or \"never\"";
/// Several.
const STRINGS: &str = "an array of strings";
/// Yes or no.
const SWITCH: &str = "`true` or `false`";

/// Every key with what is wanted, in the order in which they are shown.
pub(super) const KEYS: [(&str, &str); 37] = [
    ("worker", TEXT),
    ("args", STRINGS),
    ("num_workers", "a number, or \"auto\""),
    ("listen", "an address like \"127.0.0.1:8000\", or an array of them"),
    ("dir", TEXT),
    ("env", "an array of strings like \"KEY=VALUE\""),
    ("before_fork", TEXT),
    ("user", "a name or a number"),
    ("group", "a name or a number"),
    ("groups", STRINGS),
    ("umask", TEXT),
    ("limit", STRINGS),
    ("no_new_privs", SWITCH),
    ("start_timeout", TIME),
    ("kill_timeout", TIME),
    ("settle_time", TIME),
    ("orphan_timeout", TIME_OR_NEVER),
    ("surge", "a share like \"25%\", a number, or \"all\""),
    ("restart_attempts", "a number"),
    ("max_lifetime", TIME_OR_NEVER),
    ("max_memory", "a string like \"512M\" or \"2G\", or \"never\""),
    ("max_requests", "a number, or \"never\""),
    ("heartbeat", TIME_OR_NEVER),
    ("keep_trying", SWITCH),
    ("ready_on", "\"listening\" or \"hello\""),
    ("adapt", "\"accept\", \"notify\" or a string like \"delay:2s\""),
    ("restart_signal", "a string like \"SIGUSR2\""),
    ("name", TEXT),
    ("socket", TEXT),
    ("pid_file", TEXT),
    ("metrics", "an address like \"127.0.0.1:9100\", or \"file:PATH\""),
    ("log_format", "\"pretty\", \"json\" or \"bunyan\""),
    ("log_level", "\"trace\", \"debug\", \"info\", \"warn\" or \"error\""),
    ("log_file", TEXT),
    ("node_args", STRINGS),
    ("node_sdk", TEXT),
    ("worker_environment", "a table of variables"),
];

/// How much alike a key and a known one must be to be taken for a slip, from 0 to 1.
const LIKENESS_MIN: f64 = 0.75;

pub(super) fn is_known(key: &str) -> bool {
    KEYS.iter().any(|(known, _)| *known == key)
}

/// What this key holds.
pub(super) fn wanted(key: &str) -> &'static str {
    KEYS.iter().find(|(known, _)| *known == key).map_or(TEXT, |(_, wanted)| wanted)
}

/// Whether a number is no value of it, not even written as one.
pub(super) fn is_text(key: &str) -> bool {
    [TEXT, STRINGS].contains(&wanted(key))
}

/// What to say of a table that there is not.
pub(super) fn unknown_table(heading: &str) -> String {
    format!("there is no table [{heading}]: all keys stand at the top of the file, and the only table is [worker_environment]")
}

/// What to say of a key that there is not.
pub(super) fn unknown(key: &str) -> String {
    let likeness = |known: &str| strsim::jaro_winkler(&key.to_lowercase().replace('-', "_"), known);
    let nearest = KEYS.iter().map(|(known, _)| (likeness(known), *known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest.filter(|(likeness, _)| *likeness >= LIKENESS_MIN) {
        Some((_, known)) => format!("unknown key `{key}`; did you mean `{known}`?"),
        None => format!("unknown key `{key}`; docs/configuration.md lists all"),
    }
}
