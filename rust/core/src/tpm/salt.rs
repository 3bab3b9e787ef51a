// SPDX-License-Identifier: Apache-2.0
//! A random salt that a key of the TPM, and nobody else, is told.
//!
//! Spec: TPM 2.0 Part 1, B.10 and C.6 "Secret Sharing"; Part 2, 12.2.4 `TPMT_PUBLIC`.

use super::{ecc, rsa};
use crate::random::fill_random;
use crate::secret::shielded;
use crate::{Error, Result, Secret};

const ALG_RSA: u16 = 0x0001;
const ALG_NULL: u16 = 0x0010;
const ALG_SHA256: u16 = 0x000b;
const ALG_SHA384: u16 = 0x000c;
const ALG_ECC: u16 = 0x0023;
pub(super) const NOT_A_KEY: Error =
    Error::Tampered("the TPM's key is none that a session can be salted to");

/// The hash of a key's Name, which is also that of the secrets it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameHash {
    Sha256,
    Sha384,
}

impl NameHash {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PublicKey {
    Ecc(ecc::PublicKey),
    Rsa(rsa::PublicKey),
}

/// A pinned decryption key of a TPM: the storage root key or an endorsement key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaltKey {
    hash: NameHash,
    key: PublicKey,
}

impl SaltKey {
    /// Takes the key out of a public area, `TPMT_PUBLIC`, that the enclave has pinned.
    ///
    /// # Errors
    /// [`Error::Tampered`] unless it is a whole public area of a key whose Name is made with
    /// SHA-256 or SHA-384: ECC on P-256 or P-384; or RSA of 2048, 3072 or 4096 bits with the
    /// default exponent, whose modulus is odd and not shorter than it says.
    pub fn parse(public: &[u8]) -> Result<Self> {
        let mut reader = Reader(public);
        let algorithm = reader.u16()?;
        let hash = match reader.u16()? {
            ALG_SHA256 => NameHash::Sha256,
            ALG_SHA384 => NameHash::Sha384,
            _ => return Err(NOT_A_KEY),
        };
        reader.take(4)?; // attributes: whoever pinned the key has looked at them
        reader.sized()?; // policy
        if reader.u16()? != ALG_NULL {
            reader.take(4)?; // bits and mode of the symmetric cipher
        }
        if reader.u16()? != ALG_NULL {
            return Err(NOT_A_KEY); // a signing scheme
        }
        let key = match algorithm {
            ALG_ECC => PublicKey::Ecc(ecc::PublicKey::parse(&mut reader)?),
            ALG_RSA => PublicKey::Rsa(rsa::PublicKey::parse(&mut reader)?),
            _ => return Err(NOT_A_KEY),
        };
        reader.end()?;
        Ok(Self { hash, key })
    }
}

/// A salt, and what tells it to the TPM alone.
pub struct Salt {
    /// Content of the `TPM2B_ENCRYPTED_SECRET` of `TPM2_StartAuthSession`.
    pub encrypted: Vec<u8>,
    pub(super) value: Secret,
}

impl Salt {
    /// Makes a salt that only the holder of the private key learns.
    ///
    /// # Errors
    /// [`Error::Tampered`] if the key's point is not on its curve; [`Error::Platform`] without
    /// secret memory or randomness.
    pub fn new(key: &SaltKey) -> Result<Self> {
        let mut value = Secret::zeroed(key.hash.bytes())?;
        let encrypted = shielded(|| match &key.key {
            PublicKey::Ecc(point) => point.agree(key.hash, value.bytes_mut()),
            PublicKey::Rsa(modulus) => {
                fill_random(value.bytes_mut())?;
                modulus.encrypt(key.hash, value.bytes())
            }
        })?;
        Ok(Self { encrypted, value })
    }
}

/// Takes a public area apart from the front.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(NOT_A_KEY)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from(bytes[0]) << 8 | u16::from(bytes[1]))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    pub(super) fn sized(&mut self) -> Result<&'a [u8]> {
        let size = self.u16()?;
        self.take(size.into())
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(NOT_A_KEY)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modulus(bits: usize) -> Vec<u8> {
        let mut modulus = vec![0x5a; bits / 8];
        modulus[0] |= 0x80;
        modulus[bits / 8 - 1] |= 1;
        modulus
    }

    fn rsa(bits: u16, exponent: u32, modulus: &[u8]) -> Vec<u8> {
        let mut public = vec![0x00, 0x01, 0x00, 0x0b, 0, 3, 0, 0xb2, 0, 0];
        public.extend_from_slice(&[0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10]);
        public.extend_from_slice(&bits.to_be_bytes());
        public.extend_from_slice(&exponent.to_be_bytes());
        public.extend_from_slice(&u16::try_from(modulus.len()).unwrap().to_be_bytes());
        public.extend_from_slice(modulus);
        public
    }

    fn refused(public: &[u8]) -> bool {
        matches!(SaltKey::parse(public), Err(Error::Tampered(_)))
    }

    #[test]
    fn a_salt_to_an_rsa_key_is_new_each_time_and_as_long_as_the_key() {
        for bits in [2048, 3072, 4096] {
            for exponent in [0, 65537] {
                let public = rsa(bits, exponent, &modulus(bits.into()));
                let key = SaltKey::parse(&public).unwrap();
                let (one, other) = (Salt::new(&key).unwrap(), Salt::new(&key).unwrap());
                assert_eq!(one.value.len(), 32);
                assert_eq!(one.encrypted.len(), usize::from(bits / 8));
                assert_ne!(one.encrypted, other.encrypted);
                assert!(!one.value.equals(&other.value));
            }
        }
    }

    #[test]
    fn an_rsa_key_of_another_size_or_exponent_is_refused() {
        assert!(refused(&rsa(1024, 0, &modulus(1024))));
        assert!(refused(&rsa(2056, 0, &modulus(2056))));
        assert!(refused(&rsa(8192, 0, &modulus(8192))));
        for exponent in [1, 2, 3, 17, 65536, 65539, u32::MAX] {
            assert!(refused(&rsa(2048, exponent, &modulus(2048))));
        }
    }

    #[test]
    fn a_modulus_that_is_none_is_refused() {
        assert!(refused(&rsa(2048, 0, &[])));
        assert!(refused(&rsa(2048, 0, &modulus(2040))));
        assert!(refused(&rsa(2048, 0, &modulus(2056))));
        assert!(refused(&rsa(2048, 0, &modulus(3072))));
        let mut even = modulus(2048);
        even[255] &= !1;
        assert!(refused(&rsa(2048, 0, &even)));
        let mut short = modulus(2048);
        short[0] &= !0x80;
        assert!(refused(&rsa(2048, 0, &short)));
        assert!(refused(&rsa(2048, 0, &[0; 256])));
    }

    #[test]
    fn a_public_area_that_is_cut_short_or_longer_is_refused() {
        let public = rsa(2048, 0, &modulus(2048));
        for end in 0..public.len() {
            assert!(refused(&public[..end]));
        }
        assert!(refused(&[&public[..], &[0]].concat()));
    }
}
