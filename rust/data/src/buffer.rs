// SPDX-License-Identifier: Apache-2.0
//! Buffers that hold plaintext: page-aligned, and wiped when dropped.

use zeroize::Zeroize;

const ALIGNMENT: usize = 4096;

/// A fixed number of bytes, zero at first.
///
/// Ordinary memory: plaintext is what every client sees, unlike keys. It is still wiped, so that
/// it does not outlive the connection.
pub(crate) struct Buffer {
    storage: Vec<u8>,
    skew: usize,
    length: usize,
}

impl Buffer {
    pub(crate) fn new(length: usize) -> Self {
        let storage = vec![0; length + ALIGNMENT];
        let skew = storage.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self {
            storage,
            skew,
            length,
        }
    }

    /// Makes sure that it has at least this length; what it holds may be lost.
    pub(crate) fn grow(&mut self, length: usize) {
        if self.length < length {
            *self = Self::new(length);
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.storage[self.skew..self.skew + self.length]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[self.skew..self.skew + self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.storage.as_mut_slice().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_and_as_long_as_asked() {
        for length in [1, 4096, 300_000] {
            let mut buffer = Buffer::new(length);
            assert_eq!(buffer.as_slice().as_ptr().align_offset(ALIGNMENT), 0);
            assert_eq!(buffer.as_mut_slice().len(), length);
            buffer.grow(1);
            assert_eq!(buffer.as_mut_slice().len(), length);
            buffer.grow(500_000);
            assert_eq!(buffer.as_mut_slice().len(), 500_000);
        }
    }
}
