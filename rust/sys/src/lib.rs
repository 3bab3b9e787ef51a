// SPDX-License-Identifier: Apache-2.0
//! The only unsafe code of Strongroom, behind safe interfaces.
//!
//! * [`aes`]: AES and XTS with round keys in memory that the caller chose
//! * [`confine`]: what the enclave process can no longer do, once it holds secrets
//! * [`secret`]: memory that holds keys and passphrases, hidden from dumps and from other processes
//! * [`stack`]: stacks in such memory, so that computing on keys leaves nothing behind
//! * [`descriptor`]: owned descriptors from the numbers that Python holds
//! * [`dump`]: large work areas of ordinary memory that stay out of core dumps and are wiped
//!
//! `SAFETY.md` beside this crate lists every invariant that the unsafe blocks rely on.

pub mod aes;
pub mod confine;
pub mod descriptor;
pub mod dump;
pub mod secret;
pub mod stack;
