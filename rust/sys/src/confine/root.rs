// SPDX-License-Identifier: Apache-2.0
//! An empty root directory, once everything is loaded.

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{chdir, pivot_root};

use super::{failure, namespaces};

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
    let mount_point = mount_nothing().map_err(|error| failure("mount", error))?;
    chdir(mount_point).map_err(|error| failure("chdir", error))?;
    // Quirk: pivot_root(".", ".") stacks the old root on the new one, from where it is detached.
    pivot_root(".", ".").map_err(|error| failure("pivot_root", error))?;
    unmount(".", UnmountFlags::DETACH).map_err(|error| failure("umount", error))?;
    chdir("/").map_err(|error| failure("chdir", error))?;
    verify()
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
