//! The numbers after stories that the real core tells.

use super::*;
use crate::core::{Config, Pool, Said, SizeChange};

/// The core and what is counted of it, without processes.
struct Story {
    now: Time,
    pool: Pool,
    counts: Counts,
}

impl Story {
    /// A pool of this size whose first workers run for a minute.
    fn serving(size: u32) -> Story {
        let mut story = Story::new(Config { settle_ms: 0, restart_attempts: 2, ..Config::default() }, size);
        for worker in 1..=size {
            story.spawned(worker, 0).says(worker, Said::Listening);
        }
        story.wait(60_000)
    }

    fn new(config: Config, size: u32) -> Story {
        let mut story = Story { now: Time(1_000), pool: Pool::new(config, size), counts: Counts::default() };
        story.tell(Event::StartRequested);
        story
    }

    fn tell(&mut self, event: Event) -> &mut Story {
        self.counts.happened(self.now, &event);
        self.pool.handle(self.now, event);
        while let Some(action) = self.pool.poll_action() {
            self.counts.ordered(self.now, &action);
        }
        self
    }

    fn wait(mut self, ms: u64) -> Story {
        self.pass(ms);
        self
    }

    fn pass(&mut self, ms: u64) -> &mut Story {
        let end = self.now.after(ms);
        while let Some((at, _)) = self.pool.poll_deadline().filter(|(at, _)| *at <= end) {
            self.now = at;
            self.tell(Event::DeadlineReached);
        }
        self.now = end;
        self
    }

    fn spawned(&mut self, worker: WorkerId, then_ms: u64) -> &mut Story {
        self.tell(Event::WorkerSpawned { worker }).tell(Event::WorkerConnected { worker }).pass(then_ms)
    }

    fn says(&mut self, worker: WorkerId, said: Said) -> &mut Story {
        self.tell(Event::WorkerSaid { worker, said })
    }

    fn exits(&mut self, worker: WorkerId, status: ExitStatus) -> &mut Story {
        self.tell(Event::WorkerExited { worker, status })
    }

    fn restart(&mut self) -> &mut Story {
        let size = self.pool.size();
        self.tell(Event::RestartRequested { ticket: 0, size })
    }

    /// The numbers of events: starts, failed starts, crashes, leaves, kills.
    fn numbers(&self) -> [u64; 5] {
        let Counts { starts, failed_starts, crashes, leaves, kills, .. } = &self.counts;
        [*starts, *failed_starts, *crashes, *leaves, *kills]
    }

    fn restarts(&self) -> [u64; 4] {
        let Restarts { done, superseded, given_up, stopped } = &self.counts.restarts;
        [*done, *superseded, *given_up, *stopped]
    }
}

#[test]
fn what_happens_to_a_worker_is_counted_once_and_as_what_it_was() {
    type Fate = fn(&mut Story);
    let fates: [(&str, [u64; 5], Fate); 13] = [
        ("nothing", [1, 0, 0, 0, 0], |_| {}),
        ("it exits with a status", [2, 0, 1, 0, 0], |story| {
            story.exits(1, ExitStatus::Code(1));
        }),
        ("a signal ends it", [2, 0, 1, 0, 0], |story| {
            story.exits(1, ExitStatus::Signal(11));
        }),
        ("it exits with 0", [2, 0, 0, 1, 0], |story| {
            story.exits(1, ExitStatus::Code(0));
        }),
        ("it leaves", [2, 0, 0, 1, 0], |story| {
            story.says(1, Said::Leaving).exits(1, ExitStatus::Code(0));
        }),
        ("it is lost, then exits", [2, 0, 1, 0, 0], |story| {
            story.tell(Event::ConnectionEnded { worker: 1 }).pass(1_000).exits(1, ExitStatus::Code(1));
        }),
        ("it ends after it was told to", [2, 0, 0, 0, 0], |story| {
            story.says(1, Said::RequestRestart).spawned(2, 0).says(2, Said::Listening).exits(1, ExitStatus::Code(1));
        }),
        ("it does not end in time", [2, 0, 0, 0, 1], |story| {
            story.says(1, Said::RequestRestart).spawned(2, 0).says(2, Said::Listening).pass(30_000).exits(1, ExitStatus::Signal(9));
        }),
        ("its replacement exits before it runs", [3, 1, 1, 0, 0], |story| {
            story.exits(1, ExitStatus::Code(1)).spawned(2, 0).exits(2, ExitStatus::Code(0));
        }),
        ("its replacement cannot be spawned", [3, 1, 1, 0, 0], |story| {
            story.exits(1, ExitStatus::Code(1)).tell(Event::SpawnFailed { worker: 2, reason: "no".into() });
        }),
        ("its replacement never listens", [3, 1, 1, 0, 1], |story| {
            story.exits(1, ExitStatus::Code(1)).spawned(2, 60_000).exits(2, ExitStatus::Signal(9));
        }),
        ("its replacement disconnects before it listens", [3, 1, 1, 0, 1], |story| {
            story.exits(1, ExitStatus::Code(1)).spawned(2, 0).tell(Event::ConnectionEnded { worker: 2 }).pass(1_000).exits(2, ExitStatus::Code(1));
        }),
        ("its replacement leaves before it listens", [3, 1, 1, 0, 0], |story| {
            story.exits(1, ExitStatus::Code(1)).spawned(2, 0).says(2, Said::Leaving).exits(2, ExitStatus::Code(0));
        }),
    ];
    for (what, numbers, happen) in fates {
        let mut story = Story::serving(1);
        happen(&mut story);
        story.pass(1_000);
        assert_eq!(story.numbers(), numbers, "{what}: starts, failed starts, crashes, leaves, kills");
        assert!(story.counts.workers.len() <= story.pool.workers().count(), "{what}: the gone are forgotten");
    }
}

#[test]
fn restarts_are_counted_by_how_they_end() {
    let mut story = Story::serving(1);
    story.restart().spawned(2, 0).says(2, Said::Listening).exits(1, ExitStatus::Code(0));
    assert_eq!(story.restarts(), [1, 0, 0, 0], "done; the first start is no restart");
    story.restart().restart();
    assert_eq!(story.restarts(), [1, 1, 0, 0], "superseded");
    for worker in 3..=6 {
        story.tell(Event::SpawnFailed { worker, reason: "no".into() }).pass(30_000);
    }
    assert_eq!(story.restarts(), [1, 1, 1, 0], "given up");
    story.restart().tell(Event::StopRequested);
    assert_eq!(story.restarts(), [1, 1, 1, 1], "stopped");
}

#[test]
fn a_start_lasts_from_the_process_to_listening() {
    let mut story = Story::new(Config::default(), 1);
    // A hook runs first.
    story.pass(7_000).spawned(1, 300).says(1, Said::Listening).says(1, Said::Listening);
    assert_eq!((story.counts.start_duration.count, story.counts.start_duration.sum_ms), (1, 300));
}

#[test]
fn a_drain_lasts_from_the_first_order_to_the_exit() {
    let mut story = Story::serving(2);
    story.tell(Event::ScaleRequested(SizeChange::To(1))).pass(40).tell(Event::StopRequested).pass(60);
    story.exits(1, ExitStatus::Code(0)).exits(2, ExitStatus::Code(0));
    let drains = &story.counts.drain_duration;
    assert_eq!((drains.count, drains.sum_ms), (2, 60 + 100), "the second order does not begin anew");
    assert!(story.counts.workers.is_empty());
}

#[test]
fn a_start_that_is_cancelled_is_no_drain_and_no_failure() {
    let mut story = Story::serving(1);
    story.tell(Event::ScaleRequested(SizeChange::To(2))).spawned(2, 10).tell(Event::ScaleRequested(SizeChange::To(1))).exits(2, ExitStatus::Signal(15));
    assert_eq!((story.counts.drain_duration.count, story.numbers()), (0, [2, 0, 0, 0, 0]));
    assert_eq!(story.counts.workers.len(), 1);
}

#[test]
fn a_worker_whose_hook_is_cancelled_is_not_killed() {
    let mut story = Story::new(Config::default(), 1);
    story.tell(Event::StopRequested).tell(Event::StopRequested).tell(Event::SpawnFailed { worker: 1, reason: "cancelled".into() });
    assert_eq!(story.numbers(), [1, 0, 0, 0, 0]);
    assert!(story.counts.workers.is_empty());
}

#[test]
fn a_bucket_holds_what_is_as_long_as_its_bound() {
    let mut histogram = Histogram::default();
    for ms in [0, 10, 11, 60_000, 60_001] {
        histogram.observe(ms);
    }
    assert_eq!((histogram.buckets[0], histogram.buckets[1], histogram.buckets[BUCKETS_MS.len() - 1]), (2, 1, 1));
    assert_eq!((histogram.count, histogram.sum_ms), (5, 120_022));
}

#[test]
fn recycled_workers_are_counted_by_what_they_reached_and_blocked_ones_as_crashes() {
    let mut story = Story::serving(2);
    story.tell(Event::RecycleDue { worker: 1, why: Recycle::Memory }).tell(Event::RecycleDue { worker: 1, why: Recycle::Requests });
    assert_eq!(story.counts.recycled, Recycled { memory: 1, ..Recycled::default() }, "a worker is due once");
    assert_eq!(story.counts.crashes, 0);
    let mut story = Story::new(Config { heartbeat_ms: Some(1_000), ..Config::default() }, 1);
    story.spawned(1, 0).says(1, Said::Listening).says(1, Said::Heartbeat).pass(1_000);
    assert_eq!((story.counts.crashes, story.counts.kills), (1, 1));
}

#[test]
fn a_stop_tells_what_it_cut_off_and_nothing_that_was_cut_before() {
    let mut story = Story::serving(3);
    story.counts.connections_cut(5);
    story.tell(Event::StopRequested);
    assert_eq!(story.counts.unfinished().told(), None);
    story.counts.connections_cut(1);
    assert_eq!(story.counts.unfinished().told().as_deref(), Some("1 connection was cut when the time was over"));
    story.says(1, Said::Disconnect).pass(27_000);
    assert_eq!(story.counts.unfinished().told().as_deref(), Some("1 connection was cut, and 2 workers had not drained when the time was over"));
    assert_eq!(story.counts.connections_cut, 6);
}
