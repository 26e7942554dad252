//! `check --unit`: what a systemd unit says against the promises of the master that it runs. It is read as a file: what systemd's own defaults are changed to is not seen.

mod exec_start;
mod file;

use std::time::Duration;

use dutch_master::Options;

use self::exec_start::ExecStart;
pub(super) use self::file::Unit;

/// systemd's own time limit for a start and for a stop.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);

/// What a stop needs besides the kill timeout.
const MARGIN: Duration = Duration::from_secs(5);

/// What workers run under Node by: the name of a script, or one of these.
const NODE: [&str; 4] = ["node", "nodejs", "npm", "npx"];

impl Unit {
    fn is_on(&self, name: &str) -> bool {
        self.service(name).is_some_and(is_true)
    }

    /// The first of these settings that is a time. `None`: without limit.
    fn time(&self, names: [&str; 2], default: Duration) -> Option<Duration> {
        names.into_iter().find_map(|name| self.service(name)).map_or(Some(default), time)
    }

    /// One sentence for each promise that it breaks.
    pub(super) fn warnings(&self, options: &Options) -> Vec<String> {
        let mut all = Vec::new();
        if let ExecStart::Unseen(why) = self.exec_start() {
            all.push(format!("ExecStart= {why}, so what it says of the service is not seen"));
        }
        let mut warn = |condition: bool, sentence: String| {
            if condition {
                all.push(sentence);
            }
        };
        if self.is_socket() {
            let accepts = self.get("Socket", "Accept").is_some_and(is_true);
            warn(accepts, "Accept=yes hands over connections; workers accept for themselves: Accept=no".into());
            return all;
        }
        let notifies = self.service("Type").is_some_and(|kind| kind.starts_with("notify"));
        warn(!notifies, "without Type=notify-reload (before systemd 253: Type=notify) the service counts as started before a worker listens".into());
        let waits = self.service("Type") != Some("notify") || self.service("ExecReload").is_some_and(|command| command.contains("dutch-master reload"));
        warn(!waits, "Type=notify alone cannot wait for a reload: Type=notify-reload, or before systemd 253 ExecReload= with `dutch-master reload`".into());
        warn(notifies && self.service("NotifyAccess") == Some("none"), "NotifyAccess=none keeps the master's READY=1 from systemd: leave it out".into());
        let kill_mode = self.service("KillMode").unwrap_or("control-group");
        warn(
            kill_mode == "control-group",
            "KillMode=control-group signals the workers past the master: a stop cuts requests, and a master that dies takes all workers with it: KillMode=process".into(),
        );
        warn(kill_mode == "mixed", "KillMode=mixed kills all workers when the master dies: KillMode=process".into());
        warn(kill_mode == "none", "KillMode=none stops nothing: KillMode=process".into());
        let restarts = ["always", "on-failure", "on-abnormal", "on-abort"].contains(&self.service("Restart").unwrap_or("no"));
        warn(!restarts, "a master that is killed is not started again: Restart=on-failure".into());
        if let Some(orphan_timeout) = options.orphan_timeout {
            let pause = self.time(["RestartSec", "RestartSec"], Duration::from_millis(100));
            let sentence = format!(
                "RestartSec= is not shorter than the {} that workers wait for a new master (orphan_timeout)",
                humantime::format_duration(orphan_timeout)
            );
            warn(restarts && pause.is_none_or(|pause| pause >= orphan_timeout), sentence);
        }
        let preserves = self.service("RuntimeDirectoryPreserve").is_some_and(|value| is_true(value) || value == "restart");
        let has_runtime_directory = self.service("RuntimeDirectory").is_some();
        warn(
            has_runtime_directory && !preserves,
            "the runtime directory, and with it what the next master has to know of the workers, is removed when the master dies: RuntimeDirectoryPreserve=restart".into(),
        );
        let has_store = self.service("FileDescriptorStoreMax").is_some_and(|max| max != "0");
        warn(!has_store, "listeners do not outlive the death of master and workers: FileDescriptorStoreMax=64".into());
        let kept_tmp = kill_mode == "process" && (self.is_on("PrivateTmp") || self.is_on("DynamicUser"));
        warn(
            kept_tmp,
            "PrivateTmp= (also by DynamicUser=) removes the files in /tmp of workers that outlive the master: TemporaryFileSystem=/tmp:mode=1777".into(),
        );
        warn(
            self.service("ProcSubset") == Some("pid"),
            "ProcSubset=pid hides the boot id from the master, which then does not take over workers that were started without it, and from programs how many processors and how much memory there are: leave it out".into(),
        );
        warn(
            self.is_on("MemoryDenyWriteExecute") && is_run_by_node(options),
            "MemoryDenyWriteExecute= kills every worker as it starts: Node compiles as it runs: leave it out".into(),
        );
        let user = self.service("User").filter(|user| !["root", "0"].contains(user) && (options.user.is_some() || options.group.is_some()));
        warn(
            user.is_some(),
            format!("a master that runs as User={} can start no worker as another user (user, group): leave one of them out", user.unwrap_or_default()),
        );
        let needed = options.kill_timeout.saturating_add(MARGIN);
        if let Some(limit) = self.time(["TimeoutStopSec", "TimeoutSec"], DEFAULT_TIMEOUT) {
            let (limit_is, needed_is) = (humantime::format_duration(limit), humantime::format_duration(needed));
            warn(limit < needed, format!("a stop may take longer than the {limit_is} that it is given (kill_timeout): TimeoutStopSec={needed_is}"));
        }
        let needed = options.start_timeout.saturating_mul(options.restart_attempts);
        if let Some(limit) = self.time(["TimeoutStartSec", "TimeoutSec"], DEFAULT_TIMEOUT)
            && notifies
        {
            let (limit_is, needed_is) = (humantime::format_duration(limit), humantime::format_duration(needed));
            let sentence =
                format!("a start may take longer than the {limit_is} that it is given (start_timeout times restart_attempts): TimeoutStartSec={needed_is}");
            warn(limit < needed, sentence);
        }
        let tolerates = self.service("OOMPolicy") == Some("continue");
        warn(!tolerates, "one worker that the kernel kills for lack of memory stops the whole service: OOMPolicy=continue".into());
        let signal = self.service("KillSignal").unwrap_or("SIGTERM");
        warn(!["SIGTERM", "TERM", "15", "SIGINT", "INT", "2"].contains(&signal), format!("KillSignal={signal} is not a signal to stop: SIGTERM is"));
        all
    }
}

/// As systemd reads it.
fn is_true(value: &str) -> bool {
    ["1", "yes", "true", "on", "y", "t"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Whether workers need memory that is both written and run, as far as that can be seen.
fn is_run_by_node(options: &Options) -> bool {
    let program = options.worker.file_name().and_then(|name| name.to_str());
    let is_node = options.is_run_by_node() || program.is_some_and(|program| NODE.contains(&program));
    is_node && !options.node_args.iter().chain(&options.args).any(|arg| arg == "--jitless")
}

/// A time as systemd writes it: a number is seconds. `None`: without limit, or not to be understood, which systemd itself tells.
fn time(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    // For systemd, nothing is no limit.
    seconds.or_else(|| humantime::parse_duration(text).ok()).filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[Service]\nType=notify\nType=notify-reload\nKillMode=process\nRestart=on-failure\nRuntimeDirectory=a\nRuntimeDirectoryPreserve=restart\n\
        FileDescriptorStoreMax=64\nTimeoutStartSec=5min\nTimeoutStopSec=1min 30s\nOOMPolicy=continue\n";

    #[track_caller]
    fn assert_warns(unit: &str, words: &[&str]) {
        let warnings = Unit::read(unit).warnings(&Options::new("app.js"));
        assert_eq!(warnings.len(), words.len(), "{unit}: {warnings:#?}");
        for (warning, word) in warnings.iter().zip(words) {
            assert!(warning.contains(word), "{unit}: {warning}");
        }
    }

    #[test]
    fn each_setting_that_breaks_a_promise_is_named_with_the_remedy() {
        assert_warns(GOOD, &[]);
        for (setting, word) in [
            ("Type=simple", "Type=notify"),
            ("Type=notify", "wait for a reload"),
            ("Type=notify\nExecReload=/bin/kill -HUP $MAINPID", "wait for a reload"),
            ("NotifyAccess=none", "NotifyAccess"),
            ("KillMode=", "KillMode=process"),
            ("KillMode=control-group", "cuts requests"),
            ("KillMode=mixed", "when the master dies"),
            ("KillMode=none", "stops nothing"),
            ("Restart=on-success", "Restart=on-failure"),
            ("RestartSec=2min", "RestartSec"),
            ("RuntimeDirectoryPreserve=no", "RuntimeDirectoryPreserve=restart"),
            ("FileDescriptorStoreMax=0", "FileDescriptorStoreMax=64"),
            ("PrivateTmp=yes", "PrivateTmp"),
            ("PrivateTmp=Yes", "PrivateTmp"),
            ("# of no line \\\nKillMode=mixed", "when the master dies"),
            ("ProcSubset=pid", "boot id"),
            ("MemoryDenyWriteExecute=yes", "Node"),
            ("TimeoutStopSec=30", "TimeoutStopSec=35s"),
            ("TimeoutStartSec=90s", "TimeoutStartSec=3m"),
            ("OOMPolicy=stop", "OOMPolicy=continue"),
            ("KillSignal=SIGQUIT", "KillSignal"),
        ] {
            assert_warns(&format!("{GOOD}{setting}\n"), &[word]);
        }
        for harmless in [
            "Type=notify\nExecReload=/usr/local/bin/dutch-master reload --name shop",
            "ProcSubset=all",
            "MemoryDenyWriteExecute=no",
            "User=dutch-master",
            "TimeoutStopSec=infinity",
            "TimeoutStopSec=0",
            "RestartSec=500ms",
            "# KillMode=none",
            "[Install]\nKillMode=none",
            "ExecStartPre=a \\\nKillMode=none",
            "ExecStartPre=a \\\n# of no line\nKillMode=none",
        ] {
            assert_warns(&format!("{GOOD}{harmless}\n"), &[]);
        }
    }

    #[test]
    fn what_forbids_compiling_is_named_where_node_runs_the_workers() {
        let unit = Unit::read(&format!("{GOOD}MemoryDenyWriteExecute=yes\n"));
        for (worker, args, warns) in [
            ("app.js", &[][..], true),
            ("/usr/bin/node", &["app.js"], true),
            ("npm", &["start"], true),
            ("node", &["--jitless", "app.js"], false),
            ("./serve", &[], false),
        ] {
            let options = Options { args: args.iter().map(|arg| (*arg).into()).collect(), ..Options::new(worker) };
            let warnings = unit.warnings(&options);
            assert_eq!(warnings.iter().any(|warning| warning.contains("MemoryDenyWriteExecute")), warns, "{worker}: {warnings:?}");
        }
    }

    #[test]
    fn workers_of_another_user_need_a_master_that_is_root() {
        let options = Options { user: Some("app".into()), ..Options::new("./serve") };
        for (user, warns) in [("User=dutch-master", true), ("User=root", false), ("", false)] {
            let warnings = Unit::read(&format!("{GOOD}{user}\n")).warnings(&options);
            assert_eq!(warnings.iter().any(|warning| warning.contains("User=dutch-master")), warns, "{user}: {warnings:?}");
        }
    }

    #[test]
    fn of_a_socket_unit_only_what_concerns_sockets_is_looked_at() {
        assert_warns("[Socket]\nListenStream=8000\n", &[]);
        assert_warns("[Socket]\nListenStream=8000\nAccept=yes\n", &["Accept=no"]);
    }
}
