// SPDX-License-Identifier: Apache-2.0
//! Numbers and messages of the protocol; no input or output.
//!
//! ```text
//! request  25609513 | flags 2 | type 2 | cookie 8 | offset 8 | length 4 | payload of a write
//! simple   67446698 | error 4 | cookie 8 | payload of a read
//! chunk    668e33ef | flags 2 | type 2 | cookie 8 | length 4 | payload
//! ```

use crate::volume::Volume;

pub(crate) const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags, and the client's, which use the same bits.
pub(crate) mod handshake_flag {
    pub(crate) const FIXED_NEWSTYLE: u16 = 1 << 0;
    pub(crate) const NO_ZEROES: u16 = 1 << 1;
}

/// Options of the handshake.
pub(crate) mod option {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const INFO: u32 = 6;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
}

/// Replies to options.
pub(crate) mod option_reply {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const ERR_UNSUP: u32 = (1 << 31) | 1;
    pub(crate) const ERR_INVALID: u32 = (1 << 31) | 3;
    pub(crate) const ERR_UNKNOWN: u32 = (1 << 31) | 6;
}

/// Kinds of information about an export.
pub(crate) mod info {
    pub(crate) const EXPORT: u16 = 0;
    pub(crate) const NAME: u16 = 1;
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags.
pub(crate) mod transmission_flag {
    pub(crate) const HAS_FLAGS: u16 = 1 << 0;
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(crate) const SEND_DF: u16 = 1 << 7;
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(crate) const SEND_CACHE: u16 = 1 << 10;
    pub(crate) const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Command flags.
pub(crate) mod command_flag {
    pub(crate) const FUA: u16 = 1 << 0;
    pub(crate) const NO_HOLE: u16 = 1 << 1;
    pub(crate) const DF: u16 = 1 << 2;
    pub(crate) const REQ_ONE: u16 = 1 << 3;
    pub(crate) const FAST_ZERO: u16 = 1 << 4;
}

const CHUNK_FLAG_DONE: u16 = 1 << 0;
const CHUNK_NONE: u16 = 0;
const CHUNK_OFFSET_DATA: u16 = 1;
const CHUNK_BLOCK_STATUS: u16 = 5;
const CHUNK_ERROR: u16 = (1 << 15) | 1;

/// The longest read or write, in bytes: what the protocol guarantees to work everywhere.
pub(crate) const MAX_PAYLOAD_BYTES: u32 = 32 * 1024 * 1024;

/// Strings are not longer than this, in bytes.
pub(crate) const MAX_STRING_BYTES: usize = 4096;

/// The one metadata context that is offered, and its number.
pub(crate) const BASE_ALLOCATION: &[u8] = b"base:allocation";
pub(crate) const BASE_ALLOCATION_ID: u32 = 1;

/// What client and server have agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) structured: bool,
    pub(crate) block_status: bool,
}

/// The transmission flags of a volume.
///
/// All connections share one store without a cache above it, so `CAN_MULTI_CONN` holds. Zeroing is
/// never faster than writing, as zeroes are encrypted: `SEND_FAST_ZERO` tells clients that they may
/// ask, and the answer is always `ENOTSUP`, which the specification allows. Trims are offered where
/// they do something: nbdfuse takes the offer for a way to zero, which a trim is not.
pub(crate) fn transmission_flags(volume: &Volume, negotiated: Negotiated) -> u16 {
    use transmission_flag as flag;
    let mut flags = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::CAN_MULTI_CONN | flag::SEND_CACHE;
    let geometry = volume.geometry();
    flags |= if geometry.read_only {
        flag::READ_ONLY
    } else {
        flag::SEND_FUA | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO
    };
    if geometry.discard && !geometry.read_only {
        flags |= flag::SEND_TRIM;
    }
    if negotiated.structured {
        flags |= flag::SEND_DF;
    }
    flags
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    BlockStatus,
    Cache,
    Disconnect,
    Flush,
    Read,
    Trim,
    Unknown,
    Write,
    WriteZeroes,
}

impl Command {
    fn from_number(number: u16) -> Self {
        match number {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            5 => Self::Cache,
            6 => Self::WriteZeroes,
            7 => Self::BlockStatus,
            _ => Self::Unknown,
        }
    }

    /// The flags that may come with the command. `FUA` may come with any, says the specification.
    pub(crate) fn allowed_flags(self, negotiated: Negotiated) -> u16 {
        use command_flag as flag;
        flag::FUA
            | match self {
                Self::Read if negotiated.structured => flag::DF,
                Self::WriteZeroes => flag::NO_HOLE | flag::FAST_ZERO,
                Self::BlockStatus => flag::REQ_ONE,
                _ => 0,
            }
    }

    /// Whether the command may change data.
    pub(crate) fn changes(self) -> bool {
        matches!(self, Self::Trim | Self::Write | Self::WriteZeroes)
    }
}

/// The head of a request; nothing in it has been checked but the magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) flags: u16,
    pub(crate) command: Command,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

impl Request {
    pub(crate) const BYTES: usize = 28;

    /// Reads a request; nothing if the magic number is wrong.
    pub(crate) fn parse(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != REQUEST_MAGIC {
            return None;
        }
        Some(Self {
            flags: reader.u16()?,
            command: Command::from_number(reader.u16()?),
            cookie: reader.u64()?,
            offset: reader.u64()?,
            length: reader.u32()?,
        })
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The length; `usize` has at least 32 bits wherever this runs.
    pub(crate) fn size(&self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }
}

/// The head of a reply, all of it but the data of a read.
#[derive(Clone, Copy)]
pub(crate) struct ReplyHeader {
    bytes: [u8; Self::MAX_BYTES],
    length: usize,
}

impl ReplyHeader {
    const MAX_BYTES: usize = 32;

    fn empty() -> Self {
        Self {
            bytes: [0; Self::MAX_BYTES],
            length: 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// A simple reply; `error` is zero for success.
    pub(crate) fn simple(cookie: u64, error: u32) -> Self {
        Self::empty()
            .put(&SIMPLE_REPLY_MAGIC.to_be_bytes())
            .put(&error.to_be_bytes())
            .put(&cookie.to_be_bytes())
    }

    /// A chunk that `length` bytes of data from `offset` follow.
    pub(crate) fn data(cookie: u64, offset: u64, length: u32, last: Last) -> Self {
        Self::chunk(cookie, CHUNK_OFFSET_DATA, length + 8, last).put(&offset.to_be_bytes())
    }

    /// A final chunk without content.
    pub(crate) fn none(cookie: u64) -> Self {
        Self::chunk(cookie, CHUNK_NONE, 0, Last::Yes)
    }

    /// A final chunk that says what went wrong, without a message.
    pub(crate) fn error(cookie: u64, error: u32) -> Self {
        Self::chunk(cookie, CHUNK_ERROR, 6, Last::Yes)
            .put(&error.to_be_bytes())
            .put(&0_u16.to_be_bytes())
    }

    /// A final chunk with one extent of `base:allocation`.
    pub(crate) fn block_status(cookie: u64, length: u32, status: u32) -> Self {
        Self::chunk(cookie, CHUNK_BLOCK_STATUS, 12, Last::Yes)
            .put(&BASE_ALLOCATION_ID.to_be_bytes())
            .put(&length.to_be_bytes())
            .put(&status.to_be_bytes())
    }

    fn chunk(cookie: u64, kind: u16, payload: u32, last: Last) -> Self {
        let flags = match last {
            Last::Yes => CHUNK_FLAG_DONE,
            Last::No => 0,
        };
        Self::empty()
            .put(&CHUNK_MAGIC.to_be_bytes())
            .put(&flags.to_be_bytes())
            .put(&kind.to_be_bytes())
            .put(&cookie.to_be_bytes())
            .put(&payload.to_be_bytes())
    }

    fn put(mut self, field: &[u8]) -> Self {
        let end = self.length + field.len();
        self.bytes[self.length..end].copy_from_slice(field);
        self.length = end;
        self
    }
}

/// Whether a chunk is the last of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    No,
    Yes,
}

/// Takes big-endian fields off the front of untrusted bytes.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string behind its 32-bit length.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        if length > MAX_STRING_BYTES {
            return None;
        }
        self.bytes(length)
    }

    /// Succeeds at the end.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_field_by_field() {
        let mut bytes = [0; Request::BYTES];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[5] = 1;
        bytes[7] = 6;
        bytes[8..16].copy_from_slice(&0x0102_0304_0506_0708_u64.to_be_bytes());
        bytes[16..24].copy_from_slice(&u64::MAX.to_be_bytes());
        bytes[24..].copy_from_slice(&77_u32.to_be_bytes());
        let request = Request::parse(&bytes).unwrap();
        assert_eq!(
            request,
            Request {
                flags: command_flag::FUA,
                command: Command::WriteZeroes,
                cookie: 0x0102_0304_0506_0708,
                offset: u64::MAX,
                length: 77,
            }
        );
        bytes[0] ^= 1;
        assert_eq!(Request::parse(&bytes), None);
    }

    #[test]
    fn reply_heads_have_their_lengths() {
        assert_eq!(ReplyHeader::simple(1, 5).as_slice().len(), 16);
        assert_eq!(ReplyHeader::none(1).as_slice().len(), 20);
        assert_eq!(ReplyHeader::error(1, 5).as_slice().len(), 26);
        assert_eq!(ReplyHeader::data(1, 0, 9, Last::No).as_slice().len(), 28);
        let status = ReplyHeader::block_status(1, 512, 0);
        assert_eq!(status.as_slice().len(), 32);
        assert_eq!(status.as_slice()[4..6], CHUNK_FLAG_DONE.to_be_bytes());
    }

    #[test]
    fn strings_that_lie_about_their_length_are_refused() {
        for lie in [4_u32, 5000, u32::MAX] {
            let mut bytes = lie.to_be_bytes().to_vec();
            bytes.extend(b"abc");
            assert_eq!(Reader::new(&bytes).string(), None, "{lie}");
        }
        assert_eq!(
            Reader::new(&[0, 0, 0, 1, b'x']).string(),
            Some(b"x".as_slice())
        );
    }
}
