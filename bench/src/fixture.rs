//! A cluster to measure in: five validators of equal stake unless told otherwise, and the datagrams that they send.

use std::net::SocketAddr;
use std::sync::Arc;

use alpenglow_dataplane::auth::PairwiseKeys;
use alpenglow_dataplane::datagram::{self, HEADER_BYTES, Header, Kind, PREFIX_BYTES};
use alpenglow_dataplane::{ClientLimits, DataplaneConfig, EngineKind, Poll};
use alpenglow_rotor::erasure::Kernel;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::shred;
use alpenglow_rotor::shredder::Shredder;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{ClusterId, SliceIndex, Slot, Stake, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;

pub(crate) const CLUSTER: ClusterId = ClusterId([0xb5; 32]);
/// The leader of the slots below 4.
pub(crate) const LEADER: ValidatorIndex = ValidatorIndex(0);
/// The node that is measured, where it is not the leader.
pub(crate) const NODE: ValidatorIndex = ValidatorIndex(1);

/// Bytes without pattern.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(byte).collect()
}

/// `0..count` in no order, but always the same for one `seed`.
pub(crate) fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(last, (state % (last as u64 + 1)) as usize);
    }
    order
}

pub(crate) const fn slice_id(slot: u64, index: usize) -> SliceId {
    SliceId { slot: Slot(slot), index: SliceIndex::new(index).expect("a slice of a block") }
}

/// Everything that the validators of a cluster agree on.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) coding: CodingParameters,
    pub(crate) validators: Arc<ValidatorSet>,
    pub(crate) schedule: Arc<LeaderSchedule>,
    pub(crate) sampler: Arc<RelaySampler>,
}

impl Cluster {
    pub(crate) fn of_five() -> Self {
        Self::new(&[100; 5])
    }

    pub(crate) fn new(stakes: &[u64]) -> Self {
        let coding = CodingParameters::default();
        let validators = stakes.iter().enumerate();
        let validators = validators.map(|(index, stake)| (identity(index).verifying_key().to_bytes(), Stake(*stake)));
        let validators = Arc::new(ValidatorSet::new(validators.collect()).expect("valid validators"));
        let seed = EpochSeed([7; 32]);
        let schedule = Arc::new(LeaderSchedule::new(ScheduleKind::RoundRobin, seed, &validators));
        let sampler = Arc::new(RelaySampler::new(&validators, seed, coding.total_shreds()));
        Self { coding, validators, schedule, sampler }
    }

    /// The configuration of one node on `shards` shards, waiting.
    pub(crate) fn config(&self, own: ValidatorIndex, addresses: Vec<SocketAddr>, shards: usize) -> DataplaneConfig {
        DataplaneConfig {
            bind: addresses[own.get()],
            addresses,
            own,
            cluster: CLUSTER,
            coding: self.coding,
            kernel: Kernel::best(),
            identity: identity(own.get()),
            validators: Arc::clone(&self.validators),
            schedule: Arc::clone(&self.schedule),
            sampler: Arc::clone(&self.sampler),
            shards,
            cores: vec![None; shards],
            engine: EngineKind::IoUring,
            poll: Poll::Wait,
            slice_memory_bytes: 32 << 20,
            socket_buffer_bytes: 8 << 20,
            egress_mbit: None,
            clients: ClientLimits::default(),
            silent_relay: false,
        }
    }

    /// The configuration of a node that has no socket.
    pub(crate) fn offline_config(&self, own: ValidatorIndex) -> DataplaneConfig {
        let nowhere: SocketAddr = ([127, 0, 0, 1], 0).into();
        self.config(own, vec![nowhere; self.validators.len()], 1)
    }

    /// The validator that relays each shred of a slice.
    pub(crate) fn relays(&self, slice: SliceId) -> Vec<ValidatorIndex> {
        let mut relays = vec![ValidatorIndex::default(); self.coding.total_shreds()];
        self.sampler.sample(slice, &mut relays);
        relays
    }

    /// Bytes of the datagram of a full shred.
    pub(crate) fn datagram_bytes(&self) -> usize {
        HEADER_BYTES + shred::wire_bytes(&self.coding, self.coding.shred_bytes())
    }
}

pub(crate) fn identity(index: usize) -> SigningKey {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&(index as u64 + 1).to_le_bytes());
    SigningKey::from_bytes(&seed)
}

/// Writes the datagrams that reach [`NODE`].
pub(crate) struct Senders {
    cluster: Cluster,
    shredder: Shredder,
    signer: SliceSigner,
    keys: Vec<Option<PairwiseKeys>>,
    payload: Vec<u8>,
}

impl Senders {
    /// Senders with these indices; the others send nothing.
    pub(crate) fn new(cluster: &Cluster, senders: &[ValidatorIndex]) -> Self {
        let derive = |own: ValidatorIndex| {
            senders.contains(&own).then(|| {
                PairwiseKeys::derive(&identity(own.get()), &cluster.validators, CLUSTER, own).expect("a validator")
            })
        };
        Self {
            shredder: Shredder::new(cluster.coding, CLUSTER),
            signer: SliceSigner::new(&identity(LEADER.get())),
            keys: cluster.validators.indices().map(derive).collect(),
            payload: noise(cluster.coding.slice_payload_bytes()),
            cluster: cluster.clone(),
        }
    }

    /// The datagrams of a full slice of [`LEADER`]'s, by shred index, each from whom it reaches [`NODE`]: from the
    /// leader where that node relays it, else from its relay.
    pub(crate) fn slice(&mut self, id: SliceId) -> Vec<Vec<u8>> {
        let bytes = self.cluster.datagram_bytes();
        let total = self.cluster.coding.total_shreds();
        let offsets: Vec<_> = (0..total).map(|index| index * bytes + HEADER_BYTES).collect();
        let mut out = vec![0; total * bytes];
        self.shredder.shred(id, false, 0, &self.payload, &self.signer, &mut out, &offsets);
        let relays = self.cluster.relays(id);
        out.chunks_exact_mut(bytes).zip(relays).for_each(|(datagram, relay)| {
            let sender = if relay == NODE { LEADER } else { relay };
            self.stamp(datagram, id.lane(), sender);
        });
        out.chunks_exact(bytes).map(<[u8]>::to_vec).collect()
    }

    /// Writes the header of `sender`, if it is one of those that send.
    pub(crate) fn stamp(&self, datagram: &mut [u8], lane: u8, sender: ValidatorIndex) {
        let Some(keys) = &self.keys[sender.get()] else { return };
        let (header, body) = datagram.split_at_mut(HEADER_BYTES);
        let prefix = Header::prefix(Kind::Shred, lane, sender, CLUSTER);
        let tag = keys.tag_to(NODE, (&prefix, datagram::covered(Kind::Shred, body)));
        header[..PREFIX_BYTES].copy_from_slice(&prefix);
        header[PREFIX_BYTES..].copy_from_slice(&tag);
    }
}

/// [`NODE`]'s.
pub(crate) fn pairwise_keys(cluster: &Cluster) -> PairwiseKeys {
    let config = cluster.offline_config(NODE);
    PairwiseKeys::derive(&config.identity, &config.validators, config.cluster, NODE).expect("a validator's key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffled_order_has_everything_once() {
        let order = shuffled(64, 3);
        assert_ne!(order, shuffled(64, 4));
        assert_ne!(order, (0..64).collect::<Vec<_>>());
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..64).collect::<Vec<_>>());
    }
}
