//! The handle that a program holds: what it says to the master, and what it learns from it.

use std::borrow::Cow;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dutch_master_protocol::limits::JSON_MAX;
use dutch_master_protocol::message::{Address, AppMessage, Close, Drained, FromWorker, Heartbeat, Listening, MAX_REQUESTS_REASON, RequestRestart, Welcome};
use tokio::sync::{oneshot, watch};

use crate::audience::Event;
use crate::bind;
use crate::limits::{LISTEN_TIMEOUT, LISTENS_MAX, REASON_MAX};
use crate::link::Link;
use crate::listener::Listener;
use crate::order::Order;
use crate::request::{AddressError, ListenRequest};
use crate::settings::{ConnectError, Settings};

/// This process as a worker: connected to its master, or standalone.
///
/// A cheap handle; the session lives as long as the process, not as long as the handles. It outlives the master: when the connection ends without an order, it is made again, with the master's successor, and what this worker had to say meanwhile is said then.
/// Only when none takes it back within the master's orphan timeout there is an order to go, with the reason [`Orphaned`](crate::Reason::Orphaned). Standalone, the program binds for itself, no order ever comes, and every other call does nothing.
#[derive(Debug, Clone)]
pub struct Worker {
    link: Option<Arc<Link>>,
    /// Servers that are not done: only after the last one is the worker drained.
    #[cfg_attr(not(feature = "http"), expect(dead_code))]
    pub(crate) servers: Arc<AtomicUsize>,
    answered: Arc<Answered>,
    cut: Arc<AtomicU32>,
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The request makes no sense.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The master refused.
    #[error("the master refused to listen: {message} ({code})")]
    Refused {
        /// An errno name such as `EADDRINUSE`, or a code of the protocol.
        code: String,
        /// The master's words.
        message: String,
    },
    /// The master did not answer in time.
    #[error("the master did not answer within {} s", LISTEN_TIMEOUT.as_secs())]
    Timeout,
    /// There is no master, and none to come.
    #[error("the connection to the master has ended")]
    Disconnected,
    /// Too many requests wait for an answer.
    #[error("more than {LISTENS_MAX} requests to listen wait for an answer")]
    TooMany,
    /// A configured listener was asked for, and there is no master that has a configuration.
    #[error("the listener {name:?} is configured in a master, and this program runs without one")]
    NoMaster {
        /// The name asked for.
        name: String,
    },
    /// Standalone, the system refused.
    #[error("cannot listen: {0}")]
    Bind(#[from] io::Error),
}

impl ListenError {
    /// A short code for programs: an errno name where one fits, else one of the protocol's codes.
    pub fn code(&self) -> Cow<'_, str> {
        match self {
            ListenError::Address(_) => "EINVAL".into(),
            ListenError::Refused { code, .. } => code.into(),
            ListenError::Timeout => "ETIMEDOUT".into(),
            ListenError::Disconnected => "ENOTCONN".into(),
            ListenError::TooMany => "limit".into(),
            ListenError::NoMaster { .. } => "unknown-name".into(),
            ListenError::Bind(error) => format!("{:?}", error.raw_os_error().map_or(nix::errno::Errno::UnknownErrno, nix::errno::Errno::from_raw)).into(),
        }
    }
}

/// A message to the master is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message has {length} bytes; the limit is {JSON_MAX}")]
pub struct TooLong {
    /// Its length in bytes.
    pub length: usize,
}

impl Worker {
    /// Connects to the master that the environment names, or runs standalone when it names none.
    ///
    /// **Call it once, first in `main`, before anything starts a thread** (an async runtime, a logger with a background thread): it takes `DUTCH_MASTER_SOCKET` and its companions out of the environment, so that no child process can pose as
    /// this worker, and the environment must not change while another thread reads it.
    ///
    /// # Errors
    /// [`ConnectError`] when a master is named but does not take this worker. The program should say so and end: the master starts another.
    pub fn from_env() -> Result<Worker, ConnectError> {
        Settings::take_from_env()?.map_or_else(|| Ok(Worker::standalone()), Worker::connect)
    }

    /// Connects with given settings, for bindings that took the environment themselves. Blocks until the master's `welcome`, at most 5 s, or 10 s when a master dies on the way.
    ///
    /// # Errors
    /// [`ConnectError`] when the master does not take this worker.
    pub fn connect(settings: Settings) -> Result<Worker, ConnectError> {
        Link::connect(settings).map(|link| Worker::new(Some(link)))
    }

    /// A worker without a master.
    pub fn standalone() -> Worker {
        Worker::new(None)
    }

    /// Whether there is no master.
    pub fn is_standalone(&self) -> bool {
        self.link.is_none()
    }

    /// What the master said at the beginning, or the last one that took this worker back.
    pub fn welcome(&self) -> Option<Arc<Welcome>> {
        self.link.as_ref().map(|link| link.welcome())
    }

    /// The worker's id: 1, 2, 3…, never reused; 0 when standalone.
    pub fn id(&self) -> u32 {
        self.welcome().map_or(0, |welcome| welcome.worker)
    }

    /// The worker's generation; 0 when standalone.
    pub fn generation(&self) -> u32 {
        self.welcome().map_or(0, |welcome| welcome.generation)
    }

    /// The worker's slot, from 0. During a restart, it and its predecessor have the same.
    pub fn slot(&self) -> u32 {
        self.welcome().map_or(0, |welcome| welcome.slot)
    }

    /// How many workers the pool should have; 1 when standalone.
    pub fn pool_size(&self) -> u32 {
        self.welcome().map_or(1, |welcome| welcome.size)
    }

    /// Asks for a listener and calls back exactly once: on the session thread, within 30 s, whether the master lives or its successor has to answer; standalone, before it returns. The callback must neither block nor panic.
    pub fn listen_then(&self, request: ListenRequest, then: impl FnOnce(Result<Listener, ListenError>) + Send + 'static) {
        match &self.link {
            Some(link) => link.listen(request, Box::new(then)),
            None => then(bind::bind(request)),
        }
    }

    /// Asks for a listener and waits for it.
    ///
    /// # Errors
    /// [`ListenError`], for example when somebody else has the port.
    pub fn listen_blocking(&self, request: impl Into<ListenRequest>) -> Result<Listener, ListenError> {
        pollster::block_on(self.listen(request))
    }

    /// Asks for a listener. Needs no particular runtime.
    ///
    /// Say [`close`](Self::close) when you have closed it: until then, or until [`drained`](Self::drained), the session keeps a copy of it, for a master that took over from a dead one and needs it back.
    ///
    /// # Errors
    /// [`ListenError`], for example when somebody else has the port.
    pub async fn listen(&self, request: impl Into<ListenRequest>) -> Result<Listener, ListenError> {
        let (answer, answered) = oneshot::channel();
        let worker = self.clone();
        self.listen_then(request.into(), move |result| {
            if let Err(Ok(unwanted)) = answer.send(result) {
                worker.close(unwanted.key()); // The caller stopped waiting.
            }
        });
        answered.await.unwrap_or(Err(ListenError::Disconnected))
    }

    /// Says that this worker serves now. The first time makes it count as running, and its predecessor may be told to go.
    pub fn listening(&self, address: Option<Address>) {
        self.say(|| FromWorker::Listening(Listening { address }));
    }

    /// Asks to be replaced. The order to go comes once the replacement runs; until then this worker serves on. Asking again changes nothing.
    pub fn request_restart(&self, reason: Option<&str>) {
        self.say(|| FromWorker::RequestRestart(RequestRestart { reason: reason.map(shortened) }));
    }

    /// How often the master wants a [`beat`](Self::beat), if it does. [`http::serve`](crate::http::serve) sees to it; other servers announce nothing and need not.
    pub fn heartbeat_interval(&self) -> Option<Duration> {
        self.welcome().and_then(|welcome| welcome.heartbeat_ms).map(Duration::from_millis)
    }

    /// A sign of life. From the first one on the master takes this worker for blocked when they do not come; so it belongs where requests are served, right behind `listening`.
    pub fn beat(&self) {
        self.say(|| FromWorker::Heartbeat(Heartbeat {}));
    }

    /// How many requests this worker may answer before it asks to be recycled.
    pub fn max_requests(&self) -> Option<u64> {
        self.link.as_ref().and_then(|link| link.max_requests())
    }

    /// Counts a request that was answered. When there have been [`max_requests`](Self::max_requests), it asks to be recycled. [`http::serve`](crate::http::serve) counts by itself.
    pub fn answered(&self) {
        // Without a limit nothing is counted: every response comes this way.
        if self.max_requests().is_some_and(|limit| self.answered.reach(limit)) {
            self.request_restart(Some(MAX_REQUESTS_REASON));
        }
    }

    /// Ends this worker's service by itself: the master starts a replacement, and an order to go with the reason [`Leaving`](crate::Reason::Leaving) begins to hold here, so that the program drains as for any other order.
    pub fn leave(&self, reason: Option<&str>) {
        if let Some(link) = &self.link {
            link.leave(reason.map(shortened));
        }
    }

    /// Says that this worker no longer holds a listener, and closes the session's own copy of it.
    pub fn close(&self, key: &str) {
        self.say(|| FromWorker::Close(Close { key: key.to_owned() }));
    }

    /// Sends JSON text, which the master logs. While there is no master, the first [`MESSAGES_KEPT`](crate::limits::MESSAGES_KEPT) are kept for its successor.
    ///
    /// # Errors
    /// [`TooLong`] above 16 KiB.
    pub fn message(&self, json: &str) -> Result<(), TooLong> {
        if json.len() > JSON_MAX {
            return Err(TooLong { length: json.len() });
        }
        self.say(|| FromWorker::Message(AppMessage { json: json.to_owned() }));
        Ok(())
    }

    /// Counts connections that had not ended when the time to drain was over, and that the program ended then: [`drained`](Self::drained) tells the master, and it those who asked for a stop.
    /// [`http::serve`](crate::http::serve) counts by itself.
    pub fn cut(&self, connections: u32) {
        self.cut.fetch_add(connections, Ordering::Relaxed);
    }

    /// Says that this worker is drained: it holds no listener and no connection any more. SIGTERM follows if the process has not ended by itself.
    pub fn drained(&self) {
        let cut = Some(self.cut.load(Ordering::Relaxed)).filter(|cut| *cut > 0);
        self.say(|| FromWorker::Disconnect(Drained { cut }));
    }

    /// The order to go, once there is one.
    pub fn order(&self) -> Option<Order> {
        self.link.as_ref().and_then(|link| link.order())
    }

    /// Whether there is an order to go. Cheap enough to ask with every response.
    pub fn is_ordered(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_ordered())
    }

    /// Waits for the order to go. Standalone, none ever comes. Needs no particular runtime.
    pub async fn ordered(&self) -> Order {
        let Some(mut orders) = self.orders() else { return pending().await };
        loop {
            if let Some(order) = *orders.borrow_and_update() {
                return order;
            }
            if orders.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// Blocks until there is an order to go; standalone, for ever.
    pub fn wait_for_order(&self) -> Order {
        pollster::block_on(self.ordered())
    }

    /// Calls back on the session thread with what happens, and with what has already happened. The callback must neither block nor panic. For bindings; Rust programs have [`ordered`](Self::ordered).
    pub fn on_event(&self, callback: impl FnMut(Event) + Send + 'static) {
        if let Some(link) = &self.link {
            link.on_event(Box::new(callback));
        }
    }

    fn new(link: Option<Arc<Link>>) -> Worker {
        Worker { link, servers: Arc::default(), answered: Arc::default(), cut: Arc::default() }
    }

    /// The order and its changes; none when standalone.
    pub(crate) fn orders(&self) -> Option<watch::Receiver<Option<Order>>> {
        self.link.as_ref().map(|link| link.orders())
    }

    fn say(&self, message: impl FnOnce() -> FromWorker) {
        if let Some(link) = &self.link {
            link.say(message());
        }
    }
}

/// How many requests were answered.
#[derive(Debug, Default)]
struct Answered {
    count: AtomicU64,
    enough: AtomicBool,
}

impl Answered {
    /// Counts one more. True once: with the first one that is not below the limit, which another master may have set lower than the count was by then.
    fn reach(&self, limit: u64) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed) + 1 >= limit && !self.enough.swap(true, Ordering::Relaxed)
    }
}

/// As much of a reason as the master logs.
fn shortened(reason: &str) -> String {
    let end = (0..=reason.len().min(REASON_MAX)).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    reason[..end].to_owned()
}
