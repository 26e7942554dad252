//! A real master on a thread of this process, with real workers that only sleep: the fuzzer speaks for them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use dutch_master::options::{ListenSpec, NumWorkers};
use dutch_master::{Master, Options, Request};
use dutch_master_protocol::message::Address;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use tokio::sync::mpsc::Sender;

/// How long anything may take before it counts as hanging.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// A master that runs.
pub(crate) struct Pool {
    socket: PathBuf,
    requests: Sender<Request>,
    ended: Receiver<u8>,
}

impl Pool {
    /// With one worker and one listener, `web`.
    pub(crate) fn start() -> Pool {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("fuzz-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let options = Options {
            args: vec!["120".into()],
            num_workers: NumWorkers::Fixed(1),
            listen: vec![ListenSpec::new(Some("web".into()), Address::tcp(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0))],
            settle_time: Duration::ZERO,
            keep_trying: true,
            name: Some(name),
            ..Options::new("sleep")
        };
        let (requests, asked) = tokio::sync::mpsc::channel(4);
        let ((tell_path, path), (tell_end, ended)) = (mpsc::channel(), mpsc::channel());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let master = {
                let _inside = runtime.enter();
                Master::prepare(options).expect("a master")
            };
            let _ = tell_path.send(master.control_socket().to_path_buf());
            let code = runtime.block_on(master.run(asked));
            drop(runtime);
            let _ = tell_end.send(code);
        });
        Pool { socket: path.recv_timeout(HANG).expect("a control socket"), requests, ended }
    }

    /// `None`: it has ended.
    pub(crate) fn connect(&self) -> Option<UnixStream> {
        let stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(HANG)).and_then(|()| stream.set_write_timeout(Some(HANG))).expect("a time limit");
        Some(stream)
    }

    /// Ends it and its workers. The exit code, if it had ended before by itself.
    pub(crate) fn end(self) -> Option<u8> {
        let by_itself = self.ended.try_recv().ok();
        if by_itself.is_none() {
            let _ = self.requests.blocking_send(Request::Abandon);
            let code = self.ended.recv_timeout(HANG);
            assert!(code.is_ok(), "the master hangs, or has panicked");
        }
        children().into_iter().for_each(|child| {
            let _ = killpg(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
        });
        by_itself
    }
}

/// The processes that this one has started.
fn children() -> Vec<Pid> {
    let lists = fs::read_dir("/proc/self/task").into_iter().flatten().flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect::<Vec<_>>()).collect()
}
