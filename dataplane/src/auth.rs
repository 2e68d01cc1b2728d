//! Who sent a datagram: a MAC under a key that only the two validators have.
//!
//! Tags are AES-128-CMAC (RFC 4493). The key for datagrams from A to B is HKDF-SHA256 with salt = cluster id,
//! input = X25519 of the two identities (the Ed25519 keys taken to Curve25519) and info = "alpenglow datagram mac 1" |
//! A's identity | B's identity, 16 bytes. So a tag says nothing in another cluster, and a datagram cannot be sent back
//! to its sender.

use aes::Aes128Enc;
use aes::cipher::consts::U16;
use aes::cipher::{Block, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use alpenglow_rotor::types::{ClusterId, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{DefaultIsZeroes, Zeroizing};

use crate::datagram::SHRED_COVERED_BYTES;

const DOMAIN: &[u8] = b"alpenglow datagram mac 1";
const BLOCK_BYTES: usize = 16;
/// Blocks of a shred that are covered.
const SHRED_BLOCKS: usize = SHRED_COVERED_BYTES / BLOCK_BYTES;
/// Most messages that [`PairwiseKeys::tags_to`] takes: as many blocks as a processor's AES units have in flight.
pub const TAGS_AT_ONCE: usize = 8;

/// A message in two parts, of which the first is one block: a datagram's header without the MAC, and what of the body
/// the MAC covers.
pub type PrefixedMessage<'a> = (&'a [u8; BLOCK_BYTES], &'a [u8]);

/// This validator's keys with every other one, for both directions. They are wiped when dropped, and cannot be shown:
///
/// ```compile_fail
/// fn show<T: std::fmt::Debug>() {}
/// show::<alpenglow_dataplane::auth::PairwiseKeys>();
/// ```
pub struct PairwiseKeys {
    own: ValidatorIndex,
    peers: Box<[PeerKeys]>,
}

struct PeerKeys {
    to: MacKey,
    from: MacKey,
}

/// A CMAC key with everything computed that does not depend on the message: the cipher's round keys, and the two
/// subkeys for a last block that is full and for one that is not. Deriving those for each message, as the general crate
/// does, costs another block.
struct MacKey {
    cipher: Aes128Enc,
    subkeys: Zeroizing<Subkeys>,
}

/// Blocks are numbers of native byte order here: they are only ever added bit by bit, and so never turned around.
#[derive(Clone, Copy, Default)]
struct Subkeys {
    full: u128,
    padded: u128,
}

impl DefaultIsZeroes for Subkeys {}

/// Why there are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The signing key is not that of the validator that this node should be.
    #[error("the identity key is not the one of validator {}", .own.0)]
    WrongIdentity {
        /// The validator that this node should be.
        own: ValidatorIndex,
    },
    /// X25519 with this peer's identity gives zero, which everybody knows.
    #[error("no secret can be shared with validator {}: its identity is a weak key", .peer.0)]
    NoSharedSecret {
        /// The peer.
        peer: ValidatorIndex,
    },
}

impl PairwiseKeys {
    /// Derives the keys of validator `own`, whose identity `identity` is, with every validator; some 100 µs for each.
    ///
    /// # Errors
    /// [`AuthError`] if `identity` is not that of `own`, or a peer's identity yields no secret.
    pub fn derive(
        identity: &SigningKey,
        validators: &ValidatorSet,
        cluster: ClusterId,
        own: ValidatorIndex,
    ) -> Result<Self, AuthError> {
        let own_identity = identity.verifying_key().to_bytes();
        if validators.index_of(&own_identity) != Some(own) {
            return Err(AuthError::WrongIdentity { own });
        }
        let scalar = Zeroizing::new(identity.to_scalar_bytes());
        let peers = validators.indices().map(|peer| {
            let peer_identity = validators.identity(peer);
            let shared = Zeroizing::new(peer_identity.to_montgomery().mul_clamped(*scalar).to_bytes());
            if *shared == [0; 32] {
                return Err(AuthError::NoSharedSecret { peer });
            }
            let secret = Hkdf::<Sha256>::new(Some(&cluster.0), &*shared);
            let between = |sender: &[u8; 32], receiver: &[u8; 32]| {
                let mut key = Zeroizing::new([0; 16]);
                let info: [&[u8]; 3] = [DOMAIN, sender, receiver];
                secret.expand_multi_info(&info, &mut *key).expect("HKDF gives up to 8,160 bytes");
                MacKey::new(&key)
            };
            let peer_identity = peer_identity.as_bytes();
            Ok(PeerKeys { to: between(&own_identity, peer_identity), from: between(peer_identity, &own_identity) })
        });
        Ok(Self { own, peers: peers.collect::<Result<_, _>>()? })
    }

    /// The validator whose keys these are.
    #[must_use]
    pub const fn own(&self) -> ValidatorIndex {
        self.own
    }

    /// The tag that tells `peer` that this validator sent `message`. Allocates nothing.
    ///
    /// # Panics
    /// If `peer` is not in the validator set.
    #[must_use]
    pub fn tag_to(&self, peer: ValidatorIndex, message: PrefixedMessage<'_>) -> [u8; 16] {
        self.peers[peer.get()].to.tag(message)
    }

    /// The tags of several messages to `peer`, of each the one that [`Self::tag_to`] gives. A tag is a chain of blocks
    /// of which each waits for the one before; here the chains of up to [`TAGS_AT_ONCE`] messages go forward side by
    /// side, in little more than the time of one. Allocates nothing.
    ///
    /// # Panics
    /// If `peer` is not in the validator set, if there are more than [`TAGS_AT_ONCE`] messages, or if they differ in
    /// length.
    #[must_use]
    pub fn tags_to(&self, peer: ValidatorIndex, messages: &[PrefixedMessage<'_>]) -> [[u8; 16]; TAGS_AT_ONCE] {
        self.peers[peer.get()].to.tags(messages)
    }

    /// Whether `peer` sent `message` to this validator. Takes the same time wherever a wrong tag differs, and allocates
    /// nothing.
    ///
    /// # Panics
    /// If `peer` is not in the validator set.
    #[must_use]
    pub fn verify_from(&self, peer: ValidatorIndex, message: PrefixedMessage<'_>, tag: &[u8; 16]) -> bool {
        is_equal(&self.peers[peer.get()].from.tag(message), tag)
    }

    /// Of several messages with their tags which ones `peer` sent, as [`Self::verify_from`] would say of each, in
    /// little more than the time of one.
    ///
    /// # Panics
    /// As [`Self::tags_to`].
    #[must_use]
    pub fn verify_all_from(
        &self,
        peer: ValidatorIndex,
        messages: &[PrefixedMessage<'_>],
        tags: &[[u8; 16]],
    ) -> [bool; TAGS_AT_ONCE] {
        let expected = self.peers[peer.get()].from.tags(messages);
        let mut verdicts = [false; TAGS_AT_ONCE];
        for ((verdict, expected), tag) in verdicts.iter_mut().zip(&expected[..messages.len()]).zip(tags) {
            *verdict = is_equal(expected, tag);
        }
        verdicts
    }
}

/// One comparison of whole numbers: it cannot stop at the first byte that differs.
const fn is_equal(expected: &[u8; 16], tag: &[u8; 16]) -> bool {
    u128::from_ne_bytes(*expected) == u128::from_ne_bytes(*tag)
}

impl MacKey {
    fn new(key: &[u8; 16]) -> Self {
        let cipher = Aes128Enc::new(key.into());
        let mut zero = Default::default();
        cipher.encrypt_block(&mut zero);
        let full = Zeroizing::new(double(u128::from_be_bytes(zero.into())));
        let padded = Zeroizing::new(double(*full));
        let subkeys = Zeroizing::new(Subkeys { full: full.to_be(), padded: padded.to_be() });
        Self { cipher, subkeys }
    }

    fn tag(&self, message: PrefixedMessage<'_>) -> [u8; 16] {
        let mut tag = [0; 16];
        self.cipher.encrypt_with_backend(Chain { subkeys: &self.subkeys, message, tag: &mut tag });
        tag
    }

    fn tags(&self, messages: &[PrefixedMessage<'_>]) -> [[u8; 16]; TAGS_AT_ONCE] {
        let mut tags = [[0; 16]; TAGS_AT_ONCE];
        match messages {
            [] => {}
            [message] => tags[0] = self.tag(*message),
            _ => self.cipher.encrypt_with_backend(Chains { subkeys: &self.subkeys, messages, tags: &mut tags }),
        }
        tags
    }
}

/// One message's chain, RFC 4493 §2.4. It runs inside of what the cipher was compiled to for this processor's
/// instructions, where the chain stays in a register; block by block from outside takes twice as long.
struct Chain<'a> {
    subkeys: &'a Subkeys,
    message: PrefixedMessage<'a>,
    tag: &'a mut [u8; 16],
}

impl BlockSizeUser for Chain<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Chain<'_> {
    /// A block is encrypted only when there is more to come, for the last one is treated otherwise.
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, cipher: &B) {
        let (prefix, body) = self.message;
        let (blocks, rest) = body.as_chunks();
        let mut chain = u128::from_ne_bytes(*prefix);
        let mut add = |block: &[u8; BLOCK_BYTES]| chain = encrypt(cipher, chain) ^ u128::from_ne_bytes(*block);
        // A loop whose length is known is unrolled. In one that is not, the compiler takes the chain to general
        // registers and back for each block: 0.11 µs for a shred's datagram instead of 0.09.
        let (shreds, others) = blocks.as_chunks::<SHRED_BLOCKS>();
        shreds.iter().for_each(|blocks| blocks.iter().for_each(&mut add));
        others.iter().for_each(add);
        chain ^= if rest.is_empty() {
            self.subkeys.full
        } else {
            chain = encrypt(cipher, chain);
            at(0, rest) ^ at(rest.len(), &[0x80]) ^ self.subkeys.padded
        };
        *self.tag = encrypt(cipher, chain).to_ne_bytes();
    }
}

/// The chains of messages of one length, at least one of them.
struct Chains<'a> {
    subkeys: &'a Subkeys,
    messages: &'a [PrefixedMessage<'a>],
    tags: &'a mut [[u8; 16]; TAGS_AT_ONCE],
}

impl BlockSizeUser for Chains<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Chains<'_> {
    /// Places without a message of their own follow the first one: a number of chains that is known beforehand is
    /// faster than one fewer.
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, cipher: &B) {
        let mut messages = [self.messages[0]; TAGS_AT_ONCE];
        messages[..self.messages.len()].copy_from_slice(self.messages);
        let bytes = messages[0].1.len();
        assert!(messages.iter().all(|(_, body)| body.len() == bytes), "messages of one length");
        let mut chains = [0; TAGS_AT_ONCE];
        for (chain, (prefix, _)) in chains.iter_mut().zip(&messages) {
            *chain = u128::from_ne_bytes(**prefix);
        }
        let (full, rest) = (bytes / BLOCK_BYTES * BLOCK_BYTES, bytes % BLOCK_BYTES);
        for start in (0..full).step_by(BLOCK_BYTES) {
            for (chain, (_, body)) in chains.iter_mut().zip(&messages) {
                let block = body[start..].first_chunk().expect("the block is full");
                *chain = encrypt(cipher, *chain) ^ u128::from_ne_bytes(*block);
            }
        }
        if rest > 0 {
            for (chain, (_, body)) in chains.iter_mut().zip(&messages) {
                *chain = encrypt(cipher, *chain) ^ at(0, &body[full..]) ^ at(rest, &[0x80]);
            }
        }
        let subkey = if rest > 0 { self.subkeys.padded } else { self.subkeys.full };
        for (chain, tag) in chains.into_iter().zip(self.tags) {
            *tag = encrypt(cipher, chain ^ subkey).to_ne_bytes();
        }
    }
}

/// A block with `bytes` from byte `start` on, and zeroes around them.
fn at(start: usize, bytes: &[u8]) -> u128 {
    let mut block = [0; BLOCK_BYTES];
    block[start..start + bytes.len()].copy_from_slice(bytes);
    u128::from_ne_bytes(block)
}

#[inline(always)]
fn encrypt<B: BlockCipherEncBackend<BlockSize = U16>>(cipher: &B, block: u128) -> u128 {
    let mut bytes: Block<B> = block.to_ne_bytes().into();
    cipher.encrypt_block((&mut bytes).into());
    u128::from_ne_bytes(bytes.into())
}

/// Times x in GF(2^128) as RFC 4493 §2.3 represents it, without a branch on the secret.
const fn double(block: u128) -> u128 {
    (block << 1) ^ ((block >> 127) * 0x87)
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::types::Stake;
    use cmac::{Cmac, Mac};
    use proptest::prelude::*;

    use super::*;
    use crate::datagram::{HEADER_BYTES, Header, Kind, covered};

    const CLUSTER: ClusterId = ClusterId([0xc1; 32]);
    const A: ValidatorIndex = ValidatorIndex(0);
    const B: ValidatorIndex = ValidatorIndex(1);
    const C: ValidatorIndex = ValidatorIndex(2);
    const SHRED: PrefixedMessage<'static> = (&[1; BLOCK_BYTES], b"shred");
    const VOTE: PrefixedMessage<'static> = (&[2; BLOCK_BYTES], b"vote");

    fn signing_key(validator: u8) -> SigningKey {
        SigningKey::from_bytes(&[validator + 1; 32])
    }

    fn set() -> ValidatorSet {
        let validators = (0..3).map(|v| (signing_key(v).verifying_key().to_bytes(), Stake(1)));
        ValidatorSet::new(validators.collect()).unwrap()
    }

    fn keys(own: ValidatorIndex, cluster: ClusterId) -> PairwiseKeys {
        PairwiseKeys::derive(&signing_key(own.0 as u8), &set(), cluster, own).unwrap()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn tags_are_those_of_rfc_4493() {
        let key: [u8; 16] = bytes("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
        let key = MacKey::new(&key);
        let message = bytes(concat!(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
            "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
        ));
        // All of them but the one of an empty message: here each begins with a prefix of a block.
        let (prefix, body) = message.split_first_chunk().unwrap();
        let expected = [
            (0, "070a16b46b4d4144f79bdd9dd04a287c"),
            (24, "dfa66747de9ae63030ca32611497c827"),
            (48, "51f0bebf7e3b9d92fc49741779363cfe"),
        ];
        for (length, tag) in expected {
            assert_eq!(key.tag((prefix, &body[..length]))[..], bytes(tag), "{length} bytes");
            for count in 2..=TAGS_AT_ONCE {
                let tags = key.tags(&vec![(prefix, &body[..length]); count]);
                assert!(tags[..count].iter().all(|it| it[..] == bytes(tag)), "{count} of {length} bytes");
            }
        }
    }

    #[test]
    #[should_panic(expected = "messages of one length")]
    fn messages_that_differ_in_length_are_a_bug() {
        let _ = keys(A, CLUSTER).tags_to(B, &[(&[0; 16], &[1; 80]), (&[0; 16], &[1; 79])]);
    }

    /// Expected values come from an independent implementation of X25519, HKDF and CMAC.
    #[test]
    fn golden_tags_in_both_directions() {
        let here = keys(A, CLUSTER);
        let message = (b"a datagram from ", &b"alpenglow"[..]);
        assert_eq!(here.tag_to(B, message)[..], bytes("6569e34c0267a0cd08e381abae45b6fd"));
        assert_eq!(keys(B, CLUSTER).tag_to(A, message)[..], bytes("6e91902d7b61426b4c00e6c788f94657"));
    }

    #[test]
    fn the_peer_accepts_a_tag_and_nobody_else_does() {
        let tag = keys(A, CLUSTER).tag_to(B, SHRED);
        assert!(keys(B, CLUSTER).verify_from(A, SHRED, &tag));
        assert!(!keys(B, CLUSTER).verify_from(C, SHRED, &tag), "said to be from another sender");
        assert!(!keys(C, CLUSTER).verify_from(A, SHRED, &tag), "sent to another receiver");
    }

    #[test]
    fn keys_are_wiped_when_dropped() {
        const fn is_wiped_when_dropped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let MacKey { cipher, subkeys } = MacKey::new(&[7; 16]);
        is_wiped_when_dropped(&cipher);
        is_wiped_when_dropped(&subkeys);
    }

    #[test]
    fn a_datagram_cannot_be_sent_back_to_its_sender() {
        let tag = keys(A, CLUSTER).tag_to(B, VOTE);
        assert!(!keys(A, CLUSTER).verify_from(B, VOTE, &tag));
    }

    #[test]
    fn defect_27_messages_replayed_between_clusters_are_refused() {
        let tag = keys(A, CLUSTER).tag_to(B, VOTE);
        assert!(!keys(B, ClusterId([0xc2; 32])).verify_from(A, VOTE, &tag));
    }

    #[test]
    fn a_key_of_another_validator_is_refused() {
        let derive = |own| PairwiseKeys::derive(&signing_key(0), &set(), CLUSTER, own).err();
        assert_eq!(derive(A), None);
        assert_eq!(derive(B), Some(AuthError::WrongIdentity { own: B }));
        assert_eq!(derive(ValidatorIndex(3)), Some(AuthError::WrongIdentity { own: ValidatorIndex(3) }));
    }

    fn datagram(kind: Kind, body: &[u8]) -> Vec<u8> {
        let prefix = Header::prefix(kind, 9, A, CLUSTER);
        let tag = keys(A, CLUSTER).tag_to(B, (&prefix, covered(kind, body)));
        [&prefix[..], &tag, body].concat()
    }

    fn is_accepted(receiver: &PairwiseKeys, datagram: &[u8]) -> bool {
        let Ok((header, body)) = Header::parse(datagram) else { return false };
        let message = (datagram.first_chunk().unwrap(), covered(header.kind, body));
        header.sender < 3 && receiver.verify_from(ValidatorIndex(header.sender), message, &header.tag)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn forged_and_truncated_datagrams_are_refused(body in prop::collection::vec(any::<u8>(), 1..200), at: prop::sample::Index, flip in 1..=255_u8) {
            let receiver = keys(B, CLUSTER);
            let good = datagram(Kind::Certificate, &body);
            prop_assert!(is_accepted(&receiver, &good));
            let mut forged = good.clone();
            forged[at.index(good.len())] ^= flip;
            prop_assert!(!is_accepted(&receiver, &forged));
            prop_assert!(!is_accepted(&receiver, &good[..at.index(good.len())]));
            prop_assert!(!is_accepted(&receiver, &[&good[..], &[0]].concat()));
        }

        #[test]
        fn a_shreds_header_and_signature_cannot_be_altered(body in prop::collection::vec(any::<u8>(), 80..200), at in 0..HEADER_BYTES + 80, flip in 1..=255_u8) {
            let receiver = keys(B, CLUSTER);
            let good = datagram(Kind::Shred, &body);
            prop_assert!(is_accepted(&receiver, &good));
            let mut forged = good.clone();
            forged[at] ^= flip;
            prop_assert!(!is_accepted(&receiver, &forged));
            prop_assert!(!is_accepted(&receiver, &good[..at]));
        }

        #[test]
        fn tags_are_those_of_the_cmac_crate(key: [u8; 16], length in 0_usize..200, messages in prop::collection::vec((any::<[u8; 16]>(), prop::collection::vec(any::<u8>(), 200)), 0..=TAGS_AT_ONCE)) {
            let mac_key = MacKey::new(&key);
            let messages: Vec<_> = messages.iter().map(|(prefix, body)| (prefix, &body[..length])).collect();
            let several = mac_key.tags(&messages);
            for ((prefix, body), one_of_several) in messages.into_iter().zip(several) {
                let oracle = Cmac::<aes::Aes128>::new(&key.into()).chain_update(prefix).chain_update(body);
                let oracle: [u8; 16] = oracle.finalize().into_bytes().into();
                prop_assert_eq!(one_of_several, oracle);
                prop_assert_eq!(mac_key.tag((prefix, body)), oracle);
            }
        }
    }
}
