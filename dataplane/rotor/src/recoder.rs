//! Slices outside of the stream from their leader, as repair moves them: what a node holds becomes shreds again, and
//! shreds that were checked against a root become the slice. The root takes the place of the leader's signature.

use crate::erasure::Kernel;
use crate::merkle;
use crate::parameters::CodingParameters;
use crate::shred;
use crate::shredder::{self, Shredder};
use crate::types::{ClusterId, Hash};

/// Encodes slices, to serve their shreds or to check what was received of them.
pub struct Recoder {
    parameters: CodingParameters,
    shredder: Shredder,
    offsets: Vec<usize>,
    shreds: Vec<u8>,
}

/// The shreds of a slice: data and Merkle paths.
pub struct EncodedSlice {
    shred_bytes: usize,
    data: Vec<u8>,
    nodes: Box<[[u8; 32]]>,
}

/// Shreds under a root that are no slice: the block is dead for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shreds under the root are no slice")]
pub struct NoSlice;

impl Recoder {
    /// For one cluster, with the best erasure kernel this processor can run.
    #[must_use]
    pub fn new(parameters: CodingParameters, cluster: ClusterId) -> Self {
        Self::with_kernel(parameters, cluster, Kernel::best())
    }

    /// With a given erasure kernel.
    ///
    /// # Panics
    /// If this processor cannot run it.
    #[must_use]
    pub fn with_kernel(parameters: CodingParameters, cluster: ClusterId, kernel: Kernel) -> Self {
        let bytes_max = shred::wire_bytes(&parameters, 0) + parameters.total_shreds() * parameters.shred_bytes();
        Self {
            parameters,
            shredder: Shredder::with_kernel(parameters, cluster, kernel),
            offsets: vec![0; parameters.total_shreds()],
            shreds: vec![0; bytes_max],
        }
    }

    /// Longest payload of a slice.
    #[must_use]
    pub const fn slice_payload_bytes(&self) -> usize {
        self.parameters.slice_payload_bytes()
    }

    /// The root of a slice's shreds.
    ///
    /// # Panics
    /// If the payload is longer than [`CodingParameters::slice_payload_bytes`].
    pub fn root(&mut self, leader_stamp_ns: u64, payload: &[u8]) -> Hash {
        let shred_bytes = self.shredder.shred_len(payload.len());
        for (index, offset) in self.offsets.iter_mut().enumerate() {
            *offset = index * shred_bytes;
        }
        self.shredder.root(leader_stamp_ns, payload, &mut self.shreds, &self.offsets)
    }

    /// All shreds of a slice.
    ///
    /// # Panics
    /// As [`Self::root`].
    pub fn encode(&mut self, leader_stamp_ns: u64, payload: &[u8]) -> EncodedSlice {
        self.root(leader_stamp_ns, payload);
        let shred_bytes = self.shredder.shred_len(payload.len());
        let start = shred::wire_bytes(&self.parameters, 0);
        let data = self.shreds[start..][..self.parameters.total_shreds() * shred_bytes].to_vec();
        EncodedSlice { shred_bytes, data, nodes: self.shredder.nodes().into() }
    }

    /// The leader's stamp and the payload of the slice whose data shreds, all gamma of them and in order, were each
    /// proven to lie under `root`.
    ///
    /// # Errors
    /// [`NoSlice`] if they, or the shreds that were not looked at, are not what encoding that payload yields.
    ///
    /// # Panics
    /// If there are not gamma of them.
    pub fn decode(&mut self, root: Hash, data: &[&[u8]]) -> Result<(u64, Vec<u8>), NoSlice> {
        assert_eq!(data.len(), self.parameters.data_shreds(), "a slice is decoded from its data shreds");
        let coded = data.concat();
        let (leader_stamp_ns, payload) = shredder::unframe(&coded).map_err(|_| NoSlice)?;
        let payload = coded[payload].to_vec();
        let fits = payload.len() <= self.parameters.slice_payload_bytes();
        if fits && self.root(leader_stamp_ns, &payload) == root { Ok((leader_stamp_ns, payload)) } else { Err(NoSlice) }
    }
}

impl EncodedSlice {
    /// Root of the tree over the shreds.
    #[must_use]
    pub const fn root(&self) -> Hash {
        Hash(self.nodes[1])
    }

    /// Bytes of data in each shred.
    #[must_use]
    pub const fn shred_bytes(&self) -> usize {
        self.shred_bytes
    }

    /// The data of shred `index`.
    ///
    /// # Panics
    /// If there is no such shred.
    #[must_use]
    pub fn data(&self, index: usize) -> &[u8] {
        &self.data[index * self.shred_bytes..][..self.shred_bytes]
    }

    /// The path of shred `index`, leaf upwards.
    pub fn path(&self, index: usize) -> impl Iterator<Item = &[u8; 32]> {
        merkle::path(&self.nodes, index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([3; 32]);

    fn recoder() -> Recoder {
        Recoder::new(CodingParameters::default(), CLUSTER)
    }

    fn data_shreds(encoded: &EncodedSlice) -> Vec<&[u8]> {
        (0..32).map(|index| encoded.data(index)).collect()
    }

    #[test]
    fn every_shred_is_proven_and_the_data_shreds_are_the_slice() {
        let mut recoder = recoder();
        for length in [0, 1, 52, 53, 5_000, CodingParameters::default().slice_payload_bytes()] {
            let payload: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let encoded = recoder.encode(77, &payload);
            assert_eq!(encoded.root(), recoder.root(77, &payload));
            for index in 0..64 {
                let path: Vec<[u8; 32]> = encoded.path(index).copied().collect();
                assert_eq!(path.len(), 6);
                assert_eq!(merkle::root_from_path(merkle::leaf(encoded.data(index)), index, &path), encoded.root());
            }
            assert_eq!(recoder.decode(encoded.root(), &data_shreds(&encoded)), Ok((77, payload)));
        }
    }

    #[test]
    fn shreds_that_no_payload_encodes_to_are_no_slice() {
        let mut recoder = recoder();
        let encoded = recoder.encode(77, &[7; 1_000]);
        let root = encoded.root();
        assert_eq!(recoder.decode(Hash([1; 32]), &data_shreds(&encoded)), Err(NoSlice));
        let spoilt = |index: usize, at: usize, byte: u8| {
            let mut data: Vec<Vec<u8>> = data_shreds(&encoded).into_iter().map(<[u8]>::to_vec).collect();
            data[index][at] = byte;
            data
        };
        let length_beyond_the_shreds = spoilt(0, 3, 0xff);
        let padding_not_zero = spoilt(31, 31, 1);
        for data in [length_beyond_the_shreds, padding_not_zero] {
            let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            assert_eq!(recoder.decode(root, &data), Err(NoSlice));
        }
        let longer: Vec<Vec<u8>> = (0..32).map(|_| vec![0; 2_000]).collect();
        let longer: Vec<&[u8]> = longer.iter().map(Vec::as_slice).collect();
        assert_eq!(recoder.decode(root, &longer), Err(NoSlice));
        let empty: Vec<&[u8]> = vec![&[]; 32];
        assert_eq!(recoder.decode(root, &empty), Err(NoSlice));
    }
}
