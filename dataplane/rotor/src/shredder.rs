//! A slice becomes Gamma signed shreds, written straight into the datagrams they leave in.

use std::ops::Range;

use crate::assembler::Defect;
use crate::erasure::{ErasureCode, Kernel, Piece, PieceSet};
use crate::merkle;
use crate::parameters::{CodingParameters, DATA_SHREDS_MAX};
use crate::shred;
use crate::signature::SignedRoot;
use crate::signer::SliceSigner;
use crate::slice::{FRAME_BYTES, SliceId, SliceSignature};
use crate::types::{ClusterId, Hash, ShredIndex};

/// What a slice was signed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shredded {
    /// Root of the tree over its shreds.
    pub root: Hash,
    /// The leader's signature, the same in every shred.
    pub signature: SliceSignature,
}

/// Cuts slices into shreds. Holds all the memory it works in.
pub struct Shredder {
    parameters: CodingParameters,
    cluster: ClusterId,
    code: ErasureCode,
    nodes: Box<[[u8; 32]]>,
}

impl Shredder {
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
        let nodes = vec![[0; 32]; 2 << parameters.path_nodes()].into_boxed_slice();
        Self { parameters, cluster, code: ErasureCode::with_kernel(&parameters, kernel), nodes }
    }

    /// Bytes of data in each shred of a slice with `payload_bytes` of payload; even.
    #[must_use]
    pub const fn shred_len(&self, payload_bytes: usize) -> usize {
        shred::data_bytes(&self.parameters, payload_bytes)
    }

    /// Writes the Gamma shreds of a slice. Shred i goes, whole and from its header on, to `out[offsets[i]..]`; it is
    /// [`shred::wire_bytes`] long for [`Self::shred_len`] bytes of data. Nothing else in `out` is touched, and nothing
    /// is allocated.
    ///
    /// # Panics
    /// If the payload is longer than [`CodingParameters::slice_payload_bytes`], if there are not Gamma offsets, or if a
    /// shred does not fit `out` at its offset. Offsets so close that shreds overlap spoil them.
    #[expect(clippy::too_many_arguments, reason = "what the leader signs, and where it goes")]
    pub fn shred(
        &mut self,
        id: SliceId,
        is_last: bool,
        leader_stamp_ns: u64,
        payload: &[u8],
        signer: &SliceSigner,
        out: &mut [u8],
        offsets: &[usize],
    ) -> Shredded {
        let root = self.root(leader_stamp_ns, payload, out, offsets);
        let signed = SignedRoot::sign(signer, self.cluster, id, is_last, root);
        self.write_heads(&signed, out, offsets);
        Shredded { root, signature: signed.signature }
    }

    /// The root that a slice's shreds have, for checking a block that is held: writes the shreds' data to `out` as
    /// [`Self::shred`] does, but no headers, signatures or paths.
    ///
    /// # Panics
    /// As [`Self::shred`].
    pub fn root(&mut self, leader_stamp_ns: u64, payload: &[u8], out: &mut [u8], offsets: &[usize]) -> Hash {
        assert!(payload.len() <= self.parameters.slice_payload_bytes(), "a payload of {} bytes", payload.len());
        assert_eq!(offsets.len(), self.parameters.total_shreds());
        let place = DataPlace { offset: shred::wire_bytes(&self.parameters, 0), bytes: self.shred_len(payload.len()) };
        self.write_data(leader_stamp_ns, payload, out, offsets, place);
        self.write_parity(out, offsets, place);
        self.hash(out, offsets, place)
    }

    /// The tree over the shreds of the slice that was last encoded.
    pub(crate) const fn nodes(&self) -> &[[u8; 32]] {
        &self.nodes
    }

    /// Frame, payload and zeroes, spread over the data shreds.
    fn write_data(&self, leader_stamp_ns: u64, payload: &[u8], out: &mut [u8], offsets: &[usize], place: DataPlace) {
        let frame = frame(payload.len(), leader_stamp_ns);
        for (index, offset) in offsets[..self.parameters.data_shreds()].iter().enumerate() {
            let data = place.of_mut(out, *offset);
            let start = index * data.len();
            let in_frame = &frame[start.min(FRAME_BYTES)..(start + data.len()).min(FRAME_BYTES)];
            let payload_at = |coded: usize| coded.saturating_sub(FRAME_BYTES).min(payload.len());
            let in_payload = &payload[payload_at(start)..payload_at(start + data.len())];
            let (head, rest) = data.split_at_mut(in_frame.len());
            let (body, zeroes) = rest.split_at_mut(in_payload.len());
            head.copy_from_slice(in_frame);
            body.copy_from_slice(in_payload);
            zeroes.fill(0);
        }
    }

    fn write_parity(&mut self, out: &mut [u8], offsets: &[usize], place: DataPlace) {
        let (data_shreds, total_shreds) = (self.parameters.data_shreds(), self.parameters.total_shreds());
        let mut known = [Piece::default(); DATA_SHREDS_MAX];
        for (index, (piece, offset)) in known.iter_mut().zip(&offsets[..data_shreds]).enumerate() {
            *piece = Piece { index: index as u16, bytes: place.of(out, *offset) };
        }
        let mut wanted = PieceSet::below(total_shreds);
        (0..data_shreds).for_each(|index| wanted.remove(index));
        for (index, bytes) in self.code.compute(&known[..data_shreds], &wanted).iter() {
            place.of_mut(out, offsets[index]).copy_from_slice(bytes);
        }
    }

    fn hash(&mut self, out: &[u8], offsets: &[usize], place: DataPlace) -> Hash {
        let width = self.nodes.len() / 2;
        merkle::leaves(offsets.iter().map(|offset| place.of(out, *offset)), &mut self.nodes[width..][..offsets.len()]);
        merkle::build(&mut self.nodes, offsets.len())
    }

    /// Everything before the data: headers, signature and paths.
    fn write_heads(&self, signed: &SignedRoot, out: &mut [u8], offsets: &[usize]) {
        for (index, offset) in offsets.iter().enumerate() {
            let path = merkle::path(&self.nodes, index);
            shred::write_head(signed, ShredIndex(index as u16), path, &mut out[*offset..]);
        }
    }
}

/// What precedes the payload in a slice's coded data.
pub(crate) fn frame(payload_bytes: usize, leader_stamp_ns: u64) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    let length = u32::try_from(payload_bytes).expect("a payload is below 4 GiB");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..].copy_from_slice(&leader_stamp_ns.to_le_bytes());
    frame
}

/// The leader's stamp, and where the payload is in a slice's coded data.
pub(crate) fn unframe(coded: &[u8]) -> Result<(u64, Range<usize>), Defect> {
    let (frame, rest) = coded.split_first_chunk::<FRAME_BYTES>().ok_or(Defect::Frame)?;
    let [l0, l1, l2, l3, stamp @ ..] = *frame;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| Defect::Frame)?;
    let padding = rest.get(length..).ok_or(Defect::Frame)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Defect::Padding);
    }
    Ok((u64::from_le_bytes(stamp), FRAME_BYTES..FRAME_BYTES + length))
}

/// Where in a shred its data is.
#[derive(Clone, Copy)]
struct DataPlace {
    offset: usize,
    bytes: usize,
}

impl DataPlace {
    fn of(self, out: &[u8], shred_offset: usize) -> &[u8] {
        &out[shred_offset + self.offset..][..self.bytes]
    }

    fn of_mut(self, out: &mut [u8], shred_offset: usize) -> &mut [u8] {
        &mut out[shred_offset + self.offset..][..self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use reed_solomon_erasure::galois_8::ReedSolomon;

    use super::*;
    use crate::parameters::Code;
    use crate::shred::ShredView;
    use crate::types::{SliceIndex, Slot};

    const CLUSTER: ClusterId = ClusterId([2; 32]);

    fn id() -> SliceId {
        SliceId { slot: Slot(6), index: SliceIndex::new(1).unwrap() }
    }

    /// Shreds far apart and in descending order, between guard bytes.
    fn shred(parameters: CodingParameters, payload: &[u8], kernel: Kernel) -> (Shredded, Vec<Vec<u8>>) {
        let mut shredder = Shredder::with_kernel(parameters, CLUSTER, kernel);
        let length = shred::wire_bytes(&parameters, shredder.shred_len(payload.len()));
        let stride = length + 48;
        let total = parameters.total_shreds();
        let offsets: Vec<_> = (0..total).map(|index| (total - 1 - index) * stride + 48).collect();
        let mut out = vec![0x5a; total * stride];
        let key = SliceSigner::new(&SigningKey::from_bytes(&[1; 32]));
        let shredded = shredder.shred(id(), true, 0x1122, payload, &key, &mut out, &offsets);
        assert!(out.chunks_exact(stride).all(|chunk| chunk[..48] == [0x5a; 48]), "wrote between the shreds");
        let shreds = offsets.iter().map(|offset| out[*offset..offset + length].to_vec()).collect();
        (shredded, shreds)
    }

    /// Coded data and parity by other means: concatenation and the oracle.
    fn expected_pieces(parameters: CodingParameters, payload: &[u8], piece_bytes: usize) -> Vec<Vec<u8>> {
        let (data, total) = (parameters.data_shreds(), parameters.total_shreds());
        let mut coded = (payload.len() as u32).to_le_bytes().to_vec();
        coded.extend(0x1122_u64.to_le_bytes());
        coded.extend(payload);
        assert!(coded.len() <= data * piece_bytes);
        coded.resize(data * piece_bytes, 0);
        coded.resize(total * piece_bytes, 0xff);
        let mut pieces: Vec<_> = coded.chunks_exact(piece_bytes).map(<[u8]>::to_vec).collect();
        ReedSolomon::new(data, total - data).unwrap().encode(&mut pieces).unwrap();
        pieces
    }

    #[test]
    fn shreds_are_the_coded_payload_under_a_signed_root() {
        for (data, total) in [(32, 64), (1, 2), (3, 7), (200, 255)] {
            let parameters = CodingParameters::new(Code::Rs8, data, total, 128, 1_232).unwrap();
            let most = parameters.slice_payload_bytes();
            for length in [0, 1, 11, 12, 13, 100, most - 1, most].into_iter().filter(|length| *length <= most) {
                let payload: Vec<u8> = (0..length).map(|byte| byte as u8 | 1).collect();
                for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
                    let (shredded, shreds) = shred(parameters, &payload, kernel);
                    check(parameters, &payload, shredded, &shreds);
                }
            }
        }
    }

    fn check(parameters: CodingParameters, payload: &[u8], shredded: Shredded, shreds: &[Vec<u8>]) {
        let leader = SigningKey::from_bytes(&[1; 32]).verifying_key();
        let pieces = expected_pieces(parameters, payload, shred::data_bytes(&parameters, payload.len()));
        for (index, (bytes, piece)) in shreds.iter().zip(&pieces).enumerate() {
            let shred = ShredView::parse(bytes, &parameters).unwrap();
            assert_eq!((shred.slice(), shred.is_last(), shred.index().get()), (id(), true, index));
            assert_eq!(shred.data(), piece);
            assert_eq!((shred.claimed_root(), shred.signature()), (shredded.root, shredded.signature));
        }
        let signed = SignedRoot { id: id(), is_last: true, root: shredded.root, signature: shredded.signature };
        assert!(signed.verify(&leader, CLUSTER));
    }

    #[test]
    fn a_full_slice_fills_its_datagrams_exactly() {
        let parameters = CodingParameters::default();
        let length = Shredder::new(parameters, CLUSTER).shred_len(parameters.slice_payload_bytes());
        assert_eq!(length, parameters.shred_bytes());
        assert!(32 + shred::wire_bytes(&parameters, length) <= parameters.datagram_bytes());
    }

    /// Lesson: a transaction too large made the producer's size arithmetic underflow.
    #[test]
    #[should_panic(expected = "a payload of 28661 bytes")]
    fn a_payload_one_byte_too_long_is_named() {
        let parameters = CodingParameters::default();
        shred(parameters, &vec![0; parameters.slice_payload_bytes() + 1], Kernel::Portable);
    }
}
