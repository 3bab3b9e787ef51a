// SPDX-License-Identifier: Apache-2.0
//! The only unsafe code of Strongroom, behind safe interfaces.
//!
//! * [`aes`]: AES and XTS with round keys in memory that the caller chose
//! * [`aio`]: many transfers of a file at once
//! * [`confine`]: what the enclave process can no longer do, once it holds secrets
//! * [`secret`]: memory that holds keys and passphrases, hidden from dumps and from other processes
//! * [`signals`]: threads that no signal interrupts
//! * [`stack`]: stacks in such memory, so that computing on keys leaves nothing behind
//! * `copying`: copies that leave nothing in vector registers, for all code linked with this crate
//! * [`descriptor`]: owned descriptors from the numbers that Python holds
//! * [`dump`]: large work areas of ordinary memory that stay out of core dumps and are wiped
//! * [`writeback`]: having the kernel write to the disk without waiting for it
//!
//! `SAFETY.md` beside this crate lists every invariant that the unsafe blocks rely on.

pub mod aes;
pub mod aio;
pub mod confine;
mod copying;
pub mod descriptor;
pub mod dump;
pub mod secret;
pub mod signals;
pub mod stack;
pub mod writeback;
