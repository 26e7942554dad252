//! What the peers of a master do, as bytes that a fuzzer can change: steps that follow each other, each of a byte that says who does what, and for some what they say.

/// Stands for the token of the worker that is speaking, wherever it is found.
pub const TOKEN: [u8; 32] = [b'$'; 32];

/// Most steps of one input: enough for a whole life, and an end for the time that it takes.
const STEPS_MAX: usize = 64;

/// Whose connection a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The newest worker.
    Worker,
    /// The one before.
    Old,
    /// A control client.
    Client,
    /// Somebody else.
    Stranger,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// These bytes are sent.
    Send(Vec<u8>),
    /// A zero byte with a descriptor is.
    SendFd,
    /// The connection is closed.
    HangUp,
    /// It is closed for sending alone.
    HalfClose,
    /// What was sent so far is handled before the next step.
    Settle,
    /// If the master has started another worker, that is `Worker` from now on.
    NextWorker,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Whose.
    pub by: By,
    /// What.
    pub what: What,
}

const WHO: [By; 4] = [By::Worker, By::Old, By::Client, By::Stranger];

/// The steps that these bytes mean; every input means some.
pub fn read(mut data: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((first, rest)) = data.split_first().filter(|_| steps.len() < STEPS_MAX) {
        data = rest;
        let what = match first >> 2 & 7 {
            0 => What::SendFd,
            1 => What::HangUp,
            2 => What::HalfClose,
            3 => What::Settle,
            4 => What::NextWorker,
            _ => {
                let Some((length, rest)) = data.split_first_chunk::<2>() else { break };
                let (said, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
                data = rest;
                What::Send(said.to_vec())
            }
        };
        steps.push(Step { by: WHO[usize::from(first & 3)], what });
    }
    steps
}

/// Bytes that mean these steps. What is said must be shorter than 65,536 bytes.
pub fn write(steps: &[Step]) -> Vec<u8> {
    let mut data = Vec::new();
    for Step { by, what } in steps {
        let (number, said) = match what {
            What::SendFd => (0, None),
            What::HangUp => (1, None),
            What::HalfClose => (2, None),
            What::Settle => (3, None),
            What::NextWorker => (4, None),
            What::Send(said) => (7, Some(said)),
        };
        let who = WHO.iter().position(|who| who == by).unwrap_or_default();
        data.push(number << 2 | u8::try_from(who).unwrap_or_default());
        if let Some(said) = said {
            data.extend(u16::try_from(said.len()).unwrap_or(u16::MAX).to_be_bytes());
            data.extend(said);
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_as_the_same() {
        let steps = [What::Send(vec![1, 2, 3]), What::SendFd, What::HangUp, What::HalfClose, What::Settle, What::NextWorker, What::Send(vec![0; 600])];
        let steps: Vec<_> = steps.into_iter().zip(WHO.into_iter().cycle()).map(|(what, by)| Step { by, what }).collect();
        assert_eq!(read(&write(&steps)), steps);
        assert_eq!(read(&[28, 0]), []);
    }
}
