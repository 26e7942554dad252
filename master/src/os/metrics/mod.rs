//! Numbers for Prometheus: `counts` folds what happens into them, `text` writes them, `http` and `file` bring them out when that was asked for. A master that was not asked wakes for none of it.

mod counts;
mod file;
mod http;
mod text;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dutch_master_protocol::message::{Address, Kind};
use nix::sys::socket::{Backlog, listen};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{info, warn};

pub(super) use self::counts::Counts;
use self::file::PageFile;
use self::text::{Facts, Queue};
use super::control_socket::Acceptor;
use super::descriptors::{Inherited, Kept};
use super::event_loop::EventLoop;
use super::listeners::{ListenError, foresee, in_words};
use super::remedy::remedy;
use super::socket_file::SocketFile;
use crate::options::{ListenSpec, MetricsTo};

/// How often the file is written. Collectors read it every 15 s or less often; queues change without anything happening in the master, so a timer it is.
const FILE_INTERVAL: Duration = Duration::from_secs(15);

/// Most who wait for a page at once: there are no more connections.
const ASKERS_MAX: usize = 16;

/// Why there is no way out for the metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address cannot be had.
    #[error("cannot serve metrics")]
    Listen(#[from] ListenError),
    /// The file cannot be written.
    #[error("cannot write the metrics file {}: {source}{}", path.display(), remedy(source))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A way out that is there and that nobody has used yet.
#[derive(Debug)]
pub(super) enum Outlet {
    /// Listens already.
    Server {
        listener: OwnedFd,
        address: String,
        socket_file: Option<LeavesNoFile>,
    },
    File(PageFile),
}

/// Takes the socket's file with it.
#[derive(Debug)]
pub(super) struct LeavesNoFile(SocketFile);

impl Drop for LeavesNoFile {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// A socket that listens for those who want metrics, beside the one that accepts them.
#[derive(Debug)]
pub(super) struct Copy {
    listener: OwnedFd,
    inode: Option<(u64, u64)>,
}

/// The same as it is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    listener: RawFd,
    inode: Option<(u64, u64)>,
}

impl Copy {
    pub(super) fn hand_over<'a>(&'a self, kept: &mut Kept<'a>) -> Handed {
        Handed { listener: kept.keep(self.listener.as_fd()), inode: self.inode }
    }
}

impl Outlet {
    /// A copy for a successor, of what cannot be had again without somebody finding it closed meanwhile.
    pub(super) fn copy(&self) -> io::Result<Option<Copy>> {
        match self {
            Outlet::Server { listener, socket_file, .. } => {
                let inode = socket_file.as_ref().map(|LeavesNoFile(file)| file.inode());
                Ok(Some(Copy { listener: listener.try_clone()?, inode }))
            }
            Outlet::File(_) => Ok(None),
        }
    }

    pub(super) fn handed(to: &MetricsTo, handed: Option<Handed>, inherited: &mut Inherited) -> io::Result<Outlet> {
        match (to, handed) {
            (MetricsTo::Serve(address), Some(Handed { listener, inode })) => {
                let listener = inherited.take(listener)?;
                let socket_file = address.path.as_ref().zip(inode).map(|(path, inode)| LeavesNoFile(SocketFile::handed(Path::new(path), inode)));
                let address = if address.path.is_some() { in_words(address) } else { url(&TcpListener::from(listener.try_clone()?))? };
                Ok(Outlet::Server { listener, address, socket_file })
            }
            (to, _) => Outlet::prepare(to).map_err(io::Error::other),
        }
    }

    /// Makes sure of it before anything is started.
    pub(super) fn prepare(to: &MetricsTo) -> Result<Outlet, MetricsError> {
        match to {
            MetricsTo::Serve(address) => Outlet::listen(address).map_err(|source| ListenError::of(address, source).into()),
            MetricsTo::File(path) => PageFile::prepare(path).map(Outlet::File).map_err(|source| MetricsError::File { path: path.clone(), source }),
        }
    }

    /// Whether [`prepare`](Self::prepare) would refuse it, once there are these listeners.
    pub(super) fn check(to: &MetricsTo, listeners: &[ListenSpec]) -> Result<(), MetricsError> {
        match to {
            MetricsTo::Serve(address) => Ok(foresee::address(address, listeners)?),
            MetricsTo::File(path) => PageFile::check(path).map_err(|source| MetricsError::File { path: path.clone(), source }),
        }
    }

    fn listen(address: &Address) -> io::Result<Outlet> {
        match (address.kind, &address.path, address.host) {
            (Kind::Unix, Some(path), _) => {
                let (listener, file) = SocketFile::bind(Path::new(path), |socket, _| Ok(listen(socket, Backlog::MAXCONN)?))?;
                Ok(Outlet::Server { listener, address: in_words(address), socket_file: Some(LeavesNoFile(file)) })
            }
            (Kind::Tcp, None, Some(host)) => {
                let listener = TcpListener::bind(SocketAddr::new(host, address.port.unwrap_or(0)))?;
                listener.set_nonblocking(true)?;
                let address = url(&listener)?;
                Ok(Outlet::Server { listener: listener.into(), address, socket_file: None })
            }
            (Kind::Tcp | Kind::Unix | Kind::Udp, _, _) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Brings the metrics out until what is returned is dropped.
    pub(super) fn open(self) -> io::Result<(JoinSet<Infallible>, Askers)> {
        let (sender, askers) = mpsc::channel(ASKERS_MAX);
        let (asker, mut task) = (Asker(sender), JoinSet::new());
        match self {
            Outlet::Server { listener, address, socket_file } => {
                let acceptor = Acceptor::new(listener)?;
                info!(address, "Serving metrics");
                task.spawn(async move {
                    let _socket_file = socket_file;
                    http::serve(acceptor, asker).await
                });
            }
            Outlet::File(file) => drop(task.spawn(keep_writing(file, asker, FILE_INTERVAL))),
        }
        Ok((task, Askers(Some(askers))))
    }
}

fn url(listener: &TcpListener) -> io::Result<String> {
    Ok(format!("http://{}/metrics", listener.local_addr()?))
}

/// A file that cannot be written for a while is told once, and so is its recovery.
async fn keep_writing(mut file: PageFile, asker: Asker, interval: Duration) -> Infallible {
    let mut is_written = true;
    loop {
        let Some(page) = asker.page().await else { std::future::pending().await };
        let written = file.write(&page);
        match &written {
            Ok(()) if !is_written => info!(path = %file.path().display(), "Metrics file is written again"),
            Err(reason) if is_written => warn!(path = %file.path().display(), %reason, "Cannot write the metrics file"),
            Ok(()) | Err(_) => {}
        }
        is_written = written.is_ok();
        tokio::time::sleep(interval).await;
    }
}

/// Asks the loop for pages.
#[derive(Debug, Clone)]
pub(super) struct Asker(mpsc::Sender<oneshot::Sender<String>>);

impl Asker {
    /// A fresh one; `None`: the loop has ended.
    async fn page(&self) -> Option<String> {
        let (sender, page) = oneshot::channel();
        self.0.send(sender).await.ok()?;
        page.await.ok()
    }
}

/// Those who ask, for the loop.
#[derive(Debug, Default)]
pub(super) struct Askers(Option<mpsc::Receiver<oneshot::Sender<String>>>);

impl Askers {
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<oneshot::Sender<String>> {
        match &mut self.0 {
            Some(askers) => match askers.poll_recv(cx) {
                Poll::Ready(Some(asker)) => Poll::Ready(asker),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
            None => Poll::Pending,
        }
    }
}

impl EventLoop {
    /// The metrics as they are now.
    pub(super) fn metrics(&self) -> String {
        let mut workers = ["starting", "running", "draining", "lost", "killing"].map(|state| (state, 0));
        for worker in self.pool.workers() {
            let state = worker.state_name();
            workers.iter_mut().filter(|(its, _)| *its == state).for_each(|(_, count)| *count += 1);
        }
        let queue = |listener: dutch_master_protocol::control::ListenerStatus| {
            Some(Queue { listener: listener.key, waiting: listener.queued?, limit: listener.backlog? })
        };
        let listeners: Vec<_> = self.listeners.status().filter_map(queue).collect();
        text::text(&Facts {
            name: &self.name,
            started_at: self.started_at_unix,
            size: self.pool.size(),
            generation: self.pool.generation(),
            workers: &workers,
            listeners: &listeners,
            counts: &self.counts,
        })
    }
}

/// Seconds since 1970.
pub(super) fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn the_file_is_written_again_and_again_also_after_it_could_not_be() {
        let folder = std::env::temp_dir().join(format!("dm-metrics-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("m.prom");
        let (sender, mut askers) = mpsc::channel(ASKERS_MAX);
        let mut task = JoinSet::new();
        task.spawn(keep_writing(PageFile::prepare(&path).unwrap(), Asker(sender), Duration::from_millis(1)));
        askers.recv().await.unwrap().send("1\n".into()).unwrap();
        // Who asks for a page has written the last one.
        let asker = askers.recv().await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        fs::remove_dir_all(&folder).unwrap();
        asker.send("2\n".into()).unwrap();
        let asker = askers.recv().await.unwrap();
        fs::create_dir(&folder).unwrap();
        asker.send("3\n".into()).unwrap();
        askers.recv().await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
        task.shutdown().await;
        assert!(!path.exists(), "and it goes with the one who writes it");
        fs::remove_dir(&folder).unwrap();
    }
}
