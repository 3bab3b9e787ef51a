// SPDX-License-Identifier: Apache-2.0
//! Moving and transforming many ranges at once: one cipher call for all, one system call for
//! neighbours.

use std::io::{self, IoSlice};
use std::mem;
use std::sync::PoisonError;

use super::{IoError, Result, Run, Volume, Workspace, beyond_end, locks};
use crate::backing::Backing;
use crate::recycle::emptied;
use crate::transform::{Scratch, SectorSize, SectorTransform};

/// The kernel takes no more buffers than this in one call (`IOV_MAX`).
const MAX_GROUP: usize = 1024;

/// A range of the volume and its bytes in memory.
pub(crate) struct Extent<'a> {
    pub(crate) offset: u64,
    pub(crate) data: &'a mut [u8],
    /// Set by the transfer.
    pub(crate) result: Result<()>,
    /// Whether its ciphertext is in `data`.
    pub(super) loaded: bool,
}

impl<'a> Extent<'a> {
    pub(crate) fn new(offset: u64, data: &'a mut [u8]) -> Self {
        Self {
            offset,
            data,
            result: Ok(()),
            loaded: false,
        }
    }

    fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }
}

/// Reads and writes that are not counted: the caller knows how they make up requests.
impl Volume {
    /// Reads one range.
    pub(crate) fn read_piece(
        &self,
        workspace: &mut Workspace,
        offset: u64,
        data: &mut [u8],
    ) -> Result<()> {
        let mut extent = [Extent::new(offset, data)];
        self.read_extents(workspace, &mut extent);
        extent[0].result
    }

    /// Reads the first bytes of what is left of a request, `left` bytes at `offset`.
    ///
    /// If the disk has to be waited for, it is told of all that is left, so that it works while
    /// these bytes are decrypted and sent. So all of the request is asked for, in order, up to the
    /// first bytes that cannot be read.
    pub(crate) fn read_next_piece(
        &self,
        workspace: &mut Workspace,
        offset: u64,
        data: &mut [u8],
        left: usize,
    ) -> Result<()> {
        let backing = self.backing()?;
        if backing.direct().is_some() {
            let read = self.read_window(workspace, backing.as_ref(), offset, data, left);
            return read.unwrap_or_else(|| self.read_piece(workspace, offset, data));
        }
        let mut extent = [Extent::new(offset, data)];
        if left > extent[0].data.len() {
            self.load_ahead(backing.as_ref(), &mut extent[0], left as u64);
        }
        self.read_extents(workspace, &mut extent);
        extent[0].result
    }

    /// Writes one range, encrypting it in place.
    pub(crate) fn write_piece(
        &self,
        workspace: &mut Workspace,
        offset: u64,
        data: &mut [u8],
    ) -> Result<()> {
        let mut extent = [Extent::new(offset, data)];
        self.write_extents(workspace, &mut extent);
        extent[0].result
    }

    /// Reads ranges and leaves each one's outcome in it.
    pub(crate) fn read_extents(&self, workspace: &mut Workspace, extents: &mut [Extent<'_>]) {
        let backing = match self.backing() {
            Ok(backing) => backing,
            Err(error) => return fail_all(extents, error),
        };
        for extent in extents.iter_mut() {
            extent.result = self
                .geometry
                .check_range(extent.offset, extent.data.len() as u64);
            if extent.result.is_ok() && !self.is_whole(extent) {
                extent.result =
                    self.read_off_grid(workspace, backing.as_ref(), extent.offset, extent.data);
            }
        }
        self.read_whole(workspace, backing.as_ref(), extents);
    }

    /// Encrypts ranges in place, writes them, and leaves each one's outcome in it.
    pub(crate) fn write_extents(&self, workspace: &mut Workspace, extents: &mut [Extent<'_>]) {
        let backing = match self.whole_backing() {
            Ok(backing) => backing,
            Err(error) => return fail_all(extents, error),
        };
        for extent in extents.iter_mut() {
            extent.result = self
                .geometry
                .check_change(extent.offset, extent.data.len() as u64)
                .map_err(beyond_end);
            if extent.result.is_ok() && !self.is_whole(extent) {
                extent.result =
                    self.write_off_grid(workspace, backing.as_ref(), extent.offset, extent.data);
            }
        }
        self.write_whole(workspace, backing.as_ref(), extents);
    }

    /// Reads the pending extents.
    fn read_whole(
        &self,
        workspace: &mut Workspace,
        backing: &dyn Backing,
        extents: &mut [Extent<'_>],
    ) {
        if let Some(fd) = backing.direct() {
            return self.read_direct(workspace, backing, fd, extents);
        }
        self.load(backing, extents);
        if let Err(error) = self.transform_whole(workspace, extents, Direction::Decrypt) {
            fail_all(extents, error);
        }
    }

    /// Writes the pending extents.
    fn write_whole(
        &self,
        workspace: &mut Workspace,
        backing: &dyn Backing,
        extents: &mut [Extent<'_>],
    ) {
        if let Some(fd) = backing.direct() {
            return self.write_direct(workspace, backing, fd, extents);
        }
        if let Err(error) = self.transform_whole(workspace, extents, Direction::Encrypt) {
            return fail_all(extents, error);
        }
        self.store(backing, extents);
    }

    fn is_whole(&self, extent: &Extent<'_>) -> bool {
        self.geometry.on_grid(extent.offset, extent.data.len())
    }

    /// Whether the fast path takes the extent: whole sectors, and nothing is wrong yet.
    pub(super) fn is_pending(&self, extent: &Extent<'_>) -> bool {
        extent.result.is_ok() && !extent.data.is_empty() && self.is_whole(extent)
    }

    /// How many extents at the front make up one range within one stripe; at least one.
    pub(super) fn group_length(&self, extents: &[Extent<'_>]) -> usize {
        let stripe = locks::stripe_of(extents[0].offset);
        let joins = |pair: &[Extent<'_>]| {
            pair.iter().all(|extent| self.is_pending(extent))
                && pair[0].loaded == pair[1].loaded
                && pair[0].end() == pair[1].offset
                && locks::stripe_of(pair[1].end() - 1) == stripe
        };
        let joined = extents.windows(2).take_while(|pair| joins(pair)).count();
        (joined + 1).min(MAX_GROUP)
    }

    fn store(&self, backing: &dyn Backing, mut extents: &mut [Extent<'_>]) {
        while !extents.is_empty() {
            let length = self.group_length(extents);
            let (group, rest) = mem::take(&mut extents).split_at_mut(length);
            extents = rest;
            if group.len() > 1 && self.store_group(backing, group).is_ok() {
                continue;
            }
            // Alone, or one of the group failed: writing again what was written changes nothing.
            for extent in group.iter_mut().filter(|extent| self.is_pending(extent)) {
                extent.result = self.store_one(backing, extent.offset, extent.data);
            }
        }
    }

    fn store_group(&self, backing: &dyn Backing, group: &[Extent<'_>]) -> io::Result<()> {
        let offset = group[0].offset;
        let slices: Vec<_> = group
            .iter()
            .map(|extent| IoSlice::new(extent.data))
            .collect();
        let _guard = self.locks.shared(offset);
        backing.write_vectored_at(&slices, self.geometry.position(offset))
    }

    fn store_one(&self, backing: &dyn Backing, offset: u64, data: &[u8]) -> Result<()> {
        for (position, size) in locks::split(offset, data.len()) {
            let at = offset + position as u64;
            let _guard = self.locks.shared(at);
            let piece = &data[position..position + size];
            backing.write_at(piece, self.geometry.position(at))?;
        }
        Ok(())
    }

    fn read_off_grid(
        &self,
        workspace: &mut Workspace,
        backing: &dyn Backing,
        offset: u64,
        data: &mut [u8],
    ) -> Result<()> {
        let cut = self.geometry.cut(offset, data.len());
        let (head, rest) = data.split_at_mut(cut.head);
        let (middle, tail) = rest.split_at_mut(cut.middle);
        let middle_offset = offset + cut.head as u64;
        let tail_offset = middle_offset + cut.middle as u64;
        self.read_part_of_sector(workspace, backing, offset, head)?;
        let mut middle = [Extent::new(middle_offset, middle)];
        self.read_whole(workspace, backing, &mut middle);
        middle[0].result?;
        self.read_part_of_sector(workspace, backing, tail_offset, tail)
    }

    fn read_part_of_sector(
        &self,
        workspace: &mut Workspace,
        backing: &dyn Backing,
        offset: u64,
        data: &mut [u8],
    ) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let within = self.geometry.within_sector(offset);
        let start = offset - within as u64;
        {
            let _guard = self.locks.shared(start);
            let sector = &mut workspace.sector.as_mut_slice()[..self.geometry.sector_bytes()];
            backing.read_at(sector, self.geometry.position(start))?;
        }
        self.transform_sector(workspace, start, Direction::Decrypt)?;
        data.copy_from_slice(&workspace.sector.as_slice()[within..within + data.len()]);
        Ok(())
    }

    fn write_off_grid(
        &self,
        workspace: &mut Workspace,
        backing: &dyn Backing,
        offset: u64,
        data: &mut [u8],
    ) -> Result<()> {
        let cut = self.geometry.cut(offset, data.len());
        let (head, rest) = data.split_at_mut(cut.head);
        let (middle, tail) = rest.split_at_mut(cut.middle);
        let middle_offset = offset + cut.head as u64;
        let tail_offset = middle_offset + cut.middle as u64;
        self.change_part_of_sector(workspace, backing, offset, head)?;
        let mut middle = [Extent::new(middle_offset, middle)];
        self.write_whole(workspace, backing, &mut middle);
        middle[0].result?;
        self.change_part_of_sector(workspace, backing, tail_offset, tail)
    }

    fn change_part_of_sector(
        &self,
        workspace: &mut Workspace,
        backing: &dyn Backing,
        offset: u64,
        data: &[u8],
    ) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let within = self.geometry.within_sector(offset);
        let start = offset - within as u64;
        let position = self.geometry.position(start);
        let sector_bytes = self.geometry.sector_bytes();
        let _guard = self.locks.exclusive(start);
        backing.read_at(
            &mut workspace.sector.as_mut_slice()[..sector_bytes],
            position,
        )?;
        self.transform_sector(workspace, start, Direction::Decrypt)?;
        workspace.sector.as_mut_slice()[within..within + data.len()].copy_from_slice(data);
        self.transform_sector(workspace, start, Direction::Encrypt)?;
        backing.write_at(&workspace.sector.as_slice()[..sector_bytes], position)?;
        Ok(())
    }

    /// Transforms the sector in the workspace, which lies at `offset`.
    fn transform_sector(
        &self,
        workspace: &mut Workspace,
        offset: u64,
        direction: Direction,
    ) -> Result<()> {
        let Workspace {
            scratch, sector, ..
        } = workspace;
        let mut run = [Run {
            data: &mut sector.as_mut_slice()[..self.geometry.sector_bytes()],
            first_sector_512: self.geometry.iv_sector(offset),
        }];
        self.with_transform(|transform| {
            direction.apply(transform, scratch, &mut run, self.geometry.sector_size)
        })
    }

    /// Transforms all pending extents in one call.
    fn transform_whole(
        &self,
        workspace: &mut Workspace,
        extents: &mut [Extent<'_>],
        direction: Direction,
    ) -> Result<()> {
        let mut runs = emptied(mem::take(&mut workspace.runs));
        let pending = extents.iter_mut().filter(|extent| self.is_pending(extent));
        runs.extend(pending.map(|extent| Run {
            first_sector_512: self.geometry.iv_sector(extent.offset),
            data: &mut *extent.data,
        }));
        let scratch = &mut workspace.scratch;
        let result = match runs.as_mut_slice() {
            [] => Ok(()),
            runs => self.with_transform(|transform| {
                direction.apply(transform, scratch, runs, self.geometry.sector_size)
            }),
        };
        workspace.runs = emptied(runs);
        result
    }

    pub(super) fn with_transform(
        &self,
        work: impl FnOnce(&dyn SectorTransform) -> Result<()>,
    ) -> Result<()> {
        let transform = self
            .transform
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        work(transform.as_deref().ok_or(IoError::ShutDown)?)
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Decrypt,
    Encrypt,
}

impl Direction {
    fn apply(
        self,
        transform: &dyn SectorTransform,
        scratch: &mut Scratch,
        runs: &mut [Run<'_>],
        sector_size: SectorSize,
    ) -> Result<()> {
        match self {
            Self::Decrypt => transform.decrypt(scratch, runs, sector_size),
            Self::Encrypt => transform.encrypt(scratch, runs, sector_size),
        }
    }
}

/// Fails what has not failed already.
pub(super) fn fail_all(extents: &mut [Extent<'_>], error: IoError) {
    for extent in extents {
        extent.result = extent.result.and(Err(error));
    }
}
