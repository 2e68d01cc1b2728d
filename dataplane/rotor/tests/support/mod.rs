//! What the tests of this crate share: a leader, and its slices as shreds.

use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::shred;
use alpenglow_rotor::shredder::{Shredded, Shredder};
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{ClusterId, SliceIndex, Slot};
use ed25519_dalek::SigningKey;

pub(crate) const CLUSTER: ClusterId = ClusterId([3; 32]);

pub(crate) fn leader() -> SigningKey {
    SigningKey::from_bytes(&[11; 32])
}

pub(crate) fn slice_id(slot: u64, index: usize) -> SliceId {
    SliceId { slot: Slot(slot), index: SliceIndex::new(index).unwrap() }
}

/// A slice's shreds, each in its own buffer.
pub(crate) struct Shreds {
    pub(crate) shredded: Shredded,
    pub(crate) bytes: Vec<Vec<u8>>,
}

impl Shreds {
    pub(crate) fn new(parameters: CodingParameters, id: SliceId, is_last: bool, payload: &[u8]) -> Self {
        let mut shredder = Shredder::new(parameters, CLUSTER);
        let length = shred::wire_bytes(&parameters, shredder.shred_len(payload.len()));
        let offsets: Vec<_> = (0..parameters.total_shreds()).map(|index| index * length).collect();
        let mut out = vec![0xee; offsets.len() * length];
        let shredded = shredder.shred(id, is_last, 77, payload, &SliceSigner::new(&leader()), &mut out, &offsets);
        Self { shredded, bytes: out.chunks_exact(length).map(<[u8]>::to_vec).collect() }
    }
}
