//! What a made-up peer may not ask of a master on somebody's machine: addresses beyond the loopback, paths in the file system, hundreds of processes.

use dutch_master_protocol::codec::{self, FrameDecoder};
use dutch_master_protocol::control::{FromControl, Scale};
use dutch_master_protocol::message::{Address, FromWorker, Kind};

/// Largest pool: each worker is a process.
const SIZE_MAX: i64 = 3;

/// Ports that may be asked for by their number: above those that systems give to others.
const PORT_MIN: u16 = 61_000;

/// Reads along with the master what one peer says.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    decoder: FrameDecoder,
    is_over: bool,
    sizes: u32,
    /// The master was asked to stop.
    pub(crate) said_stop: bool,
}

impl Guard {
    /// Whether these bytes may be sent after the ones before.
    pub(crate) fn allows(&mut self, bytes: &[u8]) -> bool {
        self.decoder.push(bytes);
        while !self.is_over {
            match self.decoder.next_frame().map(|body| body.map(<[u8]>::to_vec)) {
                Ok(None) => return true,
                Ok(Some(body)) if self.is_harmless(&body) => {}
                Ok(Some(_)) => self.is_over = true,
                // The master ends the connection here, and hears nothing that follows.
                Err(_) => {
                    self.is_over = true;
                    return true;
                }
            }
        }
        false
    }

    fn is_harmless(&mut self, body: &[u8]) -> bool {
        if let Ok(FromWorker::Listen(listen)) = codec::decode(body) {
            return listen.address.as_ref().is_none_or(is_loopback);
        }
        match codec::decode(body) {
            Ok(FromControl::Scale(Scale { to, by })) => {
                self.sizes += 1;
                let is_small = |n: i64| n.abs() <= SIZE_MAX;
                self.sizes == 1 && to.is_none_or(|to| is_small(to.into())) && by.is_none_or(|by| is_small(by.into()))
            }
            Ok(FromControl::Stop(_)) => {
                self.said_stop = true;
                true
            }
            _ => true,
        }
    }
}

fn is_loopback(address: &Address) -> bool {
    let is_free = address.port.is_none_or(|port| port == 0 || port >= PORT_MIN);
    // What makes no address is refused by the master itself, and that is worth a try.
    address.kind != Kind::Unix && is_free && address.host.is_some_and(|host| host.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_beyond_the_loopback_is_asked_for() {
        let ask = |json: &str| codec::encode(&serde_json::from_str::<serde_json::Value>(json).unwrap()).unwrap();
        let table = [
            (r#"{"event": "listen", "seq": 1, "name": "web"}"#, true),
            (r#"{"event": "listen", "seq": 1, "address": {"kind": "tcp", "host": "127.0.0.1", "port": 0}}"#, true),
            (r#"{"event": "listen", "seq": 1, "address": {"kind": "tcp", "port": 0}}"#, false),
            (r#"{"event": "listen", "seq": 1, "address": {"kind": "tcp", "host": "0.0.0.0", "port": 0}}"#, false),
            (r#"{"event": "listen", "seq": 1, "address": {"kind": "udp", "host": "::1", "port": 53}}"#, false),
            (r#"{"event": "listen", "seq": 1, "address": {"kind": "unix", "path": "/etc/passwd"}}"#, false),
            (r#"{"event": "scale", "to": 3}"#, true),
            (r#"{"event": "scale", "to": 4000000000}"#, false),
        ];
        for (message, expected) in table {
            let frame = ask(message);
            for cut in 0..frame.len() {
                let mut guard = Guard::default();
                let allowed = guard.allows(&frame[..cut]) && guard.allows(&frame[cut..]);
                assert_eq!(allowed, expected, "{message} cut at {cut}");
            }
        }
    }
}
