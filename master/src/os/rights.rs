//! What a worker gets of the system's rights: whose they are, its limits, and what it may never gain. Everything is prepared before the child exists; in the child only system calls are made.

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};

use super::account::Account;
use crate::options::{Options, Resource as Limited, ResourceLimit};

/// The rights of the workers of one generation.
#[derive(Debug, Clone, Default)]
pub(super) struct Rights {
    ids: Option<Ids>,
    umask: Option<Mode>,
    limits: Vec<(Resource, rlim_t, rlim_t)>,
    no_new_privs: bool,
}

#[derive(Debug, Clone)]
struct Ids {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
}

impl Rights {
    pub(super) fn new(account: Option<&Account>, options: &Options) -> Rights {
        let ids = |account: &Account| Ids {
            uid: account.uid.as_raw(),
            gid: account.gid.as_raw(),
            groups: account.groups.iter().map(|group| group.as_raw()).collect(),
        };
        Rights {
            ids: account.map(ids),
            umask: options.umask.map(Mode::from_bits_truncate),
            limits: options.limit.iter().map(limit).collect(),
            no_new_privs: options.no_new_privs.unwrap_or(account.is_some()),
        }
    }

    /// Whether the child becomes somebody else before it becomes another program.
    pub(super) fn changes_user(&self) -> bool {
        self.ids.is_some()
    }

    /// In the child, before its program runs. Nothing is allocated and no lock is taken: each of these is one system call.
    ///
    /// The order matters: raising limits and choosing groups takes the rights that are given up last.
    pub(super) fn take_on(&self) -> io::Result<()> {
        for (resource, soft, hard) in &self.limits {
            setrlimit(*resource, *soft, *hard)?;
        }
        if let Some(mask) = self.umask {
            umask(mask);
        }
        if let Some(ids) = &self.ids {
            ids.become_them()?;
        }
        if self.no_new_privs {
            prctl::set_no_new_privs()?;
        }
        Ok(())
    }
}

impl Ids {
    #[allow(unsafe_code)]
    fn become_them(&self) -> io::Result<()> {
        let Ids { uid, gid, groups } = self;
        // SAFETY: system calls with plain numbers, and with a list that outlives the call and whose length is given with it. The C library's functions of these names would have every thread of the
        // process follow, by signals and under a lock, which a child that was forked from a process with threads must not do; these system calls change this one.
        unsafe {
            Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
            Errno::result(libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid))?;
            Errno::result(libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid))?;
        }
        Ok(())
    }
}

fn limit(of: &ResourceLimit) -> (Resource, rlim_t, rlim_t) {
    let value = |limit: Option<u64>| limit.unwrap_or(RLIM_INFINITY);
    let resource = match of.resource {
        Limited::As => Resource::RLIMIT_AS,
        Limited::Core => Resource::RLIMIT_CORE,
        Limited::Cpu => Resource::RLIMIT_CPU,
        Limited::Data => Resource::RLIMIT_DATA,
        Limited::Fsize => Resource::RLIMIT_FSIZE,
        Limited::Memlock => Resource::RLIMIT_MEMLOCK,
        Limited::Msgqueue => Resource::RLIMIT_MSGQUEUE,
        Limited::Nice => Resource::RLIMIT_NICE,
        Limited::Nofile => Resource::RLIMIT_NOFILE,
        Limited::Nproc => Resource::RLIMIT_NPROC,
        Limited::Rtprio => Resource::RLIMIT_RTPRIO,
        Limited::Rttime => Resource::RLIMIT_RTTIME,
        Limited::Sigpending => Resource::RLIMIT_SIGPENDING,
        Limited::Stack => Resource::RLIMIT_STACK,
    };
    (resource, value(of.soft), value(of.hard))
}
