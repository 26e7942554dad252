//! Be a worker of dutch-master: adopt listeners, say when you serve, drain without failing a request.
//!
//! A worker is a process that a master started. It gets its listening sockets from the master, accepts connections itself, and is told to go when a replacement serves. Started without a master, the same program binds for itself and runs on its own.
//!
//! A worker outlives its master: when the connection ends without an order, it serves on, connects again, and goes on where it was with the next master.
//!
//! With the feature `axum` (or `http`, for any hyper service), `axum::serve` does all of it after `listen`. What it does, by hand:
//!
//! ```no_run
//! use dutch_master_worker::Worker;
//!
//! let worker = Worker::from_env()?; // first in main, before any thread starts
//! let listener = worker.listen_blocking("127.0.0.1:8000")?;
//! let (key, listener) = (listener.key().to_owned(), listener.into_std_tcp()?);
//! worker.listening(None);
//! // … serve, until:
//! let order = worker.wait_for_order();
//! drop(listener); // Accept no more.
//! worker.close(&key);
//! // … finish what is there by order.deadline, and then:
//! worker.drained();
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

pub mod limits;

mod order;
mod request;
mod settings;

mod bind;
mod listener;
mod worker;

mod audience;
mod connection;
mod link;
mod session;
mod wire;

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "http")]
pub mod http;

pub use dutch_master_protocol::message::{Address, Kind, Welcome};

pub use audience::Event;
pub use listener::{AdoptError, Listener};
pub use order::{Order, Reason};
pub use request::{AddressError, ListenRequest};
pub use session::Violation;
pub use settings::{ConnectError, Settings};
pub use worker::{ListenError, TooLong, Worker};
