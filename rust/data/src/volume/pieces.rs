// SPDX-License-Identifier: Apache-2.0
//! Large transfers, piece by piece: what is moved stays in the cache until the next step.

use super::{Result, Volume, Workspace};

/// Large transfers are cut into pieces of this size: they fit the second-level cache.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;

/// How much of `left` bytes to move at `offset`: up to the next border of a piece.
pub(crate) fn piece_at(offset: u64, left: usize) -> usize {
    let into = usize::try_from(offset % PIECE_BYTES as u64).unwrap_or(0);
    left.min(PIECE_BYTES - into)
}

/// Transfers that are not counted, up to the first piece that fails.
impl Volume {
    /// Reads one range.
    pub(crate) fn read_in_pieces(
        &self,
        workspace: &mut Workspace,
        mut offset: u64,
        mut data: &mut [u8],
    ) -> Result<()> {
        while !data.is_empty() {
            let left = data.len();
            let (piece, others) = data.split_at_mut(piece_at(offset, left));
            self.read_next_piece(workspace, offset, piece, left)?;
            offset += piece.len() as u64;
            data = others;
        }
        Ok(())
    }

    /// Writes one range, encrypting it in place.
    pub(crate) fn write_in_pieces(
        &self,
        workspace: &mut Workspace,
        mut offset: u64,
        mut data: &mut [u8],
    ) -> Result<()> {
        while !data.is_empty() {
            let (piece, others) = data.split_at_mut(piece_at(offset, data.len()));
            self.write_piece(workspace, offset, piece)?;
            offset += piece.len() as u64;
            data = others;
        }
        Ok(())
    }
}
