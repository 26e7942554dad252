//! The connection to the master: one thread that reads and calls back, and writes from any thread. What it all means is decided in `session.rs`.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use dutch_master_protocol::message::{ErrorMessage, FromWorker, Hello, VERSION, Welcome};
use dutch_master_protocol::socket::receive;
use tokio::sync::watch;
use tracing::warn;

use crate::limits::WELCOME_TIMEOUT;
use crate::listener::Listener;
use crate::order::Order;
use crate::request::ListenRequest;
use crate::session::{Output, Session, Violation};
use crate::settings::{ConnectError, Settings};
use crate::wire::{Waker, Wire, dial, wait};
use crate::worker::ListenError;

/// Bytes per read: a few messages; a longer one takes several reads.
const READ_SIZE: usize = 8_192;

/// What happens to a worker, for bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// There is an order to go. It may come again with an earlier deadline.
    Order(Order),
    /// The connection to the master has ended. Without an order the worker serves on; an order of the reason [`Orphaned`](crate::Reason::Orphaned) follows after the orphan timeout.
    Disconnected {
        /// Whether there had been an order to go.
        ordered: bool,
    },
    /// The master complained, or broke the protocol.
    Error {
        /// A code of the protocol.
        code: String,
        /// A sentence for people.
        message: String,
    },
}

pub(crate) type Then = Box<dyn FnOnce(Result<Listener, ListenError>) + Send>;
pub(crate) type Callback = Box<dyn FnMut(Event) + Send>;

pub(crate) struct Link {
    pub(crate) welcome: Welcome,
    session: Mutex<Session>,
    wire: Wire,
    waker: Waker,
    calls: Mutex<Calls>,
    orders: watch::Sender<Option<Order>>,
    /// Whether there is an order: asked with every response, so it takes no lock.
    ordered: AtomicBool,
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

impl Link {
    /// Connects, says `hello`, waits for `welcome`, and starts the session thread.
    pub(crate) fn connect(settings: Settings) -> Result<Arc<Link>, ConnectError> {
        let until = Instant::now() + WELCOME_TIMEOUT;
        let socket = dial(&settings.socket).map_err(|source| ConnectError::Connect { path: settings.socket.clone(), source })?;
        let wire = Wire::new(socket);
        let Settings { token, sdk, features, .. } = settings;
        let hello = Hello { protocol: VERSION, token: Some(token), sdk: Some(sdk), pid: Some(std::process::id()), features, ..Hello::default() };
        let _ = wire.say(&FromWorker::Hello(hello)); // A master that refuses at once says why before it ends the connection: `greet` reads it.
        let mut session = Session::new();
        let welcome = greet(&wire, &mut session, until)?;
        let (waker, woken) = Waker::new()?;
        let link = Arc::new(Link {
            welcome,
            session: Mutex::new(session),
            wire,
            waker,
            calls: Mutex::default(),
            orders: watch::Sender::new(None),
            ordered: AtomicBool::new(false),
        });
        let thread = Arc::clone(&link);
        thread::Builder::new().name("dutch-master".into()).spawn(move || thread.run(&woken))?;
        Ok(link)
    }

    pub(crate) fn listen(&self, request: ListenRequest, then: Then) {
        // Held over both, so that the answer cannot come before it is known who waits for it.
        let mut calls = lock(&self.calls);
        match lock(&self.session).listen(Instant::now(), request) {
            Ok(message) => {
                calls.listens.insert(message.seq, then);
                drop(calls);
                self.say(&FromWorker::Listen(message));
            }
            Err(error) => calls.failed.push((then, error)),
        }
        self.waker.wake(); // There is a new deadline, or somebody to call back.
    }

    pub(crate) fn leave(&self, reason: Option<String>) {
        lock(&self.session).leave(Instant::now(), reason);
        self.waker.wake();
    }

    pub(crate) fn on_event(&self, callback: Callback) {
        lock(&self.calls).callbacks.push(callback);
        self.waker.wake();
    }

    pub(crate) fn order(&self) -> Option<Order> {
        lock(&self.session).order()
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.ordered.load(Ordering::Relaxed)
    }

    pub(crate) fn orders(&self) -> watch::Receiver<Option<Order>> {
        self.orders.subscribe()
    }

    /// A master that is gone needs no words: that the connection ended shows on the session thread.
    pub(crate) fn say(&self, message: &FromWorker) {
        let _ = self.wire.say(message);
    }

    /// The session thread. It waits for the master, for other threads, and for deadlines.
    fn run(&self, woken: &UnixStream) {
        let mut audience = Audience::default();
        let mut buffer = vec![0; READ_SIZE];
        loop {
            self.act(&mut audience);
            let (connected, deadline) = {
                let session = lock(&self.session);
                (!session.has_ended(), session.poll_deadline())
            };
            if wait(connected.then_some(self.wire.socket()), Some(woken), deadline) {
                self.read(&mut buffer);
            }
            lock(&self.session).expire(Instant::now());
        }
    }

    fn read(&self, buffer: &mut [u8]) {
        let received = receive(self.wire.socket(), buffer);
        let mut session = lock(&self.session);
        let violation = match received {
            Ok(received) if received.bytes > 0 => match session.received(Instant::now(), &buffer[..received.bytes], received.fds, received.truncated) {
                Ok(()) if !session.has_ended() => return,
                Ok(()) => None,
                Err(violation) => Some(violation),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => None,
        };
        session.ended(Instant::now());
        drop(session);
        if let Some(violation) = violation {
            self.refuse(&violation);
        }
        self.wire.shutdown();
    }

    /// Tells the master what it did wrong, as last words.
    fn refuse(&self, violation: &Violation) {
        warn!(error = %violation, "the master breaks the protocol");
        self.say(&FromWorker::Error(ErrorMessage { seq: None, code: violation.code().into(), message: violation.to_string() }));
    }

    /// Does what the session wants done, and calls back without holding a lock.
    fn act(&self, audience: &mut Audience) {
        let (failed, new) = lock(&self.calls).take_new();
        failed.into_iter().for_each(|(then, error)| then(Err(error)));
        new.into_iter().for_each(|callback| audience.join(callback));
        loop {
            let output = lock(&self.session).poll_output();
            match output {
                None => break,
                Some(Output::Welcome(_)) => {} // Taken by `greet`; there is no second one.
                Some(Output::Say(message)) => self.say(&message),
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

/// Who is called back with events, and what a newcomer has missed.
#[derive(Default)]
struct Audience {
    callbacks: Vec<Callback>,
    order: Option<Event>,
    ended: Option<Event>,
}

impl Audience {
    fn join(&mut self, mut callback: Callback) {
        self.order.iter().chain(&self.ended).for_each(|event| callback(event.clone()));
        self.callbacks.push(callback);
    }

    fn tell(&mut self, event: Event) {
        self.callbacks.iter_mut().for_each(|callback| callback(event.clone()));
        match event {
            Event::Order(_) => self.order = Some(event),
            Event::Disconnected { .. } => self.ended = Some(event),
            Event::Error { .. } => {}
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("welcome", &self.welcome).finish_non_exhaustive()
    }
}

/// Reads until `welcome`. What comes right behind it stays in the session.
fn greet(wire: &Wire, session: &mut Session, until: Instant) -> Result<Welcome, ConnectError> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match session.poll_output() {
            Some(Output::Welcome(welcome)) => return Ok(welcome),
            Some(Output::Error(ErrorMessage { code, message, .. })) => return Err(ConnectError::Refused { code, message }),
            Some(Output::Say(_) | Output::Listen(..) | Output::Order(_) | Output::Ended { .. }) | None => {}
        }
        if !wait(Some(wire.socket()), None, Some(until)) {
            return Err(ConnectError::Timeout);
        }
        let received = receive(wire.socket(), &mut buffer)?;
        if received.bytes == 0 {
            return Err(ConnectError::Closed);
        }
        session.received(Instant::now(), &buffer[..received.bytes], received.fds, received.truncated)?;
    }
}

/// Nothing here leaves half a change behind when it panics, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
