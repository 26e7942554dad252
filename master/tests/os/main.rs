//! The master as a process, seen by workers and clients that do not do what they should, and by the processes that it starts. The workers are `sleep`s; the tests speak for them.
#![allow(clippy::unwrap_used)] // a helper of a test may panic as the test itself

mod exposition;
mod harness;
mod hooks;
mod idle;
mod log;
mod master;
mod metrics;
mod peer;
mod reload;
mod sockets;
mod strangers;
mod subscribers;
mod survive;
mod trouble;
mod worker_processes;
mod workers;
