// SPDX-License-Identifier: Apache-2.0
//! The attacks, and what they are aimed at.

#![expect(
    clippy::cast_sign_loss,
    reason = "registers carry signed numbers as they are"
)]

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{ExitCode, id};

use crate::kernel::{Ended, call};

/// Only seen outside if a change of the host name got there.
const BROKEN_OUT: &[u8] = b"broken-out";
const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;
const HANDLE_BYTES: u32 = 128;
const AT_FDCWD: usize = libc::AT_FDCWD as usize;

/// Who it is aimed at: the outer process, and what it owns.
pub(crate) struct Victim {
    pid: usize,
    secret: Box<u64>,
    directory: PathBuf,
    abstract_name: Vec<u8>,
    _abstract_listener: UnixListener,
    tcp: TcpListener,
    segment_key: usize,
    etc: File,
    handle: Vec<u32>,
    /// A socket that the host passed without connecting it.
    unconnected: RawFd,
}

impl Victim {
    pub(crate) fn new() -> io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("confined-probe-{}", id()));
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        std::env::set_current_dir(&directory)?;
        let copy = directory.join("set-user-id");
        fs::copy("/proc/self/exe", &copy)?;
        fs::set_permissions(&copy, Permissions::from_mode(0o4755))?;
        let abstract_name = format!("confined-probe-{}", id()).into_bytes();
        let address = SocketAddr::from_abstract_name(&abstract_name)?;
        let segment_key = 0x5352_0000 | (id() as usize & 0xffff);
        let flags = libc::IPC_CREAT | 0o600;
        call(
            libc::SYS_shmget,
            [segment_key, 4096, flags as usize, 0, 0, 0],
        )?;
        let mut handle = vec![0; 2 + HANDLE_BYTES as usize / 4];
        handle[0] = HANDLE_BYTES;
        let mut mount_id = 0;
        let _only_root_can_use_it = call(
            libc::SYS_name_to_handle_at,
            [
                AT_FDCWD,
                c"/etc/passwd".as_ptr() as usize,
                handle.as_mut_ptr() as usize,
                &raw mut mount_id as usize,
                0,
                0,
            ],
        );
        let unconnected = call(libc::SYS_socket, [libc::AF_UNIX as usize, 1, 0, 0, 0, 0])?;
        Ok(Self {
            pid: id() as usize,
            secret: Box::new(SECRET),
            directory,
            abstract_name,
            _abstract_listener: UnixListener::bind_addr(&address)?,
            tcp: TcpListener::bind("127.0.0.1:0")?,
            segment_key,
            etc: File::open("/etc")?,
            handle,
            unconnected: RawFd::try_from(unconnected).map_err(io::Error::other)?,
        })
    }

    fn abstract_address(&self) -> Vec<u8> {
        let mut address = vec![1, 0, 0];
        address.extend(&self.abstract_name);
        address
    }
}

/// In the process that made them, and nowhere else: children end by `_exit`.
impl Drop for Victim {
    fn drop(&mut self) {
        if let Ok(segment) = call(libc::SYS_shmget, [self.segment_key, 0, 0, 0, 0, 0]) {
            let _best_effort = call(
                libc::SYS_shmctl,
                [segment, libc::IPC_RMID as usize, 0, 0, 0, 0],
            );
        }
        let target = c_string(&self.directory.to_string_lossy());
        let _unless_mounted = call(libc::SYS_umount2, [target.as_ptr() as usize, 2, 0, 0, 0, 0]);
        let _best_effort = fs::remove_dir_all(&self.directory);
    }
}

/// One way to break out.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Victim) -> io::Result<usize>,
    /// Whether the outside felt it, once it was done.
    pub(crate) felt: fn(&Victim, Ended) -> bool,
}

const fn attack(name: &'static str, run: fn(&Victim) -> io::Result<usize>) -> Attack {
    Attack {
        name,
        run,
        felt: |_, _| true,
    }
}

pub(crate) const ALL: [Attack; 41] = [
    attack("open file", |_| open("/etc/passwd", libc::O_RDONLY)),
    attack("create file", |victim| {
        let path = victim.directory.join("new");
        open(&path.to_string_lossy(), libc::O_RDWR | libc::O_CREAT)
    }),
    attack("stat file", |_| stat("/etc/passwd")),
    attack("write own memory", |_| open("/proc/self/mem", libc::O_RDWR)),
    attack("see parent", |victim| {
        stat(&format!("/proc/{}", victim.pid))
    }),
    attack("see control group", |_| see_control_group()),
    attack("open by handle", open_by_handle),
    attack("socket inet", |_| socket(libc::AF_INET)),
    attack("socket unix", |_| socket(libc::AF_UNIX)),
    attack("socket netlink", |_| socket(libc::AF_NETLINK)),
    attack("connect abstract", |victim| {
        let fd = socket(libc::AF_UNIX)?;
        connect(fd, &victim.abstract_address())
    }),
    attack("connect passed socket", |victim| {
        connect(victim.unconnected as usize, &victim.abstract_address())
    }),
    attack("connect tcp", |victim| {
        let port = victim.tcp.local_addr()?.port().to_be_bytes();
        let fd = socket(libc::AF_INET)?;
        connect(
            fd,
            &[2, 0, port[0], port[1], 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        )
    }),
    attack("signal parent", |victim| {
        call(libc::SYS_kill, [victim.pid, 0, 0, 0, 0, 0])
    }),
    // Signal 0 asks whether one may, and harms nobody when nothing is in the way.
    attack("signal all", |_| {
        call(libc::SYS_kill, [usize::MAX, 0, 0, 0, 0, 0])
    }),
    attack("trace parent", |victim| {
        call(
            libc::SYS_ptrace,
            [libc::PTRACE_SEIZE as usize, victim.pid, 0, 0, 0, 0],
        )
    }),
    attack("read parent", |victim| {
        read_memory(victim, libc::SYS_process_vm_readv)
    }),
    attack("write parent", |victim| {
        read_memory(victim, libc::SYS_process_vm_writev)
    }),
    attack("execute", |_| execute("/bin/true", &[])),
    attack("execute set-user-ID", |victim| {
        call(libc::SYS_setresuid, [65534, 65534, 65534, 0, 0, 0])?;
        execute(
            &victim.directory.join("set-user-id").to_string_lossy(),
            &["euid"],
        )
    }),
    attack("fork", |_| duplicate(libc::SYS_clone)),
    attack("fork by clone3", |_| duplicate(libc::SYS_clone3)),
    attack("map executable", |_| map(libc::PROT_READ | libc::PROT_EXEC)),
    attack("make executable", |_| {
        let address = map(libc::PROT_READ | libc::PROT_WRITE)?;
        call(libc::SYS_mprotect, [address, 4096, 5, 0, 0, 0])
    }),
    attack("raise capabilities", |_| raise_capabilities()),
    attack("set user", |_| {
        call(libc::SYS_setresuid, [0, 0, 0, 0, 0, 0])
    }),
    attack("raise core limit", |_| {
        let unlimited = [u64::MAX; 2];
        call(
            libc::SYS_prlimit64,
            [0, 4, unlimited.as_ptr() as usize, 0, 0, 0],
        )
    }),
    Attack {
        name: "dump core",
        // The first process of a PID namespace ignores its own signals, but dies of the fault
        // by which abort ends.
        run: |_| std::process::abort(),
        felt: |_, ended| matches!(ended, Ended::Killed { core: true, .. }),
    },
    attack("set dumpable", |_| {
        call(libc::SYS_prctl, [4, 1, 0, 0, 0, 0])
    }),
    attack("unshare", |_| {
        call(
            libc::SYS_unshare,
            [libc::CLONE_NEWUTS as usize, 0, 0, 0, 0, 0],
        )
    }),
    attack("unshare user", |_| {
        call(
            libc::SYS_unshare,
            [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0],
        )
    }),
    Attack {
        name: "mount",
        run: mount,
        felt: |victim, _| !victim.directory.join("set-user-id").exists(),
    },
    Attack {
        name: "set host name",
        run: |_| {
            let name = BROKEN_OUT;
            call(
                libc::SYS_sethostname,
                [name.as_ptr() as usize, name.len(), 0, 0, 0, 0],
            )
        },
        felt: |_, _| {
            fs::read("/proc/sys/kernel/hostname").is_ok_and(|name| name.starts_with(BROKEN_OUT))
        },
    },
    attack("open shared segment", |victim| {
        call(libc::SYS_shmget, [victim.segment_key, 0, 0, 0, 0, 0])
    }),
    attack("io_uring", |_| {
        let parameters = [0u64; 15];
        call(
            libc::SYS_io_uring_setup,
            [1, parameters.as_ptr() as usize, 0, 0, 0, 0],
        )
    }),
    attack("bpf", |_| {
        let map_attributes = [2u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        call(
            libc::SYS_bpf,
            [0, map_attributes.as_ptr() as usize, 72, 0, 0, 0],
        )
    }),
    attack("keyctl", |_| {
        let user_keyring = (-4_isize).cast_unsigned();
        call(libc::SYS_keyctl, [0, user_keyring, 1, 0, 0, 0])
    }),
    attack("userfaultfd", |_| {
        call(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0])
    }),
    attack("perf", |_| {
        let mut attributes = [0u64; 16];
        attributes[0] = 1 | 128 << 32; // a software counter
        attributes[1] = 9; // that counts nothing
        attributes[5] = 0b110_0000; // of neither kernel nor hypervisor
        call(
            libc::SYS_perf_event_open,
            [
                attributes.as_ptr() as usize,
                0,
                usize::MAX,
                usize::MAX,
                8,
                0,
            ],
        )
    }),
    attack("memory file", |_| {
        call(
            libc::SYS_memfd_create,
            [c"x".as_ptr() as usize, 0, 0, 0, 0, 0],
        )
    }),
    attack("x32 call", |_| call(libc::SYS_getpid | 0x4000_0000, [0; 6])),
];

/// What must be there before the confinement, such as a core limit that lets cores be dumped.
pub(crate) fn prepare(wanted: &dyn Fn(&str) -> bool) -> io::Result<()> {
    if !wanted("core limit") {
        let mut limits = [0u64; 2];
        call(
            libc::SYS_prlimit64,
            [0, 4, 0, limits.as_mut_ptr() as usize, 0, 0],
        )?;
        limits[0] = limits[1];
        call(
            libc::SYS_prlimit64,
            [0, 4, limits.as_ptr() as usize, 0, 0, 0],
        )?;
    }
    Ok(())
}

/// Exits with 0 if this process runs as root, which a set-user-ID program does.
pub(crate) fn report_user() -> ExitCode {
    match call(libc::SYS_geteuid, [0; 6]) {
        Ok(0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn open(path: &str, flags: i32) -> io::Result<usize> {
    let path = c_string(path);
    call(
        libc::SYS_openat,
        [
            AT_FDCWD,
            path.as_ptr() as usize,
            flags as usize,
            0o600,
            0,
            0,
        ],
    )
}

/// With the one flag that the filter lets through.
fn stat(path: &str) -> io::Result<usize> {
    let path = c_string(path);
    let mut facts = [0u64; 32];
    let flags = libc::AT_EMPTY_PATH as usize;
    let (path, facts) = (path.as_ptr() as usize, facts.as_mut_ptr() as usize);
    call(libc::SYS_newfstatat, [AT_FDCWD, path, facts, flags, 0, 0])
}

fn see_control_group() -> io::Result<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    if groups
        .lines()
        .all(|line| line.ends_with(":/") || line.ends_with("systemd:/"))
    {
        return Err(io::Error::other("rooted here"));
    }
    Ok(0)
}

fn open_by_handle(victim: &Victim) -> io::Result<usize> {
    let handle = victim.handle.as_ptr() as usize;
    call(
        libc::SYS_open_by_handle_at,
        [victim.etc.as_raw_fd() as usize, handle, 0, 0, 0, 0],
    )
}

fn socket(family: i32) -> io::Result<usize> {
    let kind = if family == libc::AF_NETLINK { 3 } else { 1 };
    call(libc::SYS_socket, [family as usize, kind, 0, 0, 0, 0])
}

fn connect(fd: usize, address: &[u8]) -> io::Result<usize> {
    call(
        libc::SYS_connect,
        [fd, address.as_ptr() as usize, address.len(), 0, 0, 0],
    )
}

/// The secret lies at the same address here: this process is a descendant by fork.
fn read_memory(victim: &Victim, number: libc::c_long) -> io::Result<usize> {
    let mut copy = SECRET;
    let here = [&raw mut copy as usize, 8];
    let there = [&raw const *victim.secret as usize, 8];
    call(
        number,
        [
            victim.pid,
            here.as_ptr() as usize,
            1,
            there.as_ptr() as usize,
            1,
            0,
        ],
    )
}

fn execute(program: &str, arguments: &[&str]) -> io::Result<usize> {
    let words: Vec<CString> = [program]
        .iter()
        .chain(arguments)
        .map(|word| c_string(word))
        .collect();
    let mut pointers: Vec<usize> = words.iter().map(|word| word.as_ptr() as usize).collect();
    pointers.push(0);
    let path = words.first().map_or(0, |word| word.as_ptr() as usize);
    call(
        libc::SYS_execve,
        [path, pointers.as_ptr() as usize, 0, 0, 0, 0],
    )
}

fn duplicate(number: libc::c_long) -> io::Result<usize> {
    let signal = libc::SIGCHLD as usize;
    let clone3_arguments = [0u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    let arguments = match number {
        libc::SYS_clone3 => [clone3_arguments.as_ptr() as usize, 64, 0, 0, 0, 0],
        _ => [signal, 0, 0, 0, 0, 0],
    };
    match call(number, arguments)? {
        0 => crate::kernel::leave(0),
        pid => Ok(pid),
    }
}

fn map(protection: i32) -> io::Result<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    call(
        libc::SYS_mmap,
        [0, 4096, protection as usize, flags as usize, usize::MAX, 0],
    )
}

fn raise_capabilities() -> io::Result<usize> {
    let header = [0x2008_0522u32, 0];
    let sys_admin = 1u32 << 21;
    let sets = [sys_admin, sys_admin, 0, 0, 0, 0];
    call(
        libc::SYS_capset,
        [header.as_ptr() as usize, sets.as_ptr() as usize, 0, 0, 0, 0],
    )
}

fn mount(victim: &Victim) -> io::Result<usize> {
    let target = c_string(&victim.directory.to_string_lossy());
    let kind = c"tmpfs".as_ptr() as usize;
    call(
        libc::SYS_mount,
        [kind, target.as_ptr() as usize, kind, 0, 0, 0],
    )
}
