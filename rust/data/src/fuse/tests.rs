// SPDX-License-Identifier: Apache-2.0
//! A kernel that may lie, at the other end of a socket that keeps messages apart.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::Server;
use super::protocol::{Body, HEADER_BYTES, MAX_DATA_BYTES, Request, WRITE_BYTES};
use crate::testing::{MemoryBacking, Random, SEGMENT_OFFSET, volume, volume_with};
use crate::volume::Volume;

const SIZE: u64 = 1 << 20;
const NAME: &str = "volume";

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const ACCESS: u32 = 34;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;
const FALLOCATE: u32 = 43;
const LSEEK: u32 = 46;

/// The kernel's end, and a server at the other.
struct Kernel {
    backing: Arc<MemoryBacking>,
    volume: Arc<Volume>,
    device: OwnedFd,
    server: Option<Server>,
    unique: u64,
}

struct Reply {
    error: i32,
    body: Vec<u8>,
}

impl Kernel {
    fn new() -> Self {
        Self::over(volume(4096, SIZE))
    }

    fn over((backing, volume): (Arc<MemoryBacking>, Arc<Volume>)) -> Self {
        let (device, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let server = Server::start(Arc::clone(&volume), vec![theirs], NAME.to_owned()).unwrap();
        Self {
            backing,
            volume,
            device,
            server: Some(server),
            unique: 0,
        }
    }

    fn send(&mut self, opcode: u32, node: u64, body: &[u8]) {
        self.unique += 1;
        let message = message(opcode, self.unique, node, body);
        assert_eq!(write(&self.device, &message).unwrap(), message.len());
    }

    fn receive(&self) -> Reply {
        let mut bytes = vec![0; 256 * 1024];
        let length = read(&self.device, &mut bytes[..]).unwrap();
        bytes.truncate(length);
        assert_eq!(u32_at(&bytes, 0) as usize, length);
        assert_eq!(u64_at(&bytes, 8), self.unique);
        Reply {
            error: -u32_at(&bytes, 4).cast_signed(),
            body: bytes.split_off(16),
        }
    }

    fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Reply {
        self.send(opcode, node, body);
        self.receive()
    }

    fn error(&mut self, opcode: u32, node: u64, body: &[u8]) -> Errno {
        let reply = self.ask(opcode, node, body);
        assert!(reply.body.is_empty());
        Errno::from_raw_os_error(reply.error)
    }

    fn read(&mut self, offset: u64, size: u32) -> Reply {
        self.ask(READ, 2, &range(offset, size))
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Reply {
        let size = u32::try_from(data.len()).unwrap();
        self.ask(WRITE, 2, &[&range(offset, size), data].concat())
    }

    /// Whether the server still works, after whatever it was told.
    fn is_well(&mut self) -> bool {
        self.ask(GETATTR, 1, &[0; 16]).error == 0
    }
}

fn message(opcode: u32, unique: u64, node: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(opcode.to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend(node.to_ne_bytes());
    bytes.extend([0; 16]);
    bytes.extend(body);
    bytes
}

/// `struct fuse_read_in` or `fuse_write_in`.
fn range(offset: u64, size: u32) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend(offset.to_ne_bytes());
    bytes.extend(size.to_ne_bytes());
    bytes.resize(WRITE_BYTES, 0);
    bytes
}

fn init(major: u32, minor: u32, flags: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [major, minor, 128 * 1024, flags] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes.resize(64, 0);
    bytes
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_ne_bytes(bytes[place..place + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], place: usize) -> u64 {
    u64::from_ne_bytes(bytes[place..place + 8].try_into().unwrap())
}

#[test]
fn what_is_agreed_on_is_what_both_sides_know() {
    let mut kernel = Kernel::new();
    let reply = kernel.ask(INIT, 0, &init(7, 45, u32::MAX));
    assert_eq!((reply.error, reply.body.len()), (0, 64));
    assert_eq!(u32_at(&reply.body, 0), 7);
    let flags = 1 | 1 << 5 | 1 << 15 | 1 << 22;
    assert_eq!(u32_at(&reply.body, 12), flags);
    assert_eq!(u32_at(&reply.body, 20) as usize, MAX_DATA_BYTES);
    let reply = kernel.ask(INIT, 0, &init(7, 31, 1 | 1 << 30));
    assert_eq!(u32_at(&reply.body, 12), 1);
    assert_eq!(kernel.ask(INIT, 0, &init(8, 0, 0)).error, 0);
    assert_eq!(kernel.error(INIT, 0, &init(7, 30, 0)), Errno::PROTO);
    assert_eq!(kernel.error(INIT, 0, &init(6, 99, 0)), Errno::PROTO);
}

#[test]
fn there_is_one_directory_with_one_file_of_the_volumes_size() {
    let mut kernel = Kernel::new();
    let entry = kernel.ask(LOOKUP, 1, b"volume\0").body;
    assert_eq!((entry.len(), u64_at(&entry, 0)), (128, 2));
    assert_eq!(u64_at(&entry, 40 + 8), SIZE);
    assert_eq!(u32_at(&entry, 40 + 60), 0o100_600);
    let directory = kernel.ask(GETATTR, 1, &[0; 16]).body;
    assert_eq!(
        (directory.len(), u32_at(&directory, 16 + 60)),
        (104, 0o040_500)
    );
    let file = kernel.ask(GETATTR, 2, &[0; 16]).body;
    assert_eq!(u64_at(&file, 16 + 8), SIZE);
    assert_eq!(file[16..], entry[40..]);
    let open = kernel.ask(OPEN, 2, &[2, 0, 0, 0, 0, 0, 0, 0]).body;
    assert_eq!((open.len(), u32_at(&open, 8)), (16, 1 | 1 << 6));
    // The loop device takes limits for discards from an answer.
    assert_eq!(kernel.error(STATFS, 1, &[]), Errno::NOSYS);
    for (opcode, node) in [(ACCESS, 1), (FLUSH, 2), (RELEASE, 2), (DESTROY, 0)] {
        let reply = kernel.ask(opcode, node, &[0; 24]);
        assert_eq!((reply.error, reply.body.len()), (0, 0), "{opcode}");
    }
}

#[test]
fn other_names_nodes_and_requests_do_not_exist() {
    let mut kernel = Kernel::new();
    for name in [&b"volum\0"[..], b"volume2\0", b"\0", b".\0", b"volume/\0"] {
        assert_eq!(kernel.error(LOOKUP, 1, name), Errno::NOENT);
    }
    assert_eq!(kernel.error(LOOKUP, 2, b"volume\0"), Errno::NOENT);
    assert_eq!(kernel.error(OPEN, 1, &[0; 8]), Errno::ISDIR);
    for node in [0, 3, u64::MAX] {
        assert_eq!(kernel.error(GETATTR, node, &[0; 16]), Errno::STALE);
        assert_eq!(kernel.error(OPEN, node, &[0; 8]), Errno::STALE);
        assert_eq!(kernel.error(READ, node, &range(0, 4096)), Errno::BADF);
        assert_eq!(kernel.error(FSYNC, node, &[0; 16]), Errno::BADF);
    }
    for opcode in [SETATTR, LSEEK, FALLOCATE, 0, 19, 51, 4096, u32::MAX] {
        assert_eq!(kernel.error(opcode, 2, &[0; 88]), Errno::NOSYS, "{opcode}");
    }
}

#[test]
fn what_is_written_is_read_and_counted() {
    let mut kernel = Kernel::new();
    let mut random = Random(1);
    let mut expected = vec![0; index(SIZE)];
    for start in (0..SIZE).step_by(4096) {
        assert_eq!(kernel.write(start, &[0; 4096]).error, 0);
    }
    let before = kernel.volume.totals();
    for _ in 0..200 {
        let offset = random.below(SIZE / 512) * 512;
        let size = (random.below(128) * 512 + 512).min(SIZE - offset);
        let range = index(offset)..index(offset + size);
        if random.below(2) == 0 {
            let data = random.bytes(index(size));
            expected[range].copy_from_slice(&data);
            let reply = kernel.write(offset, &data);
            assert_eq!((reply.error, reply.body.len()), (0, 8));
            assert_eq!(u64::from(u32_at(&reply.body, 0)), size);
        } else {
            let reply = kernel.read(offset, u32::try_from(size).unwrap());
            assert_eq!(reply.error, 0);
            assert!(reply.body == expected[range], "{offset}+{size}");
        }
    }
    let totals = kernel.volume.totals();
    assert_eq!(totals.reads + totals.writes, before.writes + 200);
    assert_eq!((totals.errors, totals.connections), (0, 1));
}

#[test]
fn a_flush_reaches_the_disk_and_its_failure_is_not_forgotten() {
    let mut kernel = Kernel::new();
    assert_eq!(kernel.ask(FSYNC, 2, &[0; 16]).error, 0);
    assert_eq!(kernel.backing.flushes.load(Ordering::Relaxed), 1);
    kernel.backing.fail_flush.store(true, Ordering::Relaxed);
    assert_eq!(kernel.error(FSYNC, 2, &[0; 16]), Errno::IO);
    kernel.backing.fail_flush.store(false, Ordering::Relaxed);
    assert_eq!(kernel.error(FSYNC, 2, &[0; 16]), Errno::IO);
}

#[test]
fn large_writes_go_on_to_the_disk_and_small_ones_wait() {
    let mut kernel = Kernel::new();
    assert_eq!(kernel.write(0, &vec![1; 64 * 1024]).error, 0);
    assert_eq!(kernel.write(4096, &vec![1; 128 * 1024]).error, 0);
    assert_eq!(kernel.write(SIZE, &vec![1; 128 * 1024]).error, 28);
    assert!(kernel.is_well());
    let begun = kernel.backing.begun.lock().unwrap();
    assert_eq!(*begun, [(SEGMENT_OFFSET + 4096, 128 * 1024)]);
}

#[test]
fn ranges_outside_are_refused_or_cut() {
    let mut kernel = Kernel::new();
    assert_eq!(kernel.read(SIZE - 4096, 8192).body.len(), 4096);
    for offset in [SIZE, SIZE + 1, u64::MAX, i64::MAX as u64] {
        let reply = kernel.read(offset, 4096);
        assert_eq!((reply.error, reply.body.len()), (0, 0));
        let full = Errno::NOSPC.raw_os_error();
        assert_eq!(kernel.write(offset, &[1; 4096]).error, full);
    }
    let before = kernel.backing.contents();
    assert_ne!(kernel.write(SIZE - 4096, &[1; 8192]).error, 0);
    assert!(kernel.backing.contents() == before);
    for size in [u32::try_from(MAX_DATA_BYTES + 1).unwrap(), u32::MAX] {
        let reply = kernel.read(0, size);
        assert_eq!(reply.error, Errno::INVAL.raw_os_error());
    }
    assert_eq!(kernel.read(0, 0).error, 0);
    assert_eq!(kernel.write(0, &[]).error, 0);
    assert!(kernel.is_well());
}

#[test]
fn messages_of_any_length_and_contents_do_no_harm() {
    let mut kernel = Kernel::new();
    let before = kernel.backing.contents();
    // Without a whole header, or with another length than they claim: nobody to answer.
    let whole = message(GETATTR, 9, 1, &[0; 16]);
    for length in 1..whole.len() {
        write(&kernel.device, &whole[..length]).unwrap();
    }
    write(&kernel.device, &[&whole[..], &[0]].concat()).unwrap();
    write(&kernel.device, &[0xFF; 4096]).unwrap();
    assert!(kernel.is_well());
    // Bodies that are too short.
    let least = [(LOOKUP, 1), (OPEN, 4), (READ, 20), (WRITE, 40), (INIT, 16)];
    for (opcode, least) in least {
        for length in 0..least {
            let body = vec![1; length];
            assert_eq!(kernel.error(opcode, 2, &body), Errno::INVAL, "{opcode}");
        }
    }
    // Writes that do not have as many data as they say.
    for (claimed, sent) in [(0, 1), (4096, 4095), (4096, 4097), (u32::MAX, 4096)] {
        let body = [range(0, claimed), vec![1; sent]].concat();
        assert_eq!(kernel.error(WRITE, 2, &body), Errno::INVAL);
    }
    assert_eq!(kernel.error(LOOKUP, 1, b"no end"), Errno::INVAL);
    assert!(kernel.backing.contents() == before);
    let mut random = Random(2);
    for _ in 0..2000 {
        let length = index(random.below(200));
        let opcode = u32::try_from(random.below(64)).unwrap();
        let body = random.bytes(length);
        write(&kernel.device, &message(opcode, 0, random.below(4), &body)).unwrap();
        let mut answer = [0; 4096];
        // What is answered is answered at once, and the rest not at all.
        if !matches!(opcode, FORGET | INTERRUPT | BATCH_FORGET | 41) {
            read(&kernel.device, &mut answer[..]).unwrap();
        }
    }
    assert!(kernel.is_well());
}

#[test]
fn nobody_is_told_that_something_is_forgotten() {
    let mut kernel = Kernel::new();
    for opcode in [FORGET, BATCH_FORGET, INTERRUPT, 41] {
        kernel.send(opcode, 2, &[0; 16]);
    }
    assert!(kernel.is_well());
}

#[test]
fn a_read_only_volume_is_not_changed() {
    let mut kernel = Kernel::over(volume_with(4096, SIZE, |it| it.read_only = true));
    let before = kernel.backing.contents();
    let refused = Errno::ROFS.raw_os_error();
    assert_eq!(kernel.write(0, &[1; 4096]).error, refused);
    for flags in [1u32, 2, 3] {
        let body = u64::from(flags).to_ne_bytes();
        assert_eq!(kernel.error(OPEN, 2, &body), Errno::ROFS);
    }
    assert_eq!(kernel.ask(OPEN, 2, &[0; 8]).error, 0);
    assert_eq!(kernel.read(0, 4096).body.len(), 4096);
    assert!(kernel.backing.contents() == before);
}

#[test]
fn errors_of_the_disk_are_told_and_end_nothing() {
    let mut kernel = Kernel::new();
    kernel.backing.fail_writes_after(0, 28);
    let told = kernel.write(0, &[1; 4096]).error;
    assert_eq!(told, Errno::NOSPC.raw_os_error());
    kernel.backing.fail_writes_after(0, 38);
    let told = kernel.write(0, &[1; 4096]).error;
    assert_eq!(told, Errno::IO.raw_os_error());
    kernel.backing.mend_writes();
    kernel.backing.shrink(1024);
    assert_eq!(kernel.read(0, 4096).error, Errno::IO.raw_os_error());
    assert_eq!(kernel.volume.totals().errors, 3);
    assert!(kernel.is_well());
}

#[test]
fn a_server_that_stopped_refuses_data_and_waits_for_nobody() {
    let mut kernel = Kernel::new();
    let began = Instant::now();
    assert_eq!(kernel.server.take().unwrap().stop(), 0);
    assert!(began.elapsed() < Duration::from_secs(2));
    let refused = Errno::IO.raw_os_error();
    assert_eq!(kernel.write(0, &[1; 4096]).error, refused);
    assert_eq!(kernel.read(0, 4096).error, refused);
    assert_eq!(kernel.error(FSYNC, 2, &[0; 16]), Errno::IO);
}

#[test]
fn the_thread_ends_with_the_file_system() {
    let kernel = Kernel::new();
    let volume = Arc::clone(&kernel.volume);
    drop(kernel.device);
    let end = Instant::now() + Duration::from_secs(5);
    while volume.totals().connections > 0 {
        assert!(Instant::now() < end, "the thread goes on");
        thread::sleep(Duration::from_millis(1));
    }
    drop(kernel.server);
}

#[test]
fn a_descriptor_that_is_not_fuse_serves_nothing() {
    let (_, volume) = volume(4096, SIZE);
    let file = std::fs::File::create("/dev/null").unwrap();
    let server = Server::start(volume, vec![OwnedFd::from(file)], NAME.to_owned()).unwrap();
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_longer_body_is_a_newer_kernels() {
    let long = message(OPEN, 1, 2, &[0; 64]);
    let request = Request::parse(&long).unwrap();
    assert_eq!(request.body, Body::Open { flags: 0 });
    assert!(Request::parse(&[]).is_none());
}
