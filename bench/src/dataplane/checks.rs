//! What whoever relays a batch of shreds has to do besides receiving and sending.

use std::hint::black_box;
use std::time::Instant;

use alpenglow_dataplane::auth::{PairwiseKeys, TAGS_AT_ONCE};
use alpenglow_dataplane::datagram::{HEADER_BYTES, Kind, PREFIX_BYTES, covered};
use alpenglow_rotor::leader_key::LeaderKey;
use alpenglow_rotor::merkle;
use alpenglow_rotor::types::ValidatorIndex;
use ed25519_dalek::{Signer, SigningKey};

use super::kernels::{SIGNATURES, SIGNED_BYTES};
use super::udp_offload::SEGMENTS_MAX;
use crate::fixture::{Cluster, LEADER, NODE, pairwise_keys};
use crate::rounds::median;

/// It checks the MAC of each datagram, hashes the shreds' leaves and checks one signature, or garbage would be
/// amplified; then it makes a MAC for each datagram of each receiver. Of what it does with a node's own code the node
/// does nothing faster.
pub(super) struct Checks {
    keys: PairwiseKeys,
    key: LeaderKey,
    signed: Vec<([u8; SIGNED_BYTES], [u8; 64])>,
    turn: usize,
    datagram_bytes: usize,
    shred_bytes: usize,
    receivers: Vec<ValidatorIndex>,
    leaves: [[u8; 32]; SEGMENTS_MAX],
    macs_us: Vec<f64>,
}

impl Checks {
    pub(super) fn new(cluster: &Cluster) -> Self {
        let signing = SigningKey::from_bytes(&[2; 32]);
        let mut key = LeaderKey::reserved();
        key.begin(&signing.verifying_key());
        let message = |number: usize| [number as u8; SIGNED_BYTES];
        let mut checks = Self {
            keys: pairwise_keys(cluster),
            key,
            signed: (0..SIGNATURES).map(message).map(|it| (it, signing.sign(&it).to_bytes())).collect(),
            turn: 0,
            datagram_bytes: cluster.datagram_bytes(),
            shred_bytes: cluster.coding.shred_bytes(),
            receivers: cluster.validators.indices().filter(|it| ![LEADER, NODE].contains(it)).collect(),
            leaves: [[0; 32]; SEGMENTS_MAX],
            macs_us: Vec::new(),
        };
        // The key is fast from then on.
        (0..SIGNATURES).for_each(|_| checks.check_signature());
        checks
    }

    /// Does all of it for datagrams that were received together.
    pub(super) fn run(&mut self, datagrams: &[u8]) {
        let begun = Instant::now();
        self.mac(LEADER, datagrams);
        let checked = begun.elapsed();
        let data = datagrams.chunks_exact(self.datagram_bytes).map(|it| &it[it.len() - self.shred_bytes..]);
        let leaves = &mut self.leaves[..data.len()];
        merkle::leaves(data, leaves);
        black_box(leaves);
        self.check_signature();
        let begun = Instant::now();
        self.receivers.iter().for_each(|receiver| self.mac(*receiver, datagrams));
        self.macs_us.push((checked + begun.elapsed()).as_secs_f64() * 1e6);
    }

    /// What the MACs of one batch have taken: the check of those that came, and one for each datagram and receiver.
    pub(super) fn macs_us(&self) -> f64 {
        median(self.macs_us.clone())
    }

    fn check_signature(&mut self) {
        self.turn = (self.turn + 1) % self.signed.len();
        let (message, signature) = &self.signed[self.turn];
        assert!(self.key.verify(black_box(message), signature));
    }

    fn mac(&self, peer: ValidatorIndex, datagrams: &[u8]) {
        for together in datagrams.chunks(TAGS_AT_ONCE * self.datagram_bytes) {
            let mut messages = [(&[0; PREFIX_BYTES], &[][..]); TAGS_AT_ONCE];
            let mut count = 0;
            for (message, datagram) in messages.iter_mut().zip(together.chunks_exact(self.datagram_bytes)) {
                let prefix = datagram.first_chunk().expect("a datagram begins with a header");
                *message = (prefix, covered(Kind::Shred, &datagram[HEADER_BYTES..]));
                count += 1;
            }
            black_box(self.keys.tags_to(peer, &messages[..count]));
        }
    }
}
