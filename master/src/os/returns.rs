//! Listeners that one worker was asked to give back, and the descriptors that come for them. A descriptor that nobody asked for is refused, as ever.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use dutch_master_protocol::message::Listener;
use serde::{Deserialize, Serialize};

use super::descriptors::{Inherited, Kept};
use crate::core::listeners::Key;

/// What was asked for and has not been answered.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// The worker gives listeners back.
    pub(super) is_offered: bool,
    last_seq: u64,
    asked: BTreeMap<u64, Key>,
    /// The answer whose descriptor comes next.
    begun: Option<Key>,
    /// `None`: one that came while this process could open no more files.
    descriptors: VecDeque<Option<OwnedFd>>,
}

/// A listener that came back.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) key: Key,
    /// `None`: this process could open no more files, and has to ask again.
    pub(super) fd: Option<OwnedFd>,
}

/// The same as it is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    is_offered: bool,
    last_seq: u64,
    asked: BTreeMap<u64, Key>,
    begun: Option<Key>,
    descriptors: Vec<Option<RawFd>>,
}

impl Returns {
    pub(super) fn hand_over<'a>(&'a self, kept: &mut Kept<'a>) -> Handed {
        let descriptors = self.descriptors.iter().map(|fd| fd.as_ref().map(|fd| kept.keep(fd.as_fd()))).collect();
        Handed { is_offered: self.is_offered, last_seq: self.last_seq, asked: self.asked.clone(), begun: self.begun.clone(), descriptors }
    }

    pub(super) fn handed(handed: Handed, inherited: &mut Inherited) -> io::Result<Returns> {
        let Handed { is_offered, last_seq, asked, begun, descriptors } = handed;
        let descriptors = descriptors.into_iter().map(|number| number.map(|number| inherited.take(number)).transpose()).collect::<io::Result<_>>()?;
        Ok(Returns { is_offered, last_seq, asked, begun, descriptors })
    }

    /// Asks for a listener. Returns the number of the request.
    pub(super) fn ask(&mut self, key: Key) -> u64 {
        self.last_seq += 1;
        self.asked.insert(self.last_seq, key);
        self.last_seq
    }

    /// Whether its answer is still to come.
    pub(super) fn is_asked_for(&self, key: &str) -> bool {
        self.asked.values().chain(&self.begun).any(|asked| asked == key)
    }

    /// Takes descriptors in, and one that was `lost` on its way, as many as were asked for. `false`: more came.
    pub(super) fn take_in(&mut self, fds: Vec<OwnedFd>, lost: bool) -> bool {
        self.descriptors.extend(fds.into_iter().map(Some).chain(lost.then_some(None)));
        self.descriptors.len() <= self.asked.len() + usize::from(self.begun.is_some())
    }

    /// The worker answers with a listener, whose descriptor is behind it. `false`: nobody asked for that.
    pub(super) fn begin(&mut self, listener: &Listener) -> bool {
        let is_answer = self.begun.is_none() && listener.fds == 1 && self.asked.get(&listener.seq) == Some(&listener.key);
        if is_answer {
            self.begun = self.asked.remove(&listener.seq);
        }
        is_answer
    }

    /// The worker answers that it does not have it. Returns what.
    pub(super) fn refused(&mut self, seq: u64) -> Option<Key> {
        self.asked.remove(&seq)
    }

    /// Whether the next bytes are not a frame, but belong to a descriptor.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// What has come whole. An error: the next byte is no descriptor's.
    pub(super) fn next(&mut self, mut next_byte: impl FnMut() -> Option<u8>) -> Result<Option<Returned>, ()> {
        let Some(byte) = self.begun.as_ref().and_then(|_| next_byte()) else { return Ok(None) };
        match (byte, self.descriptors.pop_front(), self.begun.take()) {
            (0, Some(fd), Some(key)) => Ok(Some(Returned { key, fd })),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn answer(seq: u64, key: &str) -> Listener {
        Listener { seq, key: key.into(), name: None, data: None, address: None, fds: 1 }
    }

    #[test]
    fn only_what_was_asked_for_is_taken_and_once() {
        let mut returns = Returns::default();
        assert!(returns.take_in(vec![], false));
        assert!(!returns.take_in(vec![fd()], false), "nobody asked");
        let mut returns = Returns::default();
        let seq = returns.ask("web".into());
        assert!(!returns.begin(&answer(seq, "other")));
        assert!(!returns.begin(&answer(seq + 1, "web")));
        assert!(returns.begin(&answer(seq, "web")));
        assert!(returns.is_asked_for("web"));
        assert!(returns.next(|| None).unwrap().is_none(), "the byte has not come");
        assert!(returns.take_in(vec![fd()], false));
        assert_eq!(returns.next(|| Some(0)).unwrap().unwrap().key, "web");
        assert!(!returns.is_asked_for("web"));
        assert!(!returns.begin(&answer(seq, "web")), "it was answered");
        assert!(!returns.take_in(vec![fd()], false));
    }

    #[test]
    fn a_byte_without_a_descriptor_or_other_than_zero_is_an_error() {
        for (byte, fds) in [(0, vec![]), (1, vec![fd()])] {
            let mut returns = Returns::default();
            let seq = returns.ask("web".into());
            assert!(returns.begin(&answer(seq, "web")) && returns.take_in(fds, false));
            assert!(returns.next(|| Some(byte)).is_err());
        }
    }

    #[test]
    fn one_that_was_lost_on_its_way_is_told_and_may_be_asked_for_again() {
        let mut returns = Returns::default();
        assert!(!returns.take_in(vec![], true), "nobody asked");
        let mut returns = Returns::default();
        let seq = returns.ask("web".into());
        assert!(returns.begin(&answer(seq, "web")) && returns.take_in(vec![], true));
        let returned = returns.next(|| Some(0)).unwrap().unwrap();
        assert!(returned.key == "web" && returned.fd.is_none() && !returns.is_asked_for("web"));
    }

    #[test]
    fn one_that_is_refused_may_be_asked_for_again() {
        let mut returns = Returns::default();
        let seq = returns.ask("web".into());
        assert_eq!(returns.refused(seq).as_deref(), Some("web"));
        assert_eq!(returns.refused(seq), None);
        assert_ne!(returns.ask("web".into()), seq);
    }
}
