// SPDX-License-Identifier: Apache-2.0
use super::*;

fn scratches() -> Vec<Scratch> {
    Backend::ALL
        .into_iter()
        .filter(|backend| backend.is_available())
        .map(|backend| Scratch::with_backend(backend).unwrap())
        .collect()
}

/// Bytes that look random and are the same in every run.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[4]
        })
        .collect()
}

fn cipher(kind: CipherKind, key_bytes: usize) -> SectorCipher {
    let key = SecretBytes::copy_of(&noise(key_bytes, 99)).unwrap();
    SectorCipher::new(kind, &key).unwrap()
}

fn sizes() -> [SectorSize; 4] {
    [512, 1024, 2048, 4096].map(|bytes| SectorSize::new(bytes).unwrap())
}

fn one_run(data: &mut [u8], first_sector_512: u64) -> [Run<'_>; 1] {
    [Run {
        data,
        first_sector_512,
    }]
}

#[test]
fn backends_agree_and_round_trip() {
    let mut scratches = scratches();
    for key_bytes in [32, 64] {
        let cipher = cipher(CipherKind::XtsPlain64, key_bytes);
        for size in sizes() {
            for sectors in (1..=40).chain([95, 96, 97, 200]) {
                let plain = noise(sectors * size.bytes(), sectors as u64);
                let first = u64::MAX - 3 * sectors as u64;
                let mut expected = None;
                for scratch in &mut scratches {
                    let mut data = plain.clone();
                    let mut runs = one_run(&mut data, first);
                    cipher.encrypt(scratch, &mut runs, size).unwrap();
                    assert!(data != plain);
                    assert!(*expected.get_or_insert_with(|| data.clone()) == data);
                    let mut runs = one_run(&mut data, first);
                    cipher.decrypt(scratch, &mut runs, size).unwrap();
                    assert!(data == plain, "{scratch:?} {size:?} {sectors}");
                }
            }
        }
    }
}

#[test]
fn many_runs_in_one_call_are_as_many_calls() {
    let lengths = [1, 0, 2, 95, 1, 96, 0, 0, 97, 3, 192, 1];
    for (kind, key_bytes) in [
        (CipherKind::XtsPlain64, 64),
        (CipherKind::CbcEssivSha256, 32),
    ] {
        let cipher = cipher(kind, key_bytes);
        for scratch in &mut scratches() {
            for size in [SectorSize::MIN, SectorSize::new(1024).unwrap()] {
                let mut together: Vec<_> = lengths
                    .map(|sectors| noise(sectors * size.bytes(), sectors as u64))
                    .into();
                let mut apart = together.clone();
                let mut runs: Vec<_> = together
                    .iter_mut()
                    .zip((7..).step_by(1000))
                    .map(|(data, first_sector_512)| Run {
                        data,
                        first_sector_512,
                    })
                    .collect();
                cipher.decrypt(scratch, &mut runs, size).unwrap();
                for (data, first) in apart.iter_mut().zip((7..).step_by(1000)) {
                    for (index, sector) in data.chunks_exact_mut(size.bytes()).enumerate() {
                        let first = first + index as u64 * size.iv_step();
                        let mut run = one_run(sector, first);
                        cipher.decrypt(scratch, &mut run, size).unwrap();
                    }
                }
                assert!(together == apart, "{scratch:?} {kind}");
            }
        }
    }
}

/// Runs of any length at any address, on every backend, are as the portable one does sectors.
#[test]
fn random_run_lists_are_sector_by_sector() {
    let mut portable = Scratch::with_backend(Backend::Portable).unwrap();
    let mut random = noise(2000, 55).into_iter().map(usize::from);
    for case in 0..12 {
        let cipher = cipher(CipherKind::XtsPlain64, [32, 64][case % 2]);
        let size = sizes()[case % 4];
        let lengths: Vec<_> = (0..=case)
            .map(|_| random.next().unwrap() % 40 * size.bytes())
            .collect();
        let gaps: Vec<_> = (0..=case).map(|_| random.next().unwrap() % 99).collect();
        let total: usize = lengths.iter().chain(&gaps).sum();
        let original = noise(total, case as u64);
        let mut expected = original.clone();
        let mut at = 0;
        for (number, (length, gap)) in lengths.iter().zip(&gaps).enumerate() {
            let run = &mut expected[at + gap..][..*length];
            for (index, sector) in run.chunks_exact_mut(size.bytes()).enumerate() {
                let first = number as u64 * 5000 + index as u64 * size.iv_step();
                let mut run = one_run(sector, first);
                cipher.encrypt(&mut portable, &mut run, size).unwrap();
            }
            at += gap + length;
        }
        for scratch in &mut scratches() {
            let mut data = original.clone();
            let mut rest = data.as_mut_slice();
            let mut runs = Vec::new();
            for (first_sector_512, (length, gap)) in
                (0..).step_by(5000).zip(lengths.iter().zip(&gaps))
            {
                let (run, behind) = rest.split_at_mut(gap + length);
                runs.push(Run {
                    data: &mut run[*gap..],
                    first_sector_512,
                });
                rest = behind;
            }
            cipher.encrypt(scratch, &mut runs, size).unwrap();
            assert!(data == expected, "{scratch:?} {size:?} {lengths:?}");
        }
    }
}

#[test]
fn scratch_is_clean_after_every_call() {
    for scratch in &mut scratches() {
        let mut data = noise(4096, 1);
        for (kind, key_bytes) in [
            (CipherKind::XtsPlain64, 64),
            (CipherKind::CbcEssivSha256, 16),
        ] {
            let mut runs = one_run(&mut data, 5);
            cipher(kind, key_bytes)
                .decrypt(scratch, &mut runs, SectorSize::MIN)
                .unwrap();
            assert!(scratch.secret.as_slice().iter().all(|&byte| byte == 0));
        }
    }
}

#[test]
fn from_one_place_to_another_is_as_in_place() {
    for (kind, key_bytes) in [
        (CipherKind::XtsPlain64, 64),
        (CipherKind::CbcEssivSha256, 32),
    ] {
        let cipher = cipher(kind, key_bytes);
        for scratch in &mut scratches() {
            for size in sizes() {
                let sources = [1, 0, 97, 3].map(|sectors| noise(sectors * size.bytes(), 8));
                let mut in_place = sources.clone();
                let mut runs: Vec<_> = (9..)
                    .step_by(1000)
                    .zip(&mut in_place)
                    .map(|(first_sector_512, data)| Run {
                        data,
                        first_sector_512,
                    })
                    .collect();
                cipher.decrypt(scratch, &mut runs, size).unwrap();
                let mut targets = sources.clone().map(|source| vec![0xee; source.len()]);
                let mut back = targets.clone();
                let mut transfers = transfers(&sources, &mut targets);
                cipher.decrypt_to(scratch, &mut transfers, size).unwrap();
                assert!(targets == in_place, "{scratch:?} {size:?} {kind}");
                let mut transfers = self::transfers(&targets, &mut back);
                match cipher.encrypt_to(scratch, &mut transfers, size) {
                    Ok(()) => assert!(back == sources, "{scratch:?} {size:?}"),
                    Err(_) => assert_eq!(kind, CipherKind::CbcEssivSha256),
                }
            }
        }
    }
}

fn transfers<'a>(sources: &'a [Vec<u8>], targets: &'a mut [Vec<u8>]) -> Vec<Transfer<'a>> {
    (9..)
        .step_by(1000)
        .zip(sources.iter().zip(targets))
        .map(|(first_sector_512, (source, target))| Transfer {
            source,
            target,
            first_sector_512,
        })
        .collect()
}

#[test]
fn a_target_of_another_length_is_refused() {
    let mut target = [vec![0; 1024], vec![0; 512]];
    let source = [noise(1024, 1), noise(1024, 1)];
    let result = cipher(CipherKind::XtsPlain64, 64).encrypt_to(
        &mut Scratch::new().unwrap(),
        &mut transfers(&source, &mut target),
        SectorSize::MIN,
    );
    assert!(matches!(result, Err(Error::Bounds(_))));
    assert!(target.iter().flatten().all(|&byte| byte == 0));
}

#[test]
fn broken_sectors_are_refused_before_anything_changes() {
    let cipher = cipher(CipherKind::XtsPlain64, 64);
    let mut scratch = Scratch::new().unwrap();
    let (mut good, mut bad) = (noise(4096, 1), noise(4095, 2));
    let mut runs = [
        Run {
            data: &mut good,
            first_sector_512: 0,
        },
        Run {
            data: &mut bad,
            first_sector_512: 8,
        },
    ];
    let result = cipher.encrypt(&mut scratch, &mut runs, SectorSize::MAX);
    assert!(matches!(result, Err(Error::Bounds(_))));
    assert!(good == noise(4096, 1) && bad == noise(4095, 2));
}

#[test]
fn only_the_known_ciphers_sizes_and_keys() {
    for kind in [CipherKind::XtsPlain64, CipherKind::CbcEssivSha256] {
        assert_eq!(kind.name().parse::<CipherKind>().unwrap(), kind);
        for len in [0, 8, 15, 17, 31, 33, 48, 63, 65, 128] {
            let key = SecretBytes::new(len).unwrap();
            assert!(matches!(
                SectorCipher::new(kind, &key),
                Err(Error::Format(_))
            ));
        }
    }
    for name in [
        "cipher_null-ecb",
        "null",
        "",
        "aes",
        "AES-XTS-PLAIN64",
        "aes-xts-plain",
        "aes-xts-plain64 ",
        "aes-xts-random",
        "capi:xts(aes)-plain64",
        "aes-cbc-essiv:sha1",
    ] {
        let Err(Error::Unsupported { what, name: named }) = name.parse::<CipherKind>() else {
            panic!("accepted {name}");
        };
        assert_eq!((what, named.as_str()), ("cipher", name));
    }
    for bytes in [0, 1, 256, 511, 513, 3072, 8192, u32::MAX] {
        assert!(SectorSize::new(bytes).is_err());
    }
}

#[test]
fn cbc_is_for_reading_only() {
    let cipher = cipher(CipherKind::CbcEssivSha256, 32);
    let mut data = noise(512, 1);
    let result = cipher.encrypt(
        &mut Scratch::new().unwrap(),
        &mut one_run(&mut data, 0),
        SectorSize::MIN,
    );
    assert!(matches!(result, Err(Error::Unsupported { .. })));
    assert!(data == noise(512, 1));
}

#[test]
fn debug_shows_no_key() {
    let shown = format!("{:?}", cipher(CipherKind::XtsPlain64, 64));
    assert_eq!(shown, "SectorCipher(aes-xts-plain64, <redacted>)");
}

#[test]
fn ciphers_are_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<SectorCipher>();
    check::<Scratch>();
}

/// SP 800-38A, F.2.1 to F.2.6: the chaining of a sector, with the IV given.
#[test]
fn cbc_chaining_is_as_published() {
    const PLAINTEXT: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
        30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
    const CASES: [(&str, &str); 3] = [
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2\
             73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
        ),
        (
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a\
             571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
        ),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d\
             39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
        ),
    ];
    let iv: Vec<u8> = (0..16).collect();
    for scratch in &mut scratches() {
        let backend = scratch.backend;
        let parts = scratch.parts();
        for (key, ciphertext) in CASES {
            let mut data = unhex(ciphertext);
            let (direction, key) = (Direction::Decrypt, unhex(key));
            let mut schedule =
                Schedule::expand(backend, direction, &key, parts.data_schedule).unwrap();
            cbc::decrypt_sector(&mut schedule, &mut data, &iv, &mut parts.ciphertext[..64])
                .unwrap();
            assert_eq!(data, unhex(PLAINTEXT), "{backend} {}", key.len());
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
