//! The program as people and scripts see it: what it prints, what it exits with, which signals it heeds.

#![allow(clippy::unwrap_used)] // a test may panic

mod check;
mod clients;
mod completions;
mod config;
mod fake_master;
mod log;
mod output;
mod process;
mod refused;
mod refused_listeners;
mod screen;
mod start;
mod top;
mod unit;
mod usage;
