//! The wire protocol between dutch-master and its workers, version 1. `SPEC.md` beside this crate is the normative text.
//!
//! `message` declares what is said, `codec` turns it into bytes and back without any I/O, `socket` moves bytes and descriptors over a Unix stream socket, `limits` names every bound.
//! The crate depends on nothing else of this project.

pub mod limits;
pub mod message;

pub mod codec;
pub mod control;
pub mod env;
pub mod hex;
pub mod socket;
