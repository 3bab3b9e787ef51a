// SPDX-License-Identifier: Apache-2.0
//! No capability in any set, and no way back to one.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
};

use super::{failure, require_single_thread};

/// The kernel keeps capability sets in 64 bits.
const CAPABILITY_BITS: u32 = u64::BITS;

/// Locks for good: user 0 is an ordinary user, changing user keeps nothing, nothing is ambient.
const LOCKED_SECURE_BITS: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

/// Drops every capability from every set.
///
/// The bounding set and the secure bits need `CAP_SETPCAP`, which an ordinary user without a user
/// namespace lacks. They only matter on `execve`; the detail says when they stay.
pub(super) fn drop_all() -> Result<String, String> {
    let bounding = drop_bounding_set();
    let secure_bits = lock_secure_bits();
    clear_ambient_capability_set().map_err(|error| failure("ambient set", error))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(|error| failure("capset", error))?;
    let left = capabilities(None).map_err(|error| failure("capget", error))?;
    if !(left.effective | left.permitted | left.inheritable).is_empty() {
        return Err("the kernel kept some".to_owned());
    }
    require_single_thread()?;
    let told = |name: &str, result: Result<&str, Errno>| match result {
        Ok(done) => done.to_owned(),
        Err(error) => failure(&format!("{name} kept"), error),
    };
    Ok(format!(
        "none effective, permitted, inheritable or ambient, {}, {}",
        told("bounding set", bounding),
        told("secure bits", secure_bits)
    ))
}

/// Empties the bounding set; capabilities unknown to this program included.
fn drop_bounding_set() -> Result<&'static str, Errno> {
    for bit in 0..CAPABILITY_BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The kernel has no capability of that number, nor of a higher one.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok("bounding set empty")
}

fn lock_secure_bits() -> Result<&'static str, Errno> {
    set_capabilities_secure_bits(LOCKED_SECURE_BITS)?;
    if capabilities_secure_bits()? == LOCKED_SECURE_BITS {
        Ok("secure bits locked")
    } else {
        Err(Errno::PERM)
    }
}
