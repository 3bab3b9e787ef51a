// SPDX-License-Identifier: Apache-2.0
//! Prints the speed of AES-256-XTS for each backend of this CPU, on one core, in GB/s.
//!
//! Runs of 1 MiB and of one sector, each in a call of its own, so key expansion is included.

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

const MIB: usize = 1024 * 1024;
const ROUNDS: usize = 300;
/// Short, so that some rounds go undisturbed on a busy machine.
const ROUND_TIME: Duration = Duration::from_millis(1);

fn main() -> Result<()> {
    let key: Vec<u8> = (0..64).collect();
    let key = SecretBytes::copy_of(&key).map_err(|source| Error::Platform {
        doing: "allocating secret memory",
        source,
    })?;
    let cipher = SectorCipher::new(CipherKind::XtsPlain64, &key)?;
    println!("backend       sector      run  encrypt  decrypt  (GB/s, best of {ROUNDS})");
    for backend in Backend::ALL
        .into_iter()
        .filter(|backend| backend.is_available())
    {
        let mut scratch = Scratch::with_backend(backend)?;
        for (sector, run) in [(512, MIB), (4096, MIB), (512, 512), (4096, 4096)] {
            let size = SectorSize::new(sector)?;
            let mut data = vec![0; run];
            let encrypt = speed(&mut data, |runs| cipher.encrypt(&mut scratch, runs, size))?;
            let decrypt = speed(&mut data, |runs| cipher.decrypt(&mut scratch, runs, size))?;
            println!("{backend:<12} {sector:>7} {run:>8} {encrypt:>8.2} {decrypt:>8.2}");
        }
    }
    Ok(())
}

/// Bytes per nanosecond in the best round.
fn speed(data: &mut [u8], mut work: impl FnMut(&mut [Run<'_>]) -> Result<()>) -> Result<f64> {
    let mut best = 0.0_f64;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut bytes = 0;
        while start.elapsed() < ROUND_TIME {
            for _ in 0..4 {
                let mut runs = [Run {
                    data: &mut *data,
                    first_sector_512: 123_456,
                }];
                work(&mut runs)?;
                bytes += data.len();
            }
        }
        best = best.max(bytes as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    Ok(best)
}
