// SPDX-License-Identifier: Apache-2.0
//! What remains possible after confinement, and why.
//!
//! Found by tracing a Python 3.11 process (glibc 2.36) with Rust threads that does all that a
//! serving enclave does. What is in no list is refused with `EPERM`. Pointers cannot be checked,
//! as a filter sees registers only: where a call could name a file or an address, it is either
//! not here or limited by its other arguments.

use libc::c_long;

/// What the kernel does with a system call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Let it through.
    Allow,
    /// Let it through if every test of at least one of these lists holds, else refuse it.
    AllowIf(Vec<Vec<Test>>),
    /// Say that this kernel has no such call, so that the C library uses the older one, which can
    /// be checked.
    Missing,
    /// Kill the process: nothing here calls it, so somebody else has taken over.
    Kill,
}

/// `argument & mask == value`, on one half of a 64-bit argument.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Test {
    /// 0 to 5.
    pub(super) argument: u8,
    /// Whether it looks at bits 32 to 63 instead of 0 to 31.
    pub(super) upper: bool,
    pub(super) mask: u32,
    pub(super) value: u32,
}

/// A system call's number and its verdict.
pub(super) type Rule = (c_long, Verdict);

/// The calls that are allowed whatever their arguments, in groups with a reason for each.
const ALLOWED: &[(&str, &[c_long])] = &[
    (
        "read and write the image, the client's socket and the boundary, all open already",
        &[
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_readv,
            libc::SYS_writev,
            libc::SYS_pread64,
            libc::SYS_pwrite64,
            libc::SYS_preadv,
            libc::SYS_pwritev,
            libc::SYS_preadv2,
            libc::SYS_pwritev2,
            libc::SYS_lseek,
            libc::SYS_close,
        ],
    ),
    (
        "make writes durable, soon or now, punch holes for trim, read ahead, learn the image's size",
        &[
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_sync_file_range,
            libc::SYS_fallocate,
            libc::SYS_fadvise64,
            libc::SYS_fstat,
        ],
    ),
    (
        "have many transfers of the image under way: reads and writes of what is open, and nothing \
         else that `io_uring` does, which goes around this filter",
        &[
            libc::SYS_io_setup,
            libc::SYS_io_submit,
            libc::SYS_io_getevents,
            libc::SYS_io_destroy,
        ],
    ),
    (
        "take clients from a socket that is listening already, receive descriptors, hang up",
        &[
            libc::SYS_accept4,
            libc::SYS_recvfrom,
            libc::SYS_recvmsg,
            libc::SYS_shutdown,
            libc::SYS_getsockname,
        ],
    ),
    (
        "wait for several sockets, or to be told to stop",
        &[
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_select,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait,
            libc::SYS_ppoll,
            libc::SYS_pselect6,
            libc::SYS_epoll_create1,
            libc::SYS_epoll_ctl,
            libc::SYS_epoll_pwait,
            libc::SYS_eventfd2,
        ],
    ),
    (
        "allocate memory; mmap and mprotect are further down",
        &[
            libc::SYS_brk,
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_madvise,
        ],
    ),
    (
        "make more secret memory: of its own, limited by RLIMIT_MEMLOCK, sized by ftruncate",
        &[libc::SYS_memfd_secret, libc::SYS_ftruncate, libc::SYS_mlock],
    ),
    (
        "run threads; the call that makes them is further down",
        &[
            libc::SYS_futex,
            libc::SYS_set_robust_list,
            libc::SYS_rseq,
            libc::SYS_sched_yield,
            libc::SYS_sched_getaffinity,
            libc::SYS_gettid,
            libc::SYS_getpid,
            libc::SYS_restart_syscall,
            libc::SYS_exit,
            libc::SYS_exit_group,
        ],
    ),
    (
        "handle signals: Python's handlers, Rust's guard against stack overflow",
        &[
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_sigaltstack,
        ],
    ),
    (
        "tell the time and sleep, where the vDSO does not",
        &[
            #[cfg(target_arch = "x86_64")]
            libc::SYS_time,
            libc::SYS_gettimeofday,
            libc::SYS_clock_gettime,
            libc::SYS_clock_nanosleep,
            libc::SYS_nanosleep,
        ],
    ),
    ("draw random bytes", &[libc::SYS_getrandom]),
];

/// The calls that are hidden, so that glibc and Rust fall back to ones with checkable arguments:
/// `clone` and `fstat`.
const MISSING: &[c_long] = &[libc::SYS_clone3, libc::SYS_statx];

/// The calls that nothing here makes by mistake.
const FATAL: &[c_long] = &[
    // Reach into other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Run another program.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Parts of the kernel that exploits start from.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Change the kernel or the machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    // Change the view of the system.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
];

/// The flags with which glibc, and musl with one more that means nothing, make a thread.
const THREAD_FLAGS: u32 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID)
    .cast_unsigned();

/// The whole policy for the process `pid`.
pub(super) fn policy(pid: u32) -> Vec<Rule> {
    let mut rules = checked(pid);
    let constant = |calls: &'static [c_long], verdict: Verdict| {
        calls.iter().map(move |call| (*call, verdict.clone()))
    };
    for (_reason, calls) in ALLOWED {
        rules.extend(constant(calls, Verdict::Allow));
    }
    rules.extend(constant(MISSING, Verdict::Missing));
    rules.extend(constant(FATAL, Verdict::Kill));
    rules
}

/// How many calls a policy allows, and how many kill.
pub(super) fn count(rules: &[Rule]) -> (usize, usize) {
    let allows = |verdict: &Verdict| matches!(verdict, Verdict::Allow | Verdict::AllowIf(_));
    (
        rules.iter().filter(|(_, verdict)| allows(verdict)).count(),
        rules
            .iter()
            .filter(|(_, verdict)| *verdict == Verdict::Kill)
            .count(),
    )
}

/// The calls that are allowed for some arguments. First in the program: the kernel remembers
/// which calls are always allowed, and runs the program for the others.
fn checked(pid: u32) -> Vec<Rule> {
    let mut rules = checked_io();
    rules.extend(checked_process(pid));
    rules
}

fn checked_io() -> Vec<Rule> {
    vec![
        // Send, but connect to nobody by sending: no address, no TCP Fast Open.
        (
            libc::SYS_sendmsg,
            Verdict::AllowIf(vec![vec![without(2, libc::MSG_FASTOPEN)]]),
        ),
        (
            libc::SYS_sendto,
            Verdict::AllowIf(vec![
                [&null(4)[..], &[without(3, libc::MSG_FASTOPEN)]].concat(),
            ]),
        ),
        // The size of an open file, as glibc asks for it; a path is empty, or looked up in an
        // empty root.
        (
            libc::SYS_newfstatat,
            Verdict::AllowIf(vec![vec![equals(3, libc::AT_EMPTY_PATH)]]),
        ),
        // Duplicate, close-on-exec, blocking. No locks, leases, or signals to owners.
        (
            libc::SYS_fcntl,
            one_of(
                1,
                &[
                    libc::F_DUPFD,
                    libc::F_DUPFD_CLOEXEC,
                    libc::F_GETFD,
                    libc::F_SETFD,
                    libc::F_GETFL,
                    libc::F_SETFL,
                ],
            ),
        ),
        // Python's way to say the same.
        (libc::SYS_ioctl, one_of(1, &[FIONBIO, FIOCLEX, FIONCLEX])),
        // Buffer sizes, timeouts and delays. No filter programs, devices or marks.
        (
            libc::SYS_setsockopt,
            Verdict::AllowIf(
                SOCKET_OPTIONS
                    .iter()
                    .map(|(level, option)| vec![equals(1, *level), equals(2, *option)])
                    .collect(),
            ),
        ),
        (libc::SYS_getsockopt, one_of(1, &[libc::SOL_SOCKET])),
    ]
}

fn checked_process(pid: u32) -> Vec<Rule> {
    let not_executable = Verdict::AllowIf(vec![vec![without(2, libc::PROT_EXEC)]]);
    vec![
        // Memory that is writable once and never executable.
        (libc::SYS_mmap, not_executable.clone()),
        (libc::SYS_mprotect, not_executable),
        // Threads, not processes, and no namespaces.
        (
            libc::SYS_clone,
            Verdict::AllowIf(vec![vec![Test {
                mask: !libc::CLONE_DETACHED.cast_unsigned(),
                value: THREAD_FLAGS,
                ..equals(0, 0)
            }]]),
        ),
        // Signals to the own threads only: abort.
        (
            libc::SYS_tgkill,
            Verdict::AllowIf(vec![vec![Test {
                value: pid,
                ..equals(0, 0)
            }]]),
        ),
        // The own limits, for reading: glibc measures stacks by them.
        (
            libc::SYS_prlimit64,
            Verdict::AllowIf(vec![[&[equals(0, 0)], &null(2)[..]].concat()]),
        ),
        // Names of threads and of mappings, and asking whether the confinement is in force.
        (
            libc::SYS_prctl,
            one_of(
                0,
                &[
                    libc::PR_SET_NAME,
                    libc::PR_GET_NAME,
                    libc::PR_SET_VMA,
                    libc::PR_GET_DUMPABLE,
                    libc::PR_GET_NO_NEW_PRIVS,
                    libc::PR_GET_SECCOMP,
                    libc::PR_CAPBSET_READ,
                ],
            ),
        ),
    ]
}

/// Spec: include/uapi/asm-generic/ioctls.h; the same on both architectures.
const FIONBIO: i32 = 0x5421;
/// See [`FIONBIO`].
const FIONCLEX: i32 = 0x5450;
/// See [`FIONBIO`].
const FIOCLEX: i32 = 0x5451;

const SOCKET_OPTIONS: [(i32, i32); 6] = [
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
];

/// The kernel takes the argument as an `int`: the upper half does not matter.
const fn equals(argument: u8, value: i32) -> Test {
    Test {
        argument,
        upper: false,
        mask: u32::MAX,
        value: value.cast_unsigned(),
    }
}

/// None of these bits, which all lie in the lower half.
const fn without(argument: u8, bits: i32) -> Test {
    Test {
        mask: bits.cast_unsigned(),
        ..equals(argument, 0)
    }
}

/// A null pointer.
const fn null(argument: u8) -> [Test; 2] {
    [
        equals(argument, 0),
        Test {
            upper: true,
            ..equals(argument, 0)
        },
    ]
}

fn one_of(argument: u8, values: &[i32]) -> Verdict {
    Verdict::AllowIf(
        values
            .iter()
            .map(|value| vec![equals(argument, *value)])
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_call_has_one_verdict() {
        let mut seen = HashSet::new();
        for (call, _) in policy(1) {
            assert!(seen.insert(call), "system call {call} is listed twice");
        }
    }

    #[test]
    fn nothing_that_opens_connects_or_starts_is_listed() {
        let listed: HashSet<c_long> = policy(1).into_iter().map(|(call, _)| call).collect();
        for call in [
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_kill,
            libc::SYS_pkey_mprotect,
            libc::SYS_shmat,
            libc::SYS_memfd_create,
            libc::SYS_setuid,
            libc::SYS_capset,
            libc::SYS_seccomp,
            libc::SYS_personality,
        ] {
            assert!(!listed.contains(&call), "system call {call}");
        }
    }
}
