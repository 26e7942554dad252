//! What is, against what should be: the only place that starts workers and tells running ones to go (rules 2, 3, 4, 9, 10, 14 and the surge).

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::action::{Action, Directory, EndOfRestart, Failure, HowStopped, Report, WhyGo};
use super::pool::Pool;
use super::time::Time;
use super::worker::{GenerationId, State, Worker, WorkerId};

impl Pool {
    pub(super) fn reconcile(&mut self, now: Time) {
        self.end_adoption_when_all_are_back(now);
        if self.adopting_until.is_some() && self.stopping.is_none() {
            return;
        }
        self.give_up_a_failed_restart(now);
        if self.stopping.is_some() {
            return self.exit_when_empty();
        }
        self.tell_lost_workers_to_go(now);
        while let Some((worker, why)) = self.next_to_dismiss() {
            self.tell_to_go(now, worker, why);
        }
        while let Some((worker, why)) = self.next_start_to_cancel() {
            self.tell_to_go(now, worker, why);
        }
        self.spawn_missing(now);
        if let Some(delay_ms) = self.backoff.take_unreported() {
            self.report(Report::BackingOff { failures: self.backoff.failures, delay_ms });
        }
        self.complete_a_finished_restart();
    }

    /// Whether the restart under way replaces it.
    fn is_outdated(&self, worker: &Worker) -> bool {
        self.restart.as_ref().is_some_and(|restart| worker.generation < restart.target)
    }

    /// Whether it is one of those that should be there: live, and nothing is going to replace it.
    fn is_kept(&self, worker: &Worker) -> bool {
        worker.is_live() && !worker.asked && !self.is_outdated(worker) && (worker.due.is_none() || self.recycling() != Some(worker.id))
    }

    /// Rule 9 and, before any worker has ever run, rule 10.
    fn give_up_a_failed_restart(&mut self, now: Time) {
        let Some(restart) = self.restart.as_ref().filter(|restart| restart.failed_waves >= self.config.restart_attempts) else { return };
        let (target, attempts) = (restart.target, restart.failed_waves);
        let why = self.last_failure.clone().unwrap_or(Failure::Disconnected);
        if let Some(fallback) = self.fallback(target) {
            if self.committed.replace(fallback) != Some(fallback) {
                self.report(Report::Committed { generation: fallback });
            }
            self.given_up = Some((target, why.clone()));
            self.backoff.clear();
            self.end_restart(EndOfRestart::GivenUp { attempts, why });
            for id in self.ids() {
                if self.workers.get(&id).is_some_and(|w| w.generation == target && matches!(w.state, State::Starting { .. })) {
                    self.tell_to_go(now, id, WhyGo::Restart);
                }
            }
        } else if !self.has_run && !self.config.keep_trying && !self.workers.values().any(|w| w.is_live() && w.generation < target) {
            self.report(Report::FirstStartFailed { attempts, why });
            self.stop(true);
            for id in self.ids() {
                self.kill(id);
            }
        }
    }

    /// What to fall back to when `target` fails: the committed generation, or before there is one the newest older that runs.
    fn fallback(&self, target: GenerationId) -> Option<GenerationId> {
        let running = || self.workers.values().filter(|w| w.is_running() && w.generation < target).map(|w| w.generation).max();
        self.committed.or_else(running)
    }

    fn exit_when_empty(&mut self) {
        if let Some(stopping) = self.stopping.as_mut().filter(|stopping| !stopping.ended)
            && self.workers.is_empty()
        {
            stopping.ended = true;
            let (failed, killed) = (stopping.failed, stopping.killed);
            let how = match (killed, stopping.hurried) {
                (false, _) => HowStopped::Cleanly,
                (true, true) => HowStopped::AtOnce,
                (true, false) => HowStopped::Overdue,
            };
            if !failed {
                self.report(Report::ClusterShutdown { how });
            }
            self.order(Action::Exit { code: u8::from(failed || killed) });
        }
    }

    /// Rule 6: once enough others run. Lost ones serve, too; of more than are needed the others go at once, or they would take the room of their replacements.
    fn tell_lost_workers_to_go(&mut self, now: Time) {
        let lost: Vec<_> = self.workers.values().filter(|w| w.state == State::Lost).map(|w| w.id).collect();
        let needed = self.size.saturating_sub(self.running()) as usize;
        for id in lost.into_iter().rev().skip(needed) {
            self.tell_to_go(now, id, WhyGo::Lost);
        }
    }

    /// Rule 2: a running worker goes only while more than `size` run.
    fn next_to_dismiss(&self) -> Option<(WorkerId, WhyGo)> {
        if self.running() <= self.size {
            return None;
        }
        self.next_doomed().or_else(|| self.next_surplus())
    }

    fn next_doomed(&self) -> Option<(WorkerId, WhyGo)> {
        let unproven = self.restart.as_ref().filter(|restart| !restart.settled).map(|restart| restart.target);
        let running = || self.workers.values().filter(|w| w.is_running());
        let old = unproven.map_or(0, |target| running().filter(|w| w.generation < target).count());
        let doomed = running().filter(|w| !self.is_kept(w));
        let worker = match unproven {
            // Until the new generation has lasted, `size` older workers stay; of more, those that have shown least go first.
            Some(target) if old > self.size as usize => doomed.filter(|w| w.generation < target).min_by_key(|w| (w.is_settled(), Reverse(w.generation), w.id)),
            Some(target) => doomed.filter(|w| w.generation == target).min_by_key(|w| w.id),
            None => doomed.min_by_key(|w| (!self.has_successor(w), w.generation, w.id)),
        }?;
        let why = match worker {
            w if self.is_outdated(w) => WhyGo::Restart,
            w if w.asked => WhyGo::Request,
            _ => WhyGo::Recycle,
        };
        Some((worker.id, why))
    }

    fn has_successor(&self, old: &Worker) -> bool {
        self.workers.values().any(|w| w.slot == old.slot && w.is_running() && self.is_kept(w))
    }

    fn next_surplus(&self) -> Option<(WorkerId, WhyGo)> {
        let kept = || self.workers.values().filter(|w| w.is_running() && self.is_kept(w));
        if kept().count() <= self.size as usize {
            return None;
        }
        kept().max_by_key(|w| (w.slot, Reverse(w.id))).map(|w| (w.id, WhyGo::ScaleDown))
    }

    /// Rule 3: an outdated start is cancelled only when `size` workers run, a superfluous one at once.
    fn next_start_to_cancel(&self) -> Option<(WorkerId, WhyGo)> {
        let starting = || self.workers.values().filter(|w| matches!(w.state, State::Starting { .. }));
        let outdated = starting().find(|w| self.is_outdated(w)).filter(|_| self.running() >= self.size).map(|w| (w.id, WhyGo::Restart));
        outdated.or_else(|| {
            let superfluous = self.count(|w| self.is_kept(w)) > self.size;
            starting().filter(|w| superfluous && self.is_kept(w)).max_by_key(|w| (w.slot, w.id)).map(|w| (w.id, WhyGo::ScaleDown))
        })
    }

    /// Missing workers are started as far as surge, the hard limit of 3 × size + surge and the backoff allow.
    fn spawn_missing(&mut self, now: Time) {
        if self.generation() == 0 {
            return;
        }
        let surge = self.config.surge.of(self.size);
        let starting = self.count(|w| matches!(w.state, State::Starting { .. }));
        let limits = [
            self.size.saturating_sub(self.count(|w| self.is_kept(w))),
            self.size.saturating_add(surge).saturating_sub(self.count(Worker::is_live)),
            (3 * self.size).saturating_add(surge).saturating_sub(self.count(|_| true)),
            self.backoff.allows(starting, self.running_since()),
        ];
        let room = limits.into_iter().min().unwrap_or(0) as usize;
        for slot in self.free_slots().into_iter().take(room) {
            self.spawn(now, slot);
        }
    }

    /// Rule 14: the slots that nobody is to keep, those that nobody serves first: a replacement takes over its predecessor's.
    fn free_slots(&self) -> Vec<u32> {
        let slots = |of: &dyn Fn(&Worker) -> bool| self.workers.values().filter(|w| of(w)).map(|w| w.slot).collect::<BTreeSet<u32>>();
        let (kept, served) = (slots(&|w| self.is_kept(w)), slots(&Worker::is_live));
        let mut free: Vec<u32> = (0..self.size).filter(|slot| !kept.contains(slot)).collect();
        free.sort_by_key(|slot| (served.contains(slot), *slot));
        free
    }

    fn spawn(&mut self, now: Time, slot: u32) {
        let generation = self.generation();
        let instead_of = self.workers.values().find(|w| w.slot == slot && w.is_running()).map(|w| w.id);
        let directory = if self.given_up.is_some() { Directory::Committed } else { Directory::Live };
        self.last_worker += 1;
        let id = self.last_worker;
        if let Some(restart) = &mut self.restart {
            restart.begun = true;
        }
        let deadline = now.after(self.config.hook_timeout_ms.saturating_add(self.config.start_timeout_ms));
        let worker = Worker {
            id,
            slot,
            generation,
            ordered_at: now,
            state: State::Starting { deadline },
            connected: false,
            asked: false,
            due: None,
            heard_at: None,
            reconnect_by: None,
        };
        self.workers.insert(id, worker);
        self.report(Report::CreatingWorker { worker: id, instead_of });
        self.order(Action::Spawn { worker: id, slot, generation, directory });
    }

    fn complete_a_finished_restart(&mut self) {
        let Some((target, settled)) = self.restart.as_ref().map(|restart| (restart.target, restart.settled)) else { return };
        let outdated = self.count(|w| w.generation < target && (w.is_live() || w.state == State::Lost));
        let renewed = self.count(|w| w.generation == target && w.is_running());
        // The first start waits for nobody to last: there is nothing to fall back to.
        if outdated > 0 || renewed < self.size || (self.has_been_ready && !settled) {
            return;
        }
        self.committed = Some(target);
        self.report(Report::Committed { generation: target });
        if !self.has_been_ready {
            self.has_been_ready = true;
            self.report(Report::ClusterReady { workers: renewed });
        }
        self.restarts_done += u64::from(target > 1);
        self.end_restart(EndOfRestart::Done);
    }
}
