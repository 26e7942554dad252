//! A virtual world around the pool: its own clock, workers that do what the test says, and invariants that are checked after every step.

use dutch_master::core::{
    Action, Config, Directory, EndOfRestart, Event, ExitStatus, GenerationId, Phase, Pool, Report, Said, Signal, SizeChange, State, Time, WhyGo, WorkerId,
};

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) pool: Pool,
    pub(crate) actions: Vec<Action>,
    pub(crate) checks: Invariants,
}

impl World {
    pub(crate) fn new(config: Config, size: u32) -> World {
        World { now: Time(1_000_000), pool: Pool::new(config, size), actions: Vec::new(), checks: Invariants::default() }
    }

    /// A pool of `size` that has been running for longer than anything remembers.
    pub(crate) fn running(config: Config, size: u32) -> World {
        let mut world = World::new(config, size);
        world.event(Event::StartRequested);
        for id in world.spawned() {
            world.listening(id);
        }
        world.advance(60_000);
        world.actions.clear();
        world
    }

    #[track_caller]
    pub(crate) fn event(&mut self, event: Event) {
        let before = self.pool.clone();
        self.pool.handle(self.now, event.clone());
        let mut new = Vec::new();
        while let Some(action) = self.pool.poll_action() {
            new.push(action);
        }
        self.checks.step(&before, &event, &self.pool, &new);
        self.actions.extend(new);
    }

    /// The master dies; the next one reads what it wrote down.
    #[track_caller]
    pub(crate) fn master_dies(&mut self) {
        let written = serde_json::to_string(&self.pool).expect("the state can be written");
        let read: Pool = serde_json::from_str(&written).expect("and read");
        assert_eq!(read, self.pool, "what is read is what was written");
        self.event(Event::TakenOver);
    }

    /// A worker comes back to the next master.
    #[track_caller]
    pub(crate) fn comes_back(&mut self, worker: WorkerId) {
        self.event(Event::WorkerConnected { worker });
    }

    /// Lets time pass; every deadline is handled when it comes.
    #[track_caller]
    pub(crate) fn advance(&mut self, ms: u64) {
        let end = self.now.after(ms);
        while self.next_deadline(end) {}
        self.now = end;
    }

    /// Handles the next deadline if it comes before `end`.
    #[track_caller]
    pub(crate) fn next_deadline(&mut self, end: Time) -> bool {
        let Some((at, _)) = self.pool.poll_deadline().filter(|(at, _)| *at <= end) else { return false };
        self.now = at.max(self.now);
        self.event(Event::DeadlineReached);
        let next = self.pool.poll_deadline();
        assert!(next.is_none_or(|(at, _)| at > self.now), "a deadline is over once it was handled: {next:?} at {:?} of {:?}", self.now, self.pool);
        true
    }

    #[track_caller]
    pub(crate) fn connect(&mut self, worker: WorkerId) {
        self.event(Event::WorkerSpawned { worker });
        self.event(Event::WorkerConnected { worker });
    }

    #[track_caller]
    pub(crate) fn listening(&mut self, worker: WorkerId) {
        self.connect(worker);
        self.say(worker, Said::Listening);
    }

    #[track_caller]
    pub(crate) fn say(&mut self, worker: WorkerId, said: Said) {
        self.event(Event::WorkerSaid { worker, said });
    }

    #[track_caller]
    pub(crate) fn exit(&mut self, worker: WorkerId, code: i32) {
        self.event(Event::ConnectionEnded { worker });
        self.event(Event::WorkerExited { worker, status: ExitStatus::Code(code) });
    }

    #[track_caller]
    pub(crate) fn restart(&mut self, ticket: u64) {
        let size = self.pool.size();
        self.event(Event::RestartRequested { ticket, size });
    }

    #[track_caller]
    pub(crate) fn scale(&mut self, to: u32) {
        self.event(Event::ScaleRequested(SizeChange::To(to)));
    }

    /// Plays well-behaved workers until nothing is left to do: starts listen, those told to go drain and exit, and time passes up to `ms`.
    #[track_caller]
    pub(crate) fn play(&mut self, ms: u64) {
        let end = self.now.after(ms);
        while self.play_on(end) {}
    }

    /// The next thing that happens among well-behaved workers, unless it is a deadline after `end`.
    #[track_caller]
    pub(crate) fn play_on(&mut self, end: Time) -> bool {
        let next = self.pool.workers().find_map(|w| match w.state {
            State::Starting { .. } => Some((w.id, true)),
            State::Draining { .. } | State::Killing => Some((w.id, false)),
            State::Running { .. } | State::Lost => None,
        });
        match next {
            Some((id, true)) => self.listening(id),
            Some((id, false)) => self.exit(id, 0),
            None => return self.next_deadline(end),
        }
        true
    }

    /// Ids in the order in which they were spawned, since the actions were last taken.
    pub(crate) fn spawned(&self) -> Vec<WorkerId> {
        self.actions.iter().filter_map(|a| if let Action::Spawn { worker, .. } = a { Some(*worker) } else { None }).collect()
    }

    pub(crate) fn spawns(&self) -> Vec<(WorkerId, u32, GenerationId, Directory)> {
        self.actions
            .iter()
            .filter_map(|a| if let Action::Spawn { worker, slot, generation, directory } = a { Some((*worker, *slot, *generation, *directory)) } else { None })
            .collect()
    }

    pub(crate) fn told_to_go(&self) -> Vec<(WorkerId, WhyGo)> {
        self.reports(|r| if let Report::WorkerToldToGo { worker, why } = r { Some((*worker, *why)) } else { None })
    }

    pub(crate) fn signals(&self) -> Vec<(WorkerId, Signal)> {
        self.actions.iter().filter_map(|a| if let Action::Signal { worker, signal } = a { Some((*worker, *signal)) } else { None }).collect()
    }

    pub(crate) fn ends(&self) -> Vec<(GenerationId, EndOfRestart)> {
        self.reports(|r| if let Report::RestartEnded { generation, end } = r { Some((*generation, end.clone())) } else { None })
    }

    pub(crate) fn exit_code(&self) -> Option<u8> {
        self.actions.iter().find_map(|a| if let Action::Exit { code } = a { Some(*code) } else { None })
    }

    pub(crate) fn reports<T>(&self, pick: impl Fn(&Report) -> Option<T>) -> Vec<T> {
        self.actions.iter().filter_map(|a| if let Action::Report(report) = a { pick(report) } else { None }).collect()
    }

    pub(crate) fn has(&self, report: &Report) -> bool {
        self.actions.iter().any(|a| matches!(a, Action::Report(r) if r == report))
    }

    pub(crate) fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(crate) fn state(&self, worker: WorkerId) -> &'static str {
        self.pool.worker(worker).map_or("gone", |w| w.state_name())
    }

    pub(crate) fn running_ids(&self) -> Vec<WorkerId> {
        self.pool.workers().filter(|w| w.is_running()).map(|w| w.id).collect()
    }
}

/// What must hold after every step, whatever happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Invariants {
    pub(crate) last_spawned: WorkerId,
    pub(crate) open_restarts: Vec<GenerationId>,
    pub(crate) exited: bool,
}

impl Invariants {
    #[track_caller]
    pub(crate) fn step(&mut self, before: &Pool, event: &Event, after: &Pool, actions: &[Action]) {
        if let Err(broken) = self.try_step(before, event, after, actions) {
            panic!("{broken}\nafter {event:?}\nfrom {before:?}\nto {after:?}\nwith {actions:?}");
        }
    }

    pub(crate) fn try_step(&mut self, before: &Pool, event: &Event, after: &Pool, actions: &[Action]) -> Result<(), String> {
        let size = after.size();
        if *event == Event::TakenOver {
            // Whoever had stopped the pool does not wait for the generation that begins with the next master.
            self.open_restarts.extend((before.phase() == Phase::Stopping).then(|| after.generation()));
            self.exited = false;
        }
        let surge = after.config().surge.of(size);
        let live = after.workers().filter(|w| w.is_live()).count() as u32;
        let live_before = before.workers().filter(|w| w.is_live()).count() as u32;
        let ensure = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };

        let refuses = |a: &Action| matches!(a, Action::Report(Report::RestartRefused { .. } | Report::ScaleRefused { .. }));
        ensure(!self.exited || actions.iter().all(refuses), "nothing follows Exit")?;
        for action in actions {
            match action {
                Action::Spawn { worker, .. } => {
                    ensure(*worker > self.last_spawned, "no id twice")?;
                    self.last_spawned = *worker;
                    ensure(
                        (before.phase() != Phase::Stopping || *event == Event::TakenOver) && after.phase() != Phase::Stopping,
                        "nothing is spawned after a stop",
                    )?;
                }
                Action::Exit { .. } => {
                    ensure(after.workers().next().is_none(), "the master outlives its workers")?;
                    self.exited = true;
                }
                Action::Signal { worker, .. } | Action::Disconnect { worker, .. } => {
                    ensure(after.worker(*worker).is_some(), "only known workers are signalled or told")?;
                }
                Action::Report(Report::RestartAccepted { generation, .. }) if !self.open_restarts.contains(generation) => self.open_restarts.push(*generation),
                Action::Report(Report::RestartEnded { generation, end }) => {
                    if let EndOfRestart::Superseded { by } = end {
                        ensure(by > generation, "a restart is superseded by a newer one")?;
                    }
                    let known = self.open_restarts.iter().position(|g| g == generation);
                    ensure(known.is_some(), "a restart ends once")?;
                    known.map(|at| self.open_restarts.swap_remove(at));
                }
                Action::TakeSnapshot { .. } | Action::CloseListeners | Action::Report(_) => {}
            }
        }
        let spawned = actions.iter().any(|a| matches!(a, Action::Spawn { .. }));
        let scaled = matches!(event, Event::ScaleRequested(_) | Event::RestartRequested { .. });
        ensure(!spawned || live <= size + surge, "spawns stay within size + surge")?;
        ensure(scaled || live <= live_before.max(size + surge), "starting + running never exceed size + surge")?;
        ensure(!spawned || after.workers().count() as u32 <= 3 * size + surge, "all together never exceed 3 × size + surge")?;
        let dismissed: Vec<_> = actions
            .iter()
            .filter_map(|a| if let Action::Report(Report::WorkerToldToGo { worker, why }) = a { Some((before.worker(*worker)?, *why)) } else { None })
            .filter(|(worker, _)| worker.is_running())
            .collect();
        // Lost ones serve, too.
        let lost = after.workers().filter(|w| w.state == State::Lost).count() as u32;
        let serving = after.running() + if dismissed.iter().all(|(_, why)| *why == WhyGo::Lost) { lost } else { 0 };
        let asked = after.workers().filter(|w| w.is_live() && w.asked).count() as u32;
        ensure(!spawned || after.phase() != Phase::Serving || live <= size + asked + 1, "those that are due are replaced one at a time")?;
        ensure(
            dismissed.is_empty() || after.phase() == Phase::Stopping || serving >= size,
            "nobody running is told to go while fewer than size would be left",
        )?;
        let slots: Vec<_> = after.workers().filter(|w| matches!(w.state, State::Starting { .. })).map(|w| (w.slot, w.generation)).collect();
        let distinct = slots.iter().enumerate().all(|(i, slot)| !slots[..i].contains(slot));
        ensure(distinct, "two starts of one generation never have the same slot")?;
        // A restart that is under way has someone to wait for, or a deadline: it cannot hang by itself.
        let waits = after.poll_deadline().is_some() || after.workers().any(|w| !w.is_running());
        ensure(
            matches!(after.phase(), Phase::Serving) || waits || self.exited || after.generation() == 0,
            "what is under way always has something to wait for",
        )?;
        let open = after.phase() == Phase::Restarting || self.open_restarts.is_empty() || after.phase() == Phase::Starting;
        ensure(open, "every restart that was accepted is under way or has ended")?;
        Ok(())
    }
}
