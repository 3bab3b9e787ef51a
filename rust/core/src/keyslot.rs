// SPDX-License-Identifier: Apache-2.0
//! Keyslot areas: a volume key, split and encrypted.
//!
//! The area is encrypted in sectors of 512 bytes, numbered from zero.
//!
//! Spec: LUKS2 on-disk format, 3.2.3.

use strongroom_sys::stack;

use crate::cipher::{CipherKind, Run, Scratch, SectorCipher, SectorSize};
use crate::digest::Hash;
use crate::secret::shielded;
use crate::{Error, Result, Secret, af};

/// What `cryptsetup` writes, always.
pub const DEFAULT_STRIPES: u32 = 4000;

/// With 128-byte keys this makes half a megabyte, which secret memory can hold.
const MAX_STRIPES: u64 = 4096;

/// Room for a cipher key and an integrity key.
const MAX_VOLUME_KEY_BYTES: u64 = 128;

/// How a keyslot area is made, apart from its key. All of it is public.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The cipher of the area.
    pub cipher: CipherKind,
    /// Length of the volume key in bytes, 1 to 128.
    pub volume_key_bytes: usize,
    /// Number of stripes, 1 to 4096.
    pub stripes: u32,
    /// Hash of the anti-forensic splitter.
    pub hash: Hash,
}

impl Layout {
    /// Length of the stripes in bytes, filled up to whole sectors.
    ///
    /// # Errors
    /// [`Error::Limit`] for a key or a number of stripes out of range.
    pub fn area_bytes(&self) -> Result<usize> {
        self.stripes_bytes()
            .map(|bytes| bytes.next_multiple_of(SectorSize::MIN.bytes()))
    }

    fn stripes_bytes(&self) -> Result<usize> {
        let key_bytes = self.volume_key_bytes as u64;
        Error::check_limit(
            "the volume key in bytes",
            key_bytes,
            1..=MAX_VOLUME_KEY_BYTES,
        )?;
        let stripes = u64::from(self.stripes);
        Error::check_limit("the number of stripes", stripes, 1..=MAX_STRIPES)?;
        // Both were checked: half a mebibyte at most.
        Ok(self.volume_key_bytes * self.stripes as usize)
    }
}

/// Decrypts a keyslot area and merges its stripes into a candidate volume key.
///
/// `area` may be longer than needed. The result is unverified until
/// [`crate::digest::volume_key_matches`] says yes: a wrong slot key gives a wrong volume key.
///
/// # Errors
/// [`Error::Limit`] as in [`Layout::area_bytes`]; [`Error::Format`] if `area` is too short or the
/// slot key's length does not fit the cipher; [`Error::Platform`] without secret memory.
pub fn keyslot_open(area: &[u8], slot_key: &Secret, layout: &Layout) -> Result<Secret> {
    let area = area.get(..layout.area_bytes()?).ok_or(Error::Format(
        "the keyslot area is shorter than its stripes",
    ))?;
    let stripes_bytes = layout.stripes_bytes()?;
    let mut plain = Secret::zeroed(area.len())?;
    let mut volume_key = Secret::zeroed(layout.volume_key_bytes)?;
    shielded(|| {
        plain.bytes_mut().copy_from_slice(area);
        let cipher = SectorCipher::new(layout.cipher, slot_key.as_secret_bytes())?;
        cipher.decrypt(
            &mut Scratch::new()?,
            &mut whole(&mut plain),
            SectorSize::MIN,
        )?;
        // The merge takes milliseconds: let no part of the slot key stay in registers meanwhile.
        drop(cipher);
        stack::clear_registers();
        let stripes = &plain.bytes()[..stripes_bytes];
        af::merge(stripes, volume_key.bytes_mut(), layout.hash);
        Ok(())
    })?;
    Ok(volume_key)
}

/// Splits a volume key and encrypts it: the bytes of a keyslot area, a multiple of 512.
///
/// # Errors
/// As [`keyslot_open`]; [`Error::Unsupported`] for a cipher that is for reading only;
/// [`Error::Internal`] if the volume key has another length than the layout says.
pub fn keyslot_seal(volume_key: &Secret, slot_key: &Secret, layout: &Layout) -> Result<Vec<u8>> {
    if volume_key.len() != layout.volume_key_bytes {
        return Err(Error::Internal("a volume key differs from its layout"));
    }
    let stripes_bytes = layout.stripes_bytes()?;
    let mut area = Secret::zeroed(layout.area_bytes()?)?;
    shielded(|| {
        let stripes = &mut area.bytes_mut()[..stripes_bytes];
        af::split(volume_key.bytes(), stripes, layout.hash)?;
        let cipher = SectorCipher::new(layout.cipher, slot_key.as_secret_bytes())?;
        cipher.encrypt(&mut Scratch::new()?, &mut whole(&mut area), SectorSize::MIN)
    })?;
    Ok(area.bytes().to_vec())
}

/// The whole area as one run of sectors.
fn whole(area: &mut Secret) -> [Run<'_>; 1] {
    [Run {
        data: area.bytes_mut(),
        first_sector_512: 0,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Pbkdf2, volume_key_matches};
    use crate::known_answers::unhex;

    fn layout(volume_key_bytes: usize, hash: Hash) -> Layout {
        Layout {
            cipher: CipherKind::XtsPlain64,
            volume_key_bytes,
            stripes: DEFAULT_STRIPES,
            hash,
        }
    }

    #[test]
    fn what_was_sealed_opens() {
        for (volume_key_bytes, slot_key_bytes) in [(32, 64), (64, 64), (64, 32), (33, 32)] {
            let layout = layout(volume_key_bytes, Hash::Sha256);
            let volume_key = Secret::random(volume_key_bytes).unwrap();
            let slot_key = Secret::random(slot_key_bytes).unwrap();
            let mut area = keyslot_seal(&volume_key, &slot_key, &layout).unwrap();
            assert_eq!(area.len(), layout.area_bytes().unwrap());
            assert!(area.len().is_multiple_of(512));
            assert!(
                keyslot_open(&area, &slot_key, &layout)
                    .unwrap()
                    .equals(&volume_key)
            );

            area.resize(area.len() + 4096, 0xff);
            assert!(
                keyslot_open(&area, &slot_key, &layout)
                    .unwrap()
                    .equals(&volume_key)
            );

            let other_key = Secret::random(slot_key_bytes).unwrap();
            assert!(
                !keyslot_open(&area, &other_key, &layout)
                    .unwrap()
                    .equals(&volume_key)
            );
        }
    }

    #[test]
    fn sealing_twice_gives_different_bytes() {
        let layout = layout(64, Hash::Sha256);
        let (key, slot_key) = (Secret::random(64).unwrap(), Secret::random(64).unwrap());
        let first = keyslot_seal(&key, &slot_key, &layout).unwrap();
        assert_ne!(first, keyslot_seal(&key, &slot_key, &layout).unwrap());
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let slot_key = Secret::random(64).unwrap();
        let good = layout(64, Hash::Sha256);
        let open = |area: &[u8], layout: &Layout| keyslot_open(area, &slot_key, layout);
        let area = vec![0; good.area_bytes().unwrap()];
        assert!(open(&area, &good).is_ok());
        let short = open(&area[1..], &good);
        assert!(matches!(short, Err(Error::Format(_))));
        for bad in [
            Layout { stripes: 0, ..good },
            Layout {
                stripes: 4097,
                ..good
            },
            Layout {
                stripes: u32::MAX,
                ..good
            },
            Layout {
                volume_key_bytes: 0,
                ..good
            },
            Layout {
                volume_key_bytes: 129,
                ..good
            },
            Layout {
                volume_key_bytes: usize::MAX,
                ..good
            },
        ] {
            assert!(matches!(open(&area, &bad), Err(Error::Limit { .. })));
        }
        let odd_key = Secret::random(48).unwrap();
        assert!(matches!(
            keyslot_open(&area, &odd_key, &good),
            Err(Error::Format(_))
        ));
        let volume_key = Secret::random(32).unwrap();
        let mismatch = keyslot_seal(&volume_key, &slot_key, &good);
        assert!(matches!(mismatch, Err(Error::Internal(_))));
    }

    #[test]
    fn reading_only_ciphers_do_not_seal() {
        let layout = Layout {
            cipher: CipherKind::CbcEssivSha256,
            ..layout(32, Hash::Sha1)
        };
        let key = Secret::random(32).unwrap();
        let refused = keyslot_seal(&key, &key, &layout);
        assert!(matches!(refused, Err(Error::Unsupported { .. })));
    }

    /// A keyslot that `cryptsetup` wrote, from passphrase to digest. See `testdata/PROVENANCE.md`.
    #[test]
    fn a_keyslot_of_cryptsetup_opens() {
        let facts = include_str!("../testdata/cryptsetup-keyslot.txt");
        let fact = |name: &str| {
            let line = facts.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim()
        };
        let area = include_bytes!("../testdata/cryptsetup-keyslot.area");
        let slot_key = Pbkdf2 {
            hash: Hash::from_name(fact("kdf-hash")).unwrap(),
            salt: &unhex(fact("kdf-salt")),
            iterations: fact("kdf-iterations").parse().unwrap(),
        }
        .derive(&Secret::copy_of(fact("passphrase").as_bytes()).unwrap(), 32)
        .unwrap();
        let layout = Layout {
            volume_key_bytes: 32,
            hash: Hash::from_name(fact("af-hash")).unwrap(),
            ..layout(32, Hash::Sha256)
        };
        let volume_key = keyslot_open(area, &slot_key, &layout).unwrap();
        assert_eq!(volume_key.bytes(), unhex(fact("volume-key")));
        let digest = Pbkdf2 {
            hash: Hash::from_name(fact("digest-hash")).unwrap(),
            salt: &unhex(fact("digest-salt")),
            iterations: fact("digest-iterations").parse().unwrap(),
        };
        assert!(volume_key_matches(&volume_key, &unhex(fact("digest-value")), &digest).unwrap());
    }
}
