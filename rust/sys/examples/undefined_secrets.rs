// SPDX-License-Identifier: Apache-2.0
//! Computes AES on values that valgrind takes for undefined, so that it reports each branch and
//! each address that depends on one of them.
//!
//! ```text
//! valgrind --error-exitcode=99 undefined_secrets aes-ni|portable
//! valgrind --error-exitcode=99 undefined_secrets branch|address     must be reported
//! ```
//!
//! Undefined are the key, the data and the tweaks. Valgrind knows neither vector AES nor AVX-512,
//! and tells programs so; those backends are checked by reading their instructions.

#[cfg(target_arch = "x86_64")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    x86_64::main()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::error::Error;
    use std::hint::black_box;

    use strongroom_sys::aes::{Backend, Direction, SCHEDULE_BYTES, Schedule};

    /// Requests of `valgrind/memcheck.h`.
    const RUNNING_ON_VALGRIND: usize = 0x1001;
    const MAKE_UNDEFINED: usize = 0x4d43_0001;
    const MAKE_DEFINED: usize = 0x4d43_0002;

    #[repr(align(64))]
    struct Memory([u8; SCHEDULE_BYTES]);

    pub(super) fn main() -> Result<(), Box<dyn Error>> {
        let name = std::env::args().nth(1).unwrap_or_default();
        if ask(RUNNING_ON_VALGRIND, &mut []) == 0 {
            return Err("run this under valgrind".into());
        }
        match name.as_str() {
            "branch" => branch(),
            "address" => address(),
            _ => {
                let backend = Backend::ALL
                    .into_iter()
                    .find(|backend| backend.name() == name)
                    .ok_or("no such backend")?;
                compute(backend)?;
            }
        }
        Ok(())
    }

    fn compute(backend: Backend) -> Result<(), Box<dyn Error>> {
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            for key_bytes in [16, 24, 32] {
                let mut memory = Memory([0; SCHEDULE_BYTES]);
                let mut key = vec![0x5a; key_bytes];
                let mut data = vec![0xa5; 3 * 1024];
                let mut tweaks = vec![0x3c; 3 * 16];
                for secret in [&mut key, &mut data, &mut tweaks] {
                    ask(MAKE_UNDEFINED, secret);
                }
                let mut schedule = Schedule::expand(backend, direction, &key, &mut memory.0)?;
                schedule.ecb(&mut data[..16 * 21])?;
                schedule.xts(&mut data, &tweaks, 1024)?;
                drop(schedule);
                ask(MAKE_DEFINED, &mut data);
                black_box(&data);
            }
        }
        Ok(())
    }

    /// Something that must be reported.
    fn branch() {
        let mut secret = vec![1; 16];
        ask(MAKE_UNDEFINED, &mut secret);
        if black_box(&secret)[3] == 7 {
            black_box(&mut secret)[4] = 1;
        }
    }

    /// Something else that must be.
    fn address() {
        let table = black_box([7_u8; 256]);
        let mut secret = vec![1; 16];
        ask(MAKE_UNDEFINED, &mut secret);
        black_box(table[usize::from(black_box(&secret)[3])]);
    }

    /// Asks valgrind for something about `bytes`; 0 without valgrind.
    fn ask(request: usize, bytes: &mut [u8]) -> usize {
        let block = [request, bytes.as_mut_ptr().addr(), bytes.len(), 0, 0, 0];
        let answer;
        // SAFETY: rotations by 128 bits in all and an exchange of a register with itself change
        // nothing. Valgrind takes them for a request, and reads `block` for it.
        #[expect(unsafe_code, reason = "a request to valgrind")]
        unsafe {
            std::arch::asm!(
                "rol rdi, 3",
                "rol rdi, 13",
                "rol rdi, 61",
                "rol rdi, 51",
                "xchg rbx, rbx",
                in("rax") block.as_ptr(),
                inout("rdx") 0_usize => answer,
                options(nostack),
            );
        }
        answer
    }
}
