// SPDX-License-Identifier: Apache-2.0
//! The padding of a short secret that RSA is to encrypt.
//!
//! Only padding is here: the TPM takes it off.
//!
//! Spec: TPM 2.0 Part 1, B.4 "`RSAES_OAEP`"; RFC 8017, 7.1.1 and B.2.1 "MGF1".

use sha2::Digest;

use crate::{Error, Result};

/// Fills `block`, which is as long as the modulus. Leaves copies on the stack: for use on a secret
/// stack.
///
/// ```text
/// 00 | seed XOR MGF1(masked data) | data XOR MGF1(seed)       data = H(label) | 00.. | 01 | message
/// ```
///
/// `seed` is random, and as long as the hash; it tells the message to who knows the block.
pub(super) fn encode<D: Digest>(
    label: &[u8],
    seed: &[u8],
    message: &[u8],
    block: &mut [u8],
) -> Result<()> {
    let hash_bytes = <D as Digest>::output_size();
    if seed.len() != hash_bytes || block.len() < 2 * hash_bytes + message.len() + 2 {
        return Err(Error::Internal("OAEP was asked for with wrong lengths"));
    }
    block.fill(0);
    let (masked_seed, data) = block[1..].split_at_mut(hash_bytes);
    let separator = data.len() - message.len() - 1;
    data[..hash_bytes].copy_from_slice(&D::digest(label));
    data[separator] = 1;
    data[separator + 1..].copy_from_slice(message);
    mask::<D>(seed, data);
    masked_seed.copy_from_slice(seed);
    mask::<D>(data, masked_seed);
    Ok(())
}

/// Masks `bytes` with MGF1 of `seed`.
fn mask<D: Digest>(seed: &[u8], bytes: &mut [u8]) {
    for (counter, chunk) in (0u32..).zip(bytes.chunks_mut(<D as Digest>::output_size())) {
        let mut digest = D::new();
        digest.update(seed);
        digest.update(counter.to_be_bytes());
        for (byte, mask) in chunk.iter_mut().zip(digest.finalize()) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::Sha256;

    use super::*;

    #[test]
    fn only_what_fits_is_encoded() {
        let encode = |seed: usize, message: usize, block: usize| {
            encode::<Sha256>(b"", &vec![1; seed], &vec![2; message], &mut vec![0; block])
        };
        assert!(encode(32, 32, 2 * 32 + 32 + 2).is_ok());
        assert!(encode(32, 0, 2 * 32 + 2).is_ok());
        assert!(encode(32, 32, 2 * 32 + 32 + 1).is_err());
        assert!(encode(31, 32, 256).is_err());
        assert!(encode(33, 32, 256).is_err());
    }

    #[test]
    fn the_first_octet_is_zero_and_every_bit_of_the_seed_matters() {
        let encoded = |seed: u8| {
            let mut block = [0xff; 256];
            encode::<Sha256>(b"label", &[seed; 32], b"message", &mut block).unwrap();
            block
        };
        let (one, other) = (encoded(1), encoded(2));
        assert_eq!((one[0], other[0]), (0, 0));
        let alike = one.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!(alike < 16, "{alike} octets are alike");
    }
}
