//! All listeners as they are handed over to the program that takes this one's place.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::super::descriptors::{Inherited, Kept};
use super::super::listening_socket::{self, ListeningSocket};
use super::super::missing::Missing;
use super::super::socket_access::FileAccess;
use super::super::systemd::{self, HandedSockets};
use super::super::upkeep::Held;
use super::Listeners;
use crate::core::listeners::{Key, Registry};

/// What the registry, which is in the state, does not say.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::os) struct Handed {
    sockets: BTreeMap<Key, listening_socket::Handed>,
    names: Vec<String>,
    /// Lengths of the accept queues of those that a dead master's workers have not given back.
    missing: BTreeMap<Key, u32>,
    are_closed: bool,
    access: BTreeMap<Key, FileAccess>,
    lends_no_rights: bool,
    /// What the service manager gave and nobody has asked for.
    not_taken: systemd::Handover,
}

impl Listeners {
    pub(in crate::os) fn hand_over<'a>(&'a self, kept: &mut Kept<'a>) -> Handed {
        let sockets = self.sockets.iter().map(|(key, held)| (key.clone(), held.socket.hand_over(kept))).collect();
        Handed {
            sockets,
            names: self.names.clone(),
            missing: self.missing.backlogs().collect(),
            are_closed: self.are_closed,
            access: self.access.clone(),
            lends_no_rights: self.lends_no_rights,
            not_taken: self.handed.hand_over(kept),
        }
    }

    pub(in crate::os) fn handed(handed: Handed, registry: Registry, inherited: &mut Inherited) -> io::Result<Listeners> {
        let Handed { sockets, names, missing, are_closed, access, lends_no_rights, not_taken } = handed;
        let held = |(key, socket)| Ok((key, Held::new(ListeningSocket::handed(socket, inherited)?)));
        let sockets = sockets.into_iter().map(held).collect::<io::Result<_>>()?;
        let (missing, handed) = (Missing::handed(missing), HandedSockets::handed(not_taken, inherited)?);
        Ok(Listeners { registry, sockets, access, names, missing, are_closed, lends_no_rights, handed, ..Listeners::default() })
    }
}
