// SPDX-License-Identifier: Apache-2.0
//! From the policy to classic BPF.
//!
//! ```text
//! architecture not ours          -> kill
//! number -1                      -> ENOSYS     no call: a tracer has taken it away
//! number of the x32 ABI          -> kill       (x86-64 only)
//! number == rule 1               -> tests of rule 1, verdict
//! number == rule 2               -> ...
//! anything else                  -> EPERM
//! ```
//!
//! A rule's tests overwrite the accumulator, which held the number, so each ends in a verdict.

use std::io;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    sock_filter,
};

use super::policy::{Rule, Test, Verdict};

/// Spec: include/uapi/linux/audit.h, `AUDIT_ARCH_X86_64`.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
/// Spec: include/uapi/linux/audit.h, `AUDIT_ARCH_AARCH64`.
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// x32 calls have the architecture of x86-64 and this bit in their number. No other architecture
/// has numbers that high.
const X32_BIT: u32 = 0x4000_0000;

/// What a tracer puts in the place of a call that is not to be made. The kernel makes none then.
const NO_CALL: u32 = u32::MAX;

/// Offsets in `struct seccomp_data`; both architectures are little-endian.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Assembles the program for a policy.
///
/// # Errors
/// A rule is longer than a BPF jump, or a system call has no proper number.
pub(super) fn assemble(rules: &[Rule]) -> io::Result<Vec<sock_filter>> {
    let mut program = vec![
        load(ARCH),
        jump(BPF_JEQ, ARCHITECTURE, 1, 0),
        result(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
        jump(BPF_JEQ, NO_CALL, 0, 1),
        refusal(libc::ENOSYS),
        jump(BPF_JGE, X32_BIT, 0, 1),
        result(libc::SECCOMP_RET_KILL_PROCESS),
    ];
    for (call, verdict) in rules {
        let number = u32::try_from(*call).map_err(io::Error::other)?;
        let body = assemble_verdict(verdict)?;
        program.push(jump(BPF_JEQ, number, 0, distance(body.len())?));
        program.extend(body);
    }
    program.push(refusal(libc::EPERM));
    Ok(program)
}

fn assemble_verdict(verdict: &Verdict) -> io::Result<Vec<sock_filter>> {
    let alternatives = match verdict {
        Verdict::Allow => return Ok(vec![result(libc::SECCOMP_RET_ALLOW)]),
        Verdict::Missing => return Ok(vec![refusal(libc::ENOSYS)]),
        Verdict::Kill => return Ok(vec![result(libc::SECCOMP_RET_KILL_PROCESS)]),
        Verdict::AllowIf(alternatives) => alternatives,
    };
    let mut body = Vec::new();
    for tests in alternatives {
        body.extend(assemble_tests(tests)?);
    }
    body.push(refusal(libc::EPERM));
    Ok(body)
}

/// Allows if all tests hold, else goes on behind them. Built from the end, where the distance to
/// go on is known.
fn assemble_tests(tests: &[Test]) -> io::Result<Vec<sock_filter>> {
    let mut reversed = vec![result(libc::SECCOMP_RET_ALLOW)];
    for test in tests.iter().rev() {
        let skip = distance(reversed.len())?;
        reversed.push(jump(BPF_JEQ, test.value, 0, skip));
        if test.mask != u32::MAX {
            reversed.push(statement(BPF_ALU | BPF_AND | BPF_K, test.mask));
        }
        let half = if test.upper { 4 } else { 0 };
        reversed.push(load(ARGUMENTS + 8 * u32::from(test.argument) + half));
    }
    reversed.reverse();
    Ok(reversed)
}

fn distance(instructions: usize) -> io::Result<u8> {
    u8::try_from(instructions).map_err(io::Error::other)
}

fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn result(action: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, action)
}

/// Makes the call fail with an error number, which lies below the action's bits.
fn refusal(errno: i32) -> sock_filter {
    result(libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

fn statement(code: u32, k: u32) -> sock_filter {
    instruction(code, k, 0, 0)
}

fn jump(comparison: u32, k: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(BPF_JMP | comparison | BPF_K, k, if_true, if_false)
}

/// BPF opcodes are constants below 0x100.
fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    #[expect(clippy::cast_possible_truncation, reason = "opcodes have eight bits")]
    let code = code as u16;
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use libc::c_long;

    use super::super::policy::policy;
    use super::*;

    const OWN_PID: u32 = 7;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

    /// Runs the program as the kernel does, for the instructions that it consists of.
    fn run(architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let program = assemble(&policy(OWN_PID)).unwrap();
        let mut data = vec![0; 16];
        data[0..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&architecture.to_le_bytes());
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut accumulator, mut position) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[position];
            position += 1;
            let (yes, no) = (usize::from(jt), usize::from(jf));
            match u32::from(code) {
                0x20 => {
                    let at = k as usize;
                    accumulator = u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
                }
                0x54 => accumulator &= k,
                0x15 => position += if accumulator == k { yes } else { no },
                0x35 => position += if accumulator >= k { yes } else { no },
                0x06 => return k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn call(number: c_long, arguments: [u64; 6]) -> u32 {
        run(ARCHITECTURE, u32::try_from(number).unwrap(), arguments)
    }

    #[test]
    fn the_verdict_of_every_rule_is_reached() {
        for (number, verdict) in policy(OWN_PID) {
            let expected = match verdict {
                Verdict::Allow => ALLOW,
                Verdict::Missing => ENOSYS,
                Verdict::Kill => KILL,
                Verdict::AllowIf(_) => continue,
            };
            assert_eq!(
                call(number, [u64::MAX; 6]),
                expected,
                "system call {number}"
            );
        }
        assert_eq!(call(libc::SYS_openat, [0; 6]), EPERM);
        assert_eq!(call(libc::SYS_socket, [0; 6]), EPERM);
    }

    #[test]
    fn other_architectures_and_x32_are_killed() {
        let read = u32::try_from(libc::SYS_read).unwrap();
        assert_eq!(run(ARCHITECTURE, read, [0; 6]), ALLOW);
        assert_eq!(run(0x4000_0003, read, [0; 6]), KILL);
        assert_eq!(run(ARCHITECTURE, read | X32_BIT, [0; 6]), KILL);
        assert_eq!(run(ARCHITECTURE, u32::MAX - 1, [0; 6]), KILL);
        assert_eq!(run(ARCHITECTURE, u32::MAX, [0; 6]), ENOSYS);
    }

    #[test]
    fn memory_is_never_executable() {
        for number in [libc::SYS_mmap, libc::SYS_mprotect] {
            for (protection, expected) in [(0, ALLOW), (3, ALLOW), (4, EPERM), (7, EPERM)] {
                assert_eq!(call(number, [0, 0, protection, 0, 0, 0]), expected);
                let noise = protection | 0xdead_beef << 32;
                assert_eq!(call(number, [0, 0, noise, 0, 0, 0]), expected);
            }
        }
    }

    #[test]
    fn only_threads_can_be_made() {
        let glibc = 0x003d_0f00;
        let fork = 0x0120_0011;
        let spawn = 0x4111;
        let new_user_namespace = 0x1000_0000;
        for (flags, expected) in [
            (glibc, ALLOW),
            (glibc | 0x0040_0000, ALLOW),
            (fork, EPERM),
            (spawn, EPERM),
            (glibc | new_user_namespace, EPERM),
            (glibc & !0x0001_0000, EPERM),
        ] {
            assert_eq!(
                call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]),
                expected,
                "{flags:#x}"
            );
        }
    }

    #[test]
    fn sending_names_no_address() {
        let fast_open = 0x2000_0000;
        let null = [3, 0, 0, 0, 0, 0];
        assert_eq!(call(libc::SYS_sendto, null), ALLOW);
        assert_eq!(call(libc::SYS_sendto, [3, 0, 0, 0, 1, 16]), EPERM);
        assert_eq!(call(libc::SYS_sendto, [3, 0, 0, 0, 1 << 32, 16]), EPERM);
        assert_eq!(call(libc::SYS_sendto, [3, 0, 0, fast_open, 0, 0]), EPERM);
        assert_eq!(call(libc::SYS_sendmsg, [3, 0, 0x4000, 0, 0, 0]), ALLOW);
        assert_eq!(call(libc::SYS_sendmsg, [3, 0, fast_open, 0, 0, 0]), EPERM);
    }

    #[test]
    fn signals_limits_and_attributes_are_the_own_ones() {
        assert_eq!(
            call(libc::SYS_tgkill, [OWN_PID.into(), 9, 6, 0, 0, 0]),
            ALLOW
        );
        assert_eq!(call(libc::SYS_tgkill, [1, 9, 6, 0, 0, 0]), EPERM);
        assert_eq!(call(libc::SYS_prlimit64, [0, 4, 0, 1, 0, 0]), ALLOW);
        assert_eq!(call(libc::SYS_prlimit64, [0, 4, 1 << 40, 0, 0, 0]), EPERM);
        assert_eq!(call(libc::SYS_prlimit64, [1, 4, 0, 1, 0, 0]), EPERM);
        assert_eq!(call(libc::SYS_prctl, [15, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(call(libc::SYS_prctl, [4, 1, 0, 0, 0, 0]), EPERM);
    }

    #[test]
    fn descriptors_keep_no_locks_owners_or_filters() {
        assert_eq!(call(libc::SYS_fcntl, [3, 1030, 0, 0, 0, 0]), ALLOW);
        assert_eq!(call(libc::SYS_fcntl, [3, 8, 1, 0, 0, 0]), EPERM); // F_SETOWN
        assert_eq!(call(libc::SYS_ioctl, [3, 0x5421, 0, 0, 0, 0]), ALLOW);
        assert_eq!(call(libc::SYS_ioctl, [3, 0x5412, 0, 0, 0, 0]), EPERM); // TIOCSTI
        assert_eq!(call(libc::SYS_setsockopt, [3, 1, 7, 0, 0, 0]), ALLOW); // SO_SNDBUF
        assert_eq!(call(libc::SYS_setsockopt, [3, 1, 26, 0, 0, 0]), EPERM); // SO_ATTACH_FILTER
        assert_eq!(call(libc::SYS_setsockopt, [3, 6, 7, 0, 0, 0]), EPERM); // mixed pair
    }
}
