//! What a worker's words change (rules 1, 4, 5 and 6).

use super::action::{Action, Failure, Report, Signal, WhyGo};
use super::event::{ExitStatus, Said};
use super::pool::Pool;
use super::time::Time;
use super::worker::{State, WorkerId};

impl Pool {
    pub(super) fn worker_said(&mut self, now: Time, id: WorkerId, said: Said) {
        match said {
            Said::Listening => self.said_listening(now, id),
            Said::Heartbeat => self.heard_from(now, id),
            Said::RequestRestart => self.said_request_restart(id),
            Said::Leaving => self.said_leaving(now, id),
            Said::Disconnect => self.said_disconnect(now, id),
        }
    }

    /// Rule 1: the first one makes it ready; later ones and those after an order to go are ignored.
    fn said_listening(&mut self, now: Time, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let State::Starting { .. } = worker.state {
            worker.state = State::Running { since: now, settled: false };
            self.has_run = true;
            self.report(Report::WorkerListening { worker: id });
            self.settle(now);
        }
    }

    /// Rule 4: repeats change nothing, and neither does one from a worker that does not run.
    fn said_request_restart(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.is_running() && !worker.asked {
            worker.asked = true;
            self.report(Report::WorkerDying { worker: id });
        }
    }

    /// Rule 6: it gets the deadlines of an order to go, and is no longer counted.
    fn said_leaving(&mut self, now: Time, id: WorkerId) {
        let terminate_at = Some(now.after(self.config.announced_ms()));
        let kill_at = now.after(self.config.kill_timeout_ms);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let before = worker.clone();
        match before.state {
            State::Starting { .. } | State::Running { .. } | State::Lost => {}
            State::Draining { .. } | State::Killing => return,
        }
        worker.state = State::Draining { why: WhyGo::Leaving, terminate_at, kill_at };
        worker.reconnect_by = None;
        match before.state {
            State::Starting { .. } => {
                self.report(Report::DisconnectedWhileStarting { worker: id });
                self.worker_failed(now, &before, Failure::Disconnected);
            }
            State::Running { since, .. } => {
                self.report(Report::WorkerLeaving { worker: id });
                self.worker_died(now, &before, since, Failure::Exited(ExitStatus::Code(0)));
            }
            State::Draining { .. } | State::Lost | State::Killing => {}
        }
    }

    /// Rule 5: drained, so SIGTERM lets it say its last words. From one that was not told to go it means that it leaves.
    fn said_disconnect(&mut self, now: Time, id: WorkerId) {
        self.said_leaving(now, id);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let State::Draining { terminate_at, .. } = &mut worker.state
            && terminate_at.take().is_some()
        {
            self.report(Report::WorkerDisconnected { worker: id });
            self.order(Action::Signal { worker: id, signal: Signal::Terminate });
        }
    }
}
