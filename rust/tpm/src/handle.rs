// SPDX-License-Identifier: Apache-2.0
//! What a handle can stand for, by its most significant octet.
//!
//! Spec: TPM 2.0 Part 2, 7.2 "TPM_HT" and 7.4 "TPM_RH".

use crate::reader::Reader;
use crate::{GateError, Result};

const RH_OWNER: u32 = 0x4000_0001;
const RH_NULL: u32 = 0x4000_0007;
const RH_LOCKOUT: u32 = 0x4000_000A;
const RH_ENDORSEMENT: u32 = 0x4000_000B;
const RH_PLATFORM: u32 = 0x4000_000C;

/// The password "session". Spec: TPM 2.0 Part 1, 19.4.
pub(crate) const RS_PASSWORD: u32 = 0x4000_0009;

/// What a handle must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A PCR, or the null handle, which extends nothing.
    Pcr,
    NvIndex,
    HmacSession,
    PolicySession,
    Session,
    Transient,
    Persistent,
    /// A key or data, transient or persistent.
    Object,
    ObjectOrNull,
    /// Owner, endorsement, platform or null.
    Hierarchy,
    /// Owner or platform, who provide storage.
    Provisioner,
    Endorsement,
    /// A provisioner or the index itself.
    NvAuthorizer,
    /// Whatever can have an authorization value, the null hierarchy included.
    Entity,
    /// What occupies the TPM's memory: a transient object or a session.
    Flushable,
    /// What authorizes a command: a session or the password.
    Authorizer,
}

impl Kind {
    pub(crate) fn read(self, reader: &mut Reader<'_>) -> Result<u32> {
        let handle = reader.u32("a handle")?;
        if self.fits(handle) {
            Ok(handle)
        } else {
            let what = self.description();
            Err(GateError::Handle { what, handle })
        }
    }

    pub(crate) fn fits(self, handle: u32) -> bool {
        let is_any = |kinds: &[Kind]| kinds.iter().any(|kind| kind.fits(handle));
        match self {
            Self::Pcr => handle < 32 || handle == RH_NULL,
            Self::NvIndex => handle >> 24 == 0x01,
            Self::HmacSession => handle >> 24 == 0x02,
            Self::PolicySession => handle >> 24 == 0x03,
            Self::Session => is_any(&[Self::HmacSession, Self::PolicySession]),
            Self::Transient => handle >> 24 == 0x80,
            Self::Persistent => handle >> 24 == 0x81,
            Self::Object => is_any(&[Self::Transient, Self::Persistent]),
            Self::ObjectOrNull => handle == RH_NULL || Self::Object.fits(handle),
            Self::Hierarchy => handle == RH_NULL || is_any(&[Self::Provisioner, Self::Endorsement]),
            Self::Provisioner => matches!(handle, RH_OWNER | RH_PLATFORM),
            Self::Endorsement => handle == RH_ENDORSEMENT,
            Self::NvAuthorizer => is_any(&[Self::NvIndex, Self::Provisioner]),
            Self::Entity => {
                matches!(handle, 0..32 | RH_LOCKOUT)
                    || is_any(&[Self::Hierarchy, Self::NvIndex, Self::Object])
            }
            Self::Flushable => is_any(&[Self::Transient, Self::Session]),
            Self::Authorizer => handle == RS_PASSWORD || Self::Session.fits(handle),
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Pcr => "a PCR",
            Self::NvIndex => "an NV index",
            Self::HmacSession => "an HMAC session",
            Self::PolicySession => "a policy session",
            Self::Session => "a session",
            Self::Transient => "a transient object",
            Self::Persistent => "a persistent object",
            Self::Object | Self::ObjectOrNull => "an object",
            Self::Hierarchy => "a hierarchy",
            Self::Provisioner => "the owner or the platform",
            Self::Endorsement => "the endorsement hierarchy",
            Self::NvAuthorizer => "an NV index, the owner or the platform",
            Self::Entity => "an entity with an authorization value",
            Self::Flushable => "a transient object or a session",
            Self::Authorizer => "a session or the password",
        }
    }
}
