//! Listeners under a service manager: taken from what it handed over, and given to it to keep.

use dutch_master_protocol::message::Address;
use nix::errno::Errno;
use tracing::warn;

use super::super::listening_socket::ListeningSocket;
use super::super::systemd::{HandedSockets, Upheld, kept_name};
use super::{LISTENERS_MAX, ListenError, Listeners, NAME_MAX, in_words};
use crate::options::ListenSpec;

impl Listeners {
    /// What it handed over, and whether it is to be told what to keep.
    pub(in super::super) fn under_manager(&mut self, handed: HandedSockets, is_told: bool) {
        self.handed = handed;
        self.upheld = is_told.then(Vec::new);
    }

    /// As before, under another program: it keeps what it has been given.
    pub(in super::super) fn still_under_manager(&mut self, is_told: bool) {
        self.upheld = is_told.then(Vec::new);
    }

    pub(super) fn handed_over_for(&mut self, spec: &ListenSpec) -> Option<ListeningSocket> {
        let key = self.registry.key_for_configured(spec.name.as_deref(), &spec.address);
        let socket = self.handed.take(&key, spec.name.as_deref(), &spec.address);
        spec.name.iter().for_each(|name| self.handed.reject(name, &spec.address));
        socket
    }

    /// Before this address is bound: what is kept from before must not be in its way.
    pub(super) fn make_room(&mut self, address: &Address) -> Result<(), ListenError> {
        let held: Vec<_> = self.missing.held().map(|key| kept_name(key)).collect();
        let no_room = |remedy| ListenError { address: in_words(address), remedy, source: Errno::EADDRINUSE.into() };
        self.handed.make_room(address, &held).map_err(no_room)
    }

    /// Everything that was configured has been told. Takes what living workers hold as well, so that nobody has to be asked for it, and what socket units lend without a word in the configuration.
    pub(in super::super) fn take_handed_over(&mut self) {
        for key in self.missing.keys() {
            let Some(entry) = self.registry.get(&key) else { continue };
            if let Some(socket) = self.handed.take(&key, entry.name.as_deref(), &entry.address) {
                self.missing.found(&key);
                self.hold(key, socket);
            }
        }
        for (name, socket) in self.handed.take_lent() {
            let address = socket.address().clone();
            let name = name.filter(|name| name.len() <= NAME_MAX && !self.names.contains(name));
            let key = self.registry.key_for_configured(name.as_deref(), &address);
            if self.registry.get(&key).is_some() || self.sockets.len() >= LISTENERS_MAX {
                warn!(socket = in_words(&address), reason = "there is such a listener, or there are too many", "Socket of the service manager cannot be used");
                continue;
            }
            self.registry.configured(name, &address, address.clone());
            self.names.push(key.clone());
            self.hold(key, socket);
        }
    }

    /// What there is to tell the service manager.
    pub(in super::super) fn take_upheld(&mut self) -> Vec<Upheld> {
        self.upheld.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn uphold(&mut self, key: &str, socket: &ListeningSocket) {
        // What is lent comes back with every start anyway.
        if let Some(upheld) = self.upheld.as_mut().filter(|_| !socket.is_lent()) {
            // First: it keeps one socket under one name.
            upheld.extend(self.handed.take_outdated().into_iter().map(Upheld::Forget));
            upheld.push(Upheld::Keep(key.into(), socket.fd().clone()));
        }
    }

    pub(super) fn uphold_no_more(&mut self, key: &str, socket: &ListeningSocket) {
        if let Some(upheld) = self.upheld.as_mut().filter(|_| !socket.is_lent()) {
            upheld.push(Upheld::no_more(key));
        }
    }

    pub(super) fn give_up_unclaimed(&mut self) {
        let names = self.handed.restart_completed();
        self.upheld.iter_mut().for_each(|upheld| upheld.extend(names.iter().cloned().map(Upheld::Forget)));
    }

    pub(super) fn give_up_all_unclaimed(&mut self) {
        let names = self.handed.give_up();
        self.upheld.iter_mut().for_each(|upheld| upheld.extend(names.iter().cloned().map(Upheld::Forget)));
    }
}
