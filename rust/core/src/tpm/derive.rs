// SPDX-License-Identifier: Apache-2.0
//! The TPM's two key derivations.
//!
//! Spec: TPM 2.0 Part 1, 11.4.10.2 "`KDFa`" and 11.4.10.3 "`KDFe` for ECDH".

use hmac::{Hmac, KeyInit, Mac};
use sha2::digest::Output;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

const SHA256_BYTES: usize = 32;

/// Fills `out` with `KDFa` over SHA-256. Leaves copies on the stack: for use on a secret stack.
pub(super) fn kdfa(key: &[u8], label: &str, u: &[u8], v: &[u8], out: &mut [u8]) -> Result<()> {
    let bits = bits_of(out)?;
    for (counter, block) in (1u32..).zip(out.chunks_mut(SHA256_BYTES)) {
        let mut mac = Hmac::<Sha256>::new_from_slice(key)
            .map_err(|_| Error::Internal("hmac refused a key"))?;
        mac.update(&counter.to_be_bytes());
        mac.update(label.as_bytes());
        mac.update(&[0]);
        mac.update(u);
        mac.update(v);
        mac.update(&bits.to_be_bytes());
        block.copy_from_slice(&mac.finalize().into_bytes()[..block.len()]);
    }
    Ok(())
}

/// Fills `out`, which one digest is enough for, with `KDFe`. Leaves copies on the stack, as [`kdfa`].
pub(super) fn kdfe<D: Digest>(
    shared_x: &[u8],
    label: &str,
    party_u: &[u8],
    party_v: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let mut digest = D::new();
    digest.update(1u32.to_be_bytes());
    digest.update(shared_x);
    digest.update(label.as_bytes());
    digest.update([0]);
    digest.update(party_u);
    digest.update(party_v);
    let value: Output<D> = digest.finalize();
    let part = value
        .get(..out.len())
        .ok_or(Error::Internal("KDFe was asked for more than one digest"))?;
    out.copy_from_slice(part);
    Ok(())
}

fn bits_of(out: &[u8]) -> Result<u32> {
    u32::try_from(out.len() * 8).map_err(|_| Error::Internal("KDFa was asked for too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_output_begins_with_the_same_block_only_for_the_same_length() {
        let (mut short, mut long) = ([0; 32], [0; 48]);
        kdfa(b"key", "CFB", b"newer", b"older", &mut short).unwrap();
        kdfa(b"key", "CFB", b"newer", b"older", &mut long).unwrap();
        // The length is an input: nothing of one output is in the other.
        assert_ne!(short, long[..32]);
    }

    #[test]
    fn contexts_and_labels_matter() {
        let derive = |key: &[u8], label: &str, u: &[u8], v: &[u8]| {
            let mut out = [0; 32];
            kdfa(key, label, u, v, &mut out).unwrap();
            out
        };
        let one = derive(b"key", "ATH", b"u", b"v");
        assert_ne!(one, derive(b"key", "CFB", b"u", b"v"));
        assert_ne!(one, derive(b"kez", "ATH", b"u", b"v"));
        assert_ne!(one, derive(b"key", "ATH", b"v", b"u"));
        assert_eq!(one, derive(b"key", "ATH", b"uv", b""));
    }
}
