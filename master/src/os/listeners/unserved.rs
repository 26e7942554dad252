//! The files of Unix listeners that a start has bound, until there can be a worker: a start that is refused leaves none of them.

use super::super::listening_socket::ListeningSocket;
use super::super::socket_file::SocketFile;

/// Such files. Dropping this removes those that are still ours.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    files: Vec<SocketFile>,
}

impl Unserved {
    /// This socket was bound here, and not by a master before or a service manager.
    pub(super) fn add(&mut self, socket: &ListeningSocket) {
        self.files.extend(socket.file().cloned());
    }

    /// They are no longer this start's to remove.
    pub(super) fn forget(&mut self) {
        self.files.clear();
    }
}

impl Drop for Unserved {
    fn drop(&mut self) {
        self.files.iter().for_each(SocketFile::remove);
    }
}
