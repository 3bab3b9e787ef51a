// SPDX-License-Identifier: Apache-2.0
//! Prints the speed of AES-256-XTS for each backend of this CPU, on one core, as JSON.
//!
//! ```text
//! cipher_speed [BACKEND]
//!
//! {"threads": 1, "results": [{"backend": "vaes-avx512", "direction": "encrypt",
//!   "sector_bytes": 4096, "batch_bytes": 1048576,
//!   "gigabytes_per_second": 10.5, "nanoseconds_per_call": 99000.0}, ...]}
//! ```
//!
//! A batch is one run in one call, in place and aligned as the data path aligns, so key expansion
//! and wiping are included. Each figure is the best of many short rounds.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a program that prints rough figures"
)]

use std::time::{Duration, Instant};

use strongroom_core::cipher::{CipherKind, Run, Scratch, SectorCipher, SectorSize};
use strongroom_core::{Error, Result};
use strongroom_sys::aes::Backend;
use strongroom_sys::secret::SecretBytes;

const KIB: usize = 1024;
const SECTOR_BYTES: [u32; 2] = [512, 4096];
const BATCH_BYTES: [usize; 5] = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB];
const ALIGNMENT: usize = 4096;
const ROUNDS: usize = 60;
/// Short, so that some rounds go undisturbed on a busy machine.
const ROUND_TIME: Duration = Duration::from_millis(1);

fn main() -> Result<()> {
    let only = std::env::args().nth(1);
    let key: Vec<u8> = (0..64).collect();
    let key = SecretBytes::copy_of(&key).map_err(|source| Error::Platform {
        doing: "allocating secret memory",
        source,
    })?;
    let cipher = SectorCipher::new(CipherKind::XtsPlain64, &key)?;
    let mut memory = vec![0; BATCH_BYTES[BATCH_BYTES.len() - 1] + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    let mut results = Vec::new();
    for backend in Backend::ALL {
        let is_wanted = only.as_deref().is_none_or(|name| name == backend.name());
        if !is_wanted || !backend.is_available() {
            continue;
        }
        let mut scratch = Scratch::with_backend(backend)?;
        for sector_bytes in SECTOR_BYTES {
            let size = SectorSize::new(sector_bytes)?;
            for batch_bytes in BATCH_BYTES {
                let data = &mut memory[start..start + batch_bytes];
                let seconds = seconds(data, |runs| cipher.encrypt(&mut scratch, runs, size))?;
                results.push(result(backend, "encrypt", size, batch_bytes, seconds));
                let seconds = self::seconds(data, |runs| cipher.decrypt(&mut scratch, runs, size))?;
                results.push(result(backend, "decrypt", size, batch_bytes, seconds));
            }
        }
    }
    let results = results.join(",\n");
    println!("{{\"threads\": 1, \"results\": [\n{results}\n]}}");
    Ok(())
}

/// One call in the best round.
fn seconds(data: &mut [u8], mut work: impl FnMut(&mut [Run<'_>]) -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut calls = 0_u32;
        while start.elapsed() < ROUND_TIME {
            for _ in 0..4 {
                let mut runs = [Run {
                    data: &mut *data,
                    first_sector_512: 123_456,
                }];
                work(&mut runs)?;
                calls += 1;
            }
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(calls));
    }
    Ok(best)
}

fn result(
    backend: Backend,
    direction: &str,
    sector_size: SectorSize,
    batch_bytes: usize,
    seconds: f64,
) -> String {
    let speed = batch_bytes as f64 / seconds / 1e9;
    format!(
        "{{\"backend\": \"{backend}\", \"direction\": \"{direction}\", \
         \"sector_bytes\": {}, \"batch_bytes\": {batch_bytes}, \
         \"gigabytes_per_second\": {speed:.3}, \"nanoseconds_per_call\": {:.1}}}",
        sector_size.bytes(),
        seconds * 1e9,
    )
}
