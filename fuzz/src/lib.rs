//! What is fuzzed, as functions of bytes that panic when a promise is broken. The engine calls them with inputs that it makes up (`make fuzz`), the ordinary tests with those that are kept.

pub mod decoder;
mod guard;
pub mod master;
mod pool;
pub mod script;
pub mod seeds;
