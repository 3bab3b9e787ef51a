// SPDX-License-Identifier: Apache-2.0
//! Serves a volume without a disk and without a cipher: what is left is the client and the protocol.
//!
//! ```text
//! serve_nothing FILE SOCKET
//! ```
//!
//! Of the file, only the size is used. What is written is gone, and what is read is whatever the
//! memory held. It is a limit to compare servers with; it serves until it is killed.

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;

use strongroom_core::cipher::{Run, Scratch, SectorSize, Transfer};
use strongroom_data::nbd::{Offer, Server};
use strongroom_data::{Backing, Geometry, Result, SectorTransform, Volume};

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, socket] = arguments.as_slice() else {
        return Err("usage: serve_nothing FILE SOCKET".into());
    };
    let size_bytes = fs::metadata(file)?.len();
    let geometry = Geometry {
        segment_offset_bytes: 0,
        size_bytes,
        sector_size: SectorSize::MAX,
        iv_tweak: 0,
        read_only: false,
        discard: false,
    };
    let volume = Volume::new(Arc::new(NoDisk(size_bytes)), Box::new(NoCipher), geometry)?;
    let listener = UnixListener::bind(socket)?;
    let _server = Server::start(Arc::new(volume), listener.into(), Offer::default())?;
    loop {
        thread::park();
    }
}

struct NoDisk(u64);

impl Backing for NoDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0)
    }

    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_at(&self, _buffer: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn begin_writeback(&self, _offset: u64, _length: u64) {}

    fn punch_hole(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn prefetch(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }
}

struct NoCipher;

impl SectorTransform for NoCipher {
    fn encrypt(&self, _: &mut Scratch, _: &mut [Run<'_>], _: SectorSize) -> Result<()> {
        Ok(())
    }

    fn decrypt(&self, _: &mut Scratch, _: &mut [Run<'_>], _: SectorSize) -> Result<()> {
        Ok(())
    }

    fn encrypt_to(&self, _: &mut Scratch, _: &mut [Transfer<'_>], _: SectorSize) -> Result<()> {
        Ok(())
    }

    fn decrypt_to(&self, _: &mut Scratch, _: &mut [Transfer<'_>], _: SectorSize) -> Result<()> {
        Ok(())
    }
}
