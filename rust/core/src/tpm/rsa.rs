// SPDX-License-Identifier: Apache-2.0
//! A salt that is encrypted to an RSA key of the TPM.
//!
//! Only the public operation is here, with the one exponent that TPMs have by default: sixteen
//! squarings and a product, in constant time.
//!
//! Spec: TPM 2.0 Part 1, B.10.2 "RSA Encryption of Salt", B.2 "RSAEP".

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U2048, U3072, U4096, Uint};
use sha2::{Sha256, Sha384};

use super::oaep;
use super::salt::{NOT_A_KEY, NameHash, Reader};
use crate::random::fill_random;
use crate::{Error, Result, Secret};

const KEY_BITS: [u16; 3] = [2048, 3072, 4096];
const EXPONENT: u32 = 65537;
const EXPONENT_SQUARINGS: u32 = 16;
/// Its final zero is a part of it.
const LABEL: &[u8] = b"SECRET\0";
const NOT_A_MODULUS: Error = Error::Tampered("the modulus of the TPM's RSA key is not one");

/// A modulus of the TPM's: odd, and of full length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    modulus: Vec<u8>,
}

impl PublicKey {
    /// Takes the rest of a public area: `keyBits | exponent | unique`.
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let bits = reader.u16()?;
        // Zero is how the default exponent is written.
        let exponent = reader.u32()?;
        if !KEY_BITS.contains(&bits) || ![0, EXPONENT].contains(&exponent) {
            return Err(NOT_A_KEY);
        }
        let modulus = reader.sized()?;
        let is_whole = modulus.len() == usize::from(bits / 8);
        // A number below the modulus by its length alone needs the highest bit, Montgomery's
        // arithmetic the lowest.
        match modulus {
            [first, .., last] if is_whole && first & 0x80 != 0 && last & 1 != 0 => Ok(Self {
                modulus: modulus.to_vec(),
            }),
            _ => Err(NOT_A_MODULUS),
        }
    }

    /// Encrypts a message. For use on a secret stack.
    pub(super) fn encrypt(&self, hash: NameHash, message: &[u8]) -> Result<Vec<u8>> {
        let mut seed = Secret::zeroed(hash.bytes())?;
        fill_random(seed.bytes_mut())?;
        self.encrypt_with(hash, seed.bytes(), message)
    }

    fn encrypt_with(&self, hash: NameHash, seed: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        let mut block = Secret::zeroed(self.modulus.len())?;
        match hash {
            NameHash::Sha256 => oaep::encode::<Sha256>(LABEL, seed, message, block.bytes_mut()),
            NameHash::Sha384 => oaep::encode::<Sha384>(LABEL, seed, message, block.bytes_mut()),
        }?;
        match self.modulus.len() {
            U2048::BYTES => raise::<{ U2048::LIMBS }>(&self.modulus, block.bytes()),
            U3072::BYTES => raise::<{ U3072::LIMBS }>(&self.modulus, block.bytes()),
            U4096::BYTES => raise::<{ U4096::LIMBS }>(&self.modulus, block.bytes()),
            _ => Err(Error::Internal("a modulus is of another length")),
        }
    }
}

/// Raises a number, as long as the modulus and below it, to the power of [`EXPONENT`].
fn raise<const LIMBS: usize>(modulus: &[u8], number: &[u8]) -> Result<Vec<u8>> {
    let modulus = Odd::new(Uint::<LIMBS>::from_be_slice(modulus))
        .into_option()
        .ok_or(NOT_A_MODULUS)?;
    let params = FixedMontyParams::new_vartime(modulus); // of what everybody knows
    let number = FixedMontyForm::new(&Uint::from_be_slice(number), &params);
    let power = number
        .square_repeat_vartime(EXPONENT_SQUARINGS) // whose number is what varies
        .mul(&number);
    Ok(power.retrieve().to_be_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_answers::unhex;

    #[test]
    fn openssl_encrypts_the_same_message_with_the_same_seed_to_the_same_bytes() {
        let lines = include_str!("../../testdata/rsa-oaep.txt").lines();
        let mut lengths = Vec::new();
        for line in lines {
            let (hash, rest) = line.split_once(' ').unwrap();
            let hash = match hash {
                "sha256" => NameHash::Sha256,
                _ => NameHash::Sha384,
            };
            let [modulus, seed, message, encrypted] = rest
                .split(' ')
                .map(unhex)
                .collect::<Vec<_>>()
                .try_into()
                .unwrap();
            lengths.push(modulus.len());
            let key = PublicKey { modulus };
            assert_eq!(key.encrypt_with(hash, &seed, &message).unwrap(), encrypted);
        }
        assert_eq!(lengths, [256, 256, 384, 384, 512, 512]);
    }
}
