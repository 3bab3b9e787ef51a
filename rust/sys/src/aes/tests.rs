// SPDX-License-Identifier: Apache-2.0
use super::*;

/// Memory that is aligned as a schedule needs it.
#[repr(align(64))]
struct Memory([u8; SCHEDULE_BYTES]);

const PLAINTEXT: [u8; 16] = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";

/// FIPS 197, appendix C.
const CIPHERTEXTS: [(usize, u128); 3] = [
    (16, 0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a),
    (24, 0xdda9_7ca4_864c_dfe0_6eaf_70a0_ec0d_7191),
    (32, 0x8ea2_b7ca_5167_45bf_eafc_4990_4b49_6089),
];

fn available() -> impl Iterator<Item = Backend> {
    Backend::ALL
        .into_iter()
        .filter(|backend| backend.is_available())
}

fn counting_key(len: usize) -> Vec<u8> {
    (0..32).take(len).collect()
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

#[test]
fn fips_197_on_every_backend() {
    for backend in available() {
        for (key_len, ciphertext) in CIPHERTEXTS {
            let mut memory = Memory([0; SCHEDULE_BYTES]);
            let key = counting_key(key_len);
            let mut block = PLAINTEXT;
            let mut schedule =
                Schedule::expand(backend, Direction::Encrypt, &key, &mut memory.0).unwrap();
            schedule.ecb(&mut block).unwrap();
            drop(schedule);
            assert_eq!(block, ciphertext.to_be_bytes(), "{backend} {key_len}");
            let mut schedule =
                Schedule::expand(backend, Direction::Decrypt, &key, &mut memory.0).unwrap();
            schedule.ecb(&mut block).unwrap();
            drop(schedule);
            assert_eq!(block, PLAINTEXT, "{backend} {key_len}");
        }
    }
}

#[test]
fn ecb_of_every_length_is_block_by_block() {
    for backend in available() {
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            for key_len in [16, 24, 32] {
                let mut memory = Memory([0; SCHEDULE_BYTES]);
                let key = noise(key_len, 7);
                let mut schedule =
                    Schedule::expand(backend, direction, &key, &mut memory.0).unwrap();
                let mut expected = noise(80 * 16, 3);
                for block in expected.chunks_exact_mut(16) {
                    schedule.ecb(block).unwrap();
                }
                for blocks in 0..=80 {
                    let mut data = noise(80 * 16, 3);
                    schedule.ecb(&mut data[..blocks * 16]).unwrap();
                    assert_eq!(data[..blocks * 16], expected[..blocks * 16], "{backend}");
                    assert_eq!(data[blocks * 16..], noise(80 * 16, 3)[blocks * 16..]);
                }
            }
        }
    }
}

#[test]
fn xts_of_all_backends_agrees() {
    for direction in [Direction::Encrypt, Direction::Decrypt] {
        for key_len in [16, 24, 32] {
            for sector_bytes in [512, 1024, 1536, 2048, 4096, 8192] {
                for sectors in 0..=5 {
                    let key = noise(key_len, 11);
                    // Tweaks with every bit pattern in their upper ends.
                    let mut tweaks = noise(sectors * 16, sectors as u64);
                    tweaks.iter_mut().step_by(16).for_each(|byte| *byte |= 0x81);
                    tweaks
                        .iter_mut()
                        .skip(15)
                        .step_by(32)
                        .for_each(|byte| *byte |= 0xf0);
                    let mut results = available().map(|backend| {
                        let mut memory = Memory([0; SCHEDULE_BYTES]);
                        let mut schedule =
                            Schedule::expand(backend, direction, &key, &mut memory.0).unwrap();
                        // One byte off, so that nothing relies on alignment.
                        let mut data = noise(sectors * sector_bytes + 1, 5);
                        schedule.xts(&mut data[1..], &tweaks, sector_bytes).unwrap();
                        (backend, data)
                    });
                    let (_, first) = results.next().unwrap();
                    for (backend, data) in results {
                        assert!(data == first, "{backend} {sector_bytes} {sectors}");
                    }
                }
            }
        }
    }
}

#[test]
fn xts_of_random_shapes_agrees_and_stays_inside() {
    let mut random = noise(4 * 60, 77).into_iter().map(usize::from);
    let mut next = || random.next().unwrap();
    for case in 0..60 {
        let key = noise([16, 24, 32][next() % 3], case);
        let direction = [Direction::Encrypt, Direction::Decrypt][next() % 2];
        let sector_bytes = 512 * (1 + next() % 8);
        let sectors = 1 + next() % 200;
        let tweaks = noise(sectors * 16, case + 1);
        // Odd addresses too, and bytes around that must stay as they are.
        let before = usize::try_from(case).unwrap() + 1;
        let inside = before..before + sectors * sector_bytes;
        let original = noise(inside.end + 64, case + 2);
        let mut results = available().map(|backend| {
            let mut memory = Memory([0; SCHEDULE_BYTES]);
            let mut schedule = Schedule::expand(backend, direction, &key, &mut memory.0).unwrap();
            let mut data = original.clone();
            schedule
                .xts(&mut data[inside.clone()], &tweaks, sector_bytes)
                .unwrap();
            assert!(
                data[..inside.start] == original[..inside.start],
                "{backend}"
            );
            assert!(data[inside.end..] == original[inside.end..], "{backend}");
            let mut copy = vec![0xee; original.len()];
            let source = &original[inside.clone()];
            // Behind a gap of another length: source and target need not be aligned alike.
            let target = &mut copy[inside.start / 2..][..source.len()];
            schedule
                .xts_to(target, source, &tweaks, sector_bytes)
                .unwrap();
            assert!(target[..] == data[inside.clone()], "{backend}: copy");
            let around = copy.len() - source.len();
            copy.drain(inside.start / 2..inside.start / 2 + source.len());
            assert_eq!(copy, vec![0xee; around], "{backend}: around the copy");
            (backend, data)
        });
        let (_, first) = results.next().unwrap();
        assert!(first[inside.clone()] != original[inside.clone()]);
        for (backend, data) in results {
            assert!(
                data == first,
                "{backend} {direction:?} {sector_bytes} {sectors}"
            );
        }
    }
}

#[test]
fn nothing_stays_in_the_memory() {
    for backend in available() {
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            let mut memory = Memory([0xa5; SCHEDULE_BYTES]);
            let key = counting_key(32);
            let mut schedule = Schedule::expand(backend, direction, &key, &mut memory.0).unwrap();
            schedule.xts(&mut [1; 512], &[2; 16], 512).unwrap();
            drop(schedule);
            assert!(memory.0.iter().all(|&byte| byte == 0), "{backend}");
        }
    }
}

#[test]
fn misuse_is_refused() {
    let mut memory = Memory([0; SCHEDULE_BYTES]);
    let mut expand = |key: &[u8], range: std::ops::Range<usize>| {
        Schedule::expand(
            Backend::best(),
            Direction::Encrypt,
            key,
            &mut memory.0[range],
        )
        .err()
    };
    assert!(expand(&[0; 15], 0..SCHEDULE_BYTES).is_some());
    assert!(expand(&[0; 33], 0..SCHEDULE_BYTES).is_some());
    assert!(expand(&[0; 32], 0..SCHEDULE_BYTES - 1).is_some());
    assert!(expand(&[0; 32], 16..SCHEDULE_BYTES).is_some());
    for backend in Backend::ALL {
        let mut memory = Memory([0; SCHEDULE_BYTES]);
        let schedule = Schedule::expand(backend, Direction::Encrypt, &[0; 16], &mut memory.0);
        assert_eq!(schedule.is_ok(), backend.is_available());
        let Ok(mut schedule) = schedule else { continue };
        assert!(schedule.ecb(&mut [0; 17]).is_err());
        assert!(schedule.xts(&mut [0; 512], &[0; 16], 0).is_err());
        assert!(schedule.xts(&mut [0; 512], &[0; 16], 500).is_err());
        assert!(schedule.xts(&mut [0; 513], &[0; 16], 512).is_err());
        assert!(schedule.xts(&mut [0; 512], &[0; 32], 512).is_err());
        assert!(schedule.xts(&mut [0; 512], &[], 512).is_err());
        assert!(
            schedule
                .xts_to(&mut [0; 512], &[0; 1024], &[0; 32], 512)
                .is_err()
        );
        assert!(
            schedule
                .xts_to(&mut [0; 512], &[0; 512], &[0; 32], 512)
                .is_err()
        );
    }
}

#[test]
fn key_copies_are_exact() {
    for len in [0, 1, 31, 32, 64, 100] {
        let mut copy = vec![0; len];
        copy_key(&mut copy, &noise(len, 1));
        assert_eq!(copy, noise(len, 1));
    }
}
