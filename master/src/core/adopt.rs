//! Taking over the pool of a master that died: its workers serve on and come back one by one. Until they are back, or have had the time for it, nothing is started in their place and nobody is
//! told to go for it. A restart or a drain that was under way goes on; its deadlines are moments of the machine, not of a process.

use super::action::{Action, Report, Signal, WhyGo};
use super::config::ADOPTION_MS;
use super::pool::Pool;
use super::time::Time;
use super::worker::{State, WorkerId};

impl Pool {
    /// Whether workers of a dead master may still come back.
    pub fn is_adopting(&self) -> bool {
        self.adopting_until.is_some()
    }

    pub(super) fn taken_over(&mut self, now: Time) {
        let until = now.after(ADOPTION_MS);
        self.actions.clear();
        self.adopting_until = Some(until);
        for worker in self.workers.values_mut() {
            let was_there = worker.connected || worker.reconnect_by.is_some();
            worker.connected = false;
            // One that has not been there yet comes in its own time, up to the start timeout.
            worker.reconnect_by = (worker.is_live() && was_there).then_some(until);
        }
        for id in self.ids() {
            // The dead master may not have come to it.
            if self.workers.get(&id).is_some_and(|worker| worker.state == State::Killing) {
                self.order(Action::Signal { worker: id, signal: Signal::Kill });
            }
        }
        // Whoever starts a master wants service: a stop that was under way is over, for those that are not going yet.
        if self.stopping.take().is_some() {
            self.begin_generation();
        }
    }

    /// Nobody is to blame, so it costs no delay and no attempt.
    pub(super) fn never_spawned(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get(&id)
            && !worker.connected
        {
            self.workers.remove(&id);
        }
    }

    /// It is told to go before its replacement runs, which cannot run before it has gone.
    pub(super) fn is_in_the_way(&mut self, now: Time, id: WorkerId) {
        if self.workers.get(&id).is_some_and(|worker| !worker.connected && !self.is_adopting()) {
            self.tell_to_go(now, id, WhyGo::Lost);
        }
    }

    pub(super) fn end_adoption_when_all_are_back(&mut self, now: Time) {
        if self.workers.values().all(|worker| worker.reconnect_by.is_none()) && self.is_adopting() {
            self.adopting_until = Some(now);
            self.end_adoption(now);
        }
    }

    /// Those that are not back are replaced like lost ones, but it is the master's death that cut them off: it counts as no failure.
    pub(super) fn end_adoption(&mut self, now: Time) {
        if self.adopting_until.take_if(|until| *until <= now).is_none() {
            return;
        }
        let workers = self.count(|worker| worker.is_live() && worker.connected);
        self.report(Report::ClusterAdopted { workers });
        for id in self.ids() {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            if worker.reconnect_by.take_if(|at| *at <= now).is_none() {
                continue;
            }
            if worker.is_running() {
                worker.state = State::Lost;
                self.report(Report::WorkerLost { worker: id });
            } else {
                self.report(Report::DisconnectedWhileStarting { worker: id });
                self.kill(id);
            }
        }
    }
}
