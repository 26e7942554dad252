//! What clients ask for.

use std::os::unix::net::UnixStream;

use dutch_master_protocol::control::{Accepted, Done, FromControl, Outcome, Phase, PoolStatus, ToControl, WorkerStatus};
use dutch_master_protocol::message::{Disconnect, DisconnectReason, ErrorMessage, FromMaster, codes};

use crate::connection::say;
use crate::pool::Pool;

impl Pool {
    pub(crate) fn asked(&mut self, client: &UnixStream, request: &FromControl) {
        match request {
            FromControl::Status(_) => {
                let status = PoolStatus {
                    name: "zoo".into(),
                    pid: std::process::id(),
                    version: "0".into(),
                    phase: Phase::Serving,
                    size: 1,
                    running: 1,
                    generation: self.generation,
                    committed: None,
                    mixed: false,
                    given_up: None,
                    failing: None,
                    restarts: 0,
                    crashes: None,
                    failed_starts: None,
                    command: self.command.clone(),
                    dir: "/".into(),
                    uptime_ms: 0,
                };
                say(client, &ToControl::Pool(status));
                for (id, worker) in &self.workers {
                    let state = "running".into();
                    say(
                        client,
                        &ToControl::Worker(WorkerStatus {
                            id: *id,
                            slot: 0,
                            generation: 1,
                            state,
                            pid: Some(worker.pid),
                            age_ms: 0,
                            sdk: None,
                            restarts: None,
                        }),
                    );
                }
                say(client, &ToControl::Done(Done { outcome: Outcome::Done, by: None, message: None }));
            }
            FromControl::Restart(_) => {
                self.generation += 1;
                say(client, &ToControl::Accepted(Accepted { generation: Some(self.generation), size: None }));
                self.waiting = client.try_clone().ok();
                let all: Vec<u32> = self.workers.keys().copied().collect();
                for id in all {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.goes = Some(DisconnectReason::Restart);
                    }
                    self.replace(id);
                }
            }
            FromControl::Stop(_) => {
                say(client, &ToControl::Accepted(Accepted { generation: None, size: None }));
                (self.is_stopping, self.listener) = (true, None);
                for connection in self.workers.values().filter_map(|worker| worker.connection.as_ref()) {
                    say(connection, &FromMaster::Disconnect(Disconnect { reason: DisconnectReason::Stop, timeout_ms: 27_000 }));
                }
            }
            FromControl::Hello(_)
            | FromControl::Reload(_)
            | FromControl::Scale(_)
            | FromControl::Subscribe(_)
            | FromControl::Metrics(_)
            | FromControl::Upgrade(_)
            | FromControl::Unknown => {
                say(client, &ToControl::Error(ErrorMessage { seq: None, code: codes::UNSUPPORTED.into(), message: "not here".into() }));
            }
        }
    }
}
