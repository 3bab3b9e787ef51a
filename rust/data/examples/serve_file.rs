// SPDX-License-Identifier: Apache-2.0
//! Serves a raw encrypted file over NBD, with a key from a file: for trying the data path by itself.
//!
//! ```text
//! serve_file FILE KEYFILE SOCKET [--sector-size N] [--offset N] [--iv-tweak N] [--read-only]
//!            [--no-discard] [--direct] [--structured-replies] [--name NAME]
//! ```
//!
//! It serves until standard input ends. The key file holds 32 or 64 bytes and nothing else. This is
//! no way to keep a key: the `strongroom` command never reads one from a file.

use std::error::Error;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use rustix::fs::OFlags;
use strongroom_core::cipher::{CipherKind, SectorCipher, SectorSize};
use strongroom_data::nbd::{Offer, Server};
use strongroom_data::{Geometry, Volume, of_descriptor};
use strongroom_sys::secret::SecretBytes;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, key_file, socket, options @ ..] = arguments.as_slice() else {
        return Err("usage: serve_file FILE KEYFILE SOCKET [OPTIONS]".into());
    };
    let read_only = has(options, "--read-only");
    let flags = if has(options, "--direct") {
        OFlags::DIRECT
    } else {
        OFlags::empty()
    };
    let file = fs::OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(flags.bits().cast_signed())
        .open(image)?;
    let offset = number(options, "--offset")?.unwrap_or(0);
    let sector_size = number(options, "--sector-size")?.unwrap_or(4096);
    let geometry = Geometry {
        segment_offset_bytes: offset,
        size_bytes: file.metadata()?.len().saturating_sub(offset),
        sector_size: SectorSize::new(u32::try_from(sector_size)?)?,
        iv_tweak: number(options, "--iv-tweak")?.unwrap_or(0),
        read_only,
        discard: !has(options, "--no-discard"),
    };
    let key = SecretBytes::copy_of(&fs::read(key_file)?)?;
    let cipher = SectorCipher::new(CipherKind::XtsPlain64, &key)?;
    let backing = of_descriptor(OwnedFd::from(file))?;
    let volume = Arc::new(Volume::new(backing, Box::new(cipher), geometry)?);
    let listener = UnixListener::bind(socket)?;
    let name = value(options, "--name").unwrap_or_default();
    let offer = Offer {
        export_name: name.to_owned(),
        structured_replies: has(options, "--structured-replies"),
    };
    let server = Server::start(Arc::clone(&volume), listener.into(), offer)?;

    io::stdin().read_to_end(&mut Vec::new())?;
    let left_behind = server.stop();
    volume.flush()?;
    volume.close();
    fs::remove_file(socket)?;
    writeln!(
        io::stdout(),
        "left behind: {left_behind}; {:?}",
        volume.totals()
    )?;
    Ok(())
}

fn has(options: &[String], name: &str) -> bool {
    options.iter().any(|option| option == name)
}

fn value<'a>(options: &'a [String], name: &str) -> Option<&'a str> {
    let place = options.iter().position(|option| option == name)?;
    options.get(place + 1).map(String::as_str)
}

fn number(options: &[String], name: &str) -> Result<Option<u64>, std::num::ParseIntError> {
    value(options, name).map(str::parse).transpose()
}
