//! Deadlines: when the next one is, and what happens when it has come (rules 5, 6, 7 and 8).

use super::action::{Action, Failure, Report, Signal};
use super::pool::Pool;
use super::time::Time;
use super::worker::{State, Worker, WorkerId};

impl Pool {
    /// When [`DeadlineReached`](super::Event::DeadlineReached) is due, and why. `None`: only a fact can change anything.
    pub fn poll_deadline(&self) -> Option<(Time, &'static str)> {
        let backoff = self.backoff.deadline().map(|at| (at, "backoff"));
        let adoption = self.adopting_until.map(|at| (at, "adoption"));
        let over = self.trouble_is_over_at().map(|at| (at, "end of the backoff"));
        self.workers.values().flat_map(|worker| self.deadlines(worker)).chain(backoff).chain(over).chain(adoption).min()
    }

    fn trouble_is_over_at(&self) -> Option<Time> {
        self.backoff.over_at(self.running_since())
    }

    pub(super) fn running_since(&self) -> impl Iterator<Item = Time> {
        self.workers.values().filter_map(|worker| match worker.state {
            State::Running { since, .. } => Some(since),
            State::Starting { .. } | State::Draining { .. } | State::Lost | State::Killing => None,
        })
    }

    fn deadlines(&self, worker: &Worker) -> impl Iterator<Item = (Time, &'static str)> {
        let reconnect = worker.reconnect_by.map(|at| (at, "reconnect"));
        let (first, second) = match &worker.state {
            State::Starting { deadline } => (Some((*deadline, "start timeout")), None),
            State::Running { since, settled: false } => (Some((since.after(self.config.settle_ms), "settle time")), None),
            State::Draining { terminate_at, kill_at, .. } => (terminate_at.map(|at| (at, "announced timeout")), Some((*kill_at, "kill timeout"))),
            State::Running { .. } | State::Lost | State::Killing => (None, None),
        };
        let old = self.lifetime_ends(worker).map(|at| (at, "maximum lifetime"));
        let silent = self.silence_ends(worker).map(|at| (at, "heartbeat"));
        reconnect.into_iter().chain(first).chain(second).chain(old).chain(silent)
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.end_adoption(now);
        self.backoff.expire(now);
        if self.trouble_is_over_at().is_some_and(|at| at <= now) {
            self.backoff.clear();
        }
        self.settle(now);
        for id in self.ids() {
            self.expire_worker(now, id);
            self.expire_lifetime(now, id);
            self.expire_silence(now, id);
        }
    }

    /// Running workers that have lasted show that their generation works.
    pub(super) fn settle(&mut self, now: Time) {
        let settle_ms = self.config.settle_ms;
        for worker in self.workers.values_mut() {
            if let State::Running { since, settled: settled @ false } = &mut worker.state
                && since.after(settle_ms) <= now
            {
                *settled = true;
                if let Some(restart) = self.restart.as_mut().filter(|restart| restart.target == worker.generation) {
                    restart.worker_lasted();
                }
            }
        }
    }

    fn expire_worker(&mut self, now: Time, id: WorkerId) {
        let start_timeout_ms = self.config.start_timeout_ms;
        let margin_ms = self.config.kill_timeout_ms - self.config.announced_ms();
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let connected = worker.connected;
        let disconnected = worker.reconnect_by.is_some_and(|at| at <= now);
        match &mut worker.state {
            State::Starting { deadline } if *deadline <= now => self.start_expired(now, id, Failure::StartTimeout { after_ms: start_timeout_ms, connected }),
            State::Starting { .. } if disconnected => self.start_expired(now, id, Failure::Disconnected),
            State::Running { since, .. } if disconnected => {
                let (since, before) = (*since, worker.clone());
                worker.reconnect_by = None;
                worker.state = State::Lost;
                self.report(Report::WorkerLost { worker: id });
                self.worker_died(now, &before, since, Failure::Disconnected);
            }
            State::Draining { kill_at, .. } if *kill_at <= now => {
                let as_asked = self.stopping.as_ref().is_some_and(|stopping| stopping.hurried);
                self.report(Report::HardKill { worker: id, as_asked });
                self.kill(id);
            }
            State::Draining { terminate_at, kill_at, .. } if terminate_at.is_some_and(|at| at <= now) => {
                *terminate_at = None;
                // One that was away all the time has never heard that it is to go.
                let was_told = connected || kill_at.since(now) <= margin_ms;
                if was_told {
                    self.report(Report::WorkerNotDrained { worker: id });
                }
                self.order(Action::Signal { worker: id, signal: Signal::Terminate });
            }
            State::Starting { .. } | State::Running { .. } | State::Draining { .. } | State::Lost | State::Killing => {}
        }
    }

    fn start_expired(&mut self, now: Time, id: WorkerId, why: Failure) {
        let Some(worker) = self.workers.get(&id).cloned() else { return };
        self.report(match why {
            Failure::Disconnected => Report::DisconnectedWhileStarting { worker: id },
            Failure::Exited(_) | Failure::StartTimeout { .. } | Failure::Spawn(_) | Failure::Blocked { .. } => {
                Report::StartFailed { worker: id, why: why.clone() }
            }
        });
        self.kill(id);
        self.worker_failed(now, &worker, why);
    }
}
