// SPDX-License-Identifier: Apache-2.0
//! Prints at how many GHz a core runs under load, which the kernel of a virtual machine may not know.
//!
//! Each step is an OR (1 cycle) and a multiplication (3 cycles) that needs its result, which is so on
//! every x86-64 processor of this century that is worth measuring.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a program that prints a rough figure"
)]

use std::hint::black_box;
use std::time::Instant;

const STEPS: u64 = 20_000_000;
const CYCLES_PER_STEP: u64 = 4;
const ROUNDS: usize = 10;

fn main() {
    let mut best = 0.0_f64;
    let mut value = black_box(3_u64);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..STEPS {
            value = value.wrapping_mul(value | 1);
        }
        value = black_box(value);
        let cycles = (STEPS * CYCLES_PER_STEP) as f64;
        best = best.max(cycles / start.elapsed().as_secs_f64() / 1e9);
    }
    println!("{best:.3}");
}
