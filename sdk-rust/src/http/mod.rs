//! Serving HTTP, and going without failing a request (feature `http`).
//!
//! [`serve`] accepts, answers by any hyper service, and says `listening`. On an order to go it drains:
//!
//! 1. It stops accepting, and when the master stops, takes what waits in the queue first.
//! 2. Every response from then on says `Connection: close` (HTTP/2: GOAWAY).
//! 3. Connections in the middle of a request finish it. So do those that have not had a request yet: the client's first one may be on its way.
//! 4. Idle connections stay for the idle grace, since the next request may be on its way, too; then they end.
//! 5. A connection ends by half-close, and is read until the client has closed it as well: closing with unread bytes would reset it.
//! 6. What remains shortly before the order's deadline is cut.
//!
//! While it serves, it lets workers of the same pool with fewer connections accept first.
//!
//! hyper's own graceful shutdown closes idle connections at once, and so resets requests that are on their way.

mod acceptor;
mod activity;
mod answer;
mod connection;
mod server;
mod stream;
#[cfg(target_os = "linux")]
mod turn;
#[cfg(not(target_os = "linux"))]
#[path = "no_turn.rs"]
mod turn;

pub use answer::PeerAddress;
pub use server::{Serve, serve};

use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};

/// How long idle connections stay after an order to go, unless [`Serve::idle_grace`] says otherwise: longer than most clients think between two requests.
pub const IDLE_GRACE: Duration = Duration::from_secs(5);

/// How long a connection that we ended may take until the client ends it, too: far more than a round trip.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long before the deadline of an order connections are cut, so that `disconnect` reaches the master before it loses patience; at most half of what is left.
pub const CUT_MARGIN: Duration = Duration::from_millis(200);

/// Most connections that are taken from the queue after the order to stop: as many as Linux lets wait by default.
pub const QUEUE_MAX: usize = 4_096;

/// How long accepting pauses when the system is short of descriptors or memory: it does not come back at once.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A hyper service that can be served on every connection. Implemented by whatever fits; functions become one by [`hyper::service::service_fn`].
pub trait HttpService:
    Service<Request<Incoming>, Response = Response<Self::ResponseBody>, Future: Send + 'static, Error: Into<BoxError>> + Clone + Send + Sync + 'static
{
    /// The body of its responses.
    type ResponseBody: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Future: Send + 'static, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type ResponseBody = B;
}
