//! One slice on its way from shreds to payload.

use std::ops::Range;

use super::known_nodes::{KnownNodes, NodeSet};
use super::outcome::{Defect, Inserted, Reject};
use super::senders::SenderSet;
use crate::erasure::{ErasureCode, Piece, PieceSet};
use crate::merkle;
use crate::parameters::{CodingParameters, DATA_SHREDS_MAX};
use crate::shred::{self, ShredView};
use crate::shredder::unframe;
use crate::signature::SignedRoot;
use crate::slice::{Arc, SliceId, SliceMemory, SliceSignature};
use crate::types::{Hash, SLICES_MAX, ShredIndex, SliceIndex, Slot, Time};

/// Where a slice stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Shreds are missing, or [`Entry::rebuild`] is due.
    Collecting,
    /// Known to be malformed, not reported yet.
    Suspect(Defect),
    /// Handed over; all its shreds are known.
    Decoded,
    /// Reported as malformed.
    Malformed,
}

/// The memory of one slice and what is known of it. Used for one slice after the other.
pub(super) struct Entry {
    /// Counts the slices this entry has been used for.
    pub(super) generation: u32,
    pub(super) is_held: bool,
    /// What the leader signed: the first version seen.
    pub(super) signed: SignedRoot,
    /// Another version that the leader signed.
    pub(super) second: Option<SignedRoot>,
    /// Senders of shreds with another signature that was checked.
    pub(super) checked: SenderSet,
    pub(super) state: State,
    pub(super) first_received: Option<Time>,
    /// Shreds claimed for relay.
    pub(super) relayed: PieceSet,
    /// Shreds whose bytes are in their place and whose leaves are known.
    received: PieceSet,
    /// How many these are: counting them takes longer than all else that keeping a shred's place takes.
    received_count: usize,
    /// Data bytes of each shred.
    piece_bytes: usize,
    known: NodeSet,
    /// Data pieces, one after the other. Shared with whom the slice was handed to.
    pub(super) memory: Arc<SliceMemory>,
    /// The heap of the tree's nodes, then the parity pieces, one after the other.
    rest: Vec<u8>,
    node_bytes: usize,
    rest_bytes: usize,
    data_bytes: usize,
}

impl Entry {
    /// Bytes of an entry's memory on the heap.
    pub(super) const fn heap_bytes(parameters: &CodingParameters) -> usize {
        Self::node_bytes(parameters) + parameters.total_shreds() * parameters.shred_bytes()
    }

    const fn node_bytes(parameters: &CodingParameters) -> usize {
        (2 << parameters.path_nodes()) * 32
    }

    pub(super) fn new(parameters: &CodingParameters) -> Self {
        let data_bytes = parameters.data_shreds() * parameters.shred_bytes();
        let rest_bytes = Self::heap_bytes(parameters) - data_bytes;
        let nothing = SignedRoot {
            id: SliceId { slot: Slot::GENESIS, index: SliceIndex::default() },
            is_last: false,
            root: Hash::default(),
            signature: SliceSignature([0; 64]),
        };
        Self {
            generation: 0,
            is_held: false,
            signed: nothing,
            second: None,
            checked: SenderSet::EMPTY,
            state: State::Collecting,
            first_received: None,
            relayed: PieceSet::default(),
            received: PieceSet::default(),
            received_count: 0,
            piece_bytes: 0,
            known: NodeSet::default(),
            memory: SliceMemory::reserved(data_bytes),
            rest: Vec::with_capacity(rest_bytes),
            node_bytes: Self::node_bytes(parameters),
            rest_bytes,
            data_bytes,
        }
    }

    /// Takes up the slice that `signed`, verified, is the root of, for shreds with `piece_bytes` of data.
    pub(super) fn begin(&mut self, signed: SignedRoot, piece_bytes: usize) {
        self.is_held = true;
        self.signed = signed;
        self.second = None;
        self.checked = SenderSet::EMPTY;
        self.state = State::Collecting;
        self.first_received = None;
        self.relayed = PieceSet::default();
        self.received = PieceSet::default();
        self.received_count = 0;
        self.piece_bytes = piece_bytes;
        self.lay_out();
        self.tree().begin(signed.root);
    }

    /// Touches the memory, if this is the first slice in it.
    fn lay_out(&mut self) {
        let data_bytes = self.data_bytes;
        self.memory_mut().lay_out(data_bytes);
        assert!(self.rest_bytes <= self.rest.capacity(), "an entry's memory never grows");
        self.rest.resize(self.rest_bytes, 0);
    }

    fn memory_mut(&mut self) -> &mut SliceMemory {
        Arc::get_mut(&mut self.memory).expect("a slice's memory is shared only from decoding on")
    }

    /// Lets the slice go.
    pub(super) const fn end(&mut self) {
        self.is_held = false;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Whether nobody else holds the slice's payload.
    pub(super) fn is_memory_free(&mut self) -> bool {
        Arc::get_mut(&mut self.memory).is_some()
    }

    fn tree(&mut self) -> KnownNodes<'_> {
        KnownNodes { nodes: self.rest[..self.node_bytes].as_chunks_mut().0, known: &mut self.known }
    }

    /// Checks a shred whose signature is that of the slice against the slice's root: by its bytes if they are known,
    /// else by its path.
    pub(super) fn verify(
        &mut self,
        shred: &ShredView<'_>,
        leaf: Option<Hash>,
        parameters: &CodingParameters,
    ) -> Result<(), Reject> {
        let index = shred.index().get();
        if !self.received.contains(index) {
            let leaf = leaf.unwrap_or_else(|| merkle::leaf(shred.data()));
            let is_under_root = self.tree().verify(index, leaf, shred.path());
            return if is_under_root { Ok(()) } else { Err(Reject::WrongPath) };
        }
        let is_equal = shred.data() == self.piece(index, parameters) && self.tree().path_equal(index, shred.path());
        if is_equal { Ok(()) } else { Err(Reject::WrongBytes) }
    }

    /// Whether [`Self::verify`] needs the hash of a shred's leaf.
    pub(super) fn will_hash(&self, shred: &ShredView<'_>) -> bool {
        let is_signed_so = shred.signature() == self.signed.signature && shred.is_last() == self.signed.is_last;
        is_signed_so && !self.received.contains(shred.index().get())
    }

    /// The bytes of a piece whose place has been written.
    fn piece(&self, index: usize, parameters: &CodingParameters) -> &[u8] {
        piece(self.memory.bytes(), &self.rest[self.node_bytes..], self.piece_bytes, parameters.data_shreds(), index)
    }

    /// Writes the first `count` shreds whose bytes are in their place, or as many as there are, one after the other
    /// into `out`: each as it travels, behind its length. How many bytes that took.
    pub(super) fn write_shreds(&self, count: usize, out: &mut [u8], parameters: &CodingParameters) -> usize {
        let nodes = self.rest[..self.node_bytes].as_chunks().0;
        let mut at = 0;
        for index in self.received.iter().take(count) {
            let length = shred::wire_bytes(parameters, self.piece_bytes);
            let (prefix, shred) = out[at..].split_at_mut(2);
            prefix.copy_from_slice(&(length as u16).to_le_bytes());
            shred::write_head(&self.signed, ShredIndex(index as u16), merkle::path(nodes, index), shred);
            shred[length - self.piece_bytes..length].copy_from_slice(self.piece(index, parameters));
            at += 2 + length;
        }
        at
    }

    /// Puts a verified shred in its place.
    pub(super) fn insert(&mut self, shred: &ShredView<'_>, parameters: &CodingParameters) -> Inserted {
        match self.state {
            State::Decoded => return Inserted::Duplicate,
            State::Suspect(_) | State::Malformed => return Inserted::Malformed,
            State::Collecting => {}
        }
        let index = shred.index().get();
        if self.received.contains(index) {
            return Inserted::Duplicate;
        }
        if shred.data().len() != self.piece_bytes {
            self.state = State::Suspect(Defect::Lengths);
            return Inserted::Complete;
        }
        self.place_mut(index, parameters).copy_from_slice(shred.data());
        self.received.insert(index);
        self.received_count += 1;
        if self.received_count == parameters.data_shreds() { Inserted::Complete } else { Inserted::Stored }
    }

    fn place_mut(&mut self, index: usize, parameters: &CodingParameters) -> &mut [u8] {
        let piece_bytes = self.piece_bytes;
        match index.checked_sub(parameters.data_shreds()) {
            None => &mut self.memory_mut().bytes_mut()[index * piece_bytes..][..piece_bytes],
            Some(row) => &mut self.rest[self.node_bytes + row * piece_bytes..][..piece_bytes],
        }
    }

    /// Whether [`Self::rebuild`] can be asked.
    pub(super) fn is_complete(&self, parameters: &CodingParameters) -> bool {
        self.state == State::Collecting && self.received_count >= parameters.data_shreds()
    }

    /// Computes the shreds that are missing, and with them the root: only if it is the signed one, whoever decodes from
    /// whichever shreds gets this slice. Gives the leader's stamp and where in the memory the payload is.
    pub(super) fn rebuild(
        &mut self,
        parameters: &CodingParameters,
        code: &mut ErasureCode,
    ) -> Result<(u64, Range<usize>), Defect> {
        if self.signed.id.index.get() == SLICES_MAX - 1 && !self.signed.is_last {
            return Err(Defect::Endless);
        }
        self.compute_missing(parameters, code)?;
        let (memory, (nodes, parity)) = (self.memory.bytes(), self.rest.split_at_mut(self.node_bytes));
        let mut tree = KnownNodes { nodes: nodes.as_chunks_mut().0, known: &mut self.known };
        let piece = |index| piece(memory, parity, self.piece_bytes, parameters.data_shreds(), index);
        if !tree.complete(parameters.total_shreds(), &self.received, piece) {
            return Err(Defect::Code);
        }
        self.received = PieceSet::below(parameters.total_shreds());
        self.received_count = parameters.total_shreds();
        let (leader_stamp_ns, payload) = unframe(&memory[..parameters.data_shreds() * self.piece_bytes])?;
        if shred::data_bytes(parameters, payload.len()) != self.piece_bytes {
            return Err(Defect::Overlong);
        }
        Ok((leader_stamp_ns, payload))
    }

    /// Computes every piece but gamma of those received: missing ones go to their places, others must be what was
    /// received.
    fn compute_missing(&mut self, parameters: &CodingParameters, code: &mut ErasureCode) -> Result<(), Defect> {
        let mut known = [Piece::default(); DATA_SHREDS_MAX];
        let known = &mut known[..parameters.data_shreds()];
        let mut wanted = PieceSet::below(parameters.total_shreds());
        for (piece, index) in known.iter_mut().zip(self.received.iter()) {
            *piece = Piece { index: index as u16, bytes: self.piece(index, parameters) };
            wanted.remove(index);
        }
        for (index, bytes) in code.compute(known, &wanted).iter() {
            if !self.received.contains(index) {
                self.place_mut(index, parameters).copy_from_slice(bytes);
            } else if self.piece(index, parameters) != bytes {
                return Err(Defect::Code);
            }
        }
        Ok(())
    }
}

fn piece<'a>(data: &'a [u8], parity: &'a [u8], piece_bytes: usize, data_pieces: usize, index: usize) -> &'a [u8] {
    match index.checked_sub(data_pieces) {
        None => &data[index * piece_bytes..][..piece_bytes],
        Some(row) => &parity[row * piece_bytes..][..piece_bytes],
    }
}
