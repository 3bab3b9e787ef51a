// SPDX-License-Identifier: Apache-2.0
//! Hashes that LUKS2 names, PBKDF2 over them, and the volume key digest.

use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use crate::secret::shielded;
use crate::{Error, Result, Secret};

/// More would take minutes: only a hostile header asks for it.
const MAX_ITERATIONS: u64 = 100_000_000;

/// `cryptsetup` writes 32 bytes.
const MAX_SALT_BYTES: u64 = 1024;

/// Longer than any key, digest or slot secret of LUKS2.
const MAX_OUTPUT_BYTES: u64 = 512;

/// A hash function on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1, for volumes of old: safe in PBKDF2 and in the anti-forensic split.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Runs the body with `$digest` as the type of the hash function.
macro_rules! with_digest {
    ($hash:expr, $digest:ident => $body:expr) => {
        match $hash {
            Hash::Sha1 => {
                type $digest = Sha1;
                $body
            }
            Hash::Sha224 => {
                type $digest = Sha224;
                $body
            }
            Hash::Sha256 => {
                type $digest = Sha256;
                $body
            }
            Hash::Sha384 => {
                type $digest = Sha384;
                $body
            }
            Hash::Sha512 => {
                type $digest = Sha512;
                $body
            }
        }
    };
}

impl Hash {
    /// Every hash on the list.
    pub const ALL: [Self; 5] = [
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
    ];

    /// Finds a hash by its name in a LUKS2 header.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for any other name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|hash| hash.name() == name)
            .ok_or_else(|| Error::Unsupported {
                what: "hash",
                name: name.to_owned(),
            })
    }

    /// The name in a LUKS2 header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of a digest in bytes.
    #[must_use]
    pub fn digest_bytes(self) -> usize {
        with_digest!(self, D => <D as Digest>::output_size())
    }

    /// Hashes the parts one after the other; `out` takes as much of the digest as it has room for.
    ///
    /// Leaves copies on the stack: for use on a secret stack.
    pub(crate) fn digest_into(self, parts: &[&[u8]], out: &mut [u8]) {
        with_digest!(self, D => {
            let mut state = D::new();
            for part in parts {
                state.update(part);
            }
            for (place, byte) in out.iter_mut().zip(state.finalize()) {
                *place = byte;
            }
        });
    }
}

/// Parameters of PBKDF2-HMAC, which are public.
#[derive(Clone, Copy, Debug)]
pub struct Pbkdf2<'a> {
    /// The hash function of the HMAC.
    pub hash: Hash,
    /// The salt, 1 to 1024 bytes.
    pub salt: &'a [u8],
    /// The number of iterations, 1 to 100 million.
    pub iterations: u32,
}

impl Pbkdf2<'_> {
    /// Derives `length` bytes, 1 to 512.
    ///
    /// # Errors
    /// [`Error::Limit`] for a parameter out of range; [`Error::Platform`] without secret memory.
    ///
    /// Spec: RFC 8018, 5.2.
    pub fn derive(&self, passphrase: &Secret, length: usize) -> Result<Secret> {
        let salt_bytes = self.salt.len() as u64;
        Error::check_limit("the PBKDF2 salt in bytes", salt_bytes, 1..=MAX_SALT_BYTES)?;
        let iterations = u64::from(self.iterations);
        Error::check_limit("PBKDF2 iterations", iterations, 1..=MAX_ITERATIONS)?;
        let length_bytes = length as u64;
        Error::check_limit(
            "the derived key in bytes",
            length_bytes,
            1..=MAX_OUTPUT_BYTES,
        )?;
        let mut derived = Secret::zeroed(length)?;
        shielded(|| {
            let (salt, out) = (self.salt, derived.bytes_mut());
            with_digest!(self.hash, D => {
                pbkdf2::pbkdf2_hmac::<D>(passphrase.bytes(), salt, self.iterations, out);
            });
            Ok(())
        })?;
        Ok(derived)
    }
}

/// Returns the digest of a volume key, `length` bytes, which is public.
///
/// # Errors
/// As [`Pbkdf2::derive`].
///
/// Spec: LUKS2 on-disk format, 3.2.4.
pub fn volume_key_digest(
    volume_key: &Secret,
    parameters: &Pbkdf2<'_>,
    length: usize,
) -> Result<Vec<u8>> {
    let digest = parameters.derive(volume_key, length)?;
    Ok(digest.bytes().to_vec())
}

/// Tells in constant time whether a volume key has this digest.
///
/// The caller has checked the key's length: HMAC pads short keys with zeros, so the digest alone
/// does not fix it.
///
/// # Errors
/// As [`Pbkdf2::derive`]; an empty digest is refused as a length out of range.
pub fn volume_key_matches(
    volume_key: &Secret,
    digest: &[u8],
    parameters: &Pbkdf2<'_>,
) -> Result<bool> {
    let computed = parameters.derive(volume_key, digest.len())?;
    Ok(computed.bytes().ct_eq(digest).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_answers::unhex;

    fn derive(hash: Hash, password: &[u8], salt: &[u8], iterations: u32, length: usize) -> Vec<u8> {
        let parameters = Pbkdf2 {
            hash,
            salt,
            iterations,
        };
        let password = Secret::copy_of(password).unwrap();
        let derived = parameters.derive(&password, length).unwrap();
        derived.bytes().to_vec()
    }

    /// RFC 6070.
    #[test]
    fn pbkdf2_sha1_known_answers() {
        let cases: [(&[u8], &[u8], u32, &str); 5] = [
            (
                b"password",
                b"salt",
                1,
                "0c60c80f961f0e71f3a9b524af6012062fe037a6",
            ),
            (
                b"password",
                b"salt",
                2,
                "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957",
            ),
            (
                b"password",
                b"salt",
                4096,
                "4b007901b765489abead49d926f721d065a429c1",
            ),
            (
                b"passwordPASSWORDpassword",
                b"saltSALTsaltSALTsaltSALTsaltSALTsalt",
                4096,
                "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
            ),
            (
                b"pass\0word",
                b"sa\0lt",
                4096,
                "56fa6aa75548099dcc37d7f03425e0c3",
            ),
        ];
        for (password, salt, iterations, expected) in cases {
            let expected = unhex(expected);
            let derived = derive(Hash::Sha1, password, salt, iterations, expected.len());
            assert_eq!(derived, expected);
        }
    }

    /// RFC 7914, 11.
    #[test]
    fn pbkdf2_sha256_known_answers() {
        let expected = unhex(
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc\
             49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
        );
        assert_eq!(derive(Hash::Sha256, b"passwd", b"salt", 1, 64), expected);
        let expected = unhex(
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56\
             a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d",
        );
        assert_eq!(
            derive(Hash::Sha256, b"Password", b"NaCl", 80000, 64),
            expected
        );
    }

    #[test]
    fn hostile_parameters_are_refused() {
        let key = Secret::copy_of(b"key").unwrap();
        let refused = |salt: &[u8], iterations: u32, length: usize| {
            let parameters = Pbkdf2 {
                hash: Hash::Sha256,
                salt,
                iterations,
            };
            matches!(parameters.derive(&key, length), Err(Error::Limit { .. }))
        };
        assert!(refused(b"", 1, 32));
        assert!(refused(&[0; 1025], 1, 32));
        assert!(refused(b"salt", 0, 32));
        assert!(refused(b"salt", u32::MAX, 32));
        assert!(refused(b"salt", 1, 0));
        assert!(refused(b"salt", 1, 513));
        assert!(!refused(b"salt", 1, 512));
    }

    #[test]
    fn only_listed_hashes_have_a_name() {
        for hash in Hash::ALL {
            assert_eq!(Hash::from_name(hash.name()).unwrap(), hash);
        }
        for name in ["", "SHA256", "md5", "sha256 ", "ripemd160"] {
            assert!(matches!(
                Hash::from_name(name),
                Err(Error::Unsupported { .. })
            ));
        }
    }

    #[test]
    fn a_digest_matches_its_key_only() {
        let parameters = Pbkdf2 {
            hash: Hash::Sha512,
            salt: &[7; 32],
            iterations: 10,
        };
        let key = Secret::random(64).unwrap();
        let mut digest = volume_key_digest(&key, &parameters, 64).unwrap();
        assert!(volume_key_matches(&key, &digest, &parameters).unwrap());
        let other = Secret::random(64).unwrap();
        assert!(!volume_key_matches(&other, &digest, &parameters).unwrap());
        digest[63] ^= 1;
        assert!(!volume_key_matches(&key, &digest, &parameters).unwrap());
        assert!(volume_key_matches(&key, &[], &parameters).is_err());
    }
}
