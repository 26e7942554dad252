//! The Node addon: an adapter over the crate `dutch-master-worker`. Every export forwards; what it means to Node is in `lib/*.js`.

mod report;
mod target;

use std::sync::Arc;

use dutch_master_worker::{Settings, Worker};
use napi::bindgen_prelude::Function;
use napi_derive::napi;

use report::{Outlet, REPORTS_MAX, Report, tell, with_causes};
use target::Target;

/// How to reach the master.
#[napi(object)]
pub struct Connect {
    pub socket: String,
    pub token: String,
    pub sdk: String,
    /// Optional features of the protocol, which JavaScript brings.
    pub features: Vec<String>,
}

/// Who this worker is to the master, and what the master wants of it.
#[napi(object)]
pub struct Identity {
    pub id: u32,
    pub generation: u32,
    pub slot: u32,
    /// How often a sign of life is wanted.
    pub heartbeat_ms: Option<i64>,
    /// How many requests this worker may answer.
    pub max_requests: Option<i64>,
}

/// The session with the master.
#[napi]
pub struct Connection {
    worker: Worker,
    outlet: Arc<Outlet>,
}

/// The version of this addon: it is to be that of the package around it.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Connects, and blocks until the master has answered.
#[napi]
pub fn connect(settings: Connect, on_report: Function<'_, Report, ()>) -> napi::Result<Connection> {
    let outlet: Outlet = on_report.build_threadsafe_function().callee_handled::<false>().weak::<true>().max_queue_size::<REPORTS_MAX>().build()?;
    let outlet = Arc::new(outlet);
    let settings = Settings { sdk: settings.sdk, features: settings.features, ..Settings::new(settings.socket, settings.token) };
    let worker = Worker::connect(settings).map_err(|error| napi::Error::from_reason(with_causes(&error)))?;
    let reports = Arc::clone(&outlet);
    worker.on_event(move |event| tell(&reports, event.into()));
    Ok(Connection { worker, outlet })
}

#[napi]
impl Connection {
    /// Who this worker is.
    #[napi]
    pub fn identity(&self) -> Identity {
        let worker = &self.worker;
        let heartbeat_ms = worker.heartbeat_interval().and_then(|interval| i64::try_from(interval.as_millis()).ok());
        let max_requests = worker.max_requests().and_then(|max| i64::try_from(max).ok());
        Identity { id: worker.id(), generation: worker.generation(), slot: worker.slot(), heartbeat_ms, max_requests }
    }

    /// Asks for a listener; a report `listener` or `refused` with the same `seq` answers.
    #[napi]
    pub fn listen(&self, seq: u32, target: Target) {
        let outlet = Arc::clone(&self.outlet);
        match target.into_request() {
            Some(request) => self.worker.listen_then(request, move |answer| tell(&outlet, Report::answer(seq, answer))),
            None => tell(&outlet, Report::refused(seq, "EINVAL", "this is no address".into())),
        }
    }

    /// Says that this worker serves.
    #[napi]
    pub fn listening(&self, target: Option<Target>) {
        self.worker.listening(target.as_ref().and_then(Target::address));
    }

    /// A sign of life.
    #[napi]
    pub fn beat(&self) {
        self.worker.beat();
    }

    /// Says that a listener is no longer held.
    #[napi]
    pub fn close(&self, key: String) {
        self.worker.close(&key);
    }

    /// Asks to be replaced.
    #[napi]
    pub fn request_restart(&self, reason: Option<String>) {
        self.worker.request_restart(reason.as_deref());
    }

    /// Ends the service; a report `order` follows.
    #[napi]
    pub fn leave(&self, reason: Option<String>) {
        self.worker.leave(reason.as_deref());
    }

    /// Passes on what an app sends; false where it is too long.
    #[napi]
    pub fn message(&self, json: String) -> bool {
        self.worker.message(&json).is_ok()
    }

    /// Says that nothing is open any more, and how many connections were cut for it.
    #[napi]
    pub fn drained(&self, cut: u32) {
        self.worker.cut(cut);
        self.worker.drained();
    }
}
