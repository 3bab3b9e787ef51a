# SPDX-License-Identifier: Apache-2.0
"""The Rust core: keys, ciphers, confinement and the data path.

Secrets are opaque: a :class:`Secret` can be made, combined, derived from, compared and erased, but
not read. Its bytes live in secret memory (``memfd_secret`` where the kernel has it), and every
computation on them runs on a stack that lies in secret memory too, and is wiped afterwards.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal, Self, final

__all__ = [
    "MAX_PASSPHRASE_BYTES",
    "MAX_TYPED_BYTES",
    "FuseServer",
    "HpkeReceiver",
    "Measure",
    "NbdServer",
    "Secret",
    "TpmAnswer",
    "TpmAuthorization",
    "TpmOpening",
    "TpmResponse",
    "TpmSession",
    "Volume",
    "adopt_orphans",
    "allow_reading",
    "argon2",
    "cipher_backend",
    "confine",
    "die_with_parent",
    "ed25519_public_key",
    "ed25519_sign",
    "ed25519_verifies",
    "enter_namespaces",
    "forbid_reading",
    "hkdf_sha256",
    "hmac_sha256",
    "hmac_sha256_matches",
    "ignore_signals",
    "keyslot_open",
    "keyslot_seal",
    "pbkdf2",
    "read_key_file",
    "read_passphrase_file",
    "read_secret_exactly",
    "read_secret_file",
    "read_secret_line",
    "seal_parameters",
    "seal_secret",
    "secret_memory",
    "selftest",
    "serve_nbd_connection",
    "stir_random",
    "takes_direct_transfers",
    "tpm_check_command",
    "tpm_check_decrypted",
    "tpm_check_response",
    "tpm_exchange",
    "unseal_parameters",
    "unseal_secret",
    "volume_key_digest",
    "volume_key_matches",
    "write_random_secret",
]

MAX_PASSPHRASE_BYTES: Final[int]
"""Longest passphrase or key file that is read, in bytes."""

MAX_TYPED_BYTES: Final[int]
"""Longest line that a terminal of Linux is known to pass on whole, in bytes."""

@final
class Secret:
    """Bytes that Python cannot see.

    An erased secret raises :class:`strongroom.errors.InternalError` on every use. There is no way
    to read, print, copy or pickle one.
    """

    @staticmethod
    def random(length_bytes: int) -> Secret:
        """Return fresh random bytes from the kernel (1 to 4096 of them)."""

    @staticmethod
    def random_recovery_key() -> Secret:
        """Return a fresh recovery key: 256 random bits as 71 ASCII characters.

        64 modhex digits in eight groups of eight, joined by dashes, the form that
        systemd-cryptenroll prints; the characters themselves are the passphrase.
        """

    @property
    def length_bytes(self) -> int:
        """Length in bytes; 0 once erased."""

    def equals(self, other: Secret) -> bool:
        """Compare in constant time; secrets of different lengths are unequal."""

    @staticmethod
    def joined(parts: list[Secret]) -> Secret:
        """Return secrets one after the other."""

    def part(self, offset_bytes: int, length_bytes: int) -> Secret:
        """Return a copy of some of the bytes.

        Raises:
            BoundsError: There are not as many.
        """

    def matches(self, known: bytes) -> bool:
        """Compare with bytes that are no secret, in constant time."""

    def erase(self) -> None:
        """Overwrite the bytes and release them. Doing it twice is allowed."""

    def base64(self) -> Secret:
        """Return the bytes as text: the standard alphabet, padded, no newline.

        Four characters for every three bytes begun. Takes the same steps for all secrets of one
        length, and reads no table at a place that depends on the bytes.

        Spec: RFC 4648, 4.
        """

    def typing_obstacles(self) -> list[str]:
        """Return why the bytes cannot be typed at a terminal, in words; empty if they can.

        Such as ``several lines`` or ``control characters``; never anything of the bytes.
        """

    def recovery_key_form(self) -> Secret | None:
        """Return the recovery key that was meant, if the bytes are one in another form.

        In capitals, with blanks or line ends, with other dashes or none. ``None`` for all else,
        and for a recovery key whose bytes are right already.
        """

    def is_recovery_key(self) -> bool:
        """Tell whether the bytes are a recovery key, in whatever form."""

    def recovery_key_fault(self) -> str | None:
        """Return what keeps bytes that look like a recovery key from being one.

        Such as ``group 3 has 7 letters, not 8``: counts, and no letter of the secret. ``None`` if
        they do not look like one, or are one.
        """

    def seal_to(self, public_key: bytes, *, info: bytes, aad: bytes) -> tuple[bytes, bytes]:
        """Encrypt the bytes to an HPKE public key.

        Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode.

        Returns:
            ``(encapsulated_key, ciphertext)``: 32 bytes, and the secret's length plus 16.

        Raises:
            FormatError: ``public_key`` is not a valid X25519 point.

        Spec: RFC 9180, 6.1.
        """

def stir_random(source: Secret) -> None:
    """Mix bytes of another source, such as a TPM, into all randomness of this process from now on.

    They mask the kernel's bytes: however bad they are, they make nothing weaker.

    Spec: ``spec/threat-model.md``, "Randomness"; RFC 5869.
    """

def read_secret_file(fd: int) -> Secret:
    """Read a passphrase from a file or pipe until its end; one trailing newline is dropped.

    The bytes go from the kernel straight into secret memory.

    Raises:
        PassphraseInputError: Reading failed, or more than :data:`MAX_PASSPHRASE_BYTES` came.
        EmptyPassphraseError: Nothing is left after dropping the newline.
    """

def read_passphrase_file(fd: int) -> tuple[Secret, bool]:
    """The same as :func:`read_secret_file`, and whether a trailing newline was dropped."""

def read_key_file(fd: int) -> Secret:
    """Read a file or pipe until its end; a newline is a byte like any other.

    Raises:
        PassphraseInputError: Reading failed, or more than :data:`MAX_PASSPHRASE_BYTES` came.
        EmptyPassphraseError: There is nothing in it.
    """

def read_secret_line(fd: int) -> Secret:
    """Read one line, as typed at a terminal; the newline is dropped.

    Raises:
        PassphraseInputError: End of file before a newline with nothing read, or too long.
        EmptyPassphraseError: The line is empty.
    """

def read_secret_exactly(fd: int, length_bytes: int) -> Secret:
    """Read 1 to 65536 bytes from the current offset, and none beyond; no newline is dropped.

    The bytes go from the kernel straight into secret memory. Releases the GIL.

    Raises:
        PassphraseInputError: Reading failed, or the input ended before ``length_bytes`` came.
        LimitError: Another length was asked for.
    """

def write_random_secret(fd: int, length_bytes: int) -> None:
    """Write 1 to 4096 fresh random bytes, made in secret memory and kept nowhere else.

    Not durable, and on an error some of the bytes may be written: syncing, and putting a whole file
    in its place, are the caller's. Releases the GIL.

    Raises:
        LimitError: Another length was asked for.
        NoSpaceError: The disk or the quota is full.
        PlatformError: Writing failed otherwise.
    """

@final
class HpkeReceiver:
    """One key pair that opens what was sealed to it. The private key lives in secret memory.

    Spec: RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305.
    """

    def __new__(cls) -> Self:
        """Generate a fresh key pair."""

    @property
    def public_key(self) -> bytes:
        """The public key, 32 bytes."""

    def open(
        self, encapsulated_key: bytes, ciphertext: bytes, *, info: bytes, aad: bytes
    ) -> Secret:
        """Open once: the private key is erased whether or not it succeeds.

        Raises:
            FormatError: The message was not sealed to this key with this ``info`` and ``aad``, or
                the receiver has been used already.
        """

    def open_to_fd(
        self,
        encapsulated_key: bytes,
        ciphertext: bytes,
        *,
        info: bytes,
        aad: bytes,
        fd: int,
        ending: bytes,
    ) -> None:
        """Open once and write the bytes and an ending to ``fd``, without making a Python object.

        For the secrets that people asked for, in the client's process: a recovery key, and what a
        TPM gave.

        Raises:
            FormatError: As :meth:`open`.
            PlatformError: Writing failed.
        """

    def erase(self) -> None:
        """Erase the private key."""

def pbkdf2(
    passphrase: Secret, salt: bytes, *, hash_name: str, iterations: int, length_bytes: int
) -> Secret:
    """Derive a key with PBKDF2-HMAC; ``hash_name`` is sha1, sha224, sha256, sha384 or sha512.

    Releases the GIL.

    Spec: RFC 8018, 5.2.
    """

def argon2(
    passphrase: Secret,
    salt: bytes,
    *,
    variant: str,
    memory_kib: int,
    iterations: int,
    lanes: int,
    length_bytes: int,
) -> Secret:
    """Derive a key with ``argon2i`` or ``argon2id`` version 1.3, all lanes in parallel.

    Releases the GIL. The work area is ordinary memory, kept out of core dumps and wiped.

    Raises:
        LimitError: A parameter is outside Argon2's own limits.
        PlatformError: There is not enough memory.

    Spec: RFC 9106.
    """

def hkdf_sha256(shares: Sequence[Secret], *, salt: bytes, info: bytes, length_bytes: int) -> Secret:
    """Combine shares into one key: HKDF-SHA256 over each share behind its 8-byte big-endian length.

    Spec: RFC 5869.
    """

def hmac_sha256(key: Secret, message: bytes) -> bytes:
    """Return the HMAC-SHA256 of a message, 32 bytes. The key is 1 to 65536 bytes long.

    HMAC pads short keys with zeros and hashes those over 64 bytes: use keys of one length.

    Raises:
        LimitError: The key is empty or longer.

    Spec: RFC 2104; FIPS 198-1.
    """

def hmac_sha256_matches(key: Secret, message: bytes, code: bytes) -> bool:
    """Tell in constant time whether a code is the message's; False for a code of another length.

    The right code does not become a Python object.

    Raises:
        LimitError: As :func:`hmac_sha256`.

    Spec: RFC 2104; FIPS 198-1.
    """

def seal_secret(secret: Secret, key: Secret, *, aad: bytes) -> bytes:
    """Seal a secret of 65536 bytes at most under a key of 16 to 512 bytes.

    The blob is the byte ``01``, a random salt of 32 bytes, the ciphertext, as long as the secret,
    and a tag of 16 bytes. Its own key, 32 bytes, is HKDF-SHA256 of the key's bytes with that salt
    and the info ``strongroom/1 sealed secret``; the cipher is ChaCha20-Poly1305 with the nonce
    zero, as no two blobs share a key. ``aad`` is authenticated, not part of the blob, and says
    where the blob belongs. The length of the secret is not hidden, and neither is that a blob is
    an older one: who can write where blobs are kept can put back any earlier blob of one place.

    Raises:
        LimitError: The secret is too long, or the key is of another length.

    Spec: RFC 5869; RFC 8439, 2.8.
    """

def unseal_secret(blob: bytes, key: Secret, *, aad: bytes) -> Secret:
    """Open what :func:`seal_secret` made with this key and ``aad``.

    Raises:
        SealedBlobError: Any bit of the blob was changed, or it was sealed under another key or
            ``aad``, or by :func:`seal_parameters`; which of these cannot be told.
        LimitError: The key is not 16 to 512 bytes long.

    Spec: RFC 5869; RFC 8439, 2.8.
    """

def seal_parameters(parameters: bytes, key: Secret, *, aad: bytes) -> bytes:
    """Seal bytes that the host must not see or choose but that are no key: 65536 at most.

    As :func:`seal_secret`, with the info ``strongroom/1 sealed parameters``: neither kind of blob
    opens as the other, so no secret can be had as ``bytes``.

    Raises:
        LimitError: As :func:`seal_secret`.

    Spec: RFC 5869; RFC 8439, 2.8.
    """

def unseal_parameters(blob: bytes, key: Secret, *, aad: bytes) -> bytes:
    """Open what :func:`seal_parameters` made with this key and ``aad``.

    Raises:
        SealedBlobError: As :func:`unseal_secret`; :func:`seal_secret` made it, for instance.
        LimitError: The key is not 16 to 512 bytes long.

    Spec: RFC 5869; RFC 8439, 2.8.
    """

def ed25519_public_key(seed: Secret) -> bytes:
    """Return the public key, 32 bytes, of a seed, which RFC 8032 calls the private key.

    Raises:
        LimitError: The seed is not 32 bytes long.

    Spec: RFC 8032, 5.1.5.
    """

def ed25519_sign(seed: Secret, message: bytes) -> bytes:
    """Return the signature of a message, 64 bytes; the same seed and message give the same.

    Raises:
        LimitError: The seed is not 32 bytes long.

    Spec: RFC 8032, 5.1.6.
    """

def ed25519_verifies(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether the holder of a key's seed signed a message.

    Strict: without the cofactor, and False for a key or point of small order, for which one
    signature fits many messages. False too for another length or encoding.

    Spec: RFC 8032, 5.1.7.
    """

def volume_key_digest(
    volume_key: Secret, salt: bytes, *, hash_name: str, iterations: int, length_bytes: int
) -> bytes:
    """Return the PBKDF2 digest of a volume key, which is public. Spec: LUKS2 3.2.4."""

def volume_key_matches(
    volume_key: Secret, digest: bytes, salt: bytes, *, hash_name: str, iterations: int
) -> bool:
    """Tell in constant time whether a volume key has this digest.

    The caller has checked the key's length: HMAC pads short keys with zeros, so the digest alone
    does not fix it.
    """

def keyslot_open(
    area: bytes,
    slot_key: Secret,
    *,
    cipher: str,
    volume_key_bytes: int,
    stripes: int,
    hash_name: str,
) -> Secret:
    """Decrypt a keyslot area and merge its stripes into a candidate volume key.

    ``cipher`` is ``aes-xts-plain64`` or ``aes-cbc-essiv:sha256``, over 512-byte sectors numbered
    from zero. The result is unverified until :func:`volume_key_matches` says yes.

    Raises:
        FormatError: Sizes do not fit together.
        UnsupportedCipherError: Any other cipher, the null cipher included.

    Spec: LUKS2 3.2.3; LUKS1 on-disk format 2.4 (anti-forensic splitter).
    """

def keyslot_seal(
    volume_key: Secret, slot_key: Secret, *, cipher: str, stripes: int, hash_name: str
) -> bytes:
    """Split a volume key and encrypt it: the bytes of a keyslot area, a multiple of 512.

    ``cipher`` is ``aes-xts-plain64``.
    """

@final
class Volume:
    """An unlocked data segment over an open file descriptor, which is duplicated.

    If it was opened with ``O_DIRECT``, transfers go past the page cache.
    """

    def __new__(
        cls,
        image_fd: int,
        volume_key: Secret,
        *,
        cipher: str,
        segment_offset_bytes: int,
        segment_size_bytes: int,
        sector_size_bytes: int,
        iv_tweak: int,
        read_only: bool,
        discard: bool,
    ) -> Self:
        """Take a copy of the key and of the descriptor.

        ``cipher`` is ``aes-xts-plain64`` (32 or 64-byte key) or ``aes-cbc-essiv:sha256`` (read
        only). ``iv_tweak`` is in 512-byte sectors. Without ``discard`` a trim is accepted and
        ignored, as it only hints.

        Raises:
            UnsupportedCipherError: Another cipher, or writing with ``aes-cbc-essiv:sha256``.
            BoundsError: The geometry is not on the sector grid.
        """

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return plaintext, 1 MiB at most. For tests and for asking what a volume holds."""

    def counters(self) -> dict[str, int]:
        """Return running totals since opening.

        ``read_bytes, written_bytes, reads, writes, flushes, trims, zeroes, errors, connections``
        (now open), ``refused_connections`` (there were too many), ``failed_flushes`` (after the
        first one, every flush fails) and ``failed_writes`` (what they carried is lost, unless it
        was written again).
        """

    def flush(self) -> None:
        """Make every acknowledged write durable.

        Raises:
            DiskError: The disk said no, now or at any earlier flush.
        """

    def erase(self) -> None:
        """Erase the key, without waiting for the disk; later requests fail. :meth:`flush` works."""

    def close(self) -> None:
        """Erase the key and release the descriptor, which may wait for the disk."""

@final
class NbdServer:
    """Serves one volume over NBD, on threads that never hold the GIL."""

    def __new__(
        cls, volume: Volume, listener_fd: int, *, export_name: str, structured_replies: bool
    ) -> Self:
        """Take a listening stream socket, which is duplicated, and serve until :meth:`stop`.

        Structured replies and block status are offered to clients only with
        ``structured_replies``: small reads are slower with them.
        """

    def stop(self) -> None:
        """Stop accepting, finish requests in flight, close connections, join all threads."""

@final
class FuseServer:
    """Serves one volume as the one file of a FUSE file system, on threads without the GIL."""

    def __new__(cls, volume: Volume, device_fds: Sequence[int], *, file_name: str) -> Self:
        """Take descriptors of ``/dev/fuse``, which are duplicated, and serve until :meth:`stop`.

        One of them is mounted, the others are clones of it; each is served by a thread of its own,
        which ends with the mount.

        Raises:
            PlatformError: A thread could not be started.
        """

    def stop(self) -> None:
        """Refuse what comes from now on, and wait for what is being done, at most 10 seconds.

        A thread that waits for a request stays until the host unmounts, and does nothing more.
        """

def takes_direct_transfers(image_fd: int, *, offset_bytes: int, length_bytes: int) -> bool:
    """Say whether a file that was opened with ``O_DIRECT`` can be read so, by reading.

    ``length_bytes`` is at most 4096.

    Raises:
        DiskError: Reading failed for another reason than its offset and length.
        BoundsError: ``length_bytes`` is too large.
        TruncatedError: The file ends before.
    """

def serve_nbd_connection(
    volume: Volume, connection_fd: int, *, export_name: str, structured_replies: bool
) -> None:
    """Serve one connected stream socket until the client leaves. Releases the GIL.

    As :class:`NbdServer` does.
    """

@final
class Measure:
    """One measure of confinement, and whether the kernel granted it."""

    @property
    def name(self) -> str:
        """Such as ``seccomp`` or ``network namespace``."""

    @property
    def active(self) -> bool:
        """Whether it is in force, as read back from the kernel where that is possible."""

    @property
    def detail(self) -> str:
        """What exactly is in force, or why it is not."""

def enter_namespaces() -> list[Measure]:
    """Move the process into user, network, IPC, UTS, cgroup and PID namespaces of its own.

    The PID namespace holds the next child: fork, and let the parent leave. Needs a process with one
    thread. Each namespace is tried and reported by itself.
    """

def confine() -> list[Measure]:
    """Confine the process for good; nothing is undone.

    A mount namespace with an empty root and no mount of the host, core limit 0, not dumpable, no
    new privileges, all capabilities dropped, Landlock without any path or port, and a seccomp
    allow-list that has neither open nor socket nor exec.
    """

def secret_memory() -> Measure:
    """Tell what secrets are kept in: ``memfd_secret``, or the weaker locked memory."""

def ignore_signals() -> None:
    """Ignore every signal that asks this process to end or to stop, such as ``SIGINT``."""

def forbid_reading() -> None:
    """Forbid core dumps of this process, and tracing and ``/proc/PID/mem`` for its own user.

    Root can read it all the same. A program that this process executes can be traced again.
    """

def allow_reading() -> None:
    """Let processes of the same user see again what this one has open. It must have no secret."""

def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends."""

def adopt_orphans() -> None:
    """Make this process the reaper of its orphaned descendants, so that it can wait for them."""

def cipher_backend() -> str:
    """Name the AES in use: ``vaes-avx512``, ``vaes-avx2``, ``aes-ni`` or ``portable``."""

def selftest() -> list[tuple[str, bool]]:
    """Run the known-answer tests of the core; each is a name and whether it passed."""

@final
class TpmResponse:
    """What a TPM, or whoever sits on its wire, answered: well formed, and nothing of it proven.

    A ``code`` that is not zero is never authenticated: it says that nothing was learned. The HMACs
    in ``authorizations`` are the caller's to check.
    """

    @property
    def code(self) -> int:
        """The response code; 0 is success."""

    @property
    def handle(self) -> int | None:
        """The handle of what the command made, or ``None`` if it makes nothing or failed."""

    @property
    def parameters(self) -> bytes:
        """The parameters as they are on the wire, walked to the last byte; empty after an error.

        The content of the first is ciphertext if a session of the command had ``encrypt`` set.
        """

    @property
    def authorizations(self) -> list[tuple[bytes, int, bytes]]:
        """``(nonceTPM, attributes, hmac)`` for each of the command's; empty after an error."""

def tpm_check_command(command: bytes) -> None:
    """Refuse a command that is not on the allow-list, or not in its exact shape.

    Raises:
        InternalError: It may not go out; the message says which rule it breaks.

    Spec: TPM 2.0 Part 1, 18 "Command/Response Structure"; Part 3 for each command.
    """

def tpm_check_response(command: bytes, response: bytes) -> TpmResponse:
    """Refuse whatever cannot be an answer to this command, and take the rest apart.

    Checks every length, count, tag and selector, and what the answer has in common with the
    question. Checks no HMAC, Name, signature or digest.

    Raises:
        TpmTamperedError: The response breaks a rule; the message says which.
        InternalError: The command does.

    Spec: TPM 2.0 Part 1, 18 "Command/Response Structure"; Part 3 for each command.
    """

def tpm_check_decrypted(command: bytes, content: bytes) -> None:
    """Refuse a decrypted first response parameter that does not have its shape.

    Args:
        command: The command that was answered.
        content: What the TPM2B holds, decrypted, without its size.

    Raises:
        TpmTamperedError: It breaks a rule, or this command's answer has nothing to decrypt.
        InternalError: The command breaks a rule.
    """

@final
class TpmOpening:
    """A session that the TPM has not answered yet: a fresh salt and a fresh nonce."""

    def __new__(cls, kind: Literal["hmac", "policy"], salt_key: bytes, cipher_bits: int) -> Self:
        """Make a salt that only the holder of a key's private part learns.

        Args:
            kind: What the session is for.
            salt_key: The ``TPMT_PUBLIC`` of a decryption key that the caller knows to be the
                TPM's: ECC on P-256 or P-384; or RSA of 2048, 3072 or 4096 bits, exponent 65537.
            cipher_bits: 128 or 256, of the AES key that encrypts parameters.

        Raises:
            TpmTamperedError: It is not the public area of such a key: the point is not on the
                curve, or the modulus is even, or not as long as it says.
            PlatformError: There is no secret memory or no randomness.

        Spec: TPM 2.0 Part 1, B.10.2 and C.6.1.
        """

    @property
    def nonce_caller(self) -> bytes:
        """Our first nonce, 32 bytes."""

    @property
    def encrypted_salt(self) -> bytes:
        """Content of the ``TPM2B_ENCRYPTED_SECRET`` of ``StartAuthSession``."""

    def finish(self, handle: int, nonce_tpm: bytes) -> TpmSession:
        """Return the session that the TPM says it has opened. Works once.

        Which TPM it was is proven by the first answer in the session, not here.

        Raises:
            TpmTamperedError: The handle is of another kind, or the nonce too short or too long.
        """

@final
class TpmSession:
    """An open session: its key, and the nonces that roll with every command.

    The TPM keeps its part until it is flushed.
    """

    @property
    def handle(self) -> int:
        """The TPM's handle for it."""

    @property
    def nonce_tpm(self) -> bytes:
        """The TPM's last nonce, by which a policy can be bound to this session."""

    @property
    def is_broken(self) -> bool:
        """Whether an answer in it was not the TPM's, or never came: it is used no more."""

@final
class TpmAuthorization:
    """What authorizes a handle of one command, or encrypts and audits beside that."""

    def __new__(
        cls,
        session: TpmSession | None,
        auth: Secret | None = None,
        *,
        decrypt: bool = False,
        encrypt: bool = False,
        audit: bool = False,
    ) -> Self:
        """Describe an authorization.

        Args:
            session: The session, or ``None`` for the empty password.
            auth: The authorization value of the handle that it authorizes.
            decrypt: Encrypt the first parameter of the command.
            encrypt: Have the first parameter of the answer encrypted.
            audit: Have the answer authenticated where nothing else does.

        Raises:
            InternalError: The empty password was given something else to do.

        Spec: TPM 2.0 Part 2, 8.4 "TPMA_SESSION".
        """

@final
class TpmAnswer:
    """What the TPM answered, as far as the command's sessions prove it: without one, not at all."""

    @property
    def handle(self) -> int | None:
        """The handle of what the command made."""

    @property
    def confidential(self) -> Secret | None:
        """Content of the first parameter, if it came encrypted."""

    @property
    def parameters(self) -> bytes:
        """All other parameters, as they are on the wire."""

def tpm_exchange(
    transmit: Callable[[bytes], bytes],
    code: int,
    handles: list[tuple[int, bytes]],
    first: list[bytes | Secret] | None,
    rest: bytes,
    authorizations: list[TpmAuthorization],
) -> TpmAnswer:
    """Send a command to the TPM, and return its answer once it is proven to be that.

    Args:
        transmit: Carries the command out and an answer in. Whatever it raises is passed on, and
            the command's sessions are used no more.
        code: The command code.
        handles: Each with the Name of what the command is about.
        first: Parts of the content of the first parameter, if that is a ``TPM2B``. A
            :class:`Secret` among them goes out encrypted, or the command does not go out.
        rest: All other parameters, as they are on the wire.
        authorizations: In the order of the handles that need one; others come after them.

    Raises:
        TpmError: The TPM refused, or somebody said so; ``code`` says why.
        TpmTamperedError: The answer is malformed or not authentic. The sessions are used no more.
        InternalError: A secret would go out in the clear, a session is used twice, or the gate
            refuses the command.

    Spec: TPM 2.0 Part 1, 18, 19 and 21.
    """
