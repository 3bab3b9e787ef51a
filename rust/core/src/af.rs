// SPDX-License-Identifier: Apache-2.0
//! The anti-forensic splitter: a key inflated so that losing any part of it destroys it.
//!
//! Stripes `s[0]` to `s[n-2]` are random, and `s[n-1] = key ^ d[n-2]` where `d` runs over them:
//! `d[-1] = 0`, `d[i] = diffuse(d[i-1] ^ s[i])`.
//!
//! Everything here runs on a secret stack.
//!
//! Spec: LUKS1 on-disk format 1.2.3, 2.4.

use crate::digest::Hash;
use crate::random::fill_random;
use crate::{Result, Secret};

/// Longest digest on the list, in bytes.
const MAX_DIGEST_BYTES: usize = 64;

/// Splits `key` into the stripes that fill `area`, whose length is a multiple of the key's.
pub(crate) fn split(key: &[u8], area: &mut [u8], hash: Hash) -> Result<()> {
    let mut running = Secret::zeroed(key.len())?;
    let (random, last) = area.split_at_mut(area.len() - key.len());
    fill_random(random)?;
    accumulate(random, running.bytes_mut(), hash);
    last.copy_from_slice(key);
    xor_into(last, running.bytes());
    Ok(())
}

/// Merges the stripes in `area` into `key`, which is zero at first.
pub(crate) fn merge(area: &[u8], key: &mut [u8], hash: Hash) {
    let (random, last) = area.split_at(area.len() - key.len());
    accumulate(random, key, hash);
    xor_into(key, last);
}

/// Runs `d` over stripes as long as `running`.
fn accumulate(stripes: &[u8], running: &mut [u8], hash: Hash) {
    for stripe in stripes.chunks_exact(running.len()) {
        xor_into(running, stripe);
        diffuse(running, hash);
    }
}

/// Replaces each digest-sized block by its hash behind its number; the last may be shorter, and
/// keeps the front of its hash.
fn diffuse(bytes: &mut [u8], hash: Hash) {
    let mut digest = [0u8; MAX_DIGEST_BYTES];
    for (number, block) in (0u32..).zip(bytes.chunks_mut(hash.digest_bytes())) {
        hash.digest_into(&[&number.to_be_bytes(), block], &mut digest);
        block.copy_from_slice(&digest[..block.len()]);
    }
}

fn xor_into(target: &mut [u8], source: &[u8]) {
    for (byte, other) in target.iter_mut().zip(source) {
        *byte ^= other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_answers::{self, unhex};

    #[test]
    fn merge_known_answers() {
        for case in known_answers::ANTI_FORENSIC {
            let hash = Hash::from_name(case.hash).unwrap();
            let area = known_answers::counting_bytes(case.key_bytes * case.stripes);
            let mut key = vec![0; case.key_bytes];
            merge(&area, &mut key, hash);
            assert_eq!(key, unhex(case.key), "{case:?}");
        }
    }

    #[test]
    fn split_then_merge_gives_the_key_back() {
        for hash in Hash::ALL {
            for (key_bytes, stripes) in [(16, 1), (20, 3), (32, 100), (64, 4000), (128, 7)] {
                let key = known_answers::counting_bytes(key_bytes);
                let mut area = vec![0; key_bytes * stripes];
                split(&key, &mut area, hash).unwrap();
                let mut merged = vec![0; key_bytes];
                merge(&area, &mut merged, hash);
                assert_eq!(merged, key, "{hash:?} {key_bytes} {stripes}");
            }
        }
    }

    /// The splitter works on blocks of the digest's size, so a bit takes its block with it.
    #[test]
    fn one_lost_bit_destroys_its_block_of_the_key() {
        let key = known_answers::counting_bytes(64);
        let mut area = vec![0; 64 * 50];
        split(&key, &mut area, Hash::Sha256).unwrap();
        area[64 * 20] ^= 1;
        let mut merged = vec![0; 64];
        merge(&area, &mut merged, Hash::Sha256);
        let block = merged[..32].iter().zip(&key);
        let changed = block.filter(|(a, b)| a != b).count();
        assert!(changed > 20, "{changed} of 32 bytes changed");
    }
}
