//! The line to the master: one thread that reads and calls back, and writes from any thread. What it all means is decided in `session.rs`.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread;
use std::time::Instant;

use dutch_master_protocol::message::{ErrorMessage, FromWorker, Hello, VERSION, Welcome};
use dutch_master_protocol::socket::receive;
use nix::sys::signal::{SigSet, Signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::audience::{Audience, Callback, Event};
use crate::connection::Connection;
use crate::listener::Listener;
use crate::order::Order;
use crate::request::ListenRequest;
use crate::session::{Output, Session, Violation};
use crate::settings::{ConnectError, Settings};
use crate::wire::{Waker, Wire, wait};
use crate::worker::ListenError;

/// Bytes per read: a few messages; a longer one takes several reads.
const READ_SIZE: usize = 8_192;

pub(crate) type Then = Box<dyn FnOnce(Result<Listener, ListenError>) + Send>;

pub(crate) struct Link {
    /// What a master said last.
    welcome: RwLock<Arc<Welcome>>,
    connection: Mutex<Connection>,
    waker: Waker,
    calls: Mutex<Calls>,
    orders: watch::Sender<Option<Order>>,
    /// Whether there is an order: asked with every response, so it takes no lock.
    ordered: AtomicBool,
    /// The welcome's `max_requests`, for the same reason; without one, no count reaches it.
    max_requests: AtomicU64,
}

/// Work for the session thread, which alone calls back.
#[derive(Default)]
struct Calls {
    /// Who waits for which `listen`.
    listens: HashMap<u64, Then>,
    /// Requests that failed before they were sent.
    failed: Vec<(Then, ListenError)>,
    /// Callbacks that have not been told anything yet.
    callbacks: Vec<Callback>,
}

impl Calls {
    fn take_new(&mut self) -> (Vec<(Then, ListenError)>, Vec<Callback>) {
        (std::mem::take(&mut self.failed), std::mem::take(&mut self.callbacks))
    }
}

/// Who waits for the first connection.
type Greeted = mpsc::Sender<Result<(), ConnectError>>;

impl Link {
    /// Starts the session thread, and waits until a master has taken this worker.
    pub(crate) fn connect(settings: Settings) -> Result<Arc<Link>, ConnectError> {
        let Settings { socket, token, sdk, features } = settings;
        let hello = Hello { protocol: VERSION, token: Some(token), sdk: Some(sdk), pid: Some(std::process::id()), features, ..Hello::default() };
        let (waker, woken) = Waker::new()?;
        let link = Arc::new(Link {
            welcome: RwLock::default(),
            connection: Mutex::new(Connection::new(socket, Session::new(Instant::now(), hello, fastrand::u64(..)))),
            waker,
            calls: Mutex::default(),
            orders: watch::Sender::new(None),
            ordered: AtomicBool::new(false),
            max_requests: AtomicU64::new(u64::MAX),
        });
        let (greeted, outcome) = mpsc::channel();
        let thread = Arc::clone(&link);
        thread::Builder::new().name("dutch-master".into()).spawn(move || thread.run(&woken, greeted))?;
        outcome.recv().unwrap_or(Err(ConnectError::Closed)).map(|()| link)
    }

    /// What a master said last.
    pub(crate) fn welcome(&self) -> Arc<Welcome> {
        Arc::clone(&self.welcome.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// After how many answered requests this worker is to be recycled.
    pub(crate) fn max_requests(&self) -> Option<u64> {
        Some(self.max_requests.load(Ordering::Relaxed)).filter(|limit| *limit < u64::MAX)
    }

    pub(crate) fn listen(&self, request: ListenRequest, then: Then) {
        // Held over both, so that the answer cannot come before it is known who waits for it.
        let mut calls = lock(&self.calls);
        let mut connection = lock(&self.connection);
        match connection.session.listen(Instant::now(), request) {
            Ok(message) => {
                calls.listens.insert(message.seq, then);
                let wire = connection.open_wire();
                drop((calls, connection));
                say(wire, &FromWorker::Listen(message));
            }
            Err(error) => calls.failed.push((then, error)),
        }
        self.waker.wake(); // There is a new deadline, or somebody to call back.
    }

    pub(crate) fn leave(&self, reason: Option<String>) {
        self.tell(|session| session.leave(Instant::now(), reason));
        self.waker.wake(); // There is an order to tell of.
    }

    pub(crate) fn on_event(&self, callback: Callback) {
        lock(&self.calls).callbacks.push(callback);
        self.waker.wake();
    }

    pub(crate) fn order(&self) -> Option<Order> {
        lock(&self.connection).session.order()
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.ordered.load(Ordering::Relaxed)
    }

    pub(crate) fn orders(&self) -> watch::Receiver<Option<Order>> {
        self.orders.subscribe()
    }

    pub(crate) fn say(&self, message: FromWorker) {
        self.tell(|session| session.say(message));
    }

    /// Says what the session lets through. It goes to the master that the session meant, or to none: in one step, since there may be another a moment later.
    fn tell(&self, choose: impl FnOnce(&mut Session) -> Option<FromWorker>) {
        let mut connection = lock(&self.connection);
        let message = choose(&mut connection.session);
        let wire = connection.open_wire();
        drop(connection);
        if let Some(message) = message {
            say(wire, &message);
        }
    }

    /// The session thread. It waits for the master, for other threads, and for deadlines.
    fn run(&self, woken: &UnixStream, greeted: Greeted) {
        // A descriptor is sent by a call that knows no MSG_NOSIGNAL, and a dead master must not end the program.
        let _ = SigSet::from(Signal::SIGPIPE).thread_block();
        let mut greeted = Some(greeted);
        let mut audience = Audience::default();
        let mut buffer = vec![0; READ_SIZE];
        while self.act(&mut audience, &mut greeted).is_continue() {
            let (wire, deadline) = {
                let mut connection = lock(&self.connection);
                (connection.wire(), connection.session.poll_deadline())
            };
            if wait(wire.as_ref().map(|wire| wire.socket()), Some(woken), deadline)
                && let Some(wire) = wire
            {
                self.read(&wire, &mut buffer);
            }
            lock(&self.connection).session.expire(Instant::now());
        }
    }

    fn read(&self, wire: &Wire, buffer: &mut [u8]) {
        let cause = match receive(wire.socket(), buffer) {
            Ok(received) if received.bytes > 0 => {
                let outcome =
                    lock(&self.connection).session.received(Instant::now(), &buffer[..received.bytes], received.fds, received.excess || received.lost);
                let Err(violation) = outcome else { return };
                refuse(wire, &violation);
                violation.into()
            }
            Ok(_) => ConnectError::Closed,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => error.into(),
        };
        lock(&self.connection).session.ended(Instant::now(), cause);
    }

    /// Does what the session wants done, and calls back without holding a lock. It breaks when no master took this worker.
    fn act(&self, audience: &mut Audience, greeted: &mut Option<Greeted>) -> ControlFlow<()> {
        let (failed, new) = lock(&self.calls).take_new();
        failed.into_iter().for_each(|(then, error)| then(Err(error)));
        new.into_iter().for_each(|callback| audience.join(callback));
        loop {
            let (output, wire) = {
                let mut connection = lock(&self.connection);
                (connection.session.poll_output(), connection.wire())
            };
            match output {
                None => return ControlFlow::Continue(()),
                Some(Output::Dial) => lock(&self.connection).dial(),
                Some(Output::Say(message)) => say(wire, &message),
                Some(Output::GiveBack(message, fd)) => {
                    if let Some(wire) = wire {
                        let _ = wire.say_with(&FromWorker::Listener(message), Some(fd.as_fd())); // That the connection ended is read from it.
                    }
                }
                Some(Output::Welcome(welcome)) => {
                    self.max_requests.store(welcome.max_requests.unwrap_or(u64::MAX), Ordering::Relaxed);
                    *self.welcome.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(welcome);
                    match greeted.take() {
                        Some(greeted) => _ = greeted.send(Ok(())),
                        None => {
                            info!("a master took this worker back");
                            audience.tell(Event::Reconnected);
                        }
                    }
                }
                Some(Output::Failed(error)) => {
                    if let Some(greeted) = greeted.take() {
                        let _ = greeted.send(Err(error));
                    }
                    return ControlFlow::Break(());
                }
                Some(Output::Listen(seq, result)) => {
                    let then = lock(&self.calls).listens.remove(&seq);
                    if let Some(then) = then {
                        then(result);
                    }
                }
                Some(Output::Order(order)) => {
                    self.ordered.store(true, Ordering::Relaxed);
                    self.orders.send_replace(Some(order)); // Before callbacks, so that whoever is told can rely on it.
                    audience.tell(Event::Order(order));
                }
                Some(Output::Ended { ordered }) => {
                    if !ordered {
                        warn!("the connection to the master ended; this worker serves on");
                    }
                    audience.tell(Event::Disconnected { ordered });
                }
                Some(Output::Error(ErrorMessage { code, message, .. })) => {
                    warn!(code, message, "the master complains");
                    audience.tell(Event::Error { code, message });
                }
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("welcome", &self.welcome()).finish_non_exhaustive()
    }
}

/// A master that is gone needs no words: that the connection ended shows on the session thread.
fn say(wire: Option<Arc<Wire>>, message: &FromWorker) {
    if let Some(wire) = wire {
        let _ = wire.say(message);
    }
}

/// Tells the master what it did wrong, as last words.
fn refuse(wire: &Wire, violation: &Violation) {
    warn!(error = %violation, "the master breaks the protocol");
    let _ = wire.say(&FromWorker::Error(ErrorMessage { seq: None, code: violation.code().into(), message: violation.to_string() }));
}

/// Nothing here leaves half a change behind when it panics, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
