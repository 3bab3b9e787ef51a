// SPDX-License-Identifier: Apache-2.0
//! Memory for keys and passphrases.
//!
//! All secrets share a few mappings (the arena), because locked memory is scarce: 8 MiB by default.
//! Each mapping lies between two guard pages. The bookkeeping lies outside, so that writing beyond
//! the end of a secret cannot corrupt it.
//!
//! A forked child does not inherit the arena. Secrets made before the fork are unusable in the
//! child, and using one panics; new ones can be made.

mod mapping;

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use zeroize::Zeroize;

pub(crate) use mapping::Mapping;
pub use mapping::{Kind, kind, limit_in_the_way};

/// Secrets start at multiples of this: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;

/// The arena grows by mappings of this size, unless one secret needs more.
const GROWTH_BYTES: usize = 512 * 1024;

/// A fixed number of bytes in secret memory: zero at first, wiped when dropped.
///
/// Neither `Clone` nor `Copy`; `Debug` prints the length only.
pub struct SecretBytes {
    base: NonNull<u8>,
    len: usize,
    block: Block,
    generation: u32,
}

#[expect(
    unsafe_code,
    reason = "a raw pointer to memory that only this value owns"
)]
// SAFETY: the bytes belong to this value alone, and are reached through `&self` for reading and
// `&mut self` for writing only.
unsafe impl Send for SecretBytes {}

#[expect(
    unsafe_code,
    reason = "a raw pointer to memory that only this value owns"
)]
// SAFETY: as above; `&self` gives shared reading only.
unsafe impl Sync for SecretBytes {}

impl SecretBytes {
    /// Allocates `len` zero bytes.
    ///
    /// # Errors
    /// The kernel has no more memory of the process-wide [`kind`] to give (often
    /// `RLIMIT_MEMLOCK`), or the arena must grow and a system call filter forbids it.
    pub fn new(len: usize) -> io::Result<Self> {
        let (base, block, generation) = lock_arena().allocate(len)?;
        Ok(Self {
            base,
            len,
            block,
            generation,
        })
    }

    /// Copies `bytes`, which the caller should wipe.
    ///
    /// # Errors
    /// As [`SecretBytes::new`].
    pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let mut secret = Self::new(bytes.len())?;
        secret.as_mut_slice().copy_from_slice(bytes);
        Ok(secret)
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the length is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    ///
    /// # Panics
    /// In a child that was forked after this secret was made.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.assert_same_process();
        // SAFETY: `base` points to `len` initialised bytes of a block that this value owns; `&self`
        // keeps writers out, and the arena never unmaps.
        #[expect(unsafe_code, reason = "a view of memory that this value owns")]
        unsafe {
            slice::from_raw_parts(self.base.as_ptr(), self.len)
        }
    }

    /// The bytes, for writing.
    ///
    /// # Panics
    /// In a child that was forked after this secret was made.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.assert_same_process();
        // SAFETY: as in `as_slice`; `&mut self` makes the access exclusive.
        #[expect(unsafe_code, reason = "a view of memory that this value owns")]
        unsafe {
            slice::from_raw_parts_mut(self.base.as_ptr(), self.len)
        }
    }

    fn assert_same_process(&self) {
        assert!(
            self.generation == FORKS.load(Ordering::Relaxed),
            "a secret is not usable in a forked child"
        );
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        if self.generation != FORKS.load(Ordering::Relaxed) {
            return; // A child: the memory is the parent's, and not even mapped here.
        }
        self.as_mut_slice().zeroize();
        lock_arena().release(self.block);
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes, <redacted>)", self.len)
    }
}

/// Grows the arena until `bytes` in one piece are free, so that no system call is needed for them
/// later.
///
/// # Errors
/// As [`SecretBytes::new`].
pub fn reserve(bytes: usize) -> io::Result<()> {
    // A fresh block comes from the first region with room, or a new one; releasing it leaves the
    // region behind.
    let mut arena = lock_arena();
    let (_, block, _) = arena.allocate(bytes)?;
    arena.release(block);
    Ok(())
}

/// A piece of a region, in bytes from its start.
#[derive(Clone, Copy)]
struct Block {
    region: usize,
    offset: usize,
    len: usize,
}

/// One mapping and its free pieces, which are zero throughout.
struct Region {
    mapping: Mapping,
    /// Sorted by offset; no two touch.
    free: Vec<Span>,
}

#[derive(Clone, Copy)]
struct Span {
    offset: usize,
    len: usize,
}

/// All regions of this process. They are never unmapped, so that blocks stay valid and freed
/// memory can be had again without a system call.
struct Arena {
    regions: Vec<Region>,
    generation: u32,
}

/// Number of forks between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

static ARENA: Mutex<Arena> = Mutex::new(Arena {
    regions: Vec::new(),
    generation: 0,
});

fn lock_arena() -> MutexGuard<'static, Arena> {
    let mut arena = ARENA.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = forks();
    if arena.generation != generation {
        // The regions were not inherited: forget them, but leave their addresses alone.
        for region in arena.regions.drain(..) {
            std::mem::forget(region);
        }
        arena.generation = generation;
    }
    arena
}

/// Number of forks between the first process and this one.
pub(crate) fn forks() -> u32 {
    count_forks();
    FORKS.load(Ordering::Relaxed)
}

/// Has [`FORKS`] raised in every forked child from now on.
fn count_forks() {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is a function that lives forever and only adds to an atomic, which
        // is allowed in a child of a process with many threads.
        #[expect(unsafe_code, reason = "pthread_atfork is an unsafe call")]
        let result = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        assert!(result == 0, "no memory for a fork handler");
    });
}

impl Arena {
    fn allocate(&mut self, len: usize) -> io::Result<(NonNull<u8>, Block, u32)> {
        let rounded = len
            .max(1)
            .checked_next_multiple_of(ALIGNMENT)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let found = self
            .regions
            .iter_mut()
            .enumerate()
            .find_map(|(index, region)| {
                let offset = region.take(rounded)?;
                Some((index, offset))
            });
        let (region, offset) = match found {
            Some(place) => place,
            None => (self.grow(rounded)?, 0),
        };
        let block = Block {
            region,
            offset,
            len: rounded,
        };
        // SAFETY: `take` and `grow` return an offset with `rounded` bytes left in the region.
        #[expect(unsafe_code, reason = "address arithmetic inside one mapping")]
        let base = unsafe { self.regions[region].mapping.base().add(offset) };
        Ok((base, block, self.generation))
    }

    /// Adds a region whose first `len` bytes are taken, and returns its index.
    fn grow(&mut self, len: usize) -> io::Result<usize> {
        let mapping = Mapping::new(len.max(GROWTH_BYTES))?;
        let rest = Span {
            offset: len,
            len: mapping.len() - len,
        };
        let free = if rest.len == 0 {
            Vec::new()
        } else {
            vec![rest]
        };
        self.regions.push(Region { mapping, free });
        Ok(self.regions.len() - 1)
    }

    /// Takes back a block, which must be zero.
    fn release(&mut self, block: Block) {
        self.regions[block.region].give(Span {
            offset: block.offset,
            len: block.len,
        });
    }
}

impl Region {
    /// Takes `len` bytes from the first free span that has them.
    fn take(&mut self, len: usize) -> Option<usize> {
        let index = self.free.iter().position(|span| span.len >= len)?;
        let span = &mut self.free[index];
        let offset = span.offset;
        span.offset += len;
        span.len -= len;
        if span.len == 0 {
            self.free.remove(index);
        }
        Some(offset)
    }

    /// Puts a span back and joins it with its neighbours.
    fn give(&mut self, span: Span) {
        let index = self
            .free
            .partition_point(|other| other.offset < span.offset);
        self.free.insert(index, span);
        self.join_with_next(index);
        if index > 0 {
            self.join_with_next(index - 1);
        }
    }

    fn join_with_next(&mut self, index: usize) {
        let Some(&next) = self.free.get(index + 1) else {
            return;
        };
        let span = &mut self.free[index];
        if span.offset + span.len == next.offset {
            span.len += next.len;
            self.free.remove(index + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_zero_aligned_and_writable() {
        for len in [0, 1, 63, 64, 65, 4096, GROWTH_BYTES, GROWTH_BYTES + 1] {
            let mut secret = SecretBytes::new(len).unwrap();
            assert_eq!(secret.len(), len);
            assert!(secret.as_slice().iter().all(|&byte| byte == 0));
            assert_eq!(secret.as_slice().as_ptr().addr() % ALIGNMENT, 0);
            secret.as_mut_slice().fill(0xa5);
        }
    }

    #[test]
    fn many_threads_never_share_a_byte() {
        std::thread::scope(|scope| {
            for thread in 0..8u8 {
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for round in 0..200usize {
                        let mut secret = SecretBytes::new(1 + (round * 37) % 700).unwrap();
                        assert!(secret.as_slice().iter().all(|&byte| byte == 0));
                        secret.as_mut_slice().fill(thread + 1);
                        held.push(secret);
                        if round % 3 == 0 {
                            drop(held.swap_remove(round % held.len()));
                        }
                    }
                    for secret in &held {
                        assert!(secret.as_slice().iter().all(|&byte| byte == thread + 1));
                    }
                });
            }
        });
    }

    #[test]
    fn debug_shows_no_content() {
        let secret = SecretBytes::copy_of(b"hunter2").unwrap();
        assert_eq!(format!("{secret:?}"), "SecretBytes(7 bytes, <redacted>)");
    }

    #[test]
    fn free_spans_join_in_any_order() {
        let mut region = Region {
            mapping: Mapping::new(1).unwrap(),
            free: vec![Span {
                offset: 0,
                len: 4096,
            }],
        };
        let offsets: Vec<_> = (0..4).map(|_| region.take(1024).unwrap()).collect();
        assert!(region.take(1).is_none());
        for index in [2, 0, 3, 1] {
            region.give(Span {
                offset: offsets[index],
                len: 1024,
            });
        }
        assert_eq!(region.free.len(), 1);
        assert_eq!(region.free[0].len, 4096);
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert!(SecretBytes::new(usize::MAX).is_err());
        assert!(SecretBytes::new(usize::MAX - 64).is_err());
    }
}
