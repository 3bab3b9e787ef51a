// SPDX-License-Identifier: Apache-2.0
//! Whole connections over socket pairs, well-behaved and hostile.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::handshake::{Export, negotiate_within};
use super::protocol::{Negotiated, option, option_reply};
use super::socket::Socket;
use super::{MAX_CONNECTIONS, Offer, Server, serve_connection};
use crate::testing::{MemoryBacking, Random, SEGMENT_OFFSET, volume, volume_with};
use crate::volume::Volume;

const SIZE: u64 = 8 * 1024 * 1024;
const OPTION_MAGIC: &[u8] = b"IHAVEOPT";

fn offer() -> Offer {
    Offer {
        export_name: "disk".to_owned(),
        structured_replies: true,
    }
}

/// The client's end of a connection that a thread serves.
struct Client {
    stream: UnixStream,
    server: JoinHandle<io::Result<()>>,
}

impl Client {
    /// Connects and sends the client's flags.
    fn connect(volume: &Arc<Volume>, flags: u32) -> Self {
        Self::connect_to(volume, flags, offer())
    }

    fn connect_to(volume: &Arc<Volume>, flags: u32, offer: Offer) -> Self {
        let (stream, other) = UnixStream::pair().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let volume = Arc::clone(volume);
        let server = thread::spawn(move || serve_connection(&volume, other.into(), &offer));
        let mut client = Self { stream, server };
        let greeting = client.receive(18);
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        assert_eq!(greeting[16..], [0, 3]);
        client.send(&flags.to_be_bytes());
        client
    }

    /// Enters transmission with simple replies.
    fn simple(volume: &Arc<Volume>) -> Self {
        let mut client = Self::connect(volume, 3);
        client.option(option::EXPORT_NAME, b"disk");
        client.receive(10);
        client
    }

    /// Enters transmission with structured replies and `base:allocation`.
    fn structured(volume: &Arc<Volume>) -> Self {
        let mut client = Self::connect(volume, 3);
        client.option(option::STRUCTURED_REPLY, &[]);
        assert_eq!(client.option_reply().1, option_reply::ACK);
        client.option(option::SET_META_CONTEXT, &meta(b"", &[b"base:allocation"]));
        assert_eq!(client.option_reply().1, option_reply::META_CONTEXT);
        assert_eq!(client.option_reply().1, option_reply::ACK);
        client.option(option::GO, &go(b"disk", &[]));
        assert_eq!(client.option_reply().1, option_reply::INFO);
        assert_eq!(client.option_reply().1, option_reply::ACK);
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.stream.read_exact(&mut data).unwrap();
        data
    }

    fn option(&mut self, number: u32, data: &[u8]) {
        let length = u32::try_from(data.len()).unwrap();
        let head = [number.to_be_bytes(), length.to_be_bytes()].concat();
        self.send(&[OPTION_MAGIC, &head, data].concat());
    }

    /// Option, kind and data of the next reply.
    fn option_reply(&mut self) -> (u32, u32, Vec<u8>) {
        let head = self.receive(20);
        assert_eq!(head[..8], 0x0003_e889_0455_65a9_u64.to_be_bytes());
        let data = self.receive(be32(&head[16..]) as usize);
        (be32(&head[8..]), be32(&head[12..]), data)
    }

    /// Error and cookie of the next simple reply.
    fn simple_reply(&mut self) -> (u32, u64) {
        let head = self.receive(16);
        assert_eq!(be32(&head), 0x6744_6698);
        (be32(&head[4..]), be64(&head[8..]))
    }

    /// Flags, kind and payload of the next chunk.
    fn chunk(&mut self) -> (u16, u16, Vec<u8>) {
        let head = self.receive(20);
        assert_eq!(be32(&head), 0x668e_33ef);
        let payload = self.receive(be32(&head[16..]) as usize);
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        (word(4), word(6), payload)
    }

    /// Requires that the server closes the connection, and returns what it made of it.
    fn cut_off(mut self) -> io::Result<()> {
        let mut rest = Vec::new();
        // A reset is as good as an end.
        let _ = self.stream.read_to_end(&mut rest);
        self.server.join().unwrap()
    }
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

fn be64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

fn string(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text].concat()
}

fn go(name: &[u8], wanted: &[u16]) -> Vec<u8> {
    let mut data = string(name);
    data.extend(u16::try_from(wanted.len()).unwrap().to_be_bytes());
    data.extend(wanted.iter().flat_map(|kind| kind.to_be_bytes()));
    data
}

fn meta(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    let mut data = string(name);
    data.extend(u32::try_from(queries.len()).unwrap().to_be_bytes());
    data.extend(queries.iter().flat_map(|query| string(query)));
    data
}

fn request(command: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut head = 0x2560_9513_u32.to_be_bytes().to_vec();
    head.extend(flags.to_be_bytes());
    head.extend(command.to_be_bytes());
    head.extend(cookie.to_be_bytes());
    head.extend(offset.to_be_bytes());
    head.extend(length.to_be_bytes());
    head
}

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const ZERO: u16 = 6;
const STATUS: u16 = 7;

#[test]
fn options_are_answered_as_the_specification_says() {
    let (_backing, volume) = volume(4096, SIZE);
    let mut client = Client::connect(&volume, 3);
    let invalid = option_reply::ERR_INVALID;
    for (number, data, answers) in [
        (5, vec![], vec![option_reply::ERR_UNSUP]),
        (11, vec![], vec![option_reply::ERR_UNSUP]),
        (99, vec![1; 500], vec![option_reply::ERR_UNSUP]),
        (
            option::LIST,
            vec![],
            vec![option_reply::SERVER, option_reply::ACK],
        ),
        (option::LIST, vec![1], vec![invalid]),
        (option::STRUCTURED_REPLY, vec![1], vec![invalid]),
        (option::SET_META_CONTEXT, meta(b"", &[]), vec![invalid]),
        (option::STRUCTURED_REPLY, vec![], vec![option_reply::ACK]),
        (
            option::SET_META_CONTEXT,
            meta(b"", &[b"base:"]),
            vec![option_reply::ACK],
        ),
        (option::LIST_META_CONTEXT, meta(b"", &[]), vec![4, 1]),
        (
            option::LIST_META_CONTEXT,
            meta(b"", &[b"base:"]),
            vec![4, 1],
        ),
        (
            option::LIST_META_CONTEXT,
            meta(b"x", &[]),
            vec![option_reply::ERR_UNKNOWN],
        ),
        (option::SET_META_CONTEXT, string(b""), vec![invalid]),
        (
            option::SET_META_CONTEXT,
            [string(b""), vec![255; 4]].concat(),
            vec![invalid],
        ),
        (
            option::INFO,
            go(b"other", &[]),
            vec![option_reply::ERR_UNKNOWN],
        ),
        (option::INFO, string(b"disk"), vec![invalid]),
        (option::INFO, go(b"disk", &[])[..5].to_vec(), vec![invalid]),
        (option::INFO, go(b"", &[1, 3, 77]), vec![3, 3, 3, 1]),
    ] {
        client.option(number, &data);
        for answer in answers {
            let reply = client.option_reply();
            assert_eq!(
                (reply.0, reply.1),
                (number, answer),
                "option {number} {data:?}"
            );
        }
    }
    client.option(option::ABORT, &[]);
    assert_eq!(client.option_reply().1, option_reply::ACK);
    client.cut_off().unwrap();
}

#[test]
fn an_export_is_described() {
    let (_backing, volume) = volume_with(4096, SIZE, |geometry| geometry.read_only = true);
    let mut client = Client::connect(&volume, 1);
    client.option(option::INFO, &go(b"disk", &[3]));
    let export = client.option_reply().2;
    assert_eq!(be64(&export[2..]), SIZE);
    // Read-only: neither FUA nor trim nor zeroes; no structured replies: no DF.
    assert_eq!(export[10..], [0b101, 0b0000_0111]);
    let sizes = client.option_reply().2;
    let sizes = [&sizes[2..], &sizes[6..], &sizes[10..]].map(be32);
    assert_eq!(sizes, [1, 4096, 32 << 20]);
    assert_eq!(client.option_reply().1, option_reply::ACK);
    client.option(option::EXPORT_NAME, b"");
    let answer = client.receive(8 + 2 + 124);
    assert!(answer[10..].iter().all(|byte| *byte == 0));
    client.send(&request(DISCONNECT, 0, 0, 0, 0));
    client.cut_off().unwrap();
}

#[test]
fn clients_that_break_the_handshake_are_cut_off() {
    let (_backing, volume) = volume(4096, SIZE);
    assert!(Client::connect(&volume, 7).cut_off().is_err());
    let mut client = Client::connect(&volume, 3);
    client.send(&[0; 16]);
    assert!(client.cut_off().is_err());
    let mut client = Client::connect(&volume, 3);
    client.send(&[OPTION_MAGIC, &[0, 0, 0, 7, 255, 255, 255, 255]].concat());
    assert!(client.cut_off().is_err());
    let mut client = Client::connect(&volume, 3);
    client.option(option::EXPORT_NAME, b"other");
    client.cut_off().unwrap();
    // Without "fixed" only the export's name may be sent.
    let mut client = Client::connect(&volume, 0);
    client.option(option::LIST, &[]);
    client.cut_off().unwrap();
    let mut client = Client::connect(&volume, 3);
    for _ in 0..64 {
        client.option(99, &[]);
        client.option_reply();
    }
    assert!(client.cut_off().is_err());
    assert_eq!(volume.totals().connections, 0);
}

#[test]
fn a_silent_client_is_cut_off_in_time() {
    let (_backing, volume) = volume(4096, SIZE);
    let (stream, other) = UnixStream::pair().unwrap();
    let offer = offer();
    let export = Export {
        offer: &offer,
        volume: &volume,
    };
    let start = Instant::now();
    let socket = Socket::new(other.as_fd());
    let result = negotiate_within(socket, &export, Duration::from_millis(50));
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(stream);
    let gone = negotiate_within(socket, &export, Duration::from_secs(5));
    assert!(gone.is_err());
    assert_eq!(
        Negotiated::default(),
        Negotiated {
            structured: false,
            block_status: false
        }
    );
}

#[test]
fn pipelined_requests_of_all_kinds_are_answered_once_each() {
    let (_backing, volume) = volume(4096, SIZE);
    let mut client = Client::simple(&volume);
    let mut random = Random(5);
    let large = random.bytes(700_001);
    let mut bytes = Vec::new();
    for index in 0..40_u8 {
        bytes.extend(request(
            WRITE,
            0,
            u64::from(index),
            u64::from(index) * 5000,
            5000,
        ));
        bytes.extend([index; 5000]);
    }
    bytes.extend(request(FLUSH, 0, 100, 0, 0));
    bytes.extend(request(WRITE, 1, 101, 1_000_001, 700_001));
    bytes.extend(&large);
    let mut stream = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || stream.write_all(&bytes).unwrap());
    let mut answers: Vec<_> = (0..42).map(|_| client.simple_reply()).collect();
    sender.join().unwrap();
    answers.sort_unstable_by_key(|answer| answer.1);
    let cookies = (0..40).chain([100, 101]);
    assert_eq!(
        answers,
        cookies.map(|cookie| (0, cookie)).collect::<Vec<_>>()
    );

    for index in 0..40_u8 {
        client.send(&request(
            READ,
            0,
            u64::from(index),
            u64::from(index) * 5000,
            5000,
        ));
    }
    for _ in 0..40 {
        let (error, cookie) = client.simple_reply();
        let data = client.receive(5000);
        assert_eq!(error, 0);
        assert!(data.iter().all(|byte| u64::from(*byte) == cookie));
    }
    client.send(&request(READ, 0, 7, 1_000_001, 700_001));
    assert_eq!(client.simple_reply(), (0, 7));
    assert_eq!(client.receive(700_001), large);
    let totals = volume.totals();
    assert_eq!((totals.writes, totals.reads, totals.flushes), (41, 41, 1));
    assert_eq!(totals.connections, 1);
    client.send(&request(DISCONNECT, 0, 0, 0, 0));
    client.cut_off().unwrap();
}

#[test]
fn structured_replies_are_refused_unless_they_are_offered() {
    let (_backing, volume) = volume(4096, SIZE);
    let offer = Offer {
        structured_replies: false,
        ..offer()
    };
    let mut client = Client::connect_to(&volume, 3, offer);
    client.option(option::STRUCTURED_REPLY, &[]);
    assert_eq!(client.option_reply().1, option_reply::ERR_UNSUP);
    client.option(option::SET_META_CONTEXT, &meta(b"", &[b"base:allocation"]));
    assert_eq!(client.option_reply().1, option_reply::ERR_INVALID);
    client.option(option::GO, &go(b"disk", &[]));
    assert_eq!(client.option_reply().1, option_reply::INFO);
    assert_eq!(client.option_reply().1, option_reply::ACK);
    let data = Random(11).bytes(1 << 20);
    client.send(&request(WRITE, 0, 1, 5, 1 << 20));
    client.send(&data);
    assert_eq!(client.simple_reply(), (0, 1));
    for length in [3, 4096, 700_001, 1 << 20] {
        client.send(&request(READ, 0, 2, 5, length));
        assert_eq!(client.simple_reply(), (0, 2));
        assert!(client.receive(length as usize) == data[..length as usize]);
    }
}

#[test]
fn structured_reads_come_in_chunks_that_cover_the_range() {
    let (_backing, volume) = volume(512, SIZE);
    let mut client = Client::structured(&volume);
    let data = Random(9).bytes(5 << 20);
    client.send(&request(WRITE, 0, 1, 3, 5 << 20));
    client.send(&data);
    assert_eq!(client.simple_reply(), (0, 1));
    let mut got: Vec<u8> = Vec::new();
    client.send(&request(READ, 0, 2, 3, 5 << 20));
    loop {
        let (flags, kind, payload) = client.chunk();
        assert_eq!((kind, be64(&payload)), (1, 3 + got.len() as u64));
        got.extend(&payload[8..]);
        if flags == 1 {
            break;
        }
    }
    assert!(got == data);
    // Unfragmented, longer than is held in memory: one content chunk, then an empty one.
    client.send(&request(READ, 4, 3, 3, 5 << 20));
    let (flags, kind, payload) = client.chunk();
    assert_eq!((flags, kind), (0, 1));
    assert!(payload[8..] == data);
    assert_eq!(client.chunk(), (1, 0, vec![]));
    client.send(&request(READ, 0, 4, 0, 0));
    assert_eq!(client.chunk(), (1, 0, vec![]));
    client.send(&request(STATUS, 8, 5, 1000, 2000));
    let (flags, kind, payload) = client.chunk();
    assert_eq!((flags, kind), (1, 5));
    assert_eq!([0, 4, 8].map(|at| be32(&payload[at..])), [1, 2000, 0]);
}

#[test]
fn refusals_have_their_numbers_and_keep_the_stream_in_step() {
    let (_backing, volume) = volume(4096, SIZE);
    let mut client = Client::simple(&volume);
    let end = SIZE;
    for (command, flags, offset, length, payload, error) in [
        (READ, 0, end, 1, 0, 22),
        (READ, 0, u64::MAX, 2, 0, 22),
        (READ, 0, 0, (32 << 20) + 1, 0, 22),
        (READ, 4, 0, 512, 0, 22),
        (WRITE, 0, end - 1, 2, 2, 28),
        (WRITE, 0, u64::MAX - 5, 600_000, 600_000, 28),
        (WRITE, 2, 0, 512, 512, 22),
        (WRITE, 0, 0, (32 << 20) + 1, (32 << 20) + 1, 22),
        (WRITE, 0, 0, 0, 0, 0),
        (FLUSH, 0, 0, 1, 0, 22),
        (FLUSH, 0, 1, 0, 0, 22),
        (FLUSH, 1, 0, 0, 0, 0),
        (TRIM, 0, end - 1, 2, 0, 22),
        (TRIM, 2, 0, 4096, 0, 22),
        (ZERO, 0, end - 1, 2, 0, 28),
        (ZERO, 16, 0, 4096, 0, 95),
        (ZERO, 2, 0, 0, 0, 0),
        (STATUS, 0, 0, 512, 0, 22),
        (55, 0, 0, 0, 0, 22),
    ] {
        client.send(&request(command, flags, 9, offset, length));
        client.send(&vec![1; payload]);
        let expected = (error, 9);
        assert_eq!(
            client.simple_reply(),
            expected,
            "{command} {flags} {offset} {length}"
        );
    }
    assert_eq!(volume.totals().errors, 16);
    client.send(&[0xFF; 28]);
    assert!(client.cut_off().is_err());
    let mut client = Client::simple(&volume);
    client.send(&request(WRITE, 0, 1, 0, u32::MAX));
    assert!(client.cut_off().is_err());
}

#[test]
fn read_only_volumes_refuse_changes_and_skip_their_payload() {
    let (backing, volume) = volume_with(4096, SIZE, |geometry| geometry.read_only = true);
    let before = backing.contents();
    let mut client = Client::simple(&volume);
    for (command, length, payload) in [
        (WRITE, 4096, 4096),
        (WRITE, 1 << 20, 1 << 20),
        (TRIM, 4096, 0),
        (ZERO, 4096, 0),
    ] {
        client.send(&request(command, 0, 1, 0, length));
        client.send(&vec![1; payload]);
        assert_eq!(client.simple_reply(), (1, 1));
    }
    assert!(backing.contents() == before);
}

#[test]
fn the_disks_errors_reach_the_client() {
    let (backing, volume) = volume(4096, SIZE);
    let mut client = Client::structured(&volume);
    let write = |client: &mut Client, flags: u16, length: u32| {
        client.send(&request(WRITE, flags, 1, 0, length));
        client.send(&vec![1; length as usize]);
        client.simple_reply().0
    };
    backing.fail_writes_after(0, 28);
    assert_eq!(write(&mut client, 0, 4096), 28);
    backing.fail_writes_after(2, 5);
    assert_eq!(write(&mut client, 0, 2 << 20), 5);
    backing.mend_writes();
    assert_eq!(write(&mut client, 0, 2 << 20), 0);

    bad_sector(&backing, 600_000);
    client.send(&request(READ, 0, 2, 0, 4096));
    assert_eq!(client.chunk().1, 1);
    client.send(&request(READ, 0, 2, 598_016, 4096));
    assert_eq!(client.chunk().2[..4], 5_u32.to_be_bytes());
    // Chunks before the bad one arrive, then the error.
    client.send(&request(READ, 0, 2, 0, 1 << 20));
    assert_eq!(client.chunk().2.len(), 8 + (256 << 10));
    assert_eq!(client.chunk().2.len(), 8 + (256 << 10));
    let (flags, kind, payload) = client.chunk();
    assert_eq!((flags, kind, be32(&payload)), (1, 0x8001, 5));
    // Unfragmented, the error comes instead of data, whatever the length.
    for length in [1 << 20, 5 << 20] {
        client.send(&request(READ, 4, 2, 0, length));
        assert_eq!(client.chunk().1, 0x8001);
    }

    backing.fail_flush.store(true, Ordering::Relaxed);
    assert_eq!(write(&mut client, 1, 4096), 5);
    backing.fail_flush.store(false, Ordering::Relaxed);
    client.send(&request(FLUSH, 0, 3, 0, 0));
    assert_eq!(client.simple_reply(), (5, 3));
    volume.close();
    client.send(&request(FLUSH, 0, 4, 0, 0));
    assert_eq!(client.simple_reply(), (108, 4));
}

fn bad_sector(backing: &MemoryBacking, offset: u64) {
    backing
        .bad_position
        .store(SEGMENT_OFFSET + offset, Ordering::Relaxed);
}

#[test]
fn a_client_that_vanishes_in_a_request_harms_nobody() {
    let (_backing, volume) = volume(4096, SIZE);
    for sent in [
        request(WRITE, 0, 1, 0, 4096)[..20].to_vec(),
        [request(WRITE, 0, 1, 0, 4096), vec![0; 4095]].concat(),
        [request(WRITE, 0, 1, 0, 1 << 20), vec![0; 5000]].concat(),
        request(READ, 0, 1, 0, 8 << 20),
    ] {
        let mut client = Client::simple(&volume);
        client.send(&sent);
        client.stream.shutdown(Shutdown::Both).unwrap();
        let _ = client.cut_off();
    }
    assert_eq!(volume.totals().connections, 0);
    assert!(volume.flush().is_ok());
}

/// A listening socket in a directory of its own, which is removed with it.
struct Listening {
    directory: std::path::PathBuf,
    socket: Option<OwnedFd>,
}

impl Listening {
    fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("strongroom-nbd-{}-{name}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let socket = UnixListener::bind(directory.join("s")).unwrap();
        Self {
            directory,
            socket: Some(socket.into()),
        }
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(self.directory.join("s"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_server_stops_with_clients_connected() {
    let (_backing, volume) = volume(4096, SIZE);
    let mut listening = Listening::new("stop");
    let listener = listening.socket.take().unwrap();
    let server = Server::start(Arc::clone(&volume), listener, offer()).unwrap();
    let mut streams: Vec<_> = (0..4).map(|_| listening.connect().unwrap()).collect();
    for stream in &mut streams {
        stream.read_exact(&mut [0; 18]).unwrap();
    }
    assert_eq!(volume.totals().connections, 4);
    assert_eq!(server.stop(), 0);
    assert_eq!(volume.totals().connections, 0);
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    assert!(listening.connect().is_err());
}

#[test]
fn requests_that_have_arrived_are_finished_when_the_server_stops() {
    let (_backing, volume) = volume(4096, SIZE);
    let mut listening = Listening::new("finish");
    let listener = listening.socket.take().unwrap();
    let server = Server::start(Arc::clone(&volume), listener, offer()).unwrap();
    let mut stream = listening.connect().unwrap();
    stream.read_exact(&mut [0; 18]).unwrap();
    stream.write_all(&[0, 0, 0, 3]).unwrap();
    stream
        .write_all(&[OPTION_MAGIC, &[0, 0, 0, 1, 0, 0, 0, 0]].concat())
        .unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    let writes: Vec<_> = (0..8)
        .flat_map(|cookie| {
            [
                request(WRITE, 0, cookie, cookie * 4096, 4096),
                vec![3; 4096],
            ]
            .concat()
        })
        .collect();
    stream.write_all(&writes).unwrap();
    assert_eq!(server.stop(), 0);
    let mut replies = Vec::new();
    stream.read_to_end(&mut replies).unwrap();
    assert_eq!(replies.len(), 8 * 16);
    assert_eq!(volume.totals().writes, 8);
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let (_backing, volume) = volume(4096, SIZE);
    let mut listening = Listening::new("limit");
    let listener = listening.socket.take().unwrap();
    let server = Server::start(Arc::clone(&volume), listener, offer()).unwrap();
    let mut streams: Vec<_> = (0..MAX_CONNECTIONS)
        .map(|_| listening.connect().unwrap())
        .collect();
    for stream in &mut streams {
        stream.read_exact(&mut [0; 18]).unwrap();
    }
    let mut refused = listening.connect().unwrap();
    assert_eq!(refused.read(&mut [0; 18]).unwrap_or(0), 0);
    // When one leaves there is room for another.
    drop(streams.pop());
    let deadline = Instant::now() + Duration::from_secs(10);
    while listening.connect().unwrap().read(&mut [0; 18]).unwrap_or(0) == 0 {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.stop(), 0);
}
