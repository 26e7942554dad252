//! What the tests of real processes are made of: a load client that forgives nothing, and a harness around the `dutch-master` binary.
//!
//! The workers are `test-worker`, which does exactly what it is told over the bare protocol, `http-worker`, an axum service over the Rust SDK, and the Express example; the last two also as negative controls that end as people end servers without an SDK.
//! `load` prints what `make load` is for. The tests have one file for each kind of promise.
//! `chaos` is what `make chaos` runs. `bench` prints what `make bench` is for; its workers are `bench-worker` and `bench-trivial`, and `bench-launcher` is what they are compared under.

pub mod bench;

pub mod chaos;

pub mod load;

pub mod harness;

pub mod rolling;
