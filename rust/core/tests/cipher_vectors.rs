// SPDX-License-Identifier: Apache-2.0
//! Every backend of this CPU against published answers; `testdata/cipher/PROVENANCE.md` lists them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use sha2::{Digest, Sha256};
use strongroom_core::cipher::{
    CipherKind, Run, Scratch, SectorCipher, SectorSize, aes_ecb_decrypt, aes_ecb_encrypt,
};
use strongroom_sys::aes::Backend;
use strongroom_sys::secret::SecretBytes;

const ECB: &str = include_str!("../testdata/cipher/aes_ecb.csv");
const XTS: &str = include_str!("../testdata/cipher/aes_xts.csv");
const SECTORS: &str = include_str!("../testdata/cipher/sectors.csv");

#[test]
fn aes_blocks() {
    for scratch in &mut scratches() {
        for [source, key, plaintext, ciphertext] in rows(ECB, 224) {
            let key = unhex(key);
            let mut data = unhex(plaintext);
            aes_ecb_encrypt(scratch, &key, &mut data).unwrap();
            assert_eq!(data, unhex(ciphertext), "{scratch:?} {source}");
            aes_ecb_decrypt(scratch, &key, &mut data).unwrap();
            assert_eq!(data, unhex(plaintext), "{scratch:?} {source}");
        }
    }
}

#[test]
fn xts_data_units() {
    for scratch in &mut scratches() {
        for [source, key, sector, plaintext, ciphertext] in rows(XTS, 334) {
            let cipher = cipher(CipherKind::XtsPlain64, key);
            let first_sector_512 = sector.parse().unwrap();
            let expected = unhex(ciphertext);
            let mut data = unhex(plaintext);
            data.resize(512, 0);
            let mut runs = [Run {
                data: &mut data,
                first_sector_512,
            }];
            cipher.encrypt(scratch, &mut runs, SectorSize::MIN).unwrap();
            assert_eq!(data[..expected.len()], expected, "{scratch:?} {source}");

            let mut data = expected;
            data.resize(512, 0);
            let mut runs = [Run {
                data: &mut data,
                first_sector_512,
            }];
            cipher.decrypt(scratch, &mut runs, SectorSize::MIN).unwrap();
            let expected = unhex(plaintext);
            assert_eq!(data[..expected.len()], expected, "{scratch:?} {source}");
        }
    }
}

#[test]
fn sectors_as_openssl_computes_them() {
    for scratch in &mut scratches() {
        for (row, [name, key, size, first, sectors, digest]) in rows(SECTORS, 144).enumerate() {
            let kind: CipherKind = name.parse().unwrap();
            let cipher = cipher(kind, key);
            let size = SectorSize::new(size.parse().unwrap()).unwrap();
            let input = stream(row, sectors.parse::<usize>().unwrap() * size.bytes());
            let mut data = input.clone();
            let mut runs = [Run {
                data: &mut data,
                first_sector_512: first.parse().unwrap(),
            }];
            match kind {
                CipherKind::XtsPlain64 => cipher.encrypt(scratch, &mut runs, size).unwrap(),
                CipherKind::CbcEssivSha256 => cipher.decrypt(scratch, &mut runs, size).unwrap(),
            }
            let [run] = &runs;
            assert_eq!(
                Sha256::digest(&*run.data).as_slice(),
                unhex(digest),
                "{scratch:?} row {row}"
            );
            if kind == CipherKind::XtsPlain64 {
                cipher.decrypt(scratch, &mut runs, size).unwrap();
                assert!(data == input, "{scratch:?} row {row}");
            }
        }
    }
}

fn scratches() -> Vec<Scratch> {
    Backend::ALL
        .into_iter()
        .filter(|backend| backend.is_available())
        .map(|backend| Scratch::with_backend(backend).unwrap())
        .collect()
}

fn cipher(kind: CipherKind, key: &str) -> SectorCipher {
    let key = SecretBytes::copy_of(&unhex(key)).unwrap();
    SectorCipher::new(kind, &key).unwrap()
}

/// The rows of a table behind its column names; there must be `count` of them.
fn rows<const COLUMNS: usize>(
    table: &'static str,
    count: usize,
) -> impl Iterator<Item = [&'static str; COLUMNS]> {
    assert_eq!(table.lines().count(), count + 1);
    table.lines().skip(1).map(|line| {
        let fields: Vec<_> = line.split(',').collect();
        fields.try_into().unwrap()
    })
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn stream(row: usize, len: usize) -> Vec<u8> {
    let block = |index: usize| Sha256::digest(format!("{row} {index}")).to_vec();
    (0..len / 32).flat_map(block).collect()
}
