// SPDX-License-Identifier: Apache-2.0
//! The gate against arbitrary commands and responses.

#![no_main]

#[path = "../exchange.rs"]
mod exchange;

libfuzzer_sys::fuzz_target!(|input: &[u8]| exchange::check(input));
