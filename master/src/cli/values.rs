//! What stands behind an option, read strictly: each refusal says what would have been right.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dutch_master::core::{SIZE_MAX, SizeChange, Surge};
use dutch_master::options::{ListenSpec, NumWorkers, SocketAccess};
use dutch_master_protocol::limits::{INTEGER_MAX, PATH_MAX};
use dutch_master_protocol::message::Address;

use super::rights;

/// What a relative path on the command line is seen from.
const HERE: &str = "";

/// Longest duration: a guard against a slip of the finger, and far from where times in milliseconds overflow.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Shortest time between two looks at a master: it has better things to do.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Shortest silence that makes a worker count as blocked: collecting garbage takes some of it.
const HEARTBEAT_MIN: Duration = Duration::from_millis(300);

/// Least memory that a worker can be limited to: a guard against a forgotten unit.
const MEMORY_MIN: u64 = 1 << 20;

/// Signals that may ask for a restart: those that neither the system nor another order of ours needs.
pub(super) const RESTART_SIGNALS: [&str; 9] = ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGURG"];

/// `30s`, `1m30s`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text.parse::<f64>().is_ok_and(|number| number != 0.0) {
        return Err(format!("a unit is missing: `{text}s` for seconds, `{text}ms` for milliseconds"));
    }
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write it like `30s`, `1m30s` or `500ms`"))?;
    if duration > DURATION_MAX { Err("at most `366days`".into()) } else { Ok(duration) }
}

/// A duration of more than nothing.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be longer than nothing".into()),
        duration => Ok(duration),
    }
}

/// Time between two looks.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    at_least(INTERVAL_MIN, text)
}

fn at_least(least: Duration, text: &str) -> Result<Duration, String> {
    match duration(text)? {
        duration if duration < least => Err(format!("at least `{}ms`", least.as_millis())),
        duration => Ok(duration),
    }
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit<T>(pub(super) Option<T>);

fn limit<T>(text: &str, of: impl FnOnce(&str) -> Result<T, String>) -> Result<Limit<T>, String> {
    if text == "never" { Ok(Limit(None)) } else { of(text).map(|limit| Limit(Some(limit))) }
}

/// A duration, or `never`.
pub(super) fn orphan_timeout(text: &str) -> Result<Limit<Duration>, String> {
    limit(text, duration)
}

/// A duration of more than nothing, or `never`.
pub(super) fn lifetime(text: &str) -> Result<Limit<Duration>, String> {
    limit(text, positive_duration)
}

/// A silence that workers can break in time, or `never`.
pub(super) fn heartbeat(text: &str) -> Result<Limit<Duration>, String> {
    limit(text, |text| at_least(HEARTBEAT_MIN, text))
}

/// `512M`, `1.5GiB`, `never`: units are powers of 1024, as for a machine's memory.
pub(super) fn memory(text: &str) -> Result<Limit<u64>, String> {
    let refused = || "a size like `512M` or `2G` is wanted, or `never`".to_string();
    limit(text, |text| match parse_size::Config::new().with_binary().parse_size(text).map_err(|_| refused())? {
        bytes if bytes < MEMORY_MIN => Err(format!("at least `{}M`: with less no worker comes up; a unit may be missing", MEMORY_MIN >> 20)),
        bytes => Ok(bytes),
    })
}

/// A number from 1, or `never`.
pub(super) fn requests(text: &str) -> Result<Limit<u64>, String> {
    limit(text, |text| text.parse().ok().filter(|number| (1..=INTEGER_MAX).contains(number)).ok_or_else(|| "a number from 1 is wanted, or `never`".into()))
}

fn size(text: &str) -> Result<u32, String> {
    let refused = || format!("a number from 1 to {SIZE_MAX} is wanted");
    let size = text.parse().map_err(|_| refused())?;
    if (1..=SIZE_MAX).contains(&size) { Ok(size) } else { Err(refused()) }
}

/// `N` or `auto`.
pub(super) fn num_workers(text: &str) -> Result<NumWorkers, String> {
    if text == "auto" {
        return Ok(NumWorkers::Auto);
    }
    size(text).map(NumWorkers::Fixed).map_err(|refused| format!("{refused}, or `auto` for one per processor"))
}

/// `N`, `+N` or `-N`.
pub(super) fn size_change(text: &str) -> Result<SizeChange, String> {
    match text.strip_prefix(['+', '-']) {
        None if text == "0" => size(text).map(SizeChange::To).map_err(|refused| format!("{refused}; `dutch-master stop` ends all workers")),
        None => size(text).map(SizeChange::To),
        Some(number) => {
            let by = size(number)?.cast_signed();
            Ok(SizeChange::By(if text.starts_with('-') { -by } else { by }))
        }
    }
}

/// A number of failed starts.
pub(super) fn attempts(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a number from 1 is wanted".into())
}

/// `25%`, `N` or `all`.
pub(super) fn surge(text: &str) -> Result<Surge, String> {
    let refused = || "a share like `25%`, a number from 1, or `all` is wanted".to_string();
    let positive = |number: &str| number.parse().ok().filter(|number| *number > 0).ok_or_else(refused);
    match (text, text.strip_suffix('%')) {
        ("all", _) => Ok(Surge::All),
        (_, Some(percent)) => positive(percent).map(Surge::Percent),
        (count, None) => positive(count).map(Surge::Count),
    }
}

/// `SIGUSR2`, `USR2` or `usr2`; the result is the full name.
pub(super) fn restart_signal(text: &str) -> Result<String, String> {
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    if RESTART_SIGNALS.contains(&name.as_str()) { Ok(name) } else { Err(format!("one of these is wanted: {}", RESTART_SIGNALS.join(", "))) }
}

/// `SIGTERM`, `TERM` or `term`.
pub(super) fn signal(text: &str) -> Result<nix::sys::signal::Signal, String> {
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    name.parse().map_err(|_| "the name of a signal is wanted, such as `TERM`".into())
}

/// `KEY=VALUE`.
pub(super) fn env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name before `=` is missing".into()),
        Some((key, value)) => Ok((key.into(), value.into())),
        None => Err(format!("`=` is missing: `{text}=` sets it to nothing")),
    }
}

/// A path that holds wherever the master's commands are run. Links stay as they are: what they point to may change.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    absolute_from(HERE.as_ref(), text)
}

/// The same, where a relative path is seen from `base`.
pub(super) fn absolute_from(base: &Path, text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the path is missing".into());
    }
    std::path::absolute(base.join(text)).map_err(|error| error.to_string())
}

/// The path of a Unix socket.
pub(super) fn socket_path(text: &str) -> Result<PathBuf, String> {
    socket_path_from(HERE.as_ref(), text)
}

/// The same, where a relative path is seen from `base`.
pub(super) fn socket_path_from(base: &Path, text: &str) -> Result<PathBuf, String> {
    let path = absolute_from(base, text)?;
    match path.as_os_str().len() {
        n if n > PATH_MAX => Err(format!("{} is {n} bytes long; the path of a socket may have {PATH_MAX}", path.display())),
        _ => Ok(path),
    }
}

/// The name of a master, which becomes the name of files.
pub(super) fn name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !text.is_empty() && !text.starts_with(['.', '-']) && text.bytes().all(fits) {
        Ok(text.into())
    } else {
        Err("letters, digits, `.`, `_` and `-` make a name, and it does not begin with `.` or `-`".into())
    }
}

/// `[NAME=]ADDR`.
pub(super) fn listen(text: &str) -> Result<ListenSpec, String> {
    listen_from(HERE.as_ref(), text)
}

/// The same, where a relative path is seen from `base`.
pub(super) fn listen_from(base: &Path, text: &str) -> Result<ListenSpec, String> {
    match text.split_once('=') {
        // What stands before the first `=` is no name when it begins a path: `unix:/run/a=b`.
        Some((before, address)) if !before.contains([':', '/']) => {
            if !before.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return Err(format!("`{before}` is no name: one begins with a letter"));
            }
            Ok(ListenSpec { name: Some(name(before)?), ..unnamed(base, address)? })
        }
        _ => unnamed(base, text),
    }
}

fn unnamed(base: &Path, text: &str) -> Result<ListenSpec, String> {
    // Only a Unix socket has a file.
    let (text, access) = if text.starts_with("unix:") { rights::access(text)? } else { (text, SocketAccess::default()) };
    Ok(ListenSpec { name: None, address: address(base, text)?, access })
}

/// `8000`, `127.0.0.1:8000`, `[::1]:8000`, `unix:PATH`.
pub(super) fn address(base: &Path, text: &str) -> Result<Address, String> {
    const FORMS: &str = "write `8000`, `127.0.0.1:8000`, `[::1]:8000` or `unix:PATH`";
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err("the path after `unix:` is missing".into());
        }
        let path = socket_path_from(base, path)?.into_os_string().into_string().map_err(|path| format!("{} is not UTF-8", path.display()))?;
        return Ok(Address::unix(path));
    }
    if let Ok(port) = text.parse() {
        return Ok(Address::tcp(None, port));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Address::tcp(Some(address.ip()), address.port()));
    }
    Err(match text.rsplit_once(':') {
        _ if text.contains("://") => format!("no scheme is wanted: {FORMS}"),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() => format!("{text} is no port: the highest is 65535"),
        _ if text.contains('/') => format!("for a Unix socket write `unix:{text}`"),
        _ if text.parse::<IpAddr>().is_ok() => format!("the port is missing; {FORMS}"),
        Some(("" | "*", port)) => format!("for every address of this machine write `{port}`"),
        Some(("localhost", port)) => format!("names are not looked up: write `127.0.0.1:{port}` or `[::1]:{port}`"),
        Some((host, port)) if format!("{host}:0").parse::<SocketAddr>().is_ok() => format!("{port} is no port: one is a number up to 65535"),
        Some((host, port)) if host.parse::<IpAddr>().is_err() && port.parse::<u16>().is_ok() && !host.contains(':') => {
            format!("`{host}` is no IP address, and names are not looked up; {FORMS}")
        }
        _ => format!("it is no address; {FORMS}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit() {
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        assert_eq!(duration("30").unwrap_err(), "a unit is missing: `30s` for seconds, `30ms` for milliseconds");
        assert!(duration("soon").unwrap_err().contains("`30s`"));
        assert!(duration("99999days").is_err(), "times in milliseconds must not overflow");
        assert!(positive_duration("0s").is_err());
        assert_eq!(orphan_timeout("never").unwrap(), Limit(None));
    }

    #[test]
    fn memory_is_counted_in_powers_of_1024() {
        for (text, bytes) in [("512M", 512 << 20), ("2G", 2 << 30), ("1.5GiB", 3 << 29), ("1048576", 1 << 20), ("64 MB", 64 << 20)] {
            assert_eq!(memory(text).unwrap(), Limit(Some(bytes)), "{text}");
        }
        assert_eq!(memory("never").unwrap(), Limit(None));
        assert!(memory("512").unwrap_err().contains("a unit may be missing"));
        assert!(memory("much").unwrap_err().contains("`512M`"));
    }

    #[test]
    fn limits_for_recycling_are_more_than_nothing() {
        assert!(lifetime("0s").is_err());
        assert!(requests("0").is_err());
        assert_eq!(requests("1000").unwrap(), Limit(Some(1_000)));
        assert_eq!(heartbeat("10ms").unwrap_err(), "at least `300ms`");
        assert_eq!((lifetime("never").unwrap(), requests("never").unwrap(), heartbeat("never").unwrap()), (Limit(None), Limit(None), Limit(None)));
    }

    #[test]
    fn a_number_of_workers_lies_between_one_and_the_limit() {
        assert_eq!(num_workers("4").unwrap(), NumWorkers::Fixed(4));
        assert_eq!(num_workers("auto").unwrap(), NumWorkers::Auto);
        for wrong in ["0", "-1", "4097", "many", "", "1.5"] {
            assert!(num_workers(wrong).unwrap_err().contains("1 to 4096"), "{wrong}");
        }
    }

    #[test]
    fn a_sign_makes_a_size_relative() {
        assert_eq!(size_change("4").unwrap(), SizeChange::To(4));
        assert_eq!(size_change("+4").unwrap(), SizeChange::By(4));
        assert_eq!(size_change("-4").unwrap(), SizeChange::By(-4));
        for wrong in ["0", "+0", "--1", "+", "x"] {
            assert!(size_change(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn surge_is_a_share_a_number_or_all() {
        assert_eq!(surge("50%").unwrap(), Surge::Percent(50));
        assert_eq!(surge("3").unwrap(), Surge::Count(3));
        assert_eq!(surge("all").unwrap(), Surge::All);
        for wrong in ["0", "0%", "-1", "half", "%"] {
            assert!(surge(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_restart_signal_is_none_that_means_something_else() {
        for right in ["SIGUSR2", "USR2", "usr2"] {
            assert_eq!(restart_signal(right).unwrap(), "SIGUSR2");
        }
        for wrong in ["SIGTERM", "SIGKILL", "SIGSEGV", "SIGTTIN", "SIGCHLD", "12", ""] {
            assert!(restart_signal(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn listeners_are_given_by_port_address_or_path() {
        let tcp = |host: &str, port| Address::tcp(Some(host.parse().unwrap()), port);
        assert_eq!(listen("8000").unwrap(), ListenSpec::new(None, Address::tcp(None, 8000)));
        assert_eq!(listen("127.0.0.1:8000").unwrap().address, tcp("127.0.0.1", 8000));
        assert_eq!(listen("[::1]:8000").unwrap().address, tcp("::1", 8000));
        assert_eq!(listen("web=0.0.0.0:0").unwrap(), ListenSpec::new(Some("web".into()), tcp("0.0.0.0", 0)));
        assert_eq!(listen("unix:/run/a=b.sock").unwrap(), ListenSpec::new(None, Address::unix("/run/a=b.sock")));
        assert_eq!(listen("admin=unix:/run/a.sock").unwrap(), ListenSpec::new(Some("admin".into()), Address::unix("/run/a.sock")));
    }

    #[test]
    fn the_path_of_a_unix_listener_is_made_absolute() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(listen("unix:a.sock").unwrap().address.path.unwrap(), here.join("a.sock").to_str().unwrap());
    }

    #[test]
    fn a_refused_listener_says_what_to_write_instead() {
        for (wrong, hint) in [
            ("70000", "65535"),
            ("127.0.0.1:70000", "up to 65535"),
            ("http://127.0.0.1:80", "no scheme"),
            ("localhost:8000", "`127.0.0.1:8000` or `[::1]:8000`"),
            (":8000", "write `8000`"),
            ("*:8000", "write `8000`"),
            ("example.org:80", "not looked up"),
            ("/run/a.sock", "`unix:/run/a.sock`"),
            ("127.0.0.1", "port is missing"),
            ("::1", "`[::1]:8000`"),
            ("8000=9000", "begins with a letter"),
            ("=8000", "begins with a letter"),
            ("unix:", "path"),
            ("", "`8000`"),
            ("web=", "`8000`"),
        ] {
            let refused = listen(wrong).unwrap_err();
            assert!(refused.contains(hint), "{wrong}: {refused}");
        }
        assert!(listen(&format!("unix:/{}", "x".repeat(103))).unwrap_err().contains("104 bytes"));
    }

    #[test]
    fn a_name_cannot_leave_the_runtime_directory() {
        assert_eq!(name("web-1.test_a").unwrap(), "web-1.test_a");
        for wrong in ["", "..", ".a", "-a", "a/b", "a b"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_environment_variable_has_a_name_and_a_value() {
        assert_eq!(env("A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert_eq!(env("A=").unwrap(), ("A".into(), String::new()));
        assert!(env("=b").is_err());
        assert!(env("A").is_err());
    }
}
