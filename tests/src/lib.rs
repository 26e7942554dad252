//! What the tests of real processes are made of: a load client that forgives nothing, and a harness around the `dutch-master` binary.

pub mod load;

pub mod harness;

pub mod rolling;
