//! Who may connect to a Unix socket: the owner, the group and the permissions of its file. They are set on the file itself and not by its name: who may write to its directory could put a link there.

use std::fs::{File, Permissions, set_permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchownat, geteuid};
use serde::{Deserialize, Serialize};

use super::account::{AccountError, group_of, uid_of};
use crate::options::SocketAccess;

/// What the file of a socket is to be; where nothing is said it is as the system makes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Numbers", into = "Numbers")]
pub(super) struct FileAccess {
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<Uid>,
    pub(super) group: Option<Gid>,
}

/// Mode, owner and group.
type Numbers = (Option<u32>, Option<u32>, Option<u32>);

impl From<FileAccess> for Numbers {
    fn from(access: FileAccess) -> Numbers {
        (access.mode, access.owner.map(Uid::as_raw), access.group.map(Gid::as_raw))
    }
}

impl From<Numbers> for FileAccess {
    fn from((mode, owner, group): Numbers) -> FileAccess {
        FileAccess { mode, owner: owner.map(Uid::from_raw), group: group.map(Gid::from_raw) }
    }
}

impl FileAccess {
    /// Looks the names up.
    pub(super) fn of(access: &SocketAccess) -> Result<FileAccess, AccountError> {
        let owner = access.owner.as_deref().map(uid_of).transpose()?;
        let group = access.group.as_deref().map(group_of).transpose()?;
        Ok(FileAccess { mode: access.mode, owner, group })
    }

    /// Sets it. Done before the socket listens, it comes before anybody can connect.
    ///
    /// # Errors
    /// What the system says; or the file is not the socket that was just made.
    pub(super) fn set(&self, path: &Path) -> io::Result<()> {
        if *self == FileAccess::default() {
            return Ok(());
        }
        let file = File::from(open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?);
        let found = file.metadata()?;
        if !found.file_type().is_socket() || found.nlink() != 1 || ![Some(geteuid()), self.owner].contains(&Some(Uid::from_raw(found.uid()))) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another file took the place of the socket"));
        }
        // Changing the owner can take permissions away, so they come last.
        match fchownat(&file, "", self.owner, self.group, AtFlags::AT_EMPTY_PATH) {
            Err(Errno::EPERM) => {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "only root may give a socket to another user or to a group that it does not belong to",
                ));
            }
            outcome => outcome?,
        }
        self.mode.map_or(Ok(()), |mode| set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(mode)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_the_socket_itself_is_changed_never_what_a_link_in_its_place_points_to() {
        let folder = std::env::temp_dir().join(format!("dm-access-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (socket, precious, link, second) = (folder.join("socket"), folder.join("precious"), folder.join("link"), folder.join("second"));
        let _listener = UnixListener::bind(&socket).unwrap();
        std::fs::write(&precious, "").unwrap();
        symlink(&precious, &link).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
        let before = mode(&precious);
        let access = FileAccess { mode: Some(0o642), ..FileAccess::default() };
        access.set(&socket).unwrap();
        assert_eq!(mode(&socket), 0o642);
        for wrong in [&precious, &link] {
            assert_eq!(access.set(wrong).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        assert_eq!(mode(&precious), before);
        std::fs::hard_link(&socket, &second).unwrap();
        assert!(access.set(&socket).is_err(), "it is somebody else's, too");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_owner_and_the_group_come_by_name_or_number() {
        let of = |owner: &str, group: &str| FileAccess::of(&SocketAccess { mode: None, owner: Some(owner.into()), group: Some(group.into()) });
        let root = of("root", "0").unwrap();
        assert_eq!((root.owner.map(Uid::as_raw), root.group.map(Gid::as_raw)), (Some(0), Some(0)));
        assert!(matches!(of("nobody-at-all", "0"), Err(AccountError::NoUser { .. })));
    }
}
