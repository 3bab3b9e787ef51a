// SPDX-License-Identifier: Apache-2.0
//! Argon2 over all lanes in parallel, and HKDF over shares.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::{io, thread};

use argon2::{Algorithm, Argon2 as Hasher, Params, Version};
use hkdf::Hkdf;
use rayon::ThreadPoolBuilder;
use sha2::Sha256;
use strongroom_sys::dump::WorkArea;
use strongroom_sys::stack;

use crate::secret::shielded;
use crate::{Error, Result, Secret};

/// 4 GiB, the most that `cryptsetup` writes.
const MAX_MEMORY_KIB: u64 = 4 * 1024 * 1024;

/// Memory times passes. 4 GiB, 64 times over, takes minutes: only a hostile header asks for more.
const MAX_WORK_KIB: u64 = 64 * MAX_MEMORY_KIB;

/// `cryptsetup` writes 4 at most.
const MAX_LANES: u64 = 16;

/// More threads than this would take up most of the secret stacks.
const MAX_THREADS: usize = stack::MAX_STACKS / 2;

/// Output lengths of Argon2 and HKDF in bytes; longer than any key of LUKS2.
const MAX_OUTPUT_BYTES: u64 = 512;

/// The two variants that LUKS2 uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Data-independent addressing.
    Argon2i,
    /// Data-independent addressing in the first half of the first pass only.
    Argon2id,
}

impl Variant {
    /// Finds a variant by its name in a LUKS2 header.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for any other name.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "argon2i" => Ok(Self::Argon2i),
            "argon2id" => Ok(Self::Argon2id),
            _ => Err(Error::Unsupported {
                what: "kdf",
                name: name.to_owned(),
            }),
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::Argon2i => Algorithm::Argon2i,
            Self::Argon2id => Algorithm::Argon2id,
        }
    }
}

/// Parameters of Argon2 version 1.3, which are public.
#[derive(Clone, Copy, Debug)]
pub struct Argon2<'a> {
    /// Argon2i or Argon2id.
    pub variant: Variant,
    /// The salt, 8 to 1024 bytes.
    pub salt: &'a [u8],
    /// Memory in KiB: 8 for each lane at least, 4 GiB at most.
    pub memory_kib: u32,
    /// Passes over the memory, at least 1.
    pub iterations: u32,
    /// Lanes, 1 to 16.
    pub lanes: u32,
}

impl Argon2<'_> {
    /// Derives `length` bytes, 4 to 512.
    ///
    /// One derivation runs at a time in a process, others wait. Lanes run on threads of their own,
    /// each on a secret stack, as many as there are processors; the threads end with the call. The
    /// work area is ordinary memory, kept out of core dumps and wiped.
    ///
    /// # Errors
    /// [`Error::Limit`] for a parameter out of range; [`Error::Platform`] without memory or
    /// threads; [`Error::Internal`] when called from a secret stack, which would take the stacks
    /// that the threads wait for.
    ///
    /// Spec: RFC 9106.
    pub fn derive(&self, passphrase: &Secret, length: usize) -> Result<Secret> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

        self.check(length)?;
        if stack::is_active() {
            return Err(Error::Internal("argon2 was started from a secret stack"));
        }
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let params = Params::new(self.memory_kib, self.iterations, self.lanes, Some(length))
            .map_err(|_| Error::Internal("argon2 refused checked parameters"))?;
        let mut area = WorkArea::new(params.block_count()).map_err(no_work_area)?;
        let hasher = Hasher::new(self.variant.algorithm(), Version::V0x13, params);
        let mut derived = Secret::zeroed(length)?;
        let blocks = area.as_mut_slice();
        let hash = || {
            let (input, out) = (passphrase.bytes(), derived.bytes_mut());
            let outcome = hasher.hash_password_into_with_memory(input, self.salt, out, blocks);
            // The thread may sleep for a while before it leaves its secret stack.
            stack::clear_registers();
            outcome
        };
        on_threads(self.lanes as usize, hash)?
            .map_err(|_| Error::Internal("argon2 refused checked parameters"))?;
        Ok(derived)
    }

    fn check(&self, length: usize) -> Result<()> {
        let (lanes, memory) = (u64::from(self.lanes), u64::from(self.memory_kib));
        Error::check_limit("Argon2 lanes", lanes, 1..=MAX_LANES)?;
        Error::check_limit("Argon2 memory in KiB", memory, 8 * lanes..=MAX_MEMORY_KIB)?;
        let most_iterations = MAX_WORK_KIB / memory;
        let iterations = u64::from(self.iterations);
        Error::check_limit("Argon2 iterations", iterations, 1..=most_iterations)?;
        Error::check_limit("the Argon2 salt in bytes", self.salt.len() as u64, 8..=1024)?;
        Error::check_limit(
            "the derived key in bytes",
            length as u64,
            4..=MAX_OUTPUT_BYTES,
        )
    }
}

/// Learns what Argon2 must know about the machine. Call it before system calls are restricted.
///
/// # Errors
/// [`Error::Platform`] if there is no memory for the secret stacks of the threads.
pub fn prepare() -> Result<()> {
    stack::reserve(processors().min(MAX_THREADS) + 1).map_err(Error::secret_memory)
}

/// Runs `work` on a secret stack of a pool of `lanes` threads, or as many as are of use.
fn on_threads<T: Send>(lanes: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    let threads = lanes.min(processors()).min(MAX_THREADS);
    stack::reserve(threads).map_err(Error::secret_memory)?;
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_scoped(
            |thread| stack::on_secret_stack(|| thread.run()),
            |pool| pool.install(work),
        )
        .map_err(|error| Error::Platform {
            doing: "starting threads",
            source: io::Error::other(error),
        })
}

/// Number of processors this process may use; learnt once.
fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

fn no_work_area(source: io::Error) -> Error {
    Error::Platform {
        doing: "allocating the work area of Argon2",
        source,
    }
}

/// Combines shares into one key of `length` bytes, 1 to 512.
///
/// The input keying material is each share behind its length as 8 bytes, big-endian, so that no
/// two lists of shares give the same.
///
/// # Errors
/// [`Error::Limit`] for a length out of range or without shares; [`Error::Platform`] without
/// secret memory.
///
/// Spec: RFC 5869.
pub fn hkdf_sha256(shares: &[&Secret], salt: &[u8], info: &[u8], length: usize) -> Result<Secret> {
    Error::check_limit("the number of shares", shares.len() as u64, 1..=16)?;
    Error::check_limit(
        "the derived key in bytes",
        length as u64,
        1..=MAX_OUTPUT_BYTES,
    )?;
    let total = shares.iter().map(|share| 8 + share.len()).sum();
    let mut material = Secret::zeroed(total)?;
    let mut derived = Secret::zeroed(length)?;
    shielded(|| {
        let mut rest = material.bytes_mut();
        for share in shares {
            let (prefix, after) = rest.split_at_mut(8);
            let (place, after) = after.split_at_mut(share.len());
            prefix.copy_from_slice(&(share.len() as u64).to_be_bytes());
            place.copy_from_slice(share.bytes());
            rest = after;
        }
        expand(material.bytes(), salt, info, derived.bytes_mut())
    })?;
    Ok(derived)
}

/// HKDF-SHA256, extract and expand.
pub(crate) fn expand(material: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) -> Result<()> {
    Hkdf::<Sha256>::new(Some(salt), material)
        .expand(info, out)
        .map_err(|_| Error::Internal("hkdf refused a checked length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_answers::unhex;

    fn parameters(variant: Variant) -> Argon2<'static> {
        Argon2 {
            variant,
            salt: b"somesalt",
            memory_kib: 64,
            iterations: 2,
            lanes: 1,
        }
    }

    fn derive(parameters: &Argon2<'_>, length: usize) -> Vec<u8> {
        let passphrase = Secret::copy_of(b"password").unwrap();
        let derived = parameters.derive(&passphrase, length).unwrap();
        derived.bytes().to_vec()
    }

    /// Made with the reference implementation, see `PROVENANCE.md`.
    #[test]
    fn argon2_known_answers() {
        for case in crate::known_answers::ARGON2 {
            let parameters = Argon2 {
                variant: Variant::from_name(case.variant).unwrap(),
                salt: b"somesalt",
                memory_kib: case.memory_kib,
                iterations: case.iterations,
                lanes: case.lanes,
            };
            let expected = unhex(case.tag);
            let derived = derive(&parameters, expected.len());
            assert_eq!(derived, expected, "{case:?}");
        }
    }

    /// RFC 9106, 5.2 and 5.3. LUKS2 has neither secret nor data, so this goes past our interface.
    #[test]
    fn argon2_rfc_known_answers() {
        let cases = [
            (
                Algorithm::Argon2i,
                "c814d9d1dc7f37aa13f0d77f2494bda1c8de6b016dd388d29952a4c4672b6ce8",
            ),
            (
                Algorithm::Argon2id,
                "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659",
            ),
        ];
        for (algorithm, expected) in cases {
            let mut builder = argon2::ParamsBuilder::new();
            builder.m_cost(32).t_cost(3).p_cost(4).output_len(32);
            builder.data(argon2::AssociatedData::new(&[4; 12]).unwrap());
            let params = builder.build().unwrap();
            let hasher =
                Hasher::new_with_secret(&[3; 8], algorithm, Version::V0x13, params).unwrap();
            let mut tag = [0; 32];
            hasher
                .hash_password_into(&[1; 32], &[2; 16], &mut tag)
                .unwrap();
            assert_eq!(tag[..], unhex(expected));
        }
    }

    #[test]
    fn hostile_parameters_are_refused() {
        let passphrase = Secret::copy_of(b"password").unwrap();
        let good = parameters(Variant::Argon2id);
        let refused = |parameters: Argon2<'_>, length| {
            matches!(
                parameters.derive(&passphrase, length),
                Err(Error::Limit { .. })
            )
        };
        assert!(refused(Argon2 { lanes: 0, ..good }, 32));
        assert!(refused(
            Argon2 {
                lanes: 17,
                memory_kib: 1024,
                ..good
            },
            32
        ));
        assert!(refused(
            Argon2 {
                memory_kib: 7,
                ..good
            },
            32
        ));
        assert!(refused(
            Argon2 {
                memory_kib: 0,
                ..good
            },
            32
        ));
        assert!(refused(
            Argon2 {
                memory_kib: 15,
                lanes: 2,
                ..good
            },
            32
        ));
        assert!(refused(
            Argon2 {
                memory_kib: u32::MAX,
                ..good
            },
            32
        ));
        assert!(refused(
            Argon2 {
                iterations: 0,
                ..good
            },
            32
        ));
        assert!(refused(
            Argon2 {
                iterations: u32::MAX,
                ..good
            },
            32
        ));
        assert!(refused(
            Argon2 {
                iterations: 65,
                memory_kib: 4 << 20,
                ..good
            },
            32
        ));
        assert!(refused(
            Argon2 {
                salt: b"7 bytes",
                ..good
            },
            32
        ));
        assert!(refused(good, 3));
        assert!(refused(good, 513));
        assert!(!refused(good, 512));
    }

    #[test]
    fn argon2_from_a_secret_stack_is_refused() {
        let passphrase = Secret::copy_of(b"password").unwrap();
        let nested = || parameters(Variant::Argon2id).derive(&passphrase, 32);
        let outcome = stack::on_secret_stack(nested);
        assert!(matches!(outcome, Err(Error::Internal(_))));
    }

    #[test]
    fn two_derivations_at_once_both_end() {
        let expected = derive(&parameters(Variant::Argon2id), 32);
        thread::scope(|scope| {
            for _ in 0..4 {
                let expected = &expected;
                scope.spawn(move || {
                    assert_eq!(&derive(&parameters(Variant::Argon2id), 32), expected);
                });
            }
        });
    }

    /// RFC 5869, A.1 to A.3.
    #[test]
    fn hkdf_known_answers() {
        let ascending = |from: u8, to: u8| (from..=to).collect::<Vec<_>>();
        let cases = [
            (
                vec![0x0b; 22],
                ascending(0, 0x0c),
                ascending(0xf0, 0xf9),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                ascending(0, 0x4f),
                ascending(0x60, 0xaf),
                ascending(0xb0, 0xff),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c\
                 59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71\
                 cc30c58179ec3e87c14c01d5c1f3434f1d87",
            ),
            (
                vec![0x0b; 22],
                Vec::new(),
                Vec::new(),
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            ),
        ];
        for (material, salt, info, expected) in cases {
            let expected = unhex(expected);
            let mut out = vec![0; expected.len()];
            expand(&material, &salt, &info, &mut out).unwrap();
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn shares_are_told_apart_by_length_and_order() {
        let share = |bytes: &[u8]| Secret::copy_of(bytes).unwrap();
        let combine = |shares: &[&Secret]| hkdf_sha256(shares, b"salt", b"info", 32).unwrap();
        let (a, b, ab) = (share(b"a"), share(b"b"), share(b"ab"));
        let one = combine(&[&a, &b]);
        assert!(one.equals(&combine(&[&a, &b])));
        assert!(!one.equals(&combine(&[&b, &a])));
        assert!(!one.equals(&combine(&[&ab])));

        let mut expected = [0; 32];
        let material = b"\0\0\0\0\0\0\0\x01a\0\0\0\0\0\0\0\x01b";
        expand(material, b"salt", b"info", &mut expected).unwrap();
        assert_eq!(one.bytes(), expected);

        assert!(hkdf_sha256(&[], b"", b"", 32).is_err());
        assert!(hkdf_sha256(&[&a], b"", b"", 0).is_err());
        assert!(hkdf_sha256(&[&a], b"", b"", 513).is_err());
    }
}
