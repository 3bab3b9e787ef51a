// SPDX-License-Identifier: Apache-2.0
//! Stacks in secret memory.
//!
//! Code that computes on keys leaves copies in its stack frames and in registers: HMAC states,
//! derived keys, spilled halves of blocks. Run on such a stack, it leaves them in secret memory,
//! which is wiped right after, and the registers are cleared.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::secret::{self, Mapping};

/// Usable bytes of one stack.
///
/// Ample for every callee, unoptimised builds and a panic that prints a backtrace included. An
/// overflow hits the guard page and ends the process.
pub const STACK_BYTES: usize = 192 * 1024;

/// Most stacks that exist at once, and so the most threads that compute on secrets at once.
pub const MAX_STACKS: usize = 16;

/// Runs `work` on a stack in secret memory, then wipes that stack and the registers.
///
/// Whatever `work` returns is moved to the caller's ordinary stack, so it must not hold secret
/// bytes by value; handles such as [`crate::secret::SecretBytes`] are fine. Inside another call
/// `work` just runs, and only the registers are cleared. When [`MAX_STACKS`] are taken the caller waits, so `work` must not wait for
/// another thread that needs a secret stack.
///
/// # Panics
/// If `work` does, and if this process never got a single stack; see [`reserve`].
pub fn on_secret_stack<R>(work: impl FnOnce() -> R) -> R {
    if is_active() {
        let result = work();
        clear_registers();
        return result;
    }
    let mut taken = Taken(Some(take_stack()));
    let outcome = match &mut taken.0 {
        Some(stack) => stack.run(work),
        None => unreachable!("a taken stack is given back on drop only"),
    };
    drop(taken);
    match outcome {
        Ok(result) => result,
        Err(payload) => panic::resume_unwind(payload),
    }
}

/// Whether the calling code runs on a secret stack.
#[must_use]
pub fn is_active() -> bool {
    ACTIVE.with(Cell::get)
}

/// Makes sure that `count` stacks exist (at most [`MAX_STACKS`]), so that no system call is needed
/// for them later.
///
/// # Errors
/// The kernel has no more secret memory to give.
pub fn reserve(count: usize) -> io::Result<()> {
    let mut pool = lock_pool();
    while pool.existing < count.min(MAX_STACKS) {
        let stack = Stack::new()?;
        pool.idle.push(stack);
        pool.existing += 1;
    }
    Ok(())
}

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// Clean stacks, and how many there are with those in use.
struct Pool {
    idle: Vec<Stack>,
    existing: usize,
    generation: u32,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    idle: Vec::new(),
    existing: 0,
    generation: 0,
});
static GIVEN_BACK: Condvar = Condvar::new();

fn lock_pool() -> MutexGuard<'static, Pool> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = secret::forks();
    if pool.generation != generation {
        // Stacks are not inherited by a forked child.
        pool.idle.drain(..).for_each(std::mem::forget);
        pool.existing = 0;
        pool.generation = generation;
    }
    pool
}

fn take_stack() -> Stack {
    let mut pool = lock_pool();
    loop {
        if let Some(stack) = pool.idle.pop() {
            return stack;
        }
        if pool.existing < MAX_STACKS {
            match Stack::new() {
                Ok(stack) => {
                    pool.existing += 1;
                    return stack;
                }
                Err(error) => assert!(pool.existing > 0, "no memory for a secret stack: {error}"),
            }
        }
        pool = GIVEN_BACK
            .wait(pool)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// Gives its stack back to the pool when dropped.
struct Taken(Option<Stack>);

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(stack) = self.0.take() {
            lock_pool().idle.push(stack);
            GIVEN_BACK.notify_one();
        }
    }
}

/// One stack, zero whenever nothing runs on it.
struct Stack {
    mapping: Mapping,
}

impl Stack {
    fn new() -> io::Result<Self> {
        let mapping = Mapping::new(STACK_BYTES)?;
        Ok(Self { mapping })
    }

    fn run<R>(&mut self, work: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
        let base = self.mapping.base().as_ptr();
        let len = self.mapping.len();
        let guarded = || {
            ACTIVE.with(|active| active.set(true));
            // An unwinding panic must not cross the change of stacks.
            let outcome = panic::catch_unwind(AssertUnwindSafe(work));
            ACTIVE.with(|active| active.set(false));
            outcome
        };
        // SAFETY: `base..base + len` is mapped writable, page-aligned, has a guard page below, and
        // is used by nobody else, as `&mut self` shows. The callback catches every panic.
        #[expect(unsafe_code, reason = "changing stacks")]
        let outcome = unsafe { psm::on_stack(base, len, guarded) };
        // Registers first: the wipe takes longer.
        clear_registers();
        self.wipe();
        outcome
    }

    fn wipe(&mut self) {
        // SAFETY: the whole range is mapped writable, and nothing runs on it any more.
        #[expect(unsafe_code, reason = "overwriting our own mapping")]
        unsafe {
            self.mapping
                .base()
                .as_ptr()
                .write_bytes(0, self.mapping.len());
        }
        // The address escapes to assembly, so the compiler must carry out the stores above.
        // SAFETY: an empty instruction sequence.
        #[expect(unsafe_code, reason = "a compiler barrier")]
        unsafe {
            std::arch::asm!("/* {0} */", in(reg) self.mapping.base().as_ptr(), options(nostack));
        }
    }
}

/// Zeroes every register that a callee may have left something in.
///
/// Also for use in the middle of long work: a copied key stays in vector registers, which a
/// debugger can read, until something overwrites them.
pub fn clear_registers() {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            clear_upper_vector_registers();
        }
        if std::is_x86_feature_detected!("avx") {
            clear_avx_registers();
        } else {
            clear_sse_registers();
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// Zeroes zmm16 to zmm31; the caller has seen AVX-512F.
#[cfg(target_arch = "x86_64")]
fn clear_upper_vector_registers() {
    // SAFETY: writes only registers that the sysv64 convention lets every callee change.
    #[expect(unsafe_code, reason = "registers can be cleared by assembly only")]
    unsafe {
        std::arch::asm!(
            "vpxorq zmm16, zmm16, zmm16",
            "vpxorq zmm17, zmm17, zmm17",
            "vpxorq zmm18, zmm18, zmm18",
            "vpxorq zmm19, zmm19, zmm19",
            "vpxorq zmm20, zmm20, zmm20",
            "vpxorq zmm21, zmm21, zmm21",
            "vpxorq zmm22, zmm22, zmm22",
            "vpxorq zmm23, zmm23, zmm23",
            "vpxorq zmm24, zmm24, zmm24",
            "vpxorq zmm25, zmm25, zmm25",
            "vpxorq zmm26, zmm26, zmm26",
            "vpxorq zmm27, zmm27, zmm27",
            "vpxorq zmm28, zmm28, zmm28",
            "vpxorq zmm29, zmm29, zmm29",
            "vpxorq zmm30, zmm30, zmm30",
            "vpxorq zmm31, zmm31, zmm31",
            clobber_abi("sysv64"),
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Zeroes ymm0 to ymm15 in full width, and the scratch registers; the caller has seen AVX.
#[cfg(target_arch = "x86_64")]
fn clear_avx_registers() {
    // SAFETY: writes only registers that the sysv64 convention lets every callee change.
    #[expect(unsafe_code, reason = "registers can be cleared by assembly only")]
    unsafe {
        std::arch::asm!(
            "vzeroall",
            "xor eax, eax",
            "xor ecx, ecx",
            "xor edx, edx",
            "xor esi, esi",
            "xor edi, edi",
            "xor r8d, r8d",
            "xor r9d, r9d",
            "xor r10d, r10d",
            "xor r11d, r11d",
            clobber_abi("sysv64"),
            options(nomem, nostack),
        );
    }
}

/// Zeroes xmm0 to xmm15 and the scratch registers.
#[cfg(target_arch = "x86_64")]
fn clear_sse_registers() {
    // SAFETY: writes only registers that the sysv64 convention lets every callee change.
    #[expect(unsafe_code, reason = "registers can be cleared by assembly only")]
    unsafe {
        std::arch::asm!(
            "pxor xmm0, xmm0",
            "pxor xmm1, xmm1",
            "pxor xmm2, xmm2",
            "pxor xmm3, xmm3",
            "pxor xmm4, xmm4",
            "pxor xmm5, xmm5",
            "pxor xmm6, xmm6",
            "pxor xmm7, xmm7",
            "pxor xmm8, xmm8",
            "pxor xmm9, xmm9",
            "pxor xmm10, xmm10",
            "pxor xmm11, xmm11",
            "pxor xmm12, xmm12",
            "pxor xmm13, xmm13",
            "pxor xmm14, xmm14",
            "pxor xmm15, xmm15",
            "xor eax, eax",
            "xor ecx, ecx",
            "xor edx, edx",
            "xor esi, esi",
            "xor edi, edi",
            "xor r8d, r8d",
            "xor r9d, r9d",
            "xor r10d, r10d",
            "xor r11d, r11d",
            clobber_abi("sysv64"),
            options(nomem, nostack),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn runs_elsewhere_and_returns_the_result() {
        let outside = 0u8;
        let distance = on_secret_stack(|| {
            let inside = 0u8;
            assert!(is_active());
            (&raw const inside)
                .addr()
                .abs_diff((&raw const outside).addr())
        });
        assert!(distance > STACK_BYTES);
        assert!(!is_active());
    }

    #[test]
    fn nested_calls_stay_on_the_same_stack() {
        assert_eq!(on_secret_stack(|| on_secret_stack(|| 7)), 7);
    }

    #[test]
    fn a_panic_comes_out_and_the_stack_goes_back() {
        for _ in 0..2 * MAX_STACKS {
            let outcome =
                panic::catch_unwind(|| on_secret_stack(|| panic::resume_unwind(Box::new(5u8))));
            assert_eq!(*outcome.unwrap_err().downcast::<u8>().unwrap(), 5);
            assert!(!is_active());
        }
        assert_eq!(on_secret_stack(|| 1), 1);
    }

    #[test]
    fn more_threads_than_stacks_all_get_their_turn() {
        let barrier = Barrier::new(3 * MAX_STACKS);
        let total = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 * MAX_STACKS {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..20 {
                        on_secret_stack(|| total.fetch_add(1, Ordering::Relaxed));
                    }
                });
            }
        });
        assert_eq!(total.into_inner() as usize, 3 * MAX_STACKS * 20);
        assert!(lock_pool().existing <= MAX_STACKS);
    }

    #[test]
    fn a_stack_is_zero_after_use() {
        let mut stack = Stack::new().unwrap();
        let marks = stack
            .run(|| std::hint::black_box([0xa5u8; 4096]).len())
            .unwrap();
        assert_eq!(marks, 4096);
        let base = stack.mapping.base().as_ptr();
        for offset in 0..stack.mapping.len() {
            // SAFETY: inside the mapping.
            #[expect(unsafe_code, reason = "reading our own mapping")]
            let address = unsafe { base.add(offset) };
            // SAFETY: mapped and initialised, and nothing runs on it.
            #[expect(unsafe_code, reason = "reading our own mapping")]
            let byte = unsafe { address.read() };
            assert_eq!(byte, 0, "offset {offset}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn vector_registers_are_zero_after_clearing() {
        let mut left = [0xffu8; 16];
        let pattern = [0xa5u8; 16];
        // SAFETY: moves 16 bytes into a register that is declared as changed.
        #[expect(unsafe_code, reason = "placing a mark in a register")]
        unsafe {
            std::arch::asm!("movdqu xmm7, [{0}]", in(reg) pattern.as_ptr(), out("xmm7") _);
        }
        clear_registers();
        // SAFETY: stores 16 bytes into an array of that size.
        #[expect(unsafe_code, reason = "reading a register back")]
        unsafe {
            std::arch::asm!("movdqu [{0}], xmm7", in(reg) left.as_mut_ptr());
        }
        assert_eq!(left, [0; 16]);
    }
}
