//! What can be wrong with a worker: each fault breaks one rule.

/// What is wrong with this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It never speaks to its master.
    NeverConnects,
    /// It says a token that is not its own.
    WrongToken,
    /// It reads with a buffer, and without room for descriptors.
    BufferedReads,
    /// It shuts the shared listener down instead of closing its copy.
    ShutsListener,
    /// It ends idle connections as soon as it is told to go.
    ResetsIdle,
    /// It does not hear the order to go.
    IgnoresDisconnect,
    /// It says `disconnect` and exits while requests are in flight.
    ExitsBeforeDraining,
    /// It sends messages without end.
    Floods,
    /// It passes over messages that break the rules.
    IgnoresMalformed,
    /// It takes a descriptor that comes together with another one.
    TakesTwo,
    /// It waits on for a listener that it was refused.
    IgnoresRefusal,
    /// It does not hear SIGTERM.
    IgnoresTerm,
    /// It takes more time when a second order gives more.
    TakesLonger,
    /// It says that it has closed its listener, and goes on accepting.
    KeepsAccepting,
    /// It stops accepting, and never closes its listener.
    KeepsListener,
    /// It takes connections for idle that have not sent a whole request.
    NewIsIdle,
    /// It closes connections at once after their last response.
    NoLinger,
    /// It offers every feature, and has none.
    PromisesFeatures,
}

impl Fault {
    pub(crate) fn named(name: &str) -> Option<Fault> {
        Some(match name {
            "good" => Fault::None,
            "never-connects" => Fault::NeverConnects,
            "wrong-token" => Fault::WrongToken,
            "buffered-reads" => Fault::BufferedReads,
            "shuts-listener" => Fault::ShutsListener,
            "resets-idle" => Fault::ResetsIdle,
            "ignores-disconnect" => Fault::IgnoresDisconnect,
            "exits-before-draining" => Fault::ExitsBeforeDraining,
            "floods" => Fault::Floods,
            "ignores-malformed" => Fault::IgnoresMalformed,
            "takes-two" => Fault::TakesTwo,
            "ignores-refusal" => Fault::IgnoresRefusal,
            "ignores-term" => Fault::IgnoresTerm,
            "takes-longer" => Fault::TakesLonger,
            "keeps-accepting" => Fault::KeepsAccepting,
            "keeps-listener" => Fault::KeepsListener,
            "new-is-idle" => Fault::NewIsIdle,
            "no-linger" => Fault::NoLinger,
            "promises-features" => Fault::PromisesFeatures,
            _ => return None,
        })
    }
}
