//! How a worker is made to go: by an order, by a signal, by force (rule 5).

use super::action::{Action, Report, Signal, WhyGo};
use super::pool::Pool;
use super::time::Time;
use super::worker::{State, WorkerId};

impl Pool {
    /// Rule 5: the order to go. Deadlines only ever move earlier.
    pub(super) fn tell_to_go(&mut self, now: Time, id: WorkerId, why: WhyGo) {
        let (announced_ms, kill_at) = (self.config.announced_ms(), now.after(self.config.kill_timeout_ms));
        let announced = now.after(announced_ms);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match &mut worker.state {
            State::Killing => return,
            State::Draining { terminate_at, kill_at: earlier, .. } => {
                *earlier = (*earlier).min(kill_at);
                *terminate_at = terminate_at.map(|at| at.min(announced));
                return;
            }
            State::Starting { .. } | State::Running { .. } | State::Lost => {}
        }
        let was_expected = worker.reconnect_by.take().is_some();
        let connected = worker.connected;
        // One that may still come back to hear the order is not cut short by a signal.
        let may_come_back = self.adopting_until.filter(|_| was_expected);
        worker.state = State::Draining { why, terminate_at: if connected { Some(announced) } else { may_come_back }, kill_at };
        self.report(Report::WorkerToldToGo { worker: id, why });
        match (connected, may_come_back) {
            (true, _) => self.order(Action::Disconnect { worker: id, reason: why.on_the_wire(), timeout_ms: announced_ms }),
            (false, None) => self.order(Action::Signal { worker: id, signal: Signal::Terminate }),
            (false, Some(_)) => {}
        }
    }

    pub(super) fn kill(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.state = State::Killing;
            worker.reconnect_by = None;
            if let Some(stopping) = &mut self.stopping {
                stopping.killed = true;
            }
            self.order(Action::Signal { worker: id, signal: Signal::Kill });
        }
    }
}
