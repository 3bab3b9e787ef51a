// SPDX-License-Identifier: Apache-2.0
//! From a fresh connection to transmission: option haggling with a client that may be hostile.
//!
//! Bounds: [`MAX_OPTIONS`] options of [`MAX_OPTION_BYTES`] each, all within [`TIMEOUT`]. A client
//! that exceeds them is disconnected, as the specification allows.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use super::protocol::{
    BASE_ALLOCATION, BASE_ALLOCATION_ID, MAX_PAYLOAD_BYTES, NBD_MAGIC, Negotiated, OPTION_MAGIC,
    OPTION_REPLY_MAGIC, Reader, handshake_flag, info, option, option_reply, transmission_flags,
};
use super::socket::Socket;
use crate::volume::Volume;

/// The whole handshake must be done within this time.
const TIMEOUT: Duration = Duration::from_secs(10);

/// No client needs more options than this.
const MAX_OPTIONS: usize = 64;

/// Room for a name of 4096 bytes and several queries of the same length.
const MAX_OPTION_BYTES: usize = 64 * 1024;

/// Unaligned requests work, but cost a read and a write each.
const MIN_BLOCK_BYTES: u32 = 1;

/// Zeroes that old clients expect after the answer to `EXPORT_NAME`.
const PADDING: [u8; 124] = [0; 124];

/// What clients are offered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offer {
    /// The name of the export; the empty name means it too.
    pub export_name: String,
    /// Whether a client may have structured replies and block status. They tell it nothing more
    /// about a volume, of which all is allocated, and cost it a third of its small reads.
    pub structured_replies: bool,
}

/// What a client may be told about the export.
pub(crate) struct Export<'a> {
    pub(crate) offer: &'a Offer,
    pub(crate) volume: &'a Volume,
}

/// Negotiates; nothing if the client left, or was refused, in an orderly way.
///
/// # Errors
/// The client broke the protocol or a bound, or the connection broke.
pub(crate) fn negotiate(socket: Socket<'_>, export: &Export<'_>) -> io::Result<Option<Negotiated>> {
    negotiate_within(socket, export, TIMEOUT)
}

pub(crate) fn negotiate_within(
    socket: Socket<'_>,
    export: &Export<'_>,
    timeout: Duration,
) -> io::Result<Option<Negotiated>> {
    let socket = socket.with_deadline(Instant::now() + timeout);
    let ours = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
    send(
        socket,
        &[
            &NBD_MAGIC.to_be_bytes(),
            &OPTION_MAGIC.to_be_bytes(),
            &ours.to_be_bytes(),
        ],
    )?;
    let mut theirs = [0; 4];
    socket.receive_exact(&mut theirs)?;
    let theirs = u32::from_be_bytes(theirs);
    if theirs & !u32::from(ours) != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let haggling = Haggling {
        socket,
        export,
        fixed: theirs & u32::from(handshake_flag::FIXED_NEWSTYLE) != 0,
        no_zeroes: theirs & u32::from(handshake_flag::NO_ZEROES) != 0,
        negotiated: Negotiated::default(),
    };
    haggling.run()
}

struct Haggling<'a> {
    socket: Socket<'a>,
    export: &'a Export<'a>,
    fixed: bool,
    no_zeroes: bool,
    negotiated: Negotiated,
}

/// What follows an option.
enum Next {
    Haggle,
    Transmit,
    Close,
}

impl Haggling<'_> {
    fn run(mut self) -> io::Result<Option<Negotiated>> {
        for _ in 0..MAX_OPTIONS {
            match self.option()? {
                Next::Haggle => {}
                Next::Transmit => return Ok(Some(self.negotiated)),
                Next::Close => return Ok(None),
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn option(&mut self) -> io::Result<Next> {
        let mut header = [0; 16];
        self.socket.receive_exact(&mut header)?;
        let mut reader = Reader::new(&header);
        let magic = reader.u64();
        let (Some(option), Some(length)) = (reader.u32(), reader.u32()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if magic != Some(OPTION_MAGIC) || length > MAX_OPTION_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut data = vec![0; length];
        self.socket.receive_exact(&mut data)?;
        self.answer(option, &data)
    }

    fn answer(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        match option {
            option::EXPORT_NAME => return self.export_name(data),
            // Without "fixed" a client understands no other answer than a closed connection.
            _ if !self.fixed => return Ok(Next::Close),
            option::ABORT => {
                // The client may be gone already, and need not read the answer.
                let _ = self.reply(option, option_reply::ACK, &[]);
                return Ok(Next::Close);
            }
            option::GO | option::INFO => return self.info(option, data),
            option::LIST if data.is_empty() => {
                let name = self.export.offer.export_name.as_bytes();
                let length = string_length(name).to_be_bytes();
                self.reply(option, option_reply::SERVER, &[&length, name])?;
                self.reply(option, option_reply::ACK, &[])?;
            }
            option::STRUCTURED_REPLY if !self.export.offer.structured_replies => {
                self.reply(option, option_reply::ERR_UNSUP, &[])?;
            }
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.negotiated.structured = true;
                self.reply(option, option_reply::ACK, &[])?;
            }
            option::LIST | option::STRUCTURED_REPLY => {
                self.reply(option, option_reply::ERR_INVALID, &[])?;
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                self.meta_context(option, data)?;
            }
            // TLS and extended headers among them.
            _ => self.reply(option, option_reply::ERR_UNSUP, &[])?,
        }
        Ok(Next::Haggle)
    }

    /// This option has no way to say no.
    fn export_name(&mut self, name: &[u8]) -> io::Result<Next> {
        if !self.is_ours(name) {
            return Ok(Next::Close);
        }
        let padding = if self.no_zeroes { &[][..] } else { &PADDING };
        let size = self.export.volume.geometry().size_bytes;
        let flags = transmission_flags(self.export.volume, self.negotiated);
        send(
            self.socket,
            &[&size.to_be_bytes(), &flags.to_be_bytes(), padding],
        )?;
        Ok(Next::Transmit)
    }

    fn info(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        let Some((name, wanted)) = parse_info(data) else {
            self.reply(option, option_reply::ERR_INVALID, &[])?;
            return Ok(Next::Haggle);
        };
        if !self.is_ours(name) {
            self.reply(option, option_reply::ERR_UNKNOWN, &[])?;
            return Ok(Next::Haggle);
        }
        let geometry = self.export.volume.geometry();
        let flags = transmission_flags(self.export.volume, self.negotiated);
        self.reply(
            option,
            option_reply::INFO,
            &[
                &info::EXPORT.to_be_bytes(),
                &geometry.size_bytes.to_be_bytes(),
                &flags.to_be_bytes(),
            ],
        )?;
        if wanted.contains(&info::NAME) {
            let name = self.export.offer.export_name.as_bytes();
            self.reply(
                option,
                option_reply::INFO,
                &[&info::NAME.to_be_bytes(), name],
            )?;
        }
        if wanted.contains(&info::BLOCK_SIZE) {
            self.reply(
                option,
                option_reply::INFO,
                &[
                    &info::BLOCK_SIZE.to_be_bytes(),
                    &MIN_BLOCK_BYTES.to_be_bytes(),
                    &PREFERRED_BLOCK_BYTES.to_be_bytes(),
                    &MAX_PAYLOAD_BYTES.to_be_bytes(),
                ],
            )?;
        }
        self.reply(option, option_reply::ACK, &[])?;
        Ok(match option {
            option::GO => Next::Transmit,
            _ => Next::Haggle,
        })
    }

    fn meta_context(&mut self, option: u32, data: &[u8]) -> io::Result<()> {
        let parsed = parse_meta_context(data).filter(|_| self.negotiated.structured);
        let Some((name, queries)) = parsed else {
            return self.reply(option, option_reply::ERR_INVALID, &[]);
        };
        let setting = option == option::SET_META_CONTEXT;
        // Setting replaces what was set before, even when it fails.
        self.negotiated.block_status &= !setting;
        if !self.is_ours(name) {
            return self.reply(option, option_reply::ERR_UNKNOWN, &[]);
        }
        // Only a list understands "everything" and "everything in base".
        let wild = !setting && (queries.is_empty() || queries.contains(&b"base:".as_slice()));
        if wild || queries.contains(&BASE_ALLOCATION) {
            // The number is reserved in a list.
            let id = if setting { BASE_ALLOCATION_ID } else { 0 };
            self.negotiated.block_status |= setting;
            self.reply(
                option,
                option_reply::META_CONTEXT,
                &[&id.to_be_bytes(), BASE_ALLOCATION],
            )?;
        }
        self.reply(option, option_reply::ACK, &[])
    }

    /// The empty name asks for the default export, which is the only one.
    fn is_ours(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.export.offer.export_name.as_bytes()
    }

    fn reply(&self, option: u32, kind: u32, data: &[&[u8]]) -> io::Result<()> {
        let length = string_length(&data.concat());
        let mut parts: Vec<&[u8]> = Vec::with_capacity(data.len() + 4);
        let (magic, option) = (OPTION_REPLY_MAGIC.to_be_bytes(), option.to_be_bytes());
        let (kind, length) = (kind.to_be_bytes(), length.to_be_bytes());
        parts.extend([magic.as_slice(), &option, &kind, &length]);
        parts.extend(data);
        send(self.socket, &parts)
    }
}

/// The largest sector and the page size: requests on this grid are never read first.
const PREFERRED_BLOCK_BYTES: u32 = 4096;

/// Spec: `NBD_OPT_INFO`: name, then a counted list of 16-bit numbers.
fn parse_info(data: &[u8]) -> Option<(&[u8], Vec<u16>)> {
    let mut reader = Reader::new(data);
    let name = reader.string()?;
    let count = reader.u16()?;
    let wanted = (0..count).map(|_| reader.u16()).collect::<Option<_>>()?;
    reader.end()?;
    Some((name, wanted))
}

/// Spec: `NBD_OPT_SET_META_CONTEXT`: name, then a counted list of strings.
fn parse_meta_context(data: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let mut reader = Reader::new(data);
    let name = reader.string()?;
    let count = reader.u32()?;
    let queries = (0..count)
        .map_while(|_| reader.string())
        .collect::<Vec<_>>();
    reader.end()?;
    // Fewer than counted means that one was cut short.
    (u32::try_from(queries.len()) == Ok(count)).then_some((name, queries))
}

/// The length of our own short strings.
fn string_length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn send(socket: Socket<'_>, parts: &[&[u8]]) -> io::Result<()> {
    socket.send(&mut [IoSlice::new(&parts.concat())])
}
