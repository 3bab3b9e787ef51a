// SPDX-License-Identifier: Apache-2.0
//! A salt that is agreed upon with an ECC key of the TPM.
//!
//! Spec: TPM 2.0 Part 1, C.6.1 "Secret Sharing".

use sha2::{Sha256, Sha384};

use super::derive::kdfe;
use super::salt::{NOT_A_KEY, NameHash, Reader};
use crate::random::fill_random;
use crate::{Error, Result, Secret};

const ALG_NULL: u16 = 0x0010;
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;
const LABEL: &str = "SECRET";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    fn field_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// A point of the TPM's, not yet known to be on its curve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    curve: Curve,
    x: Vec<u8>,
    y: Vec<u8>,
}

impl PublicKey {
    /// Takes the rest of a public area: `curveID | kdf | unique`.
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let curve = match reader.u16()? {
            CURVE_P256 => Curve::P256,
            CURVE_P384 => Curve::P384,
            _ => return Err(NOT_A_KEY),
        };
        if reader.u16()? != ALG_NULL {
            reader.take(2)?; // hash of the key derivation
        }
        let (x, y) = (reader.sized()?, reader.sized()?);
        Ok(Self {
            curve,
            x: padded(x, curve.field_bytes())?,
            y: padded(y, curve.field_bytes())?,
        })
    }

    /// Fills `salt`, and returns the ephemeral point, `TPMS_ECC_POINT`, that tells it to the TPM.
    /// For use on a secret stack.
    pub(super) fn agree(&self, hash: NameHash, salt: &mut [u8]) -> Result<Vec<u8>> {
        let (x, y) = match self.curve {
            Curve::P256 => agree_p256(self, hash, salt),
            Curve::P384 => agree_p384(self, hash, salt),
        }?;
        let mut point = Vec::with_capacity(4 + x.len() + y.len());
        for coordinate in [&x, &y] {
            let length = u16::try_from(coordinate.len())
                .map_err(|_| Error::Internal("a coordinate is too long"))?;
            point.extend_from_slice(&length.to_be_bytes());
            point.extend_from_slice(coordinate);
        }
        Ok(point)
    }
}

macro_rules! agree_on {
    ($name:ident, $curve:ident) => {
        fn $name(key: &PublicKey, hash: NameHash, salt: &mut [u8]) -> Result<(Vec<u8>, Vec<u8>)> {
            let field = key.curve.field_bytes();
            let point = [&[4], key.x.as_slice(), key.y.as_slice()].concat();
            let theirs = $curve::PublicKey::from_sec1_bytes(&point).map_err(|_| NOT_A_KEY)?;
            let mut seed = Secret::zeroed(field)?;
            let ephemeral = loop {
                fill_random(seed.bytes_mut())?;
                // All but a hair of the numbers of this length are private keys.
                if let Ok(found) = $curve::SecretKey::from_slice(seed.bytes()) {
                    break found;
                }
            };
            let ours = ephemeral.public_key().to_sec1_bytes();
            let (x, y) = ours
                .get(1..)
                .and_then(|both| both.split_at_checked(field))
                .ok_or(Error::Internal("a point came out compressed"))?;
            let shared =
                $curve::ecdh::diffie_hellman(ephemeral.to_nonzero_scalar(), theirs.as_affine());
            let z = shared.raw_secret_bytes();
            match hash {
                NameHash::Sha256 => kdfe::<Sha256>(z, LABEL, x, &key.x, salt)?,
                NameHash::Sha384 => kdfe::<Sha384>(z, LABEL, x, &key.x, salt)?,
            }
            Ok((x.to_vec(), y.to_vec()))
        }
    };
}

agree_on!(agree_p256, p256);
agree_on!(agree_p384, p384);

/// TPMs may leave out leading zeros.
fn padded(coordinate: &[u8], length: usize) -> Result<Vec<u8>> {
    let zeros = length.checked_sub(coordinate.len()).ok_or(NOT_A_KEY)?;
    Ok([vec![0; zeros].as_slice(), coordinate].concat())
}
