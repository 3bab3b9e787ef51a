// SPDX-License-Identifier: Apache-2.0
//! `strongroom._core`: what Python may ask of the Rust core, and nothing it could misuse.
//!
//! This layer converts arguments, releases the GIL and translates errors; it holds no logic. Its
//! contract is `src/strongroom/_core.pyi`. Bytes from Python are copied before they are parsed,
//! and no function returns the bytes of a secret.

#![allow(
    clippy::needless_pass_by_value,
    reason = "what comes from Python is copied before it is looked at"
)]

use pyo3::prelude::*;

mod authentication;
mod confinement;
mod errors;
mod hpke;
mod keys;
mod sealing;
mod secret;
mod tpm;
mod tpm_session;
mod volume;

#[pymodule]
#[pyo3(name = "_core")]
mod core_module {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::authentication::{
        ed25519_public_key, ed25519_sign, ed25519_verifies, hmac_sha256, hmac_sha256_matches,
    };
    #[pymodule_export]
    use super::confinement::{
        Measure, adopt_orphans, allow_reading, confine, die_with_parent, enter_namespaces,
        forbid_reading, ignore_signals, secret_memory,
    };
    #[pymodule_export]
    use super::hpke::HpkeReceiver;
    #[pymodule_export]
    use super::keys::{
        argon2, cipher_backend, hkdf_sha256, keyslot_open, keyslot_seal, pbkdf2, selftest,
        volume_key_digest, volume_key_matches,
    };
    #[pymodule_export]
    use super::sealing::{seal_parameters, seal_secret, unseal_parameters, unseal_secret};
    #[pymodule_export]
    use super::secret::{
        Secret, read_key_file, read_passphrase_file, read_secret_exactly, read_secret_file,
        read_secret_line, stir_random, write_random_secret,
    };
    #[pymodule_export]
    use super::tpm::{TpmResponse, tpm_check_command, tpm_check_decrypted, tpm_check_response};
    #[pymodule_export]
    use super::tpm_session::{TpmAnswer, TpmAuthorization, TpmOpening, TpmSession, tpm_exchange};
    #[pymodule_export]
    use super::volume::{
        FuseServer, NbdServer, Volume, serve_nbd_connection, takes_direct_transfers,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("MAX_TYPED_BYTES", strongroom_core::MAX_TYPED_BYTES)?;
        module.add(
            "MAX_PASSPHRASE_BYTES",
            strongroom_core::MAX_PASSPHRASE_BYTES,
        )
    }
}
