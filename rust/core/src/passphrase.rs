// SPDX-License-Identifier: Apache-2.0
//! Secrets from file descriptors, straight from the kernel into secret memory, and back.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use crate::secret::shielded;
use crate::{Error, MAX_PASSPHRASE_BYTES, Result, Secret};

/// What a pipe takes at once, whatever its capacity.
const PIPE_BYTES: usize = 4096;

impl Secret {
    /// Reads until the end of a file or pipe; one trailing newline is dropped.
    ///
    /// # Errors
    /// As [`Secret::read_passphrase_file`].
    pub fn read_file(fd: BorrowedFd<'_>) -> Result<Self> {
        Self::read_passphrase_file(fd).map(|(secret, _)| secret)
    }

    /// Reads until the end of a file or pipe, and tells whether a trailing newline was dropped.
    ///
    /// # Errors
    /// [`Error::PassphraseInput`] if reading fails, [`Error::PassphraseTooLong`] beyond
    /// [`MAX_PASSPHRASE_BYTES`] (the newline not counted), [`Error::EmptyPassphrase`] if nothing is
    /// left.
    pub fn read_passphrase_file(fd: BorrowedFd<'_>) -> Result<(Self, bool)> {
        let (buffer, length) = read_to_the_end(fd)?;
        let newline = buffer.bytes()[..length].last() == Some(&b'\n');
        Ok((exact_copy(&buffer, length - usize::from(newline))?, newline))
    }

    /// Reads until the end of a file or pipe; a newline is a byte like any other.
    ///
    /// # Errors
    /// As [`Secret::read_passphrase_file`], with every byte counted.
    pub fn read_key_file(fd: BorrowedFd<'_>) -> Result<Self> {
        let (buffer, length) = read_to_the_end(fd)?;
        exact_copy(&buffer, length)
    }

    /// Reads one line and no byte beyond it; the newline is dropped, and may be missing at the end
    /// of the input.
    ///
    /// # Errors
    /// As [`Secret::read_file`], and [`Error::EndOfInput`] if the input ends before the first byte.
    pub fn read_line(fd: BorrowedFd<'_>) -> Result<Self> {
        let mut buffer = Self::zeroed(MAX_PASSPHRASE_BYTES + 1)?;
        let mut length = 0;
        loop {
            let Some(place) = buffer.bytes_mut().get_mut(length..=length) else {
                return Err(Error::PassphraseTooLong);
            };
            // A byte at a time: what follows the newline belongs to whoever reads next.
            if read_some(fd, place)? == 0 {
                if length == 0 {
                    return Err(Error::EndOfInput);
                }
                break;
            }
            if place == b"\n" {
                break;
            }
            length += 1;
        }
        exact_copy(&buffer, length)
    }

    /// Reads `length` bytes, 1 to [`MAX_PASSPHRASE_BYTES`], from the current offset and none beyond;
    /// a newline is a byte like any other.
    ///
    /// # Errors
    /// [`Error::Limit`] for another length, [`Error::InputTooShort`] if fewer bytes come,
    /// [`Error::PassphraseInput`] if reading fails, [`Error::Platform`] without secret memory.
    pub fn read_exactly(fd: BorrowedFd<'_>, length: usize) -> Result<Self> {
        Error::check_limit(
            "the length of a secret in bytes",
            length as u64,
            1..=MAX_PASSPHRASE_BYTES as u64,
        )?;
        let mut secret = Self::zeroed(length)?;
        let mut rest = secret.bytes_mut();
        while !rest.is_empty() {
            let count = read_some(fd, rest)?;
            if count == 0 {
                return Err(Error::InputTooShort);
            }
            rest = &mut rest[count..];
        }
        Ok(secret)
    }

    /// Writes `length` fresh random bytes, 1 to 4096, which are nowhere else.
    ///
    /// # Errors
    /// As [`Secret::random`], and [`Error::Platform`] if writing fails.
    pub fn write_random(fd: BorrowedFd<'_>, length: usize) -> Result<()> {
        write_all(fd, Self::random(length)?.bytes())
    }

    /// Writes the bytes and what comes after them, at once.
    pub(crate) fn write_to_fd(&self, fd: BorrowedFd<'_>, ending: &[u8]) -> Result<()> {
        let mut whole = Self::zeroed(self.len() + ending.len())?;
        shielded(|| {
            let (bytes, end) = whole.bytes_mut().split_at_mut(self.len());
            bytes.copy_from_slice(self.bytes());
            end.copy_from_slice(ending);
            Ok(())
        })?;
        write_all(fd, whole.bytes())
    }
}

/// Returns a buffer and how much of it was read: at most one byte more than is allowed, and a
/// newline.
fn read_to_the_end(fd: BorrowedFd<'_>) -> Result<(Secret, usize)> {
    let mut buffer = Secret::zeroed(MAX_PASSPHRASE_BYTES + 2)?;
    let mut length = 0;
    loop {
        let room = &mut buffer.bytes_mut()[length..];
        if room.is_empty() {
            return Err(Error::PassphraseTooLong);
        }
        let count = read_some(fd, room)?;
        if count == 0 {
            return Ok((buffer, length));
        }
        length += count;
    }
}

fn read_some(fd: BorrowedFd<'_>, room: &mut [u8]) -> Result<usize> {
    loop {
        match read(fd, &mut *room) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(Errno::FAULT) => {
                return read_through_pipe(fd, room)
                    .map_err(|error| Error::PassphraseInput(error.into()));
            }
            Err(error) => return Err(Error::PassphraseInput(error.into())),
        }
    }
}

/// Reads where the kernel would have to pin secret memory, which it cannot: files past the page
/// cache, as some FUSE file systems have them.
///
/// The bytes lie in pages of the kernel on their way, as those of other files do in its cache.
fn read_through_pipe(fd: BorrowedFd<'_>, room: &mut [u8]) -> rustix::io::Result<usize> {
    let (source, sink) = pipe_with(PipeFlags::CLOEXEC)?;
    let wanted = room.len().min(PIPE_BYTES);
    let count = retry_on_intr(|| splice(fd, None, &sink, None, wanted, SpliceFlags::empty()))?;
    let mut done = 0;
    while done < count {
        match retry_on_intr(|| read(&source, &mut room[done..count]))? {
            0 => return Err(Errno::IO),
            more => done += more,
        }
    }
    Ok(count)
}

/// Writes where the kernel would have to pin secret memory; as [`read_through_pipe`].
fn write_through_pipe(fd: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    let (source, sink) = pipe_with(PipeFlags::CLOEXEC)?;
    let count = retry_on_intr(|| write(&sink, &bytes[..bytes.len().min(PIPE_BYTES)]))?;
    let mut left = count;
    while left > 0 {
        match retry_on_intr(|| splice(&source, None, fd, None, left, SpliceFlags::empty()))? {
            0 => return Err(Errno::IO),
            moved => left -= moved,
        }
    }
    Ok(count)
}

fn write_all(fd: BorrowedFd<'_>, mut rest: &[u8]) -> Result<()> {
    while !rest.is_empty() {
        match write(fd, rest) {
            Ok(count) if count > 0 => rest = &rest[count..],
            Ok(_) => return Err(write_failed(io::ErrorKind::WriteZero.into())),
            Err(Errno::INTR) => {}
            Err(Errno::FAULT) => {
                let count = write_through_pipe(fd, rest).map_err(|err| write_failed(err.into()))?;
                rest = &rest[count..];
            }
            Err(error) => return Err(write_failed(error.into())),
        }
    }
    Ok(())
}

/// Copies the passphrase out of the large buffer, which goes back to the arena.
fn exact_copy(buffer: &Secret, length: usize) -> Result<Secret> {
    match length {
        0 => Err(Error::EmptyPassphrase),
        1..=MAX_PASSPHRASE_BYTES => Secret::copy_of(&buffer.bytes()[..length]),
        _ => Err(Error::PassphraseTooLong),
    }
}

fn write_failed(source: io::Error) -> Error {
    Error::Platform {
        doing: "writing a secret",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    fn pipe_with(bytes: &[u8]) -> io::PipeReader {
        let (reader, mut writer) = io::pipe().unwrap();
        let bytes = bytes.to_vec();
        std::thread::spawn(move || {
            // The reader may stop early.
            let _ = writer.write_all(&bytes);
        });
        reader
    }

    fn file(bytes: &[u8]) -> Result<Vec<u8>> {
        Secret::read_file(pipe_with(bytes).as_fd()).map(|secret| secret.bytes().to_vec())
    }

    #[test]
    fn a_file_loses_one_newline() {
        assert_eq!(file(b"pass").unwrap(), b"pass");
        assert_eq!(file(b"pass\n").unwrap(), b"pass");
        assert_eq!(file(b"pass\n\n").unwrap(), b"pass\n");
        assert_eq!(file(b"a\nb").unwrap(), b"a\nb");
        assert_eq!(file(b"\0\xff").unwrap(), b"\0\xff");
    }

    #[test]
    fn a_dropped_newline_is_told() {
        let told = |bytes| {
            let (secret, dropped) = Secret::read_passphrase_file(pipe_with(bytes).as_fd()).unwrap();
            (secret.bytes().to_vec(), dropped)
        };
        assert_eq!(told(b"pass"), (b"pass".to_vec(), false));
        assert_eq!(told(b"pass\n"), (b"pass".to_vec(), true));
        assert_eq!(told(b"\n\n"), (b"\n".to_vec(), true));
    }

    #[test]
    fn a_key_file_keeps_every_byte() {
        let key = |bytes: &[u8]| {
            Secret::read_key_file(pipe_with(bytes).as_fd()).map(|secret| secret.bytes().to_vec())
        };
        for bytes in [&b"key"[..], b"key\n", b"\n", b"\n\n", b"\0\xff\n"] {
            assert_eq!(key(bytes).unwrap(), bytes);
        }
        assert!(matches!(key(b""), Err(Error::EmptyPassphrase)));
        let longest = vec![b'\n'; MAX_PASSPHRASE_BYTES];
        assert_eq!(key(&longest).unwrap(), longest);
        let longer = vec![b'\n'; MAX_PASSPHRASE_BYTES + 1];
        assert!(matches!(key(&longer), Err(Error::PassphraseTooLong)));
    }

    #[test]
    fn an_empty_file_is_an_empty_passphrase() {
        assert!(matches!(file(b""), Err(Error::EmptyPassphrase)));
        assert!(matches!(file(b"\n"), Err(Error::EmptyPassphrase)));
    }

    #[test]
    fn the_limit_does_not_count_the_newline() {
        let mut longest = vec![b'x'; MAX_PASSPHRASE_BYTES];
        assert_eq!(file(&longest).unwrap().len(), MAX_PASSPHRASE_BYTES);
        longest.push(b'\n');
        assert_eq!(file(&longest).unwrap().len(), MAX_PASSPHRASE_BYTES);
        longest.insert(0, b'x');
        assert!(matches!(file(&longest), Err(Error::PassphraseTooLong)));
        assert!(matches!(
            file(&vec![b'x'; 1 << 20]),
            Err(Error::PassphraseTooLong)
        ));
    }

    #[test]
    fn lines_come_one_by_one() {
        let pipe = pipe_with(b"first\nsecond\n\nlast");
        let line = || Secret::read_line(pipe.as_fd()).map(|secret| secret.bytes().to_vec());
        assert_eq!(line().unwrap(), b"first");
        assert_eq!(line().unwrap(), b"second");
        assert!(matches!(line(), Err(Error::EmptyPassphrase)));
        assert_eq!(line().unwrap(), b"last");
        assert!(matches!(line(), Err(Error::EndOfInput)));
    }

    #[test]
    fn a_line_that_is_too_long_is_refused() {
        let mut text = vec![b'x'; MAX_PASSPHRASE_BYTES];
        text.push(b'\n');
        let fits = Secret::read_line(pipe_with(&text).as_fd()).unwrap();
        assert_eq!(fits.len(), MAX_PASSPHRASE_BYTES);
        text.insert(0, b'x');
        let result = Secret::read_line(pipe_with(&text).as_fd());
        assert!(matches!(result, Err(Error::PassphraseTooLong)));
    }

    #[test]
    fn a_descriptor_that_cannot_be_read_is_an_error() {
        let (_reader, writer) = io::pipe().unwrap();
        let result = Secret::read_file(writer.as_fd());
        assert!(matches!(result, Err(Error::PassphraseInput(_))));
    }

    #[test]
    fn an_exact_length_takes_every_byte_and_no_more() {
        let pipe = pipe_with(b"one\ntwo\nend");
        let exactly = |length| Secret::read_exactly(pipe.as_fd(), length);
        assert_eq!(exactly(4).unwrap().bytes(), b"one\n");
        assert_eq!(exactly(5).unwrap().bytes(), b"two\ne");
        assert!(matches!(exactly(3), Err(Error::InputTooShort)));
        assert!(matches!(exactly(1), Err(Error::InputTooShort)));
        assert!(matches!(exactly(0), Err(Error::Limit { .. })));
        let too_long = exactly(MAX_PASSPHRASE_BYTES + 1);
        assert!(matches!(too_long, Err(Error::Limit { .. })));
        let (_reader, writer) = io::pipe().unwrap();
        let unreadable = Secret::read_exactly(writer.as_fd(), 1);
        assert!(matches!(unreadable, Err(Error::PassphraseInput(_))));
    }

    #[test]
    fn an_exact_length_may_come_in_pieces() {
        let (reader, mut writer) = io::pipe().unwrap();
        let sender = std::thread::spawn(move || {
            for byte in 0..32 {
                writer.write_all(&[byte]).unwrap();
            }
        });
        let secret = Secret::read_exactly(reader.as_fd(), 32).unwrap();
        sender.join().unwrap();
        assert_eq!(secret.bytes(), (0..32).collect::<Vec<u8>>());
    }

    #[test]
    fn written_random_bytes_are_as_many_as_asked_for_and_fresh() {
        let written = || {
            let (reader, writer) = io::pipe().unwrap();
            Secret::write_random(writer.as_fd(), 32).unwrap();
            drop(writer);
            let secret = Secret::read_exactly(reader.as_fd(), 32).unwrap();
            let end = Secret::read_exactly(reader.as_fd(), 1);
            assert!(matches!(end, Err(Error::InputTooShort)));
            secret
        };
        let one = written();
        assert!(!one.equals(&written()));
        assert_ne!(one.bytes(), [0; 32]);
        let (reader, writer) = io::pipe().unwrap();
        let refused = Secret::write_random(writer.as_fd(), 0);
        assert!(matches!(refused, Err(Error::Limit { .. })));
        let refused = Secret::write_random(reader.as_fd(), 32);
        assert!(matches!(refused, Err(Error::Platform { .. })));
    }

    #[test]
    fn writing_adds_the_ending() {
        let (mut reader, writer) = io::pipe().unwrap();
        let secret = Secret::copy_of(b"recovery").unwrap();
        secret.write_to_fd(writer.as_fd(), b"\n").unwrap();
        drop(writer);
        assert_eq!(io::read_to_string(&mut reader).unwrap(), "recovery\n");
        let refused = secret.write_to_fd(reader.as_fd(), b"");
        assert!(matches!(refused, Err(Error::Platform { .. })));
    }
}
