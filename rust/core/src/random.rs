// SPDX-License-Identifier: Apache-2.0
//! Random bytes: the kernel's, and those of a TPM mixed in once there is one.
//!
//! What is mixed in is a mask over the kernel's bytes, so whoever gives it, however bad it is,
//! makes nothing weaker. It helps where the kernel's generator is the host's.
//!
//! ```text
//! seed     HKDF-SHA256(seed | what the TPM gave, "strongroom/1 stirred seed\0")
//! bytes    the kernel's XOR mask
//! seed | mask = HKDF-SHA256(seed, "strongroom/1 stirred mask\0"), anew for every 480 bytes
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kdf::hkdf_sha256;
use crate::secret::shielded;
use crate::{Error, Result, Secret};

const SEED_BYTES: usize = 32;
const CHUNK_BYTES: usize = 480;
const SEED_INFO: &[u8] = b"strongroom/1 stirred seed\0";
const MASK_INFO: &[u8] = b"strongroom/1 stirred mask\0";

static SEED: Mutex<Option<Secret>> = Mutex::new(None);

/// Mixes bytes of another source into all randomness of this process from now on.
///
/// # Errors
/// [`Error::Platform`] without secret memory.
pub fn stir(source: &Secret) -> Result<()> {
    let mut seed = seed();
    let both: Vec<&Secret> = seed.iter().chain([source]).collect();
    let next = hkdf_sha256(&both, b"", SEED_INFO, SEED_BYTES)?;
    *seed = Some(next);
    Ok(())
}

/// Fills `bytes`.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::Platform {
        doing: "asking the kernel for random bytes",
        source: error.into(),
    })?;
    if let Some(seed) = seed().as_mut() {
        for chunk in bytes.chunks_mut(CHUNK_BYTES) {
            let derived = hkdf_sha256(&[seed], b"", MASK_INFO, SEED_BYTES + chunk.len())?;
            shielded(|| {
                let (next, mask) = derived.bytes().split_at(SEED_BYTES);
                seed.bytes_mut().copy_from_slice(next);
                for (byte, mask) in chunk.iter_mut().zip(mask) {
                    *byte ^= mask;
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn seed() -> MutexGuard<'static, Option<Secret>> {
    SEED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stirring_and_every_use_makes_another_seed() {
        let seed_now = || seed().as_ref().map(|seed| seed.bytes().to_vec());
        let source = Secret::copy_of(&[7; 32]).unwrap();
        stir(&source).unwrap();
        let first = seed_now();
        stir(&source).unwrap();
        let second = seed_now();
        assert_ne!(first, second);
        let (mut one, mut other) = (vec![0; 3 * CHUNK_BYTES + 1], vec![0; 3 * CHUNK_BYTES + 1]);
        fill_random(&mut one).unwrap();
        assert_ne!(seed_now(), second);
        fill_random(&mut other).unwrap();
        assert_ne!(one, other);
        assert_ne!(one[..CHUNK_BYTES], one[CHUNK_BYTES..2 * CHUNK_BYTES]);
    }
}
