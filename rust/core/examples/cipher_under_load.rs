// SPDX-License-Identifier: Apache-2.0
//! Encrypts and decrypts without pause under a random key, for a debugger to look at.
//!
//! `cipher_under_load BACKEND RUN_BYTES KEY_FILE SECONDS` writes the raw key to the file, straight
//! from secret memory, so that whoever dumps this process knows what to search the dump for.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use strongroom_core::cipher::{CipherKind, Run, Scratch, SectorCipher, SectorSize};
use strongroom_sys::aes::Backend;
use strongroom_sys::secret::SecretBytes;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [backend, run_bytes, key_file, seconds] = arguments.as_slice() else {
        return Err("usage: cipher_under_load BACKEND RUN_BYTES KEY_FILE SECONDS".into());
    };
    let backend = Backend::ALL
        .into_iter()
        .find(|known| known.name() == backend)
        .ok_or("no such backend")?;
    let mut data = vec![0; run_bytes.parse()?];
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);

    // The kernel writes and reads the key: no copy, no buffer.
    let mut key = SecretBytes::new(64)?;
    File::open("/dev/urandom")?.read_exact(key.as_mut_slice())?;
    File::create(key_file)?.write_all(key.as_slice())?;

    let cipher = SectorCipher::new(CipherKind::XtsPlain64, &key)?;
    let mut scratch = Scratch::with_backend(backend)?;
    while Instant::now() < end {
        for _ in 0..100 {
            let mut runs = [Run {
                data: &mut data,
                first_sector_512: 8,
            }];
            cipher.encrypt(&mut scratch, &mut runs, SectorSize::MIN)?;
            cipher.decrypt(&mut scratch, &mut runs, SectorSize::MIN)?;
        }
    }
    Ok(())
}
