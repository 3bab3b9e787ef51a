// SPDX-License-Identifier: Apache-2.0
//! Secrets as values: made, compared and dropped, never shown.

use strongroom_sys::secret::SecretBytes;
use strongroom_sys::stack;
use subtle::ConstantTimeEq;

use crate::random::fill_random;
use crate::{Error, Result};

/// Longest secret that [`Secret::random`] makes, in bytes.
const MAX_RANDOM_BYTES: u64 = 4096;

/// Bytes in secret memory, wiped when dropped: erasing a secret is dropping it.
#[derive(Debug)]
pub struct Secret(SecretBytes);

impl Secret {
    /// Returns `length` fresh random bytes from the kernel.
    ///
    /// # Errors
    /// [`Error::Limit`] unless `length` is 1 to 4096; [`Error::Platform`] without secret memory or
    /// randomness.
    pub fn random(length: usize) -> Result<Self> {
        Error::check_limit(
            "the length of a random secret in bytes",
            length as u64,
            1..=MAX_RANDOM_BYTES,
        )?;
        let mut secret = Self::zeroed(length)?;
        fill_random(secret.bytes_mut())?;
        Ok(secret)
    }

    /// Copies bytes that are public, or that the caller wipes.
    ///
    /// # Errors
    /// [`Error::Platform`] without secret memory.
    pub fn copy_of(bytes: &[u8]) -> Result<Self> {
        shielded(|| SecretBytes::copy_of(bytes).map_err(Error::secret_memory)).map(Self)
    }

    /// Returns `length` zero bytes to be written to.
    pub(crate) fn zeroed(length: usize) -> Result<Self> {
        SecretBytes::new(length)
            .map(Self)
            .map_err(Error::secret_memory)
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the length is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns secrets one after the other.
    ///
    /// # Errors
    /// [`Error::Platform`] without secret memory.
    pub fn joined(parts: &[&Self]) -> Result<Self> {
        let mut joined = Self::zeroed(parts.iter().map(|part| part.len()).sum())?;
        shielded(|| {
            let mut rest = joined.bytes_mut();
            for part in parts {
                let (place, after) = rest.split_at_mut(part.len());
                place.copy_from_slice(part.bytes());
                rest = after;
            }
            Ok(())
        })?;
        Ok(joined)
    }

    /// Returns `length` bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::Bounds`] if there are not as many; [`Error::Platform`] without secret memory.
    pub fn part(&self, offset: usize, length: usize) -> Result<Self> {
        let end = offset.checked_add(length);
        let part = end
            .and_then(|end| self.bytes().get(offset..end))
            .ok_or(Error::Bounds("a part of a secret lies beyond its end"))?;
        Self::copy_of(part)
    }

    /// Compares in constant time; secrets of different lengths are unequal.
    #[must_use]
    pub fn equals(&self, other: &Self) -> bool {
        stack::on_secret_stack(|| self.bytes().ct_eq(other.bytes()).into())
    }

    /// Compares with bytes that are known, in constant time.
    #[must_use]
    pub fn matches(&self, known: &[u8]) -> bool {
        stack::on_secret_stack(|| self.bytes().ct_eq(known).into())
    }

    /// The memory that holds the bytes, for Rust code that computes on a secret stack.
    #[must_use]
    pub fn as_secret_bytes(&self) -> &SecretBytes {
        &self.0
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }
}

/// Runs `work` on a secret stack, which is wiped after.
///
/// `work` must not return secret bytes by value.
///
/// # Errors
/// Those of `work`, and [`Error::Platform`] if there is no memory for a single stack.
pub(crate) fn shielded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    stack::reserve(1).map_err(Error::secret_memory)?;
    stack::on_secret_stack(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_of_content_and_length() {
        let one = Secret::copy_of(b"abc").unwrap();
        assert!(one.equals(&Secret::copy_of(b"abc").unwrap()));
        assert!(!one.equals(&Secret::copy_of(b"abd").unwrap()));
        assert!(!one.equals(&Secret::copy_of(b"ab").unwrap()));
    }

    #[test]
    fn random_secrets_differ_and_are_bounded() {
        let one = Secret::random(32).unwrap();
        assert_eq!(one.len(), 32);
        assert!(!one.equals(&Secret::random(32).unwrap()));
        assert!(matches!(Secret::random(0), Err(Error::Limit { .. })));
        assert!(matches!(Secret::random(4097), Err(Error::Limit { .. })));
        assert_eq!(Secret::random(4096).unwrap().len(), 4096);
    }
}
