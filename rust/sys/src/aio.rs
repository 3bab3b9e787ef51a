// SPDX-License-Identifier: Apache-2.0
//! Many transfers of an open file at once, by Linux AIO.
//!
//! Of a file that was opened with `O_DIRECT`, the kernel has all transfers under way at once; of
//! any other it does one after the other. Unlike `io_uring`, these calls open nothing and run
//! nothing: they read and write open descriptors, and a seccomp filter sees each of them.
//!
//! Spec: `io_setup`(2), `io_submit`(2), `io_getevents`(2); `linux/aio_abi.h`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process;
use std::ptr;

use libc::{c_long, c_ulong};

/// Most transfers that are under way at once.
const DEPTH: usize = 64;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the file to memory.
    Read,
    /// From memory to the file.
    Write,
}

/// A range of a file and its bytes in memory.
#[derive(Debug)]
pub struct Transfer<'a> {
    /// In bytes from the start of the file.
    pub offset: u64,
    /// What is read to, or written.
    pub data: &'a mut [u8],
    /// How many of the bytes were moved, from the first on. Zero too if an error came in between,
    /// or the kernel did not take the transfer: a blocking call tells which.
    pub moved: usize,
}

impl<'a> Transfer<'a> {
    /// A transfer that has not begun.
    pub fn new(offset: u64, data: &'a mut [u8]) -> Self {
        Self {
            offset,
            data,
            moved: 0,
        }
    }
}

/// A context of the kernel's, for one thread.
#[derive(Debug)]
pub struct Queue {
    context: c_ulong,
}

impl Queue {
    /// Asks the kernel for a context.
    ///
    /// # Errors
    /// The kernel has no AIO (`ENOSYS`), or no more contexts (`EAGAIN`, `/proc/sys/fs/aio-max-nr`).
    pub fn new() -> io::Result<Self> {
        let mut context: c_ulong = 0;
        // SAFETY: the kernel writes a number to a local value, which is zero, as it must be.
        #[expect(unsafe_code, reason = "no safe interface to io_setup")]
        let result = unsafe { libc::syscall(libc::SYS_io_setup, DEPTH, &raw mut context) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { context })
    }

    /// Moves all transfers, and returns when none is under way any more.
    pub fn run(
        &mut self,
        file: BorrowedFd<'_>,
        direction: Direction,
        transfers: &mut [Transfer<'_>],
    ) {
        for group in transfers.chunks_mut(DEPTH) {
            let mut controls: Vec<_> = (0..)
                .zip(group.iter_mut())
                .map(|(number, transfer)| Control::new(number, file, direction, transfer))
                .collect();
            let submitted = self.submit(&mut controls);
            self.collect(submitted, group);
        }
    }

    /// Hands transfers to the kernel, and tells how many it took, from the first on.
    fn submit(&mut self, controls: &mut [Control]) -> usize {
        let addresses: Vec<*mut Control> = controls.iter_mut().map(ptr::from_mut).collect();
        let mut submitted = 0;
        while submitted < addresses.len() {
            let rest = &addresses[submitted..];
            // SAFETY: the kernel copies the list and what it points at, both alive during the
            // call. The memory that each names is borrowed by `run` until `collect` has seen the
            // end of the transfer.
            #[expect(unsafe_code, reason = "no safe interface to io_submit")]
            let count = unsafe {
                libc::syscall(libc::SYS_io_submit, self.context, rest.len(), rest.as_ptr())
            };
            match usize::try_from(count) {
                Ok(count) if count > 0 => submitted += count,
                _ => break,
            }
        }
        submitted
    }

    /// Waits until `waiting` transfers have ended.
    fn collect(&mut self, mut waiting: usize, transfers: &mut [Transfer<'_>]) {
        let mut events = [Event::default(); DEPTH];
        while waiting > 0 {
            let ended = self.wait(waiting, &mut events);
            for event in &events[..ended] {
                let place = usize::try_from(event.number).ok();
                if let Some(transfer) = place.and_then(|place| transfers.get_mut(place)) {
                    let moved = usize::try_from(event.result).unwrap_or(0);
                    transfer.moved = moved.min(transfer.data.len());
                }
                waiting -= 1;
            }
        }
    }

    fn wait(&self, waiting: usize, events: &mut [Event; DEPTH]) -> usize {
        loop {
            // SAFETY: the kernel writes at most `waiting` events, which is at most `DEPTH`, the
            // length of the array; without a timeout it reads nothing.
            #[expect(unsafe_code, reason = "no safe interface to io_getevents")]
            let count = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.context,
                    waiting.min(DEPTH),
                    waiting.min(DEPTH),
                    events.as_mut_ptr(),
                    ptr::null::<libc::timespec>(),
                )
            };
            if let Ok(count) = usize::try_from(count) {
                return count;
            }
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                // The disk may still write to memory that would be given back now.
                process::abort();
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the context is this queue's own, and no transfer is under way.
        #[expect(unsafe_code, reason = "no safe interface to io_destroy")]
        let _: c_long = unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

/// `struct iocb`. Its second and third field change places with the byte order; both are zero.
#[repr(C)]
struct Control {
    number: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    descriptor: u32,
    address: u64,
    length: u64,
    offset: u64,
    reserved: u64,
    flags: u32,
    result_descriptor: u32,
}

const _: () = assert!(size_of::<Control>() == 64);

/// `IOCB_CMD_PREAD`.
const PREAD: u16 = 0;
/// `IOCB_CMD_PWRITE`.
const PWRITE: u16 = 1;

impl Control {
    fn new(
        number: u64,
        file: BorrowedFd<'_>,
        direction: Direction,
        transfer: &mut Transfer<'_>,
    ) -> Self {
        Self {
            number,
            key: 0,
            rw_flags: 0,
            opcode: match direction {
                Direction::Read => PREAD,
                Direction::Write => PWRITE,
            },
            priority: 0,
            descriptor: file.as_raw_fd().cast_unsigned(),
            address: transfer.data.as_mut_ptr().expose_provenance() as u64,
            length: transfer.data.len() as u64,
            offset: transfer.offset,
            reserved: 0,
            flags: 0,
            result_descriptor: 0,
        }
    }
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    number: u64,
    control: u64,
    result: i64,
    second_result: i64,
}

const _: () = assert!(size_of::<Event>() == 32);

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!(
            "strongroom-aio-{}-{:?}",
            process::id(),
            std::thread::current().id()
        ));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn moved(transfers: &[Transfer<'_>]) -> Vec<usize> {
        transfers.iter().map(|transfer| transfer.moved).collect()
    }

    /// `None`, with a word about it, where the kernel has no AIO.
    fn queue() -> Option<Queue> {
        match Queue::new() {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => None,
            queue => Some(queue.unwrap()),
        }
    }

    #[test]
    fn more_transfers_than_are_taken_at_once_all_arrive() {
        let Some(mut queue) = queue() else { return };
        let file = file(&[]);
        let mut blocks: Vec<[u8; 512]> = (0..200).map(|number| [number; 512]).collect();
        let transfers = |blocks: &mut [[u8; 512]], direction, queue: &mut Queue| {
            let mut transfers: Vec<_> = (0..)
                .zip(blocks.iter_mut())
                .map(|(place, block)| Transfer::new((199 - place) * 512, block))
                .collect();
            queue.run(file.as_fd(), direction, &mut transfers);
            assert!(moved(&transfers).iter().all(|moved| *moved == 512));
        };
        transfers(&mut blocks, Direction::Write, &mut queue);
        let mut last = [0; 512];
        file.read_exact_at(&mut last, 199 * 512).unwrap();
        assert_eq!(last, [0; 512]);
        let mut read = vec![[0xEE; 512]; 200];
        transfers(&mut read, Direction::Read, &mut queue);
        assert_eq!(read, blocks);
    }

    #[test]
    fn what_does_not_work_moves_nothing_and_disturbs_nobody() {
        let Some(mut queue) = queue() else { return };
        let file = file(&[7; 1000]);
        let mut blocks = [[0; 400]; 4];
        let mut transfers: Vec<_> = blocks
            .iter_mut()
            .zip([0, 800, 1000, u64::MAX])
            .map(|(block, offset)| Transfer::new(offset, block))
            .collect();
        queue.run(file.as_fd(), Direction::Read, &mut transfers);
        assert_eq!(moved(&transfers), [400, 200, 0, 0]);
        assert_eq!(blocks[0], [7; 400]);

        let closed_for_writing = File::open("/proc/self/exe").unwrap();
        let mut block = [1; 16];
        let mut transfers = [Transfer::new(0, &mut block)];
        queue.run(closed_for_writing.as_fd(), Direction::Write, &mut transfers);
        assert_eq!(moved(&transfers), [0]);
        queue.run(file.as_fd(), Direction::Read, &mut []);
    }

    #[test]
    fn contexts_are_given_back() {
        let mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().filter(|line| line.contains("[aio]")).count()
        };
        let Some(queue) = queue() else { return };
        assert_ne!(mapped(), 0);
        drop(queue);
        for _ in 0..20 {
            drop(Queue::new().unwrap());
        }
        // Other tests have theirs.
        assert!(mapped() < 10);
    }
}
