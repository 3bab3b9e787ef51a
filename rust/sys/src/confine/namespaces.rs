// SPDX-License-Identifier: Apache-2.0
//! Namespaces of the process' own: nothing of the system can be named from within.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use super::{Measure, failure, unshare};

/// What this process is called in its user namespace: the number that Linux shows for "nobody".
const INSIDE_ID: u32 = 65534;

/// Whether this process, or the one it was forked from, made the mount namespace it is in.
static OWNS_MOUNTS: AtomicBool = AtomicBool::new(false);

/// A kind of namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Namespace {
    /// Capabilities within mean nothing outside.
    User,
    /// Mounts made or removed by others are not seen, nor the other way round.
    Mount,
    /// No network interface, no abstract UNIX socket of others.
    Network,
    /// No System V or POSIX queue, semaphore or shared memory of others.
    Ipc,
    /// A host name of its own.
    Uts,
    /// Control groups are named from here on.
    Cgroup,
    /// For the next child: no process outside can be named, and it takes all below with it.
    Pid,
}

impl Namespace {
    /// All of them. The user namespace comes first: it gives an ordinary user the right to make the
    /// others. When the mount namespace is entered is told at [`super::confine`].
    pub const ALL: [Self; 7] = [
        Self::User,
        Self::Mount,
        Self::Network,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::Pid,
    ];

    /// The name of its measure.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user namespace",
            Self::Mount => "mount namespace",
            Self::Network => "network namespace",
            Self::Ipc => "ipc namespace",
            Self::Uts => "uts namespace",
            Self::Cgroup => "cgroup namespace",
            Self::Pid => "pid namespace",
        }
    }

    /// Enters this one namespace.
    ///
    /// For tests that attack one measure at a time; programs use [`enter_namespaces`].
    #[must_use]
    pub fn enter(self) -> Measure {
        Measure::from_result(self.name(), self.try_enter())
    }

    fn try_enter(self) -> Result<String, String> {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let before = self.identity();
        unshare(self.flag()).map_err(|error| failure("unshare", error))?;
        let detail = match self {
            Self::User => map_identity(user, group),
            Self::Mount => own_mounts()?,
            Self::Network => "only a loopback interface, and that is down".to_owned(),
            Self::Ipc => "empty".to_owned(),
            Self::Uts => "a host name of its own".to_owned(),
            Self::Cgroup => "rooted at the own control group".to_owned(),
            Self::Pid => "holds the next child and its descendants".to_owned(),
        };
        match (before, self.identity()) {
            (Ok(before), Ok(after)) if before == after => {
                Err("the kernel kept the old one".to_owned())
            }
            (Ok(_), Ok(_)) => Ok(detail),
            (Err(error), _) | (_, Err(error)) => {
                Ok(format!("{detail} (not read back: /proc/self/ns: {error})"))
            }
        }
    }

    const fn flag(self) -> UnshareFlags {
        match self {
            Self::User => UnshareFlags::NEWUSER,
            Self::Mount => UnshareFlags::NEWNS,
            Self::Network => UnshareFlags::NEWNET,
            Self::Ipc => UnshareFlags::NEWIPC,
            Self::Uts => UnshareFlags::NEWUTS,
            Self::Cgroup => UnshareFlags::NEWCGROUP,
            Self::Pid => UnshareFlags::NEWPID,
        }
    }

    /// Names the namespace that the process is in, or its next child in the case of PIDs.
    ///
    /// Quirk: the latter has no name until its first process exists, which is as good as a new one.
    fn identity(self) -> io::Result<PathBuf> {
        let file = match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Network => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Pid => "pid_for_children",
        };
        match fs::read_link(format!("/proc/self/ns/{file}")) {
            Err(error) if self == Self::Pid && error.kind() == io::ErrorKind::NotFound => {
                Ok(PathBuf::new())
            }
            result => result,
        }
    }
}

/// Moves the process into namespaces of its own, each tried and reported by itself.
///
/// All but the mount namespace, which [`super::confine`] makes. The PID namespace holds the next
/// child: fork, and let the parent leave. Needs a process with one thread, or the kernel refuses
/// the user namespace.
#[must_use]
pub fn enter_namespaces() -> Vec<Measure> {
    Namespace::ALL
        .into_iter()
        .filter(|namespace| *namespace != Namespace::Mount)
        .map(Namespace::enter)
        .collect()
}

/// Whether the mount namespace is shared with nobody but this process' own family.
pub(super) fn owns_mounts() -> bool {
    OWNS_MOUNTS.load(Ordering::Relaxed)
}

/// Maps the own user and group to nobody, the only ones that exist within.
///
/// Without a map the namespace confines as well; the detail tells.
fn map_identity(user: u32, group: u32) -> String {
    let write = |file: &str, text: String| fs::write(format!("/proc/self/{file}"), text);
    let result = write("setgroups", "deny".to_owned())
        .and_then(|()| write("uid_map", format!("{INSIDE_ID} {user} 1")))
        .and_then(|()| write("gid_map", format!("{INSIDE_ID} {group} 1")));
    match result {
        Ok(()) => format!("user {user} and group {group} are {INSIDE_ID} within, no others exist"),
        Err(error) => failure("no user or no group is mapped", error),
    }
}

/// Cuts the new mount namespace off from the one it is a copy of.
fn own_mounts() -> Result<String, String> {
    keep_mounts_inside().map_err(|error| failure("own, but mounts still propagate", error))?;
    OWNS_MOUNTS.store(true, Ordering::Relaxed);
    Ok("no mount propagates out".to_owned())
}

/// Makes all mounts slaves: what the system unmounts goes here too, and nothing goes out.
pub(super) fn keep_mounts_inside() -> Result<(), Errno> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", flags)
}
