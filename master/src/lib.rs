//! A master keeps N copies of a network service running and never drops a request while it replaces them. This crate is the whole master as a library; the binary `dutch-master` adds the
//! command line, the log formats and the signals.
//!
//! ```no_run
//! # async fn example() -> Result<(), dutch_master::StartError> {
//! let (asker, requests) = tokio::sync::mpsc::channel(16);
//! let master = dutch_master::Master::prepare(dutch_master::Options::new("app.js"))?;
//! // elsewhere: asker.send(Request::Restart { signal: None })
//! let exit_code = master.run(requests).await;
//! # drop(asker); drop(exit_code); Ok(()) }
//! ```
//!
//! `core` decides and touches nothing, `os` acts and decides nothing. No signal handler is ever registered here: whoever embeds the master owns the signals and passes them on as [`Request`]s.
//! It also has to ignore SIGPIPE, as every Rust program and Node do from the start.
//!
//! An embedding program may decide some things anew for each worker and each restart: [`Callbacks`]. The log are events of `tracing`, all made on the thread that runs the master: a subscriber
//! of that thread gets them. After [`Master::prepare`] the library does not read this process's environment when there is [`Callbacks::evaluate`], so another thread may change it.

pub mod client;
pub mod core;
pub mod memory;
pub mod options;
mod os;
mod told;

pub use options::Options;
pub use os::Outlook;
pub use os::{
    Answer, Callbacks, Evaluated, FIXED_KEYS, LIFECYCLE, Master, Request, Reread, ServiceManager, StartError, Surroundings, remedy, working_directory,
};
pub use os::{HandoverError, Inheritance, Invocation, PREFLIGHT, Verdict, can_take_over, let_signals_come};
pub use os::{runtime_dir, trial};
pub use told::{Chain, Fields};
