// SPDX-License-Identifier: Apache-2.0
//! The fuzzer's corpus, replayed by the stable compiler, and a walk around it.
//!
//! `make fuzz` looks for new inputs; this keeps what it found from breaking again.

#[path = "../fuzz/exchange.rs"]
mod exchange;

use std::fs;
use std::path::{Path, PathBuf};

/// Mutations of each input: enough to be a property test, few enough to be quick.
const MUTATIONS: u64 = 200;

fn corpus() -> Vec<Vec<u8>> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/exchange");
    let mut paths: Vec<PathBuf> = fs::read_dir(place)
        .expect("the corpus is committed")
        .map(|entry| entry.expect("the corpus can be listed").path())
        .collect();
    paths.sort();
    let read = |path| fs::read(path).expect("the corpus can be read");
    paths.iter().map(read).collect()
}

#[test]
fn the_corpus_passes() {
    let corpus = corpus();
    assert!(corpus.len() > 100, "only {} inputs", corpus.len());
    for input in &corpus {
        exchange::check(input);
    }
}

#[test]
fn what_is_near_the_corpus_passes() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for input in corpus() {
        for _ in 0..MUTATIONS {
            let mut mutant = input.clone();
            for _ in 0..=random.below(3) {
                random.mutate(&mut mutant);
            }
            exchange::check(&mutant);
        }
    }
}

/// A repeatable source of mutations (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bound = u64::try_from(bound.max(1)).expect("a length is 64 bits at most");
        usize::try_from(self.0 % bound).expect("it is less than a length")
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(6) {
            _ if bytes.is_empty() => bytes.push(0),
            0 => bytes.truncate(at),
            1 => bytes.insert(at, 0),
            2 => drop(bytes.remove(at)),
            3 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][self.below(6)],
            4 => bytes[at] = bytes[at].wrapping_add(1),
            _ => bytes[at] ^= 1 << self.below(8),
        }
    }
}
