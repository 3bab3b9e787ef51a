// SPDX-License-Identifier: Apache-2.0
//! Locks over byte ranges, so that two changes of one sector do not lose each other.
//!
//! A request off the sector grid reads a sector, changes a part of it and writes it back: between
//! the read and the write nobody else may write that sector. Whole-sector transfers take the lock
//! shared, so they never wait for one another, only for a read-modify-write in the same stripe.
//!
//! Deadlock freedom: a thread that holds one exclusive waits for no other of these locks, because a
//! sector never crosses a stripe, nor does a range ([`split`] cuts it), and the guard is dropped before
//! the next piece begins. Who holds several shared took each once, in ascending order. No other lock is
//! taken meanwhile save the key's, under which nothing else is locked.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Bytes in a row that share a lock. A transfer that crosses such a border is cut in two.
pub(crate) const STRIPE_BYTES: u64 = 1024 * 1024;

/// Ranges this many stripes apart share a lock, which costs waiting but is harmless.
const STRIPES: usize = 64;

pub(crate) struct RangeLocks {
    stripes: Box<[RwLock<()>]>,
}

impl RangeLocks {
    pub(crate) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
        }
    }

    /// Keeps read-modify-writes out of the stripe that `offset` lies in.
    pub(crate) fn shared(&self, offset: u64) -> RwLockReadGuard<'_, ()> {
        let stripe = &self.stripes[stripe_index(offset)];
        stripe.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps read-modify-writes out of the stripes that some ranges of the volume lie in.
    pub(crate) fn shared_all(
        &self,
        ranges: impl Iterator<Item = (u64, usize)>,
    ) -> Vec<RwLockReadGuard<'_, ()>> {
        let mut wanted = [false; STRIPES];
        for (offset, length) in ranges {
            for (position, _) in split(offset, length) {
                wanted[stripe_index(offset + position as u64)] = true;
            }
        }
        let wanted = (0..STRIPES).filter(|stripe| wanted[*stripe]);
        wanted
            .map(|stripe| {
                let stripe = &self.stripes[stripe];
                stripe.read().unwrap_or_else(PoisonError::into_inner)
            })
            .collect()
    }

    /// Keeps everybody else out of the stripe that `offset` lies in.
    pub(crate) fn exclusive(&self, offset: u64) -> RwLockWriteGuard<'_, ()> {
        let stripe = &self.stripes[stripe_index(offset)];
        stripe.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stripe that holds `offset`.
pub(crate) fn stripe_of(offset: u64) -> u64 {
    offset / STRIPE_BYTES
}

fn stripe_index(offset: u64) -> usize {
    usize::try_from(stripe_of(offset) % STRIPES as u64).unwrap_or(0)
}

/// Cuts `length` bytes at `offset` at the borders of stripes: positions within the range, and sizes.
pub(crate) fn split(offset: u64, length: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut position = 0;
    std::iter::from_fn(move || {
        if position == length {
            return None;
        }
        let to_border = STRIPE_BYTES - (offset + position as u64) % STRIPE_BYTES;
        let size = usize::try_from(to_border)
            .unwrap_or(usize::MAX)
            .min(length - position);
        let piece = (position, size);
        position += size;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_range_and_stay_in_one_stripe() {
        let offset = STRIPE_BYTES - 512;
        let pieces: Vec<_> = split(offset, 3 * 1024 * 1024).collect();
        assert_eq!(pieces[0], (0, 512));
        assert_eq!(pieces[1], (512, 1024 * 1024));
        assert_eq!(
            pieces.iter().map(|piece| piece.1).sum::<usize>(),
            3 * 1024 * 1024
        );
        for (position, size) in pieces {
            let start = offset + position as u64;
            assert_eq!(stripe_of(start), stripe_of(start + size as u64 - 1));
        }
        assert_eq!(split(77, 0).count(), 0);
    }

    #[test]
    fn whole_sector_transfers_do_not_wait_for_each_other() {
        let locks = RangeLocks::new();
        let _first = locks.shared(0);
        let stripe = &locks.stripes[stripe_index(100)];
        assert!(stripe.try_read().is_ok());
        assert!(stripe.try_write().is_err());
        assert!(
            locks.stripes[stripe_index(STRIPE_BYTES)]
                .try_write()
                .is_ok()
        );
    }
}
