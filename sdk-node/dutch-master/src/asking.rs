//! What the master asks of JavaScript: it is sent as a report, and the answer comes by a call with the same number.

use std::sync::{Arc, Mutex, PoisonError};

use dutch_master::{Answer as Asker, Callbacks, Evaluated, Surroundings};

use crate::Answer;
use crate::outlet::{Outlet, Report};

/// Who waits for an answer. The master asks one question of a kind at a time; an older one has timed out, and whoever answers it is late.
pub(crate) struct Asked {
    outlet: Arc<Outlet>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u32,
    before_fork: Option<(u32, Asker<Surroundings>)>,
    evaluate: Option<(u32, Asker<Evaluated>)>,
}

/// The callbacks of a master.
pub(crate) fn callbacks(asked: &Arc<Asked>, before_fork: bool) -> Callbacks {
    let evaluating = Arc::clone(asked);
    let mut callbacks =
        Callbacks { evaluate: Some(Box::new(move |asker| evaluating.ask("evaluate", |open, seq| open.evaluate = Some((seq, asker))))), before_fork: None };
    if before_fork {
        let asked = Arc::clone(asked);
        callbacks.before_fork = Some(Box::new(move |asker| asked.ask("before-fork", |open, seq| open.before_fork = Some((seq, asker)))));
    }
    callbacks
}

impl Asked {
    pub(crate) fn new(outlet: Arc<Outlet>) -> Asked {
        Asked { outlet, open: Mutex::default() }
    }

    fn ask(&self, kind: &'static str, keep: impl FnOnce(&mut Open, u32)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.last = open.last.wrapping_add(1);
        let seq = open.last;
        keep(&mut open, seq);
        self.outlet.send(Report { kind, seq: Some(seq), ..Report::default() });
    }

    pub(crate) fn answered(&self, seq: u32, answer: Answer) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Answer { error, num_workers, directory, environment } = answer;
        let surroundings = match (error, directory, environment) {
            (Some(error), _, _) => Err(error),
            (None, Some(directory), Some(environment)) => Ok(Surroundings {
                directory: directory.into(),
                environment: environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            }),
            (None, _, _) => Err("the answer is incomplete".into()),
        };
        if let Some((_, asker)) = open.before_fork.take_if(|(asked, _)| *asked == seq) {
            asker.give(surroundings);
        } else if let Some((_, asker)) = open.evaluate.take_if(|(asked, _)| *asked == seq) {
            asker.give(surroundings.map(|surroundings| Evaluated { num_workers: num_workers.unwrap_or(1), surroundings }));
        }
    }
}
