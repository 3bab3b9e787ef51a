// SPDX-License-Identifier: Apache-2.0
//! Errors of the data path, and their tables to the error numbers of NBD and FUSE.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// A result whose error is [`IoError`].
pub type Result<T> = std::result::Result<T, IoError>;

/// Why a request on an open volume failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoError {
    /// The request is malformed.
    Invalid,
    /// The request reaches beyond the end of the volume.
    OutOfBounds,
    /// A write reaches beyond the end of the volume.
    BeyondEnd,
    /// The volume was opened read-only.
    ReadOnly,
    /// The volume has been closed, or the server stops.
    ShutDown,
    /// The request cannot be done in the way it asks for.
    NotSupported,
    /// There is no memory, or no secret memory, for the request.
    NoMemory,
    /// The cipher refused: a bug of ours, never the client's fault.
    Cipher,
    /// The backing store is shorter than it was when the volume was opened.
    Truncated,
    /// A flush failed earlier, so what this one covers may be lost.
    FlushFailed,
    /// The backing store answered with this `errno`.
    Disk(i32),
}

impl IoError {
    /// The error number that an NBD client is told.
    ///
    /// Spec: NBD protocol, "Error values": only the numbers listed there may be sent.
    #[must_use]
    pub fn nbd_errno(self) -> u32 {
        let errno = match self {
            Self::Invalid | Self::OutOfBounds => Errno::INVAL,
            Self::BeyondEnd => Errno::NOSPC,
            Self::ReadOnly => Errno::PERM,
            Self::ShutDown => Errno::SHUTDOWN,
            Self::NotSupported => Errno::NOTSUP,
            Self::NoMemory => Errno::NOMEM,
            Self::Cipher | Self::Truncated | Self::FlushFailed => Errno::IO,
            Self::Disk(number) => match Errno::from_raw_os_error(number) {
                Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Errno::NOSPC,
                Errno::NOMEM => Errno::NOMEM,
                _ => Errno::IO,
            },
        };
        errno.raw_os_error().unsigned_abs()
    }

    /// The error number that FUSE's kernel side is told.
    ///
    /// A closed list: the kernel takes `ENOSYS` for "never ask again", and would drop every later
    /// flush in silence if a disk's error of that number were passed on.
    #[must_use]
    pub fn fuse_errno(self) -> Errno {
        match self {
            Self::Invalid | Self::OutOfBounds => Errno::INVAL,
            Self::BeyondEnd => Errno::NOSPC,
            Self::ReadOnly => Errno::ROFS,
            Self::NotSupported => Errno::OPNOTSUPP,
            Self::NoMemory => Errno::NOMEM,
            Self::ShutDown | Self::Cipher | Self::Truncated | Self::FlushFailed => Errno::IO,
            Self::Disk(number) => match Errno::from_raw_os_error(number) {
                Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Errno::NOSPC,
                Errno::NOMEM => Errno::NOMEM,
                _ => Errno::IO,
            },
        }
    }

    /// Whether the request was refused for what it asks, or because the volume was closed.
    #[must_use]
    pub fn is_the_clients(self) -> bool {
        match self {
            Self::Invalid
            | Self::OutOfBounds
            | Self::BeyondEnd
            | Self::ReadOnly
            | Self::ShutDown
            | Self::NotSupported => true,
            Self::NoMemory | Self::Cipher | Self::Truncated | Self::FlushFailed | Self::Disk(_) => {
                false
            }
        }
    }

    /// The system's error number behind this error.
    #[must_use]
    pub fn errno(self) -> i32 {
        match self {
            Self::Disk(number) => number,
            other => other.nbd_errno().cast_signed(),
        }
    }
}

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::Disk(number),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated,
            None => Self::Disk(Errno::IO.raw_os_error()),
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "the request is malformed",
            Self::OutOfBounds => "the range reaches beyond the end of the volume",
            Self::BeyondEnd => "the write reaches beyond the end of the volume",
            Self::ReadOnly => "the volume is read-only",
            Self::ShutDown => "the volume is closed",
            Self::NotSupported => "not supported",
            Self::NoMemory => "not enough memory",
            Self::Cipher => "the cipher refused the request",
            Self::Truncated => "the image is shorter than when it was opened",
            Self::FlushFailed => "an earlier flush failed, written data may be lost",
            Self::Disk(number) => {
                return write!(
                    f,
                    "the disk says: {}",
                    io::Error::from_raw_os_error(*number)
                );
            }
        })
    }
}

impl std::error::Error for IoError {}

/// Why a volume could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The geometry is off the sector grid, overflows, or does not fit the backing store.
    Geometry(&'static str),
    /// The backing store could not be asked for its size.
    Backing(i32),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Geometry(what) => f.write_str(what),
            Self::Backing(number) => write!(
                f,
                "cannot find the size of the image: {}",
                io::Error::from_raw_os_error(*number)
            ),
        }
    }
}

impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_errors_keep_their_number_where_nbd_has_it() {
        for (disk, wire) in [
            (5, 5),
            (28, 28),
            (122, 28),
            (27, 28),
            (12, 12),
            (1, 5),
            (13, 5),
            (30, 5),
            (121, 5),
        ] {
            assert_eq!(IoError::Disk(disk).nbd_errno(), wire, "errno {disk}");
            assert_eq!(IoError::Disk(disk).errno(), disk);
        }
    }

    #[test]
    fn no_error_of_a_disk_tells_the_kernel_never_to_ask_again() {
        for number in 1..200 {
            let told = IoError::Disk(number).fuse_errno();
            assert!(matches!(told, Errno::IO | Errno::NOSPC | Errno::NOMEM));
        }
        assert_eq!(IoError::FlushFailed.fuse_errno(), Errno::IO);
        assert_eq!(IoError::ReadOnly.fuse_errno(), Errno::ROFS);
    }

    #[test]
    fn own_errors_have_the_numbers_of_the_specification() {
        assert_eq!(IoError::ReadOnly.nbd_errno(), 1);
        assert_eq!(IoError::FlushFailed.nbd_errno(), 5);
        assert_eq!(IoError::Invalid.nbd_errno(), 22);
        assert_eq!(IoError::BeyondEnd.nbd_errno(), 28);
        assert_eq!(IoError::NotSupported.nbd_errno(), 95);
        assert_eq!(IoError::ShutDown.nbd_errno(), 108);
    }

    #[test]
    fn a_short_image_is_told_apart() {
        let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(IoError::from(eof), IoError::Truncated);
    }
}
