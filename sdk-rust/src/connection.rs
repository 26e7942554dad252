//! The session and the socket under it, which may be another one after each death of a master.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::session::Session;
use crate::settings::ConnectError;
use crate::wire::{Wire, dial};

pub(crate) struct Connection {
    path: PathBuf,
    pub(crate) session: Session,
    wire: Option<Arc<Wire>>,
}

impl Connection {
    pub(crate) fn new(path: PathBuf, session: Session) -> Connection {
        Connection { path, session, wire: None }
    }

    /// Connects, which takes no time: where nobody accepts, it fails.
    pub(crate) fn dial(&mut self) {
        let dialled = dial(&self.path).map_err(|source| ConnectError::Connect { path: self.path.clone(), source });
        let outcome = dialled.map(|socket| self.wire = Some(Arc::new(Wire::new(socket))));
        self.session.dialled(Instant::now(), outcome);
    }

    /// The socket, if there is a connection. One that the session has done with is closed here.
    pub(crate) fn wire(&mut self) -> Option<Arc<Wire>> {
        if !self.session.is_connected()
            && let Some(old) = self.wire.take()
        {
            old.shutdown(); // Whoever still writes to it stops.
        }
        self.wire.clone()
    }

    /// The socket, if the program's messages may go there.
    pub(crate) fn open_wire(&mut self) -> Option<Arc<Wire>> {
        self.wire().filter(|_| self.session.is_open())
    }
}
