//! Everything that touches the system: processes, descriptors, sockets, files, time. It carries out what `core` orders and tells it what happened; it decides nothing.
//!
//! `event_loop` waits, and hands on what happened: words of workers to `hearing`, requests of control clients to `control`. `orders` carries out what the core says, by means of `spawn`,
//! `process` and `listeners`; `report` tells people, `reload` takes in a configuration that was changed, `metrics` counts, `callbacks` asks the program that embeds the master. `master` is what happens before and after.

mod adoption;
mod callbacks;
mod clock;
mod connection;
mod control;
mod control_socket;
mod descriptors;
mod error;
mod event_loop;
mod greeting;
mod handover;
mod hearing;
mod hook;
mod in_json;
mod listeners;
mod listening_socket;
mod lock;
mod master;
mod memory_watch;
mod metrics;
mod missing;
mod node;
mod orders;
mod outbox;
mod peer;
mod pid_file;
mod port_holder;
mod preflight;
mod process;
mod program;
mod readiness;
mod reload;
mod remedy;
mod report;
mod request;
mod returns;
pub mod runtime_dir;
mod session;
mod snapshots;
mod socket_file;
mod spawn;
mod state;
mod succession;
mod token_bucket;
pub mod trial;
mod upgrade;
mod upkeep;
mod watch;
mod workers;

pub use callbacks::{Answer, Callbacks, Evaluated, Surroundings};
pub use error::StartError;
pub use handover::HandoverError;
pub use master::{Master, working_directory};
pub use preflight::{COMMAND as PREFLIGHT, Verdict};
pub use reload::{FIXED_KEYS, Reread};
pub use remedy::remedy;
pub use report::LIFECYCLE;
pub use request::Request;
pub use succession::{Inheritance, can_take_over, let_signals_come};
pub use upgrade::Invocation;
