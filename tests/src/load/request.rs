//! The mixture of requests, and what their responses must be.

use super::Mode;
use super::failure::Failure;
use super::response::Response;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// What is asked for.
    pub(super) kind: Kind,
    /// Whether the client would use the connection again.
    pub(super) keep_alive: bool,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A short answer.
    Short,
    /// An answer that takes 200 ms.
    Slow,
    /// The body comes back.
    Echo(Vec<u8>),
}

impl Request {
    /// A tenth is slow, a third has a body of 1 to 16 KiB.
    pub(super) fn random(random: &mut fastrand::Rng, mode: Mode) -> Request {
        let kind = match random.u8(0..30) {
            0..3 => Kind::Slow,
            3..13 => {
                let length = random.usize(1_024..=16_384);
                let body = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
                Kind::Echo(body)
            }
            _ => Kind::Short,
        };
        Request { kind, keep_alive: mode == Mode::KeepAlive }
    }

    /// As it travels, head and body in one piece.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (target, body): (_, &[u8]) = match &self.kind {
            Kind::Short => ("GET /", &[]),
            Kind::Slow => ("GET /slow?ms=200", &[]),
            Kind::Echo(body) => ("POST /echo", body),
        };
        let mut bytes = format!("{target} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
        if !self.keep_alive {
            bytes.extend_from_slice(b"Connection: close\r\n");
        }
        if let Kind::Echo(body) = &self.kind {
            bytes.extend_from_slice(format!("Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        bytes
    }

    /// Whether this is a response to this request.
    pub(super) fn check(&self, response: &Response) -> Result<(), Failure> {
        match &self.kind {
            _ if response.status != 200 => Err(Failure::Status(response.status)),
            Kind::Echo(body) if *body != response.body => Err(Failure::Malformed),
            Kind::Short | Kind::Slow if response.body.is_empty() => Err(Failure::Malformed),
            Kind::Short | Kind::Slow | Kind::Echo(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_slow_and_a_third_has_a_body() {
        let mut random = fastrand::Rng::with_seed(1);
        let kinds: Vec<_> = (0..3_000).map(|_| Request::random(&mut random, Mode::KeepAlive).kind).collect();
        let slow = kinds.iter().filter(|kind| **kind == Kind::Slow).count();
        let echo = kinds.iter().filter(|kind| matches!(kind, Kind::Echo(_))).count();
        assert!((250..350).contains(&slow), "{slow} slow ones");
        assert!((900..1_100).contains(&echo), "{echo} with a body");
    }

    #[test]
    fn a_body_that_comes_back_changed_is_a_failure() {
        let request = Request { kind: Kind::Echo(vec![1, 2, 3]), keep_alive: true };
        let response = Response { status: 200, keep_alive: true, body: vec![1, 2, 4] };
        assert_eq!(request.check(&response), Err(Failure::Malformed));
    }
}
