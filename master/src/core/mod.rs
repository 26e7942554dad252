//! The lifecycle: one pure reconciler. It reads no clock, opens nothing, draws no random number and logs nothing: facts go in ([`Event`]), orders come out ([`Action`]).
//!
//! ```text
//!                 listening              told to go / leaving           SIGKILL
//!   (Spawn) ─► starting ─────────► running ─────────────────► draining ─────────► killing
//!                 │                   │ connection ended          ▲ ▲                │
//!                 │ told to go        └──────────► lost ──────────┘ │                ▼
//!                 └─────────────────────────────────────────────────┘      WorkerExited, from any state: forgotten
//! ```
//!
//! - **starting**: ordered, and `listening` has not come. Ends by its start deadline.
//! - **running**: said `listening`. May be *doomed*: outdated by a restart, asked to be replaced, or due to be recycled.
//! - **draining**: told to go, or leaving by itself. Ends by its kill deadline.
//! - **lost**: its connection ended while the process lives. Replaced, then told to go by SIGTERM.
//! - **killing**: got SIGKILL; only its exit is awaited.
//!
//! After every event the pool compares what is with what should be and orders the difference (`reconcile.rs`); no replacement is tied to a predecessor, and no callback waits for another.
//! The shell calls [`Pool::handle`], then [`Pool::poll_action`] until it is empty, then waits until [`Pool::poll_deadline`] or the next fact.

mod action;
mod adopt;
mod backoff;
mod config;
mod event;
mod expire;
mod failing;
mod going;
pub mod listeners;
mod pool;
mod reconcile;
mod recycle;
mod restart;
mod said;
mod time;
mod worker;

pub use action::{Action, Directory, EndOfRestart, Failure, HowStopped, Recycle, Refusal, Report, Signal, WhyGo};
pub use config::{ADOPTION_MS, Config, HOOK_TIMEOUT_MS, SIZE_MAX, Surge};
pub use event::{Event, ExitStatus, Said, SizeChange, Ticket};
pub use failing::Failing;
pub use pool::{Phase, Pool};
pub use recycle::spread;
pub use time::Time;
pub use worker::{GenerationId, State, Worker, WorkerId};
