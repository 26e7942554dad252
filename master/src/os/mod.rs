//! Everything that touches the system: processes, descriptors, sockets, files, time. It carries out what `core` orders and tells it what happened; it decides nothing.
//!
//! `event_loop` waits, and hands on what happened: words of workers to `hearing`, requests of control clients to `control`. `orders` carries out what the core says, by means of `spawn`,
//! `process` and `listeners`; `report` tells people, `reload` takes in a configuration that was changed. `master` is what happens before and after.

mod clock;
mod connection;
mod control;
mod control_socket;
mod error;
mod event_loop;
mod hearing;
mod hook;
mod launch;
mod listeners;
mod lock;
mod master;
mod node;
mod orders;
mod outbox;
mod peer;
mod pid_file;
mod port_holder;
mod process;
mod program;
mod readiness;
mod reload;
mod report;
mod request;
pub mod runtime_dir;
mod snapshots;
mod socket_file;
mod spawn;
mod workers;

pub use error::StartError;
pub use master::{Master, working_directory};
pub use reload::{FIXED_KEYS, Reread};
pub use request::Request;
