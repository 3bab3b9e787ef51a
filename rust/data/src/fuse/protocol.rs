// SPDX-License-Identifier: Apache-2.0
//! The requests of FUSE's kernel protocol, parsed from what a read of the descriptor returned.
//!
//! All integers are in the machine's order. Later kernels append fields, so a body may be longer
//! than is known here, and never shorter.

/// The only major version there is.
pub(crate) const MAJOR: u32 = 7;

/// What we speak; the kernel uses the older of its own and this.
pub(crate) const MINOR: u32 = 38;

/// Linux 5.4, the first whose messages all have the layout that is expected here.
pub(crate) const OLDEST_MINOR: u32 = 31;

/// `struct fuse_in_header`.
pub(crate) const HEADER_BYTES: usize = 40;

/// `struct fuse_write_in`, which stands between the header and the data of a write.
pub(crate) const WRITE_BYTES: usize = 40;

/// The directory, by definition of the protocol.
pub(crate) const ROOT: u64 = 1;

/// The one file.
pub(crate) const FILE: u64 = 2;

/// The largest read or write: what 256 pages hold, which no kernel exceeds unless told to.
pub(crate) const MAX_DATA_BYTES: usize = 1024 * 1024;

/// `FUSE_INIT`'s flags that are of use here.
pub(crate) mod init_flag {
    pub(crate) const ASYNC_READ: u32 = 1 << 0;
    pub(crate) const BIG_WRITES: u32 = 1 << 5;
    pub(crate) const ASYNC_DIO: u32 = 1 << 15;
    pub(crate) const MAX_PAGES: u32 = 1 << 22;
}

/// The numbers of the requests that are understood.
mod opcode {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const ACCESS: u32 = 34;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const NOTIFY_REPLY: u32 = 41;
    pub(super) const BATCH_FORGET: u32 = 42;
}

/// A request's header and body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Request<'a> {
    /// What the answer refers to.
    pub(crate) unique: u64,
    /// What it is about: [`ROOT`], [`FILE`] or nonsense.
    pub(crate) node: u64,
    pub(crate) body: Body<'a>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Body<'a> {
    Access,
    Destroy,
    Flush,
    Fsync,
    GetAttributes,
    Init {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
    },
    Lookup {
        name: &'a [u8],
    },
    Open {
        flags: u32,
    },
    Read {
        offset: u64,
        size: u32,
    },
    Release,
    StatFs,
    /// The data follow the body, at [`HEADER_BYTES`] + [`WRITE_BYTES`], and are complete.
    Write {
        offset: u64,
        size: u32,
    },
    /// Nobody waits for an answer: forgotten nodes, interrupts.
    Unanswered,
    /// A known request whose body is too short, or whose lengths contradict each other.
    Malformed,
    /// A request that is not understood.
    Unknown,
}

impl<'a> Request<'a> {
    /// Parses a whole message; `None` if it has no header, or not the length that it claims.
    pub(crate) fn parse(message: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(message);
        let length = fields.u32()?;
        if usize::try_from(length) != Ok(message.len()) {
            return None;
        }
        let opcode = fields.u32()?;
        let (unique, node) = (fields.u64()?, fields.u64()?);
        // Who asks is the kernel's business: user, group, process, and extensions of the body.
        let rest = message.get(HEADER_BYTES..)?;
        let body = Body::parse(opcode, rest).unwrap_or(Body::Malformed);
        Some(Self { unique, node, body })
    }
}

impl<'a> Body<'a> {
    fn parse(opcode: u32, bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(match opcode {
            opcode::ACCESS => Self::Access,
            opcode::DESTROY => Self::Destroy,
            opcode::FLUSH => Self::Flush,
            opcode::FSYNC => Self::Fsync,
            opcode::GETATTR => Self::GetAttributes,
            opcode::RELEASE => Self::Release,
            opcode::STATFS => Self::StatFs,
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT | opcode::NOTIFY_REPLY => {
                Self::Unanswered
            }
            opcode::OPEN => Self::Open {
                flags: fields.u32()?,
            },
            opcode::LOOKUP => Self::Lookup {
                name: bytes.strip_suffix(b"\0")?,
            },
            opcode::INIT => Self::Init {
                major: fields.u32()?,
                minor: fields.u32()?,
                max_readahead: fields.u32()?,
                flags: fields.u32()?,
            },
            opcode::READ => {
                let (offset, size) = Self::range(&mut fields)?;
                Self::Read { offset, size }
            }
            opcode::WRITE => {
                let (offset, size) = Self::range(&mut fields)?;
                let data = bytes.get(WRITE_BYTES..)?;
                if usize::try_from(size) != Ok(data.len()) {
                    return None;
                }
                Self::Write { offset, size }
            }
            _ => Self::Unknown,
        })
    }

    /// The front of `fuse_read_in` and `fuse_write_in`, which is the same.
    fn range(fields: &mut Fields<'_>) -> Option<(u64, u32)> {
        let _handle = fields.u64()?;
        Some((fields.u64()?, fields.u32()?))
    }
}

/// Reads integers from the front of a message.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*value)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }
}
