// SPDX-License-Identifier: Apache-2.0
//! Large reads past the page cache: several pieces are read from the disk at once.

use std::ops::Range;

use super::{WINDOW_BYTES, Window};
use crate::backing::Backing;
use crate::error::Result;
use crate::transform::Transfer;
use crate::volume::{Volume, Workspace, clamp};

/// Requests are cut into pieces on this grid, so a window ends on it too.
const GRID_BYTES: u64 = 256 * 1024;

impl Volume {
    /// Reads the first bytes of what is left of a request, `left` bytes at `offset`.
    ///
    /// What else of it fits the window is read from the disk in the same call, for the calls that
    /// follow: they ask for the rest of the same request, in order, up to the first that fails.
    /// Returns `None` if the bytes have to be read by themselves.
    pub(in crate::volume) fn read_window(
        &self,
        workspace: &mut Workspace,
        backing: &dyn Backing,
        offset: u64,
        data: &mut [u8],
        left: usize,
    ) -> Option<Result<()>> {
        let here = offset..offset.checked_add(data.len() as u64)?;
        let mut window = workspace.window.take().unwrap_or_else(Window::new);
        let ahead = window.ahead.take();
        let ahead = ahead.filter(|ahead| ahead.start <= here.start && here.end <= ahead.end);
        let range = if self.geometry.on_grid(offset, data.len()) {
            ahead.or_else(|| self.fill(&mut window, backing, &here, left))
        } else {
            None
        };
        let result = range.map(|range| {
            let start = clamp(here.start - range.start);
            let source = &window.memory.as_slice()[start..start + data.len()];
            if here.end < range.end {
                window.ahead = Some(range);
            }
            let mut moves = [Transfer {
                source,
                target: data,
                first_sector_512: self.geometry.iv_sector(offset),
            }];
            let (scratch, size) = (&mut workspace.scratch, self.geometry.sector_size);
            self.with_transform(|transform| transform.decrypt_to(scratch, &mut moves, size))
        });
        if !matches!(result, Some(Ok(()))) {
            window.ahead = None;
        }
        workspace.window = Some(window);
        result
    }

    /// Reads ciphertext into the window, if there is more to read than is asked for now.
    fn fill(
        &self,
        window: &mut Window,
        backing: &dyn Backing,
        here: &Range<u64>,
        left: usize,
    ) -> Option<Range<u64>> {
        let request_end = here.start.checked_add(left as u64)?;
        let window_end = here.start.saturating_add(WINDOW_BYTES as u64) / GRID_BYTES * GRID_BYTES;
        let sector_bytes = self.geometry.sector_bytes() as u64;
        let end = request_end.min(window_end) / sector_bytes * sector_bytes;
        let length = end.checked_sub(here.start)?;
        let more = end > here.end && self.geometry.check_range(here.start, length).is_ok();
        if !more {
            return None;
        }
        let memory = &mut window.memory.as_mut_slice()[..clamp(length)];
        let _guards = self
            .locks
            .shared_all([(here.start, memory.len())].into_iter());
        // What cannot be read may lie behind what is asked for now.
        let read = backing.read_at(memory, self.geometry.position(here.start));
        read.ok().map(|()| here.start..end)
    }
}
