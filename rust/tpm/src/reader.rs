// SPDX-License-Identifier: Apache-2.0
//! Bytes taken from the front, never beyond the end.

use crate::{GateError, Result};

/// What is left of a message. All numbers are big-endian.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes exactly `count` bytes.
    pub(crate) fn take(&mut self, what: &'static str, count: usize) -> Result<&'a [u8]> {
        let (front, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(GateError::Truncated { what })?;
        self.rest = rest;
        #[cfg(test)]
        crate::tests::trace::record(count);
        Ok(front)
    }

    /// Takes all that is left.
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let bytes = self.take(what, N)?;
        bytes.try_into().map_err(|_| GateError::Truncated { what })
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8> {
        self.array(what).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// Takes a TPM2B: a size of 16 bits, and as many bytes.
    pub(crate) fn sized(&mut self, what: &'static str, maximum: usize) -> Result<&'a [u8]> {
        let size = usize::from(self.u16(what)?);
        if size > maximum {
            return Err(GateError::Size { what, size });
        }
        self.take(what, size)
    }

    /// Takes the count of a TPML.
    pub(crate) fn count(&mut self, what: &'static str, maximum: usize) -> Result<usize> {
        let count = usize::try_from(self.u32(what)?).unwrap_or(usize::MAX);
        if count > maximum {
            return Err(GateError::Size { what, size: count });
        }
        Ok(count)
    }

    /// Ends the walk: nothing may be left.
    pub(crate) fn finish(self, what: &'static str) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(GateError::Trailing { what, bytes }),
        }
    }
}
