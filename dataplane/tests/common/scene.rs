//! A validator under attack without its socket, and what the others may send it.
//!
//! An insider is a validator that seals what it likes; a stranger can only change what others have sealed.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use alpenglow_dataplane::auth::PairwiseKeys;
use alpenglow_dataplane::datagram::Kind;
use alpenglow_dataplane::offline::OfflineReceiver;
use alpenglow_dataplane::{Counter, DataplaneConfig, EngineKind, FromShard, Horizon};
use alpenglow_rotor::assembler::Assembler;
use alpenglow_rotor::shred::SHRED_SIGNED_BYTES;
use alpenglow_rotor::slice::{Slice, SliceId};
use alpenglow_rotor::types::{Slot, ValidatorIndex};

use super::{CLUSTER, SHREDS_THROUGH, configs, identity, sealed, shreds, slice_id};

pub(crate) const NODES: usize = 5;
/// Who receives.
pub(crate) const VICTIM: ValidatorIndex = ValidatorIndex(1);
/// The leader of slots 8 to 11.
pub(crate) const LEADER: usize = 2;
pub(crate) const CLOSED_THROUGH: Slot = Slot(7);
pub(crate) const PAYLOAD_BYTES: usize = 3_000;
pub(crate) const PATH: Range<usize> = SHRED_SIGNED_BYTES..SHRED_SIGNED_BYTES + 6 * 32;

/// Validators' keys, and the shreds of two slices of one leader as they were signed.
pub(crate) struct Scene {
    pub(crate) config: DataplaneConfig,
    pub(crate) keys: Vec<PairwiseKeys>,
    pub(crate) shreds: Vec<Vec<u8>>,
    pub(crate) next_shreds: Vec<Vec<u8>>,
}

pub(crate) static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let config = DataplaneConfig {
        slice_memory_bytes: 1 << 20,
        ..configs(EngineKind::IoUring, NODES, 1).swap_remove(usize::from(VICTIM.0))
    };
    let keys = |index| {
        let own = ValidatorIndex(index as u16);
        PairwiseKeys::derive(&identity(index), &config.validators, CLUSTER, own).unwrap()
    };
    Scene {
        keys: (0..NODES).map(keys).collect(),
        shreds: shreds(config.coding, slice(), true, PAYLOAD_BYTES, LEADER),
        next_shreds: shreds(config.coding, next_slice(), true, PAYLOAD_BYTES, LEADER),
        config,
    }
});

pub(crate) fn slice() -> SliceId {
    slice_id(8, 0)
}

pub(crate) fn next_slice() -> SliceId {
    slice_id(9, 0)
}

impl Scene {
    pub(crate) fn seal(&self, sender: usize, lane: u8, body: &[u8]) -> Vec<u8> {
        sealed(&self.keys[sender], CLUSTER, VICTIM, Kind::Shred, lane, body)
    }

    /// From whom the victim takes a shred: its relay, or the leader if the victim is that.
    pub(crate) fn sender_of(&self, id: SliceId, index: usize) -> usize {
        let mut relays = vec![ValidatorIndex(0); self.config.coding.total_shreds()];
        self.config.sampler.sample(id, &mut relays);
        let relay = relays[index % relays.len()];
        if relay == VICTIM { self.config.schedule.leader(id.slot).get() } else { relay.get() }
    }

    /// A shred of any slice, as its sender seals it.
    pub(crate) fn sent(&self, id: SliceId, index: usize, body: &[u8]) -> Vec<u8> {
        self.seal(self.sender_of(id, index), id.lane(), body)
    }

    pub(crate) fn honest(&self, index: usize) -> Vec<u8> {
        self.sent(slice(), index, &self.shreds[index])
    }

    /// Shred 5, changed by an insider: whoever is its sender.
    pub(crate) fn by_insider(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut body = self.shreds[5].clone();
        change(&mut body);
        self.sent(slice(), 5, &body)
    }

    /// Shred 5, changed by an insider to be one of another place.
    pub(crate) fn moved_by_insider(&self, id: SliceId, index: usize) -> Vec<u8> {
        let mut body = self.shreds[5].clone();
        body[..8].copy_from_slice(&id.slot.0.to_le_bytes());
        body[8..10].copy_from_slice(&(id.index.get() as u16 | 1 << 15).to_le_bytes());
        body[10..12].copy_from_slice(&(index as u16).to_le_bytes());
        self.sent(id, index, &body)
    }

    /// Shred 5's datagram, changed by a stranger.
    pub(crate) fn by_stranger(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut datagram = self.honest(5);
        change(&mut datagram);
        datagram
    }

    /// By a stranger, one bit in each of these bytes of the datagram, one after the other.
    pub(crate) fn flipped_by_stranger(&self, bytes: Range<usize>) -> Vec<Vec<u8>> {
        bytes.map(|at| self.by_stranger(|datagram| datagram[at] ^= 1 << (at % 8))).collect()
    }

    /// By an insider, one bit in each of these bytes of the shred, one after the other.
    pub(crate) fn flipped_by_insider(&self, bytes: Range<usize>) -> Vec<Vec<u8>> {
        bytes.map(|at| self.by_insider(|shred| shred[at] ^= 1 << (at % 8))).collect()
    }

    /// The shreds of another slice.
    pub(crate) fn of_slice(&self, id: SliceId) -> Vec<Vec<u8>> {
        shreds(self.config.coding, id, false, 10, LEADER)
    }

    /// A shred of another version of the slice, of `bytes` of payload.
    pub(crate) fn other_version(&self, index: usize, is_last: bool, bytes: usize, signer: usize) -> Vec<u8> {
        self.sent(slice(), index, &shreds(self.config.coding, slice(), is_last, bytes, signer)[index])
    }

    /// The first shreds of more slices than fit the memory, nearest first.
    pub(crate) fn crowd(&self) -> Vec<Vec<u8>> {
        let capacity = Assembler::capacity_within(&self.config.coding, self.config.slice_memory_bytes);
        let first = |index| {
            let id = slice_id(8, index);
            self.sent(id, 0, &self.of_slice(id)[0])
        };
        (1..capacity).map(first).collect()
    }
}

/// The victim.
pub(crate) struct Receiver {
    pub(crate) receiver: OfflineReceiver,
    pub(crate) slices: Vec<Slice>,
    pub(crate) leaders_seen: Vec<Slot>,
    pub(crate) reports: Vec<FromShard>,
}

impl Receiver {
    pub(crate) fn new(scene: &Scene) -> Self {
        let horizon = Arc::new(Horizon::new(CLOSED_THROUGH, SHREDS_THROUGH));
        let receiver = OfflineReceiver::new(&scene.config, horizon).unwrap();
        Self { receiver, slices: vec![], leaders_seen: vec![], reports: vec![] }
    }

    pub(crate) fn receive(&mut self, datagram: &[u8]) {
        let Self { receiver, slices, leaders_seen, reports } = self;
        let mut sort = |event| match event {
            FromShard::Slice { slice, .. } => slices.push(slice),
            FromShard::LeaderSeen(slot) => leaders_seen.push(slot),
            report => reports.push(report),
        };
        receiver.receive(datagram, datagram.len().max(1), &mut sort);
        while let Some(event) = receiver.link().pop_slice() {
            sort(event);
        }
    }

    pub(crate) fn drops(&self) -> Vec<(Counter, u64)> {
        self.receiver.counters().iter().filter(|(counter, _)| counter.is_drop()).collect()
    }
}
