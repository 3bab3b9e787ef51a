// SPDX-License-Identifier: Apache-2.0
//! Reading the ciphertext of many ranges: what the page cache has at once, the rest with the disk
//! at work on all of it.
//!
//! A blocking read keeps a disk busy with one range, however many a client has asked for. So of
//! several ranges that are not neighbours, first those are read that need no disk; then the disk is
//! told of all others; then they are waited for. With a warm cache that is one call a range, as it
//! would be without, and a single range is read with one call whether it is there or not.

use std::io::{self, IoSliceMut};
use std::mem;

use super::extents::Extent;
use super::{Result, Volume, locks};
use crate::backing::{Backing, Cached};

impl Volume {
    /// Reads the ciphertext of all pending extents.
    pub(super) fn load(&self, backing: &dyn Backing, extents: &mut [Extent<'_>]) {
        let several = !extents.is_empty() && self.group_length(extents) < extents.len();
        if several && self.load_cached(backing, extents) {
            self.prefetch_missing(backing, extents);
        }
        self.load_missing(backing, extents);
    }

    /// Reads an extent if the store has it in memory; else tells the disk of it and what follows.
    pub(super) fn load_ahead(&self, backing: &dyn Backing, extent: &mut Extent<'_>, length: u64) {
        let offset = extent.offset;
        if self.geometry.check_range(offset, length).is_err() || !self.is_pending(extent) {
            return;
        }
        match self.load_one_cached(backing, extent) {
            Cached::Whole => extent.loaded = true,
            Cached::Lacking => {
                let _ = backing.prefetch(self.geometry.position(offset), length);
            }
            Cached::Unknown => {}
        }
    }

    /// Reads what the store has in memory, and tells whether it is worth calling for the rest.
    fn load_cached(&self, backing: &dyn Backing, mut extents: &mut [Extent<'_>]) -> bool {
        let mut missing = 0;
        while !extents.is_empty() {
            let length = self.group_length(extents);
            let (group, rest) = mem::take(&mut extents).split_at_mut(length);
            extents = rest;
            if !self.is_pending(&group[0]) {
                continue;
            }
            match self.load_group_cached(backing, group) {
                Cached::Whole => group.iter_mut().for_each(|extent| extent.loaded = true),
                Cached::Lacking => missing += 1,
                Cached::Unknown => return false,
            }
        }
        // One alone is read as soon as it is called for.
        missing > 1
    }

    fn load_group_cached(&self, backing: &dyn Backing, group: &mut [Extent<'_>]) -> Cached {
        if let [extent] = group {
            return self.load_one_cached(backing, extent);
        }
        let offset = group[0].offset;
        let mut slices = slices(group);
        let _guard = self.locks.shared(offset);
        backing.read_cached_at(&mut slices, self.geometry.position(offset))
    }

    fn load_one_cached(&self, backing: &dyn Backing, extent: &mut Extent<'_>) -> Cached {
        for (position, size) in locks::split(extent.offset, extent.data.len()) {
            let at = extent.offset + position as u64;
            let mut piece = [IoSliceMut::new(&mut extent.data[position..position + size])];
            let _guard = self.locks.shared(at);
            let cached = backing.read_cached_at(&mut piece, self.geometry.position(at));
            if cached != Cached::Whole {
                return cached;
            }
        }
        Cached::Whole
    }

    fn prefetch_missing(&self, backing: &dyn Backing, mut extents: &[Extent<'_>]) {
        while !extents.is_empty() {
            let (group, rest) = extents.split_at(self.group_length(extents));
            extents = rest;
            if self.is_missing(&group[0]) {
                let offset = group[0].offset;
                let length = group.iter().map(|extent| extent.data.len() as u64).sum();
                // Only a hint: what it could not do is done by the read.
                let _ = backing.prefetch(self.geometry.position(offset), length);
            }
        }
    }

    fn load_missing(&self, backing: &dyn Backing, mut extents: &mut [Extent<'_>]) {
        while !extents.is_empty() {
            let length = self.group_length(extents);
            let (group, rest) = mem::take(&mut extents).split_at_mut(length);
            extents = rest;
            let together = group.len() > 1 && self.is_missing(&group[0]);
            if together && self.load_group(backing, group).is_ok() {
                continue;
            }
            // Alone, or one of the group failed: find out which.
            for extent in group.iter_mut().filter(|extent| self.is_missing(extent)) {
                extent.result = self.load_one(backing, extent.offset, extent.data);
            }
        }
    }

    fn load_group(&self, backing: &dyn Backing, group: &mut [Extent<'_>]) -> io::Result<()> {
        let offset = group[0].offset;
        let mut slices = slices(group);
        let _guard = self.locks.shared(offset);
        backing.read_vectored_at(&mut slices, self.geometry.position(offset))
    }

    fn load_one(&self, backing: &dyn Backing, offset: u64, data: &mut [u8]) -> Result<()> {
        for (position, size) in locks::split(offset, data.len()) {
            let at = offset + position as u64;
            let _guard = self.locks.shared(at);
            let piece = &mut data[position..position + size];
            backing.read_at(piece, self.geometry.position(at))?;
        }
        Ok(())
    }

    fn is_missing(&self, extent: &Extent<'_>) -> bool {
        self.is_pending(extent) && !extent.loaded
    }
}

fn slices<'a>(group: &'a mut [Extent<'_>]) -> Vec<IoSliceMut<'a>> {
    group
        .iter_mut()
        .map(|extent| IoSliceMut::new(extent.data))
        .collect()
}

#[cfg(test)]
mod tests;
