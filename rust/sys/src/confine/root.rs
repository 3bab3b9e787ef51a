// SPDX-License-Identifier: Apache-2.0
//! An empty root directory, once everything is loaded.

use std::io;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, WaitOptions, chdir, pivot_root, waitpid};
use rustix::thread::UnshareFlags;

use super::{failure, namespaces, unshare};

/// Directories that nearly every system has; the first one that can be mounted on serves.
const MOUNT_POINTS: [&str; 4] = ["/tmp", "/proc", "/sys", "/dev"];

/// Replaces the root of the process' mount namespace by an empty directory without permissions.
///
/// Open files and mapped libraries stay usable. Does nothing in a mount namespace that is shared
/// with others, where it would take away *their* files.
pub(super) fn empty() -> Result<String, String> {
    if !namespaces::owns_mounts() {
        return Err("needs a mount namespace of its own".to_owned());
    }
    replace().map_err(|(what, error)| failure(what, error))?;
    verify()
}

/// Finds out whether [`empty`] would succeed here, in a child with a mount namespace of its own.
///
/// A process that makes the namespace and cannot leave the copied mounts keeps every file system
/// of the machine mounted for as long as it lives: a chroot, an initial RAM file system or a
/// security module can be the reason. Such a process must stay where it is.
pub(super) fn rehearse() -> Result<(), String> {
    // A kernel without namespaces, as inside a TEE, may not take kindly to a fork either.
    unshare(UnshareFlags::empty()).map_err(|error| failure("unshare", error))?;
    // SAFETY: the child only makes system calls and leaves by `_exit`, without unwinding or
    // taking a lock that another thread could have held.
    #[expect(unsafe_code, reason = "fork is an unsafe call")]
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = match attempt() {
            Ok(()) => 0,
            Err(error) => error.raw_os_error(),
        };
        // SAFETY: ends this process, which has nothing to tidy up.
        #[expect(unsafe_code, reason = "_exit is an unsafe call")]
        unsafe {
            libc::_exit(code)
        }
    }
    let child = Pid::from_raw(child)
        .filter(|pid| pid.as_raw_nonzero().get() > 0)
        .ok_or_else(|| failure("fork", io::Error::last_os_error()))?;
    let ended = waitpid(Some(child), WaitOptions::empty()).map_err(|err| failure("wait", err))?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(code) => Err(failure(
            "left out, as its root could not be emptied",
            io::Error::from_raw_os_error(code),
        )),
        None => Err("left out, as its root could not be emptied".to_owned()),
    }
}

fn attempt() -> Result<(), Errno> {
    unshare(UnshareFlags::NEWNS)?;
    namespaces::keep_mounts_inside()?;
    replace().map_err(|(_, error)| error)
}

/// Puts an empty file system in place of the root, and lets go of all other mounts.
///
/// Quirk: in a user namespace the copied mounts are locked to each other. They go with the root
/// that they are below, and that one goes only if no file was opened through it.
fn replace() -> Result<(), (&'static str, Errno)> {
    let mount_point = mount_nothing().map_err(|error| ("mount", error))?;
    chdir(mount_point).map_err(|error| ("chdir", error))?;
    // Quirk: pivot_root(".", ".") stacks the old root on the new one, from where it is detached.
    pivot_root(".", ".").map_err(|error| ("pivot_root", error))?;
    unmount(".", UnmountFlags::DETACH).map_err(|error| ("umount", error))?;
    chdir("/").map_err(|error| ("chdir", error))
}

fn mount_nothing() -> Result<&'static str, Errno> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mut result = Err(Errno::NOENT);
    for point in MOUNT_POINTS {
        let options = c"size=4k,nr_inodes=1,mode=0555";
        result = mount("none", point, "tmpfs", flags, options).map(|()| point);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Looks at what `/` is now.
fn verify() -> Result<String, String> {
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        .map_err(|error| failure("open", error))?;
    let facts = fstatvfs(&root).map_err(|error| failure("statvfs", error))?;
    if facts.f_flag.contains(StatVfsMountFlags::RDONLY) && facts.f_files == 1 {
        Ok("read-only, holds nothing and can hold nothing".to_owned())
    } else {
        Err("the root is not the one that was mounted".to_owned())
    }
}
