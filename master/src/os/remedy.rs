//! What to do about an error of the system, for the line that tells of it.

use std::io;

use nix::errno::Errno;

/// The remedy for a file or a directory that could not be made, opened or written, with a semicolon before it; empty where the error says it all.
///
/// ```
/// assert_eq!(dutch_master::remedy(&std::io::Error::from_raw_os_error(2)), "; make its directory first");
/// ```
pub fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => "; run it as a user who may write there, or choose another place",
        Some(Errno::ENOENT) => "; make its directory first",
        Some(Errno::ENOTDIR) => "; what should be its directory is a file",
        Some(Errno::EISDIR) => "; that is a directory, name a file in it",
        Some(Errno::ENOSPC | Errno::EDQUOT) => "; make room there, or choose another place",
        Some(Errno::EFBIG) => "; move the file away, or raise the limit of file sizes (`ulimit -f`)",
        Some(Errno::EADDRINUSE) => "; something else is there, move it away or choose another place",
        Some(Errno::EROFS) => "; nothing can be written there, choose another place",
        Some(Errno::ENAMETOOLONG) => "; choose a shorter path",
        Some(Errno::ELOOP) => "; a symbolic link is in the way",
        Some(Errno::ENXIO) => "; nobody reads that pipe",
        Some(Errno::EMFILE) => "; this process may open no more files: raise its hard limit (`ulimit -Hn`, LimitNOFILE= of a unit)",
        Some(Errno::ENFILE) => "; all processes together may open no more files: raise the system's limit (`sysctl fs.file-max`)",
        Some(_) | None => "",
    }
}
