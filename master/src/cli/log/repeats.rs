//! Which lines of a flood are shown: the first few of a kind, then one that says how many more there were. It reads no clock and writes nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long lines of one kind are counted together, from the first one on: often enough to see that it goes on, and a flood becomes a line every two seconds at most.
const WINDOW: Duration = Duration::from_secs(10);

/// Lines of one kind that are shown in a window: enough to see what they have in common.
const SHOWN_MAX: u32 = 5;

/// Kinds that are told apart by their worker and reason. Beyond that only the message counts, of which there are as many as the program has.
const KINDS_MAX: usize = 64;

/// What makes two lines the same thing again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) message: String,
    pub(super) worker: Option<u64>,
    /// A digest of the reason, where there is one: one flood must not hide what another peer did.
    pub(super) reason: Option<u64>,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<L> {
    Shown(L),
    /// It is counted. The first one of a window makes a summary that is to be shown at [`Repeats::next_end`].
    HeldBack {
        is_first: bool,
    },
}

/// Lines that were held back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary<L> {
    pub(super) count: u64,
    /// From the first line of the kind, which was shown.
    pub(super) time: Duration,
    pub(super) last: L,
}

/// The lines of late, by kind.
#[derive(Debug)]
pub(super) struct Repeats<L> {
    windows: BTreeMap<Kind, Window<L>>,
}

#[derive(Debug)]
struct Window<L> {
    begin: Instant,
    shown: u32,
    held_back: Option<(u64, L)>,
}

impl<L> Default for Repeats<L> {
    fn default() -> Self {
        Repeats { windows: BTreeMap::new() }
    }
}

impl<L> Repeats<L> {
    /// Decides about a line. [`ended`](Self::ended) comes first.
    pub(super) fn judge(&mut self, now: Instant, kind: Kind, line: L) -> Verdict<L> {
        let is_told_apart = self.windows.contains_key(&kind) || self.windows.len() < KINDS_MAX;
        let kind = if is_told_apart { kind } else { Kind { worker: None, reason: None, ..kind } };
        let window = self.windows.entry(kind).or_insert(Window { begin: now, shown: 0, held_back: None });
        if window.shown < SHOWN_MAX {
            window.shown += 1;
            return Verdict::Shown(line);
        }
        let so_far = window.held_back.take().map_or(0, |(count, _)| count);
        window.held_back = Some((so_far + 1, line));
        Verdict::HeldBack { is_first: so_far == 0 }
    }

    /// Ends the windows whose time is over: what was held back in them is to be shown now.
    pub(super) fn ended(&mut self, now: Instant) -> Vec<Summary<L>> {
        self.end_those(now, |window| now.duration_since(window.begin) >= WINDOW)
    }

    /// Ends all of them: nothing may be lost when the program ends.
    pub(super) fn end_all(&mut self, now: Instant) -> Vec<Summary<L>> {
        self.end_those(now, |_| true)
    }

    /// When the next summary is to be shown; `None`: nothing is held back.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.windows.values().filter(|window| window.held_back.is_some()).map(|window| window.begin + WINDOW).min()
    }

    fn end_those(&mut self, now: Instant, is_over: impl Fn(&Window<L>) -> bool) -> Vec<Summary<L>> {
        let mut ended = Vec::new();
        self.windows.retain(|_, window| {
            let is_over = is_over(window);
            if is_over {
                ended.extend(window.held_back.take().map(|(count, last)| Summary { count, time: now.duration_since(window.begin), last }));
            }
            !is_over
        });
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(message: &str, worker: Option<u64>) -> Kind {
        Kind { message: message.into(), worker, reason: None }
    }

    /// Lines of one kind at these seconds: `s` shown, `-` held back, and the summaries before a line as `(count/seconds)`.
    fn story(seconds: &[u64]) -> String {
        let (mut repeats, begin) = (Repeats::default(), Instant::now());
        let mut story = String::new();
        for (i, second) in seconds.iter().enumerate() {
            let now = begin + Duration::from_secs(*second);
            for Summary { count, time, .. } in repeats.ended(now) {
                story.push_str(&format!("({count}/{})", time.as_secs()));
            }
            story.push(match repeats.judge(now, kind("a", None), i) {
                Verdict::Shown(_) => 's',
                Verdict::HeldBack { is_first: true } => '!',
                Verdict::HeldBack { is_first: false } => '-',
            });
        }
        story
    }

    #[test]
    fn the_first_lines_of_a_kind_are_shown_and_the_others_are_counted_until_the_window_ends() {
        for (seconds, expected) in [
            (vec![0, 0, 0, 0, 0], "sssss"),
            (vec![0, 0, 0, 0, 0, 0, 1, 9], "sssss!--"),
            (vec![0, 0, 0, 0, 0, 0, 1, 9, 10, 10], "sssss!--(3/10)ss"),
            (vec![0, 0, 0, 0, 0, 9, 25, 25], "sssss!(1/25)ss"),
            (vec![0, 3, 6, 9, 12, 15, 18, 21, 24], "sssssssss"),
            (vec![0; 12], "sssss!------"),
            (vec![0, 0, 0, 0, 0, 0, 10, 10, 10, 10, 10, 10, 20], "sssss!(1/10)sssss!(1/10)s"),
        ] {
            assert_eq!(story(&seconds), expected, "{seconds:?}");
        }
    }

    #[test]
    fn kinds_differ_by_message_and_worker() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        for kind in [kind("a", None), kind("b", None), kind("a", Some(1)), kind("a", Some(2))] {
            for _ in 0..SHOWN_MAX {
                assert_eq!(repeats.judge(now, kind.clone(), ()), Verdict::Shown(()), "{kind:?}");
            }
            assert_eq!(repeats.judge(now, kind, ()), Verdict::HeldBack { is_first: true });
        }
    }

    #[test]
    fn a_summary_has_the_last_line_and_is_due_when_its_window_ends() {
        let (mut repeats, begin) = (Repeats::default(), Instant::now());
        for line in 0..7 {
            assert_eq!(repeats.next_end().is_some(), line > 5, "there is nothing to wait for before line 6");
            repeats.judge(begin, kind("a", None), line);
        }
        assert_eq!(repeats.next_end(), Some(begin + WINDOW));
        assert_eq!(repeats.ended(begin + WINDOW - Duration::from_millis(1)), []);
        assert_eq!(repeats.ended(begin + WINDOW), [Summary { count: 2, time: WINDOW, last: 6 }]);
        assert_eq!(repeats.next_end(), None);
    }

    #[test]
    fn what_is_held_back_at_the_end_is_not_lost() {
        let (mut repeats, begin) = (Repeats::default(), Instant::now());
        for line in 0..9 {
            repeats.judge(begin, kind("a", None), line);
        }
        let end = begin + Duration::from_secs(3);
        assert_eq!(repeats.end_all(end), [Summary { count: 4, time: Duration::from_secs(3), last: 8 }]);
        assert_eq!(repeats.end_all(end), []);
    }

    #[test]
    fn beyond_the_limit_of_kinds_workers_share_one_and_room_comes_back() {
        let (mut repeats, begin) = (Repeats::default(), Instant::now());
        let shown = |repeats: &mut Repeats<u64>, now, workers: std::ops::Range<u64>| {
            workers.filter(|worker| matches!(repeats.judge(now, kind("a", Some(*worker)), *worker), Verdict::Shown(_))).count()
        };
        assert_eq!(shown(&mut repeats, begin, 0..KINDS_MAX as u64), KINDS_MAX);
        assert_eq!(shown(&mut repeats, begin, 1_000..2_000), SHOWN_MAX as usize);
        assert_eq!(repeats.windows.len(), KINDS_MAX + 1);
        let later = begin + WINDOW;
        assert_eq!(repeats.ended(later), [Summary { count: 995, time: WINDOW, last: 1_999 }]);
        assert_eq!(shown(&mut repeats, later, 0..KINDS_MAX as u64), KINDS_MAX);
    }
}
