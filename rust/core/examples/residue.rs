// SPDX-License-Identifier: Apache-2.0
//! Handles secrets in every way this crate knows, over and over, and stays alive to be dumped.
//!
//! `residue.py` beside this file starts it, dumps its memory and searches for the secrets.
//!
//! Arguments: the passphrase's file, the keyslot area's file, the salt in hex, Argon2's memory in
//! KiB, its passes and its lanes, and `once` or `loop`.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::{env, io, thread};

use strongroom_core::Secret;
use strongroom_core::cipher::{CipherKind, Run, Scratch, SectorCipher, SectorSize};
use strongroom_core::digest::{Hash, Pbkdf2, volume_key_digest};
use strongroom_core::hpke::{Receiver, seal};
use strongroom_core::kdf::{self, Argon2, Variant};
use strongroom_core::keyslot::{DEFAULT_STRIPES, Layout, keyslot_open, keyslot_seal};

const VOLUME_KEY_BYTES: usize = 64;

struct Inputs {
    passphrase_file: String,
    area: Vec<u8>,
    salt: Vec<u8>,
    memory_kib: u32,
    iterations: u32,
    lanes: u32,
}

#[expect(clippy::print_stdout, reason = "an example talks to its user")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [
        passphrase_file,
        area,
        salt,
        memory_kib,
        iterations,
        lanes,
        mode,
    ] = &arguments[..]
    else {
        return Err("seven arguments are needed".into());
    };
    let digits = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16);
    let inputs = Inputs {
        passphrase_file: passphrase_file.clone(),
        area: fs::read(area)?,
        salt: salt
            .as_bytes()
            .chunks(2)
            .map(digits)
            .collect::<Result<_, _>>()?,
        memory_kib: memory_kib.parse()?,
        iterations: iterations.parse()?,
        lanes: lanes.parse()?,
    };
    kdf::prepare()?;
    let volume_key = unlock(&inputs)?;
    serve(&volume_key)?;
    println!("ready {:?}", strongroom_sys::secret::kind());
    io::stdout().flush()?;
    loop {
        if mode == "loop" {
            serve(&unlock(&inputs)?)?;
        } else {
            thread::park();
        }
    }
}

/// Passphrase, HPKE there and back, Argon2, keyslot, digest.
fn unlock(inputs: &Inputs) -> Result<Secret, Box<dyn Error>> {
    let file = File::open(&inputs.passphrase_file)?;
    let typed = Secret::read_file(file.as_fd())?;
    let receiver = Receiver::new()?;
    let (key, ciphertext) = seal(receiver.public_key(), &typed, b"info", b"aad")?;
    let passphrase = receiver.open(&key, &ciphertext, b"info", b"aad")?;
    let slot_key = Argon2 {
        variant: Variant::Argon2id,
        salt: &inputs.salt,
        memory_kib: inputs.memory_kib,
        iterations: inputs.iterations,
        lanes: inputs.lanes,
    }
    .derive(&passphrase, VOLUME_KEY_BYTES)?;
    let layout = Layout {
        cipher: CipherKind::XtsPlain64,
        volume_key_bytes: VOLUME_KEY_BYTES,
        stripes: DEFAULT_STRIPES,
        hash: Hash::Sha256,
    };
    let volume_key = keyslot_open(&inputs.area, &slot_key, &layout)?;
    keyslot_seal(&volume_key, &slot_key, &layout)?;
    for hash in Hash::ALL {
        let parameters = Pbkdf2 {
            hash,
            salt: &inputs.salt,
            iterations: 1000,
        };
        volume_key_digest(&volume_key, &parameters, 32)?;
    }
    kdf::hkdf_sha256(&[&passphrase, &slot_key], b"salt", b"info", 64)?;
    Ok(volume_key)
}

/// Some work of the data path.
fn serve(volume_key: &Secret) -> Result<(), Box<dyn Error>> {
    let cipher = SectorCipher::new(CipherKind::XtsPlain64, volume_key.as_secret_bytes())?;
    let mut scratch = Scratch::new()?;
    let mut data = vec![0; 1 << 20];
    for first_sector_512 in 0..40 {
        let mut runs = [Run {
            data: &mut data,
            first_sector_512,
        }];
        cipher.encrypt(&mut scratch, &mut runs, SectorSize::MAX)?;
    }
    Ok(())
}
