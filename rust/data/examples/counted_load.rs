// SPDX-License-Identifier: Apache-2.0
//! A load whose cost can be counted: bursts of requests over one connection, always the same.
//!
//! ```text
//! counted_load FILE read|write SIZE BURST BURSTS
//! ```
//!
//! A client thread sends BURST requests of SIZE bytes in one message, waits for all replies, and does
//! that BURSTS times. The server is the main thread, so that a tracer tells its system calls from the
//! client's. Two runs that differ in BURSTS only differ by what these bursts cost; see
//! `tests/system/costs`. FILE is overwritten; its key is all zeroes.

use std::error::Error;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use strongroom_core::cipher::{CipherKind, SectorCipher, SectorSize};
use strongroom_data::nbd::{Offer, serve_connection};
use strongroom_data::{FileBacking, Geometry, Volume};
use strongroom_sys::secret::SecretBytes;

const VOLUME_BYTES: u64 = 64 * 1024 * 1024;
const OPTION_MAGIC: &[u8] = b"IHAVEOPT";
const OPTION_EXPORT_NAME: u32 = 1;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const DISCONNECT: u16 = 2;
const HEAD_BYTES: usize = 28;

/// Neighbouring requests of a burst lie this far apart, in units of their size.
const STRIDE: u64 = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, operation, size, burst, bursts] = arguments.as_slice() else {
        return Err("usage: counted_load FILE read|write SIZE BURST BURSTS".into());
    };
    let load = Load {
        writes: operation == "write",
        size: size.parse()?,
        burst: burst.parse()?,
        bursts: bursts.parse()?,
    };
    let volume = volume(path)?;
    let (client, server) = UnixStream::pair()?;
    let client = thread::Builder::new()
        .name("client".to_owned())
        .spawn(move || load.run(client))?;
    serve_connection(&volume, OwnedFd::from(server), &Offer::default())?;
    client.join().map_err(|_| "the client has panicked")??;
    writeln!(io::stdout(), "{:?}", volume.totals())?;
    Ok(())
}

fn volume(path: &str) -> Result<Arc<Volume>, Box<dyn Error>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.set_len(VOLUME_BYTES)?;
    let geometry = Geometry {
        segment_offset_bytes: 0,
        size_bytes: VOLUME_BYTES,
        sector_size: SectorSize::MAX,
        iv_tweak: 0,
        read_only: false,
        discard: false,
    };
    let key = SecretBytes::copy_of(&[0; 64])?;
    let cipher = SectorCipher::new(CipherKind::XtsPlain64, &key)?;
    let backing = Arc::new(FileBacking::new(OwnedFd::from(file)));
    Ok(Arc::new(Volume::new(backing, Box::new(cipher), geometry)?))
}

struct Load {
    writes: bool,
    size: u32,
    burst: u64,
    bursts: u64,
}

impl Load {
    fn run(&self, mut stream: UnixStream) -> io::Result<()> {
        negotiate(&mut stream)?;
        let mut replies = vec![0; self.reply_bytes()];
        let mut message = Vec::with_capacity(self.message_bytes());
        for number in 0..self.bursts {
            self.compose(&mut message, number);
            stream.write_all(&message)?;
            stream.read_exact(&mut replies)?;
        }
        stream.write_all(&head(DISCONNECT, 0, 0))
    }

    fn reply_bytes(&self) -> usize {
        let one = if self.writes { 16 } else { 16 + self.size };
        one as usize * usize::try_from(self.burst).unwrap_or(usize::MAX)
    }

    fn message_bytes(&self) -> usize {
        let payload = if self.writes { self.size } else { 0 };
        (HEAD_BYTES + payload as usize) * usize::try_from(self.burst).unwrap_or(usize::MAX)
    }

    /// Allocates nothing, as the server's allocations are counted.
    fn compose(&self, message: &mut Vec<u8>, number: u64) {
        let size = u64::from(self.size);
        let places = VOLUME_BYTES / size;
        message.clear();
        for index in 0..self.burst {
            let place = (number * self.burst + index) * STRIDE % places;
            message.extend(head(u16::from(self.writes), place * size, self.size));
            if self.writes {
                message.resize(message.len() + self.size as usize, 0x5A);
            }
        }
    }
}

fn negotiate(stream: &mut UnixStream) -> io::Result<()> {
    stream.read_exact(&mut [0; 18])?;
    stream.write_all(&3_u32.to_be_bytes())?;
    stream.write_all(&option(OPTION_EXPORT_NAME))?;
    stream.read_exact(&mut [0; 10])
}

fn option(number: u32) -> Vec<u8> {
    [OPTION_MAGIC, &number.to_be_bytes(), &0_u32.to_be_bytes()].concat()
}

fn head(command: u16, offset: u64, length: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    head[6..8].copy_from_slice(&command.to_be_bytes());
    head[8..16].copy_from_slice(&offset.to_be_bytes());
    head[16..24].copy_from_slice(&offset.to_be_bytes());
    head[24..].copy_from_slice(&length.to_be_bytes());
    head
}
