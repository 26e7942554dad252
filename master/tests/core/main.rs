//! The reconciler, tested through its public surface alone: a table of rules, random histories, and a model checker over the real code.

mod adopt;
mod failures;
mod giving_up;
mod going;
mod listeners;
mod model;
mod random;
mod recycle;
mod rules;
mod stop;
mod world;
