//! The validators of a cluster with their voting keys, and the datagrams that their votes come in.

use std::sync::Arc;

use alpenglow_control::bls::{HashedPayload, SecretKey};
use alpenglow_control::certificate::{Certificate, Signers, Statement};
use alpenglow_control::message;
use alpenglow_control::stakes::Stakes;
use alpenglow_control::vote::{Vote, VotePayload};
use alpenglow_control::voting_keys::VotingKeys;
use alpenglow_dataplane::auth::PairwiseKeys;
use alpenglow_dataplane::datagram::{self, HEADER_BYTES, Header, Kind, PREFIX_BYTES};
use alpenglow_rotor::types::{Stake, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use blst::min_sig;

use crate::fixture::{CLUSTER, Cluster, identity};

/// Datagrams in one receive buffer: what the kernel joins of what comes from many senders at once, at best.
const JOINED: usize = 16;

/// See the module.
pub(super) struct Validators {
    pub(super) cluster: Cluster,
    pub(super) stakes: Arc<Stakes>,
    pub(super) keys: Arc<VotingKeys>,
    /// The same keys for plain blst.
    pub(super) plain_keys: Vec<min_sig::PublicKey>,
    secret_keys: Vec<SecretKey>,
    /// For each validator the keys with the node that is measured.
    macs: Vec<PairwiseKeys>,
}

impl Validators {
    /// So many validators of equal stake. The last one is the node that is measured.
    pub(super) fn new(count: usize) -> Self {
        let cluster = Cluster::new(&vec![100; count]);
        let secret_keys: Vec<SecretKey> = (0..count).map(secret_key).collect();
        let entries: Vec<_> =
            secret_keys.iter().map(|key| (key.public_key().to_bytes(), key.prove_possession())).collect();
        let plain = |(bytes, _): &(alpenglow_control::bls::PublicKeyBytes, _)| {
            min_sig::PublicKey::uncompress(&bytes.0).expect("a key")
        };
        let macs = (0..count).map(|sender| macs(sender, count - 1)).collect();
        Self {
            stakes: Arc::new(Stakes::new(vec![Stake(100); count])),
            plain_keys: entries.iter().map(plain).collect(),
            keys: Arc::new(VotingKeys::new(&entries).expect("valid keys and proofs")),
            cluster,
            secret_keys,
            macs,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.secret_keys.len()
    }

    /// The node that is measured.
    pub(super) fn own(&self) -> ValidatorIndex {
        ValidatorIndex(self.len() as u16 - 1)
    }

    pub(super) fn secret_key(&self, validator: usize) -> SecretKey {
        secret_key(validator)
    }

    /// The datagrams of votes in this order, as they lie in receive buffers. Those of whom `lies` says so carry the
    /// signature of something else.
    pub(super) fn votes(&self, votes: &[(VotePayload, usize)], lies: impl Fn(usize) -> bool) -> Vec<Vec<u8>> {
        let rubbish = HashedPayload::new(b"something else");
        let mut hashes: Vec<(VotePayload, HashedPayload)> = Vec::new();
        let mut datagrams = Vec::with_capacity(votes.len());
        for &(payload, signer) in votes {
            if !hashes.iter().any(|(known, _)| *known == payload) {
                hashes.push((payload, payload.hashed(CLUSTER)));
            }
            let hashed = hashes.iter().find(|(known, _)| *known == payload).map(|(_, hashed)| hashed);
            let hashed = if lies(signer) { &rubbish } else { hashed.expect("just pushed") };
            let signature = self.secret_keys[signer].sign(hashed).to_bytes();
            let vote = Vote { payload, signer: ValidatorIndex(signer as u16), signature };
            datagrams.push(self.datagram(Kind::Vote, signer, &message::encode_vote(&vote)));
        }
        datagrams.chunks(JOINED).map(<[Vec<u8>]>::concat).collect()
    }

    /// A certificate of the first `signers` validators for a statement that aggregates one kind of votes.
    pub(super) fn certificate(&self, statement: Statement, signers: usize) -> Certificate {
        let hashed = statement.payload().hashed(CLUSTER);
        let signatures: Vec<_> = self.secret_keys[..signers].iter().map(|key| key.sign(&hashed)).collect();
        Certificate {
            statement,
            signers: Signers::of(self.len(), (0..signers).map(|signer| ValidatorIndex(signer as u16))),
            fallback_signers: Signers::none(self.len()),
            signature: alpenglow_control::bls::SignatureSum::of(&signatures).to_bytes(),
        }
    }

    fn datagram(&self, kind: Kind, sender: usize, body: &[u8]) -> Vec<u8> {
        let index = ValidatorIndex(sender as u16);
        let prefix = Header::prefix(kind, datagram::message_lane(index), index, CLUSTER);
        let tag = self.macs[sender].tag_to(ValidatorIndex(1), (&prefix, datagram::covered(kind, body)));
        let datagram = [&prefix[..], &tag, body].concat();
        assert!(datagram.len() == HEADER_BYTES + body.len() && prefix.len() == PREFIX_BYTES);
        datagram
    }
}

fn secret_key(validator: usize) -> SecretKey {
    let mut entropy = [7; 32];
    entropy[..8].copy_from_slice(&(validator as u64).to_le_bytes());
    SecretKey::from_entropy(&entropy)
}

/// The keys of `sender` with the node, which depend on nobody else: derived as in a set of these two.
fn macs(sender: usize, node: usize) -> PairwiseKeys {
    // The node's own are never used.
    let other = if sender == node { 0 } else { node };
    let pair = [sender, other].map(|validator| (identity(validator).verifying_key().to_bytes(), Stake(1)));
    let pair = ValidatorSet::new(pair.into()).expect("two validators");
    PairwiseKeys::derive(&identity(sender), &pair, CLUSTER, ValidatorIndex(0)).expect("a validator's key")
}
