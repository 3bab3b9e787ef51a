// SPDX-License-Identifier: Apache-2.0
//! Known-answer tests at run time: is the arithmetic of this machine and build sound?

use crate::cipher::{
    CipherKind, Run, Scratch, SectorCipher, SectorSize, aes_ecb_decrypt, aes_ecb_encrypt,
};
use crate::digest::{Hash, Pbkdf2};
use crate::hpke::Receiver;
use crate::kdf::{self, Argon2, Variant};
use crate::known_answers::{self as known, unhex};
use crate::secret::shielded;
use crate::{Result, Secret, af, mac, sealing, signature};

/// Computes every algorithm of this crate on known inputs and returns a name and whether it passed.
///
/// Takes some milliseconds. An error while computing counts as not passed. Must not be called from
/// a secret stack.
#[must_use]
pub fn selftest() -> Vec<(String, bool)> {
    let mut results = Vec::new();
    let mut report = |name: String, outcome: Result<bool>| {
        results.push((name, outcome.unwrap_or(false)));
    };
    for case in &AES {
        report(format!("aes-{}", case.key.len() * 4), aes(case));
    }
    for case in &XTS {
        report(format!("aes-{}-xts", case.key.len() * 2), xts(case));
    }
    for case in known::PBKDF2 {
        report(format!("pbkdf2-{}", case.hash), pbkdf2(case));
    }
    for case in known::ARGON2 {
        let name = format!("{}, {} lanes", case.variant, case.lanes);
        report(name, argon2(case));
    }
    report("hkdf-sha256".to_owned(), hkdf());
    for case in known::ANTI_FORENSIC {
        let name = format!("anti-forensic {}, {} stripes", case.hash, case.stripes);
        report(name, anti_forensic(case));
    }
    report("hpke x25519 chacha20poly1305".to_owned(), hpke_open());
    report("hmac-sha256".to_owned(), hmac());
    report("sealed chacha20poly1305".to_owned(), unseal());
    report("ed25519".to_owned(), ed25519());
    results
}

/// One block of AES.
struct Aes {
    key: &'static str,
    ciphertext: &'static str,
}

const AES_PLAINTEXT: &str = "00112233445566778899aabbccddeeff";

/// FIPS 197, appendix C.
const AES: [Aes; 3] = [
    Aes {
        key: "000102030405060708090a0b0c0d0e0f",
        ciphertext: "69c4e0d86a7b0430d8cdb78070b4c55a",
    },
    Aes {
        key: "000102030405060708090a0b0c0d0e0f1011121314151617",
        ciphertext: "dda97ca4864cdfe06eaf70a0ec0d7191",
    },
    Aes {
        key: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        ciphertext: "8ea2b7ca516745bfeafc49904b496089",
    },
];

fn aes(case: &Aes) -> Result<bool> {
    let mut scratch = Scratch::new()?;
    let (key, plaintext) = (unhex(case.key), unhex(AES_PLAINTEXT));
    let mut block = plaintext.clone();
    aes_ecb_encrypt(&mut scratch, &key, &mut block)?;
    let encrypted = block == unhex(case.ciphertext);
    aes_ecb_decrypt(&mut scratch, &key, &mut block)?;
    Ok(encrypted && block == plaintext)
}

/// One sector of 512 bytes, `00` to `ff` twice.
struct Xts {
    key: &'static str,
    sector: u64,
    /// Where the encrypted sector begins and ends.
    first_block: &'static str,
    last_block: &'static str,
}

/// IEEE 1619-2018, annex B: vectors 4 and 10.
const XTS: [Xts; 2] = [
    Xts {
        key: "2718281828459045235360287471352631415926535897932384626433832795",
        sector: 0,
        first_block: "27a7479befa1d476489f308cd4cfa6e2",
        last_block: "0a282df920147beabe421ee5319d0568",
    },
    Xts {
        key: "2718281828459045235360287471352662497757247093699959574966967627\
              3141592653589793238462643383279502884197169399375105820974944592",
        sector: 0xff,
        first_block: "1c3b3a102f770386e4836c99e370cf9b",
        last_block: "c4f36ffda9fcea70b9c6e693e148c151",
    },
];

fn xts(case: &Xts) -> Result<bool> {
    let key = Secret::copy_of(&unhex(case.key))?;
    let cipher = SectorCipher::new(CipherKind::XtsPlain64, key.as_secret_bytes())?;
    let plaintext: Vec<u8> = (0..=255).chain(0..=255).collect();
    let mut data = plaintext.clone();
    let mut scratch = Scratch::new()?;
    let runs = &mut [run(&mut data, case.sector)];
    cipher.encrypt(&mut scratch, runs, SectorSize::MIN)?;
    let encrypted =
        data.starts_with(&unhex(case.first_block)) && data.ends_with(&unhex(case.last_block));
    let runs = &mut [run(&mut data, case.sector)];
    cipher.decrypt(&mut scratch, runs, SectorSize::MIN)?;
    Ok(encrypted && data == plaintext)
}

fn run(data: &mut [u8], first_sector_512: u64) -> Run<'_> {
    Run {
        data,
        first_sector_512,
    }
}

fn pbkdf2(case: &known::Pbkdf2) -> Result<bool> {
    let expected = unhex(case.key);
    let parameters = Pbkdf2 {
        hash: Hash::from_name(case.hash)?,
        salt: b"somesalt",
        iterations: case.iterations,
    };
    let derived = parameters.derive(&Secret::copy_of(b"password")?, expected.len())?;
    Ok(derived.bytes() == expected)
}

fn argon2(case: &known::Argon2) -> Result<bool> {
    let expected = unhex(case.tag);
    let parameters = Argon2 {
        variant: Variant::from_name(case.variant)?,
        salt: b"somesalt",
        memory_kib: case.memory_kib,
        iterations: case.iterations,
        lanes: case.lanes,
    };
    let derived = parameters.derive(&Secret::copy_of(b"password")?, expected.len())?;
    Ok(derived.bytes() == expected)
}

fn hkdf() -> Result<bool> {
    let case = &known::HKDF;
    let expected = unhex(case.key);
    let mut key = vec![0; expected.len()];
    let (material, salt, info) = (unhex(case.material), unhex(case.salt), unhex(case.info));
    shielded(|| kdf::expand(&material, &salt, &info, &mut key))?;
    Ok(key == expected)
}

fn anti_forensic(case: &known::AntiForensic) -> Result<bool> {
    let hash = Hash::from_name(case.hash)?;
    let area = known::counting_bytes(case.key_bytes * case.stripes);
    let mut key = vec![0; case.key_bytes];
    shielded(|| {
        af::merge(&area, &mut key, hash);
        Ok(())
    })?;
    Ok(key == unhex(case.key))
}

fn hpke_open() -> Result<bool> {
    let case = &known::HPKE;
    let receiver = Receiver::with_private_key(Secret::copy_of(&unhex(case.private_key))?)?;
    let opened = receiver.open(
        &unhex(case.encapsulated_key),
        &unhex(case.ciphertext),
        &unhex(case.info),
        &unhex(case.aad),
    )?;
    let key_matches = receiver.public_key()[..] == unhex(case.public_key);
    Ok(key_matches && opened.bytes() == unhex(case.plaintext))
}

fn hmac() -> Result<bool> {
    let case = &known::HMAC[0];
    let key = Secret::copy_of(&unhex(case.key))?;
    mac::hmac_sha256_matches(&key, &unhex(case.message), &unhex(case.code))
}

fn unseal() -> Result<bool> {
    let case = &known::SEALED;
    let (key, aad) = (Secret::copy_of(&unhex(case.key))?, unhex(case.aad));
    let content = unhex(case.content);
    let secret = sealing::unseal_secret(&unhex(case.secret_blob), &key, &aad)?;
    let parameters = sealing::unseal_parameters(&unhex(case.parameters_blob), &key, &aad)?;
    Ok(secret.bytes() == content && parameters == content)
}

fn ed25519() -> Result<bool> {
    let case = &known::ED25519[2];
    let (seed, message) = (Secret::copy_of(&unhex(case.seed))?, unhex(case.message));
    let (public_key, signature) = (unhex(case.public_key), unhex(case.signature));
    let keyed = signature::public_key(&seed)?[..] == public_key;
    let signed = signature::sign(&seed, &message)?[..] == signature;
    Ok(keyed && signed && signature::verifies(&public_key, &message, &signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pass_and_every_algorithm_is_there() {
        let results = selftest();
        for (name, passed) in &results {
            assert!(passed, "{name}");
        }
        let names: Vec<_> = results.iter().map(|(name, _)| name.as_str()).collect();
        for algorithm in [
            "aes-128",
            "aes-192",
            "aes-256",
            "aes-128-xts",
            "aes-256-xts",
        ] {
            assert!(names.contains(&algorithm), "{algorithm}");
        }
        assert!(names.iter().any(|name| name.starts_with("argon2id")));
    }

    #[test]
    fn a_wrong_answer_is_noticed() {
        let wrong = known::Pbkdf2 {
            iterations: 999,
            ..known::PBKDF2[0]
        };
        assert!(!pbkdf2(&wrong).unwrap());
        let wrong = Aes {
            ciphertext: AES[1].ciphertext,
            ..AES[0]
        };
        assert!(!aes(&wrong).unwrap());
    }
}
