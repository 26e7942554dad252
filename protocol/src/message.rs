//! Every message of the protocol, in the order of SPEC.md section 6. Data only: how they become bytes is in `codec.rs`.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

/// The protocol version that this crate speaks (SPEC 8).
pub const VERSION: u32 = 1;

/// What a worker sends to the master (SPEC 6.1 to 6.9). [`Unknown`](Self::Unknown) stands for every event that this version does not know; it is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum FromWorker {
    /// First message of every connection.
    Hello(Hello),
    /// Asks for a listener; answered by `listener` or `error` with the same `seq`.
    Listen(Listen),
    /// The worker no longer holds this listener.
    Close(Close),
    /// The worker serves. The first one makes it *running*.
    Listening(Listening),
    /// Asks to be replaced.
    RequestRestart(RequestRestart),
    /// The worker ends its service by itself; a replacement is due.
    Leaving(Leaving),
    /// Drained: it holds no listener and no connection any more.
    Disconnect(Drained),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// Anything else that an app sends.
    Message(AppMessage),
    /// Answer to `return-listener`; one descriptor follows.
    Listener(Listener),
    /// The worker could not do what was asked (answer to `return-listener`), or refuses the master.
    Error(ErrorMessage),
    /// An event that this version does not know.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// What the master sends to a worker (SPEC 6.10 to 6.14).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum FromMaster {
    /// Answers `hello`.
    Welcome(Welcome),
    /// Answers `listen`; one descriptor follows.
    Listener(Listener),
    /// Answers `listen` when it failed, or says why the connection is about to end.
    Error(ErrorMessage),
    /// The order to go: drain within `timeout_ms`.
    Disconnect(Disconnect),
    /// Asks for the descriptor of a listener that the worker holds.
    ReturnListener(ReturnListener),
    /// An event that this version does not know.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// Who is speaking: a worker (the default) or a control client such as `dutch-master status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A worker that the master started.
    #[default]
    Worker,
    /// A control client (SPEC 7).
    Control,
}

impl Role {
    fn is_worker(&self) -> bool {
        *self == Role::Worker
    }
}

/// First message of every connection (SPEC 6.1).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hello {
    /// Highest protocol version that the sender speaks.
    pub protocol: u32,
    /// The role; left out by workers.
    #[serde(default, deserialize_with = "nil_is_default", skip_serializing_if = "Role::is_worker")]
    pub role: Role,
    /// The value of `DUTCH_MASTER_TOKEN`; left out by control clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Name and version of the SDK, for logs, e.g. `rust/0.1.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk: Option<String>,
    /// The sender's process id as it sees it. For logs only: never used to signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Optional features that the sender supports (SPEC 8).
    #[serde(default, deserialize_with = "nil_is_default", skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Present when a worker that lost its connection comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

/// What a reconnecting worker remembers (SPEC 6.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Its generation, from `welcome`.
    pub generation: u32,
    /// Where it is in its life.
    pub state: ResumeState,
    /// Keys of the listeners that it holds.
    #[serde(default, deserialize_with = "nil_is_default")]
    pub keys: Vec<String>,
    /// When draining: what is left of the announced timeout, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_ms: Option<u64>,
}

/// State of a reconnecting worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResumeState {
    /// It has not said `listening`.
    Starting,
    /// It has said `listening`.
    Running,
    /// It was told to go, or is leaving.
    Draining,
}

/// What kind of socket a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A TCP listener.
    Tcp,
    /// A Unix stream listener.
    Unix,
    /// A bound UDP socket.
    Udp,
}

/// An address as it travels: asked for in `listen`, reported in `listener` and `listening` (SPEC 6.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The kind of socket.
    pub kind: Kind,
    /// IP address (tcp, udp). Nil means every address: `::` dual-stack, else `0.0.0.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// Port (tcp, udp); 0 asks for a free one that the pool shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Absolute path (unix), at most [`PATH_MAX`](crate::limits::PATH_MAX) bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Do not accept IPv4 on an IPv6 address.
    #[serde(default, deserialize_with = "nil_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub ipv6_only: bool,
}

impl Address {
    /// A TCP address.
    pub fn tcp(host: Option<IpAddr>, port: u16) -> Address {
        Address { kind: Kind::Tcp, host, port: Some(port), path: None, ipv6_only: false }
    }

    /// A Unix stream address.
    pub fn unix(path: impl Into<String>) -> Address {
        Address { kind: Kind::Unix, host: None, port: None, path: Some(path.into()), ipv6_only: false }
    }
}

/// Nil in an optional key is the same as no key (SPEC 3.5); serde by itself says so for `Option` only.
pub(crate) fn nil_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

/// Asks for a listener by name or by address (SPEC 6.2). Exactly one of the two is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listen {
    /// Number of this request, chosen by the worker; the answer carries it.
    pub seq: u64,
    /// Name of a configured listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address to listen on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// For port 0: this is the worker's n-th such request, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Length of the accept queue; the first asker's counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u32>,
    /// Opaque text, at most [`DATA_MAX`](crate::limits::DATA_MAX) bytes; the first asker's is given to every later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// The worker no longer holds this listener (SPEC 6.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// Key from `listener`.
    pub key: String,
}

/// The worker serves (SPEC 6.4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listening {
    /// Where, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// Asks to be replaced (SPEC 6.5).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestRestart {
    /// Why, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The worker ends its service by itself (SPEC 6.6).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Leaving {
    /// Why, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Drained (SPEC 6.7).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drained {
    /// Connections that had not ended when the time to drain was over, and that the worker ended then; nil: none that it counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<u32>,
}

/// A sign of life (SPEC 6.8).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Heartbeat {}

/// Anything else that an app sends (SPEC 6.9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppMessage {
    /// JSON text, at most [`JSON_MAX`](crate::limits::JSON_MAX) bytes.
    pub json: String,
}

/// Names of optional features, in `features` of `hello` and `welcome` (SPEC 8.3).
pub mod features {
    /// The worker comes back after its connection ended, and gives listeners back.
    pub const RESUME: &str = "resume";
    /// The worker sends `heartbeat` as often as `heartbeat_ms` says.
    pub const HEARTBEAT: &str = "heartbeat";
    /// The worker counts requests up to `max_requests`.
    pub const MAX_REQUESTS: &str = "max-requests";
    /// The control request `reload`.
    pub const RELOAD: &str = "reload";
    /// The control request `subscribe`.
    pub const SUBSCRIBE: &str = "subscribe";
    /// The control request `metrics`.
    pub const METRICS: &str = "metrics";
    /// The control request `upgrade`.
    pub const UPGRADE: &str = "upgrade";
}

/// The `reason` of a `request-restart` of a worker that has answered `max_requests` (SPEC 6.5).
pub const MAX_REQUESTS_REASON: &str = "max-requests";

/// Answers `hello` (SPEC 6.10).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both will speak.
    pub protocol: u32,
    /// The worker's id; 0 for a control client.
    pub worker: u32,
    /// The worker's generation.
    pub generation: u32,
    /// The worker's slot, from 0.
    pub slot: u32,
    /// How many workers the pool should have.
    pub size: u32,
    /// Names of the configured listeners, in the order of the configuration.
    #[serde(default, deserialize_with = "nil_is_default")]
    pub names: Vec<String>,
    /// How often a `heartbeat` is expected; nil: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// How many requests the worker may answer before it asks to be recycled; nil: as many as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// How long a worker without a master keeps serving; nil: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphan_timeout_ms: Option<u64>,
    /// Optional features that the master supports (SPEC 8).
    #[serde(default, deserialize_with = "nil_is_default", skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

/// Hands over a listener (SPEC 6.11). `fds` descriptors follow the frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The request's number.
    pub seq: u64,
    /// Identifies the listener in `close` and `return-listener`.
    pub key: String,
    /// Its configured name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The first asker's opaque text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Where it really listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// How many descriptors follow: 1.
    pub fds: u8,
}

/// A failure, as answer to `seq`, or without `seq` as last words before the connection ends (SPEC 6.12).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// The request that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// An errno name where one fits (`EADDRINUSE`), else one of [`codes`].
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// Codes of [`ErrorMessage`] that are no errno names (SPEC 6.12).
pub mod codes {
    /// A frame or message that breaks the rules.
    pub const MALFORMED: &str = "malformed";
    /// A frame longer than the limit.
    pub const TOO_LARGE: &str = "too-large";
    /// A message that is not allowed now.
    pub const UNEXPECTED: &str = "unexpected";
    /// The token is not that of a living worker.
    pub const BAD_TOKEN: &str = "bad-token";
    /// No version in common.
    pub const BAD_VERSION: &str = "bad-version";
    /// The master does not take this worker back.
    pub const RESUME_REFUSED: &str = "resume-refused";
    /// Descriptors where none belong, or a wrong number of them.
    pub const BAD_DESCRIPTORS: &str = "bad-descriptors";
    /// Too many messages, connections or requests.
    pub const LIMIT: &str = "limit";
    /// The peer may not do this.
    pub const FORBIDDEN: &str = "forbidden";
    /// Another connection of the same worker took over.
    pub const SUPERSEDED: &str = "superseded";
    /// No configured listener has this name.
    pub const UNKNOWN_NAME: &str = "unknown-name";
    /// The master is stopping.
    pub const STOPPING: &str = "stopping";
    /// The master does not offer this.
    pub const UNSUPPORTED: &str = "unsupported";
}

/// Why a worker is told to go (SPEC 6.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisconnectReason {
    /// A rolling restart replaced it.
    Restart,
    /// It asked for it.
    Request,
    /// The master stops.
    Stop,
    /// The pool became smaller.
    ScaleDown,
    /// It reached a limit of age, memory or requests.
    Recycle,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}

/// The order to go (SPEC 6.13).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnect {
    /// Why.
    pub reason: DisconnectReason,
    /// How long the worker has to drain before it gets SIGTERM, in milliseconds from now.
    pub timeout_ms: u64,
}

/// Asks for the descriptor of a listener that the worker holds (SPEC 6.14).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnListener {
    /// Number of this request; the answer carries it.
    pub seq: u64,
    /// Key from `listener`.
    pub key: String,
}
