// SPDX-License-Identifier: Apache-2.0
//! Known answers, for the self-test and for the unit tests.
//!
//! Where they come from: `testdata/PROVENANCE.md`. All numbers are in hex.

/// The merge of [`counting_bytes`].
#[derive(Debug)]
pub(crate) struct AntiForensic {
    pub(crate) hash: &'static str,
    pub(crate) key_bytes: usize,
    pub(crate) stripes: usize,
    pub(crate) key: &'static str,
}

/// Made with `testdata/generate_known_answers.py`.
pub(crate) const ANTI_FORENSIC: &[AntiForensic] = &[
    AntiForensic {
        hash: "sha1",
        key_bytes: 32,
        stripes: 3,
        key: "60bbdd81b29404e5f7631469b8412ae5153655c23e5503a23418423454f2d6ae",
    },
    AntiForensic {
        hash: "sha224",
        key_bytes: 64,
        stripes: 5,
        key: "ad3b4ae59047123ff484c5d94a0e5c451962740dc5fcd8992c26e86c98d517bb931cc34e72108787\
              1f9df01551894b372860c9d7be8fa6d37469ed8acba21d96",
    },
    AntiForensic {
        hash: "sha256",
        key_bytes: 16,
        stripes: 1,
        key: "000102030405060708090a0b0c0d0e0f",
    },
    AntiForensic {
        hash: "sha256",
        key_bytes: 32,
        stripes: 4000,
        key: "cb19690a63e5bfd014e4f2db94b54c224ba5b8e505dee757fac6037c7f936e9f",
    },
    AntiForensic {
        hash: "sha256",
        key_bytes: 64,
        stripes: 4000,
        key: "3f30f2b8c91048c91f369f8726a352bce90258682b0113b1496502a4929439f9e5def4de694018ca\
              879db9d25e8629e641ef357b30de49d22b3003224c3dc8e3",
    },
    AntiForensic {
        hash: "sha384",
        key_bytes: 64,
        stripes: 10,
        key: "51ffbb7a17f0d74efbffc76c9195d715e69e77ea5b9123d656a5346a7ee03a280b1a9d4c7db801f5\
              3457e0994287c2254feb6c6a18a0ec7af79917e3b512fbf4",
    },
    AntiForensic {
        hash: "sha512",
        key_bytes: 96,
        stripes: 4000,
        key: "a5ec382fd9df9fca0cca9dcf322a51217f7f8a2ebe111b7231ea33d0e9a2dced4c55c36c657dd76b\
              fa329bf149a39c65d7ad484eb5241300612cff6bdfde5bdaf96c27bd94ebc1ab1310e1c0a0656a4a\
              91a192a21b709df8b5e1fac8bbffdb5f",
    },
];

/// The tag of the password `password` with the salt `somesalt`, version 1.3.
#[derive(Debug)]
pub(crate) struct Argon2 {
    pub(crate) variant: &'static str,
    pub(crate) iterations: u32,
    pub(crate) memory_kib: u32,
    pub(crate) lanes: u32,
    pub(crate) tag: &'static str,
}

/// Made with `testdata/generate_known_answers.py`.
pub(crate) const ARGON2: &[Argon2] = &[
    Argon2 {
        variant: "argon2i",
        iterations: 3,
        memory_kib: 64,
        lanes: 1,
        tag: "8a1a14bea56ca2fe8ec989795f1d13caf25903d02d8fa9e451b5d3463d8d3331",
    },
    Argon2 {
        variant: "argon2i",
        iterations: 4,
        memory_kib: 128,
        lanes: 4,
        tag: "5780c7dd11587d9c48ebef855330e8ec729f3492bade8bbc392aeb4da9c5b415f870c74d0801fd3a\
              32c5de074a68061d8c8b1d40cb343c9420bc46230bc53565",
    },
    Argon2 {
        variant: "argon2id",
        iterations: 3,
        memory_kib: 64,
        lanes: 1,
        tag: "b9e3bfda58fb95f1e1e479af4e01bfade5a0dba34d400a254f770462674169e6",
    },
    Argon2 {
        variant: "argon2id",
        iterations: 4,
        memory_kib: 1024,
        lanes: 4,
        tag: "6d791578c3280e34ed20b57da62fb8ad1e84427d53c10f69fba75a4092ef7591111d666ceb0cbd36\
              019ba823a6b8e23e4e7278e4a67542c486494ef07d84d914",
    },
    Argon2 {
        variant: "argon2id",
        iterations: 2,
        memory_kib: 100,
        lanes: 3,
        tag: "68e17bd62f018a59ccb25b27331c94da",
    },
];

/// The key derived from the password `password` with the salt `somesalt`.
#[derive(Debug)]
pub(crate) struct Pbkdf2 {
    pub(crate) hash: &'static str,
    pub(crate) iterations: u32,
    pub(crate) key: &'static str,
}

/// Made with `testdata/generate_known_answers.py`.
pub(crate) const PBKDF2: &[Pbkdf2] = &[
    Pbkdf2 {
        hash: "sha1",
        iterations: 1000,
        key: "9e1a4a773dd4084fce51e0b468bc1bf119dee57f5438a997b9308a491c2e76aaacc476ee98f26675\
              6998fb7c60c926204b4c8003218fd16aba983a51e94916e2e797aab44c4bc02fed290b47c82e903c",
    },
    Pbkdf2 {
        hash: "sha224",
        iterations: 1000,
        key: "e8908e24b4e7b5c0da473e59dd939ac573ca23c714d7731993799a3ad9fe11c14a85393deacafdfe\
              58e30405ade7007ca3d47881348317af1d730892c9055eec911d7b24349dd1faea35172b7dad4bc5",
    },
    Pbkdf2 {
        hash: "sha256",
        iterations: 1000,
        key: "8f801ad788a752d3a1ed283f0fb847e78a21ca6b873500f8f9c71f85ea465806253797bd35e3d61a\
              0f16367def23802ce234922e50dc178c48d452dbff2d6d432fa0a6f68c5c994fadacfe409d9ceb35",
    },
    Pbkdf2 {
        hash: "sha384",
        iterations: 1000,
        key: "2f211ddc7acaa5ca636362949ba472bd732fdc4b065046e69602d2d085174ad26d06cf7c60f03675\
              da593cfc17b2a2881fd0adcdbe5f03feb1fe1be89dd169ae417b488c6dcdbf21d207d8d712e4a875",
    },
    Pbkdf2 {
        hash: "sha512",
        iterations: 1000,
        key: "a40ad3b13f006a1cf1988e4e65cc4a370da8e25f6a88ac1ce736d647c6e8f3dd3443b31845ca1d20\
              48a3c62ced2f88439564df54b4d24622e178c8b7f56539639c5ef68bf33cb6084ead6e9e5132f668",
    },
];

/// One HKDF-SHA256 derivation.
pub(crate) struct Hkdf {
    pub(crate) material: &'static str,
    pub(crate) salt: &'static str,
    pub(crate) info: &'static str,
    pub(crate) key: &'static str,
}

/// RFC 5869, A.1.
pub(crate) const HKDF: Hkdf = Hkdf {
    material: "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
    salt: "000102030405060708090a0b0c",
    info: "f0f1f2f3f4f5f6f7f8f9",
    key: "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf\
          34007208d5b887185865",
};

/// One sealed message and the key that opens it.
pub(crate) struct Hpke {
    pub(crate) private_key: &'static str,
    pub(crate) public_key: &'static str,
    pub(crate) encapsulated_key: &'static str,
    pub(crate) info: &'static str,
    pub(crate) aad: &'static str,
    pub(crate) ciphertext: &'static str,
    pub(crate) plaintext: &'static str,
}

/// RFC 9180, A.2.1 and A.2.1.1, sequence number 0.
pub(crate) const HPKE: Hpke = Hpke {
    private_key: "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
    public_key: "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
    encapsulated_key: "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
    info: "4f6465206f6e2061204772656369616e2055726e",
    aad: "436f756e742d30",
    ciphertext: "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db\
                 21993c62ce81883d2dd1b51a28",
    plaintext: "4265617574792069732074727574682c20747275746820626561757479",
};

/// One HMAC-SHA256.
pub(crate) struct Hmac {
    pub(crate) key: &'static str,
    pub(crate) message: &'static str,
    pub(crate) code: &'static str,
}

/// RFC 4231, 4.2 to 4.5, 4.7 and 4.8.
pub(crate) const HMAC: &[Hmac] = &[
    Hmac {
        key: "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        message: "4869205468657265",
        code: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    },
    Hmac {
        key: "4a656665",
        message: "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
        code: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    },
    Hmac {
        key: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        message: "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd\
                  dddddddddddddddddddd",
        code: "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    },
    Hmac {
        key: "0102030405060708090a0b0c0d0e0f10111213141516171819",
        message: "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\
                  cdcdcdcdcdcdcdcdcdcd",
        code: "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    },
    Hmac {
        key: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
              aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
              aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
              aaaaaaaaaaaaaaaaaaaaaa",
        message: "54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d20\
                  48617368204b6579204669727374",
        code: "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    },
    Hmac {
        key: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
              aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
              aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
              aaaaaaaaaaaaaaaaaaaaaa",
        message: "5468697320697320612074657374207573696e672061206c6172676572207468616e20626c6f636b\
                  2d73697a65206b657920616e642061206c6172676572207468616e20626c6f636b2d73697a652064\
                  6174612e20546865206b6579206e6565647320746f20626520686173686564206265666f72652062\
                  65696e6720757365642062792074686520484d414320616c676f726974686d2e",
        code: "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    },
];

/// One Ed25519 signature.
pub(crate) struct Ed25519 {
    pub(crate) seed: &'static str,
    pub(crate) public_key: &'static str,
    pub(crate) message: &'static str,
    pub(crate) signature: &'static str,
}

/// RFC 8032, 7.1: tests 1, 2, 3 and SHA(abc).
pub(crate) const ED25519: &[Ed25519] = &[
    Ed25519 {
        seed: "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        public_key: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        message: "",
        signature: "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac\
                    c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    },
    Ed25519 {
        seed: "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        public_key: "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        message: "72",
        signature: "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e\
                    458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    },
    Ed25519 {
        seed: "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        public_key: "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        message: "af82",
        signature: "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290\
                    ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    },
    Ed25519 {
        seed: "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        public_key: "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        message: "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a8\
                  36ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        signature: "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ec\
                    fdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    },
];

/// One content in a blob of either purpose.
pub(crate) struct Sealed {
    pub(crate) key: &'static str,
    pub(crate) aad: &'static str,
    pub(crate) content: &'static str,
    pub(crate) secret_blob: &'static str,
    pub(crate) parameters_blob: &'static str,
}

/// Made with `testdata/generate_known_answers.py`.
pub(crate) const SEALED: Sealed = Sealed {
    key: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    aad: "636f6e74657874",
    content: "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f",
    secret_blob: "01808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fef3e376b016ff2\
                  fd4802d6f529e24a642a05faff95732f8d53b94b3b2fc9a77c74790d74ac837a1d5130160172a280\
                  5e",
    parameters_blob: "01808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f47b7f06374e17a\
                      a304c45d040126f3d1b1486a88c8a5f0d891f86e7c27ac29797f2e24f0b4628170392d294d8b84ba\
                      c5",
};

/// Bytes in which no two stripes are alike: the low bytes of `n + n / 256`.
pub(crate) fn counting_bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| (n + n / 256).to_le_bytes()[0])
        .collect()
}

/// Reads hex; anything that is no digit counts as zero, which no known answer has.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0).to_le_bytes()[0];
    text.as_bytes()
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |value, &byte| value << 4 | digit(byte)))
        .collect()
}
