//! Leaders that lie: what their slices say, how many shreds of them leave, and when.

use std::sync::Arc;

use alpenglow_control::block::{ParentStatement, SliceBuilder, SliceContent};
use alpenglow_control::production::OutgoingSlice;
use alpenglow_rotor::types::{BlockId, Hash, Slot};

use super::super::fault::Fault;
use super::super::network::MS;
use super::super::world::World;

impl World {
    /// The payload of a slice: the node's own, unless it lies about the parent.
    pub(in super::super) fn payload_of(&mut self, node: usize, slice: &OutgoingSlice) -> Vec<u8> {
        let parent = match SliceContent::parse(slice.id.index, &slice.payload) {
            Ok(content) => content.parent,
            Err(_) => return slice.payload.to_vec(),
        };
        let slot = slice.id.slot;
        let ParentStatement::Parent(parent) = parent else { return slice.payload.to_vec() };
        let other = if slot.is_window_first() && self.faults.contains(&Fault::UnreadyParent { node }) {
            let lower = self.oracle.blocks().rev().find(|block| block.slot < parent.slot);
            let other = lower.unwrap_or(BlockId::GENESIS);
            (other != parent).then_some(other)
        } else if !slot.is_window_first() && self.faults.contains(&Fault::WrongParent { node }) {
            let grandparent = parent.slot.previous().unwrap_or_default();
            let is_odd = !slot.0.is_multiple_of(2);
            // The one is allowed by its slot, the other by nothing.
            let slot = if is_odd { parent.slot } else { grandparent };
            Some(BlockId { slot, hash: Hash([node as u8; 32]) })
        } else {
            None
        };
        let Some(other) = other else { return slice.payload.to_vec() };
        self.oracle.happened.count("wrong_parents_stated");
        self.with_statement(slice, ParentStatement::Parent(other), &[])
    }

    /// The shreds of a second version of a slice, with one transaction more and on the same parent.
    pub(in super::super) fn second_version(&mut self, from: usize, slice: &OutgoingSlice) -> Option<Vec<Arc<[u8]>>> {
        let equivocates = |fault: &Fault| matches!(*fault, Fault::Equivocate { node, .. } if node == from);
        if !self.faults.iter().any(equivocates) {
            return None;
        }
        let parent = SliceContent::parse(slice.id.index, &slice.payload).expect("a node packs its slices well").parent;
        let payload = self.with_statement(slice, parent, b"another version");
        let (shredded, shreds) = self.shreds(from, slice, &payload);
        self.second_versions.insert(slice.id, shredded.signature);
        self.oracle.happened.count("slices_equivocated");
        Some(shreds)
    }

    /// Whether an equivocating leader gives this node the second version of what it relays.
    pub(in super::super) fn gets_second(&self, leader: usize, to: usize) -> bool {
        let is_second = |fault: &Fault| matches!(*fault, Fault::Equivocate { node, first_to } if node == leader && !first_to.contains(to));
        self.faults.iter().any(is_second)
    }

    fn with_statement(&self, slice: &OutgoingSlice, parent: ParentStatement, first: &[u8]) -> Vec<u8> {
        let content = SliceContent::parse(slice.id.index, &slice.payload).expect("a node packs its slices well");
        let mut builder = SliceBuilder::new(parent, self.cluster.coding.slice_payload_bytes());
        let first = Some(first).filter(|first| !first.is_empty());
        for transaction in first.into_iter().chain(content.transactions()) {
            if !builder.push(transaction) {
                break;
            }
        }
        builder.finish()
    }

    /// How much later than ordered a leader's shreds leave.
    pub(in super::super) fn lateness_ns(&mut self, from: usize) -> u64 {
        let late = self.faults.iter().find_map(|fault| match *fault {
            Fault::Late { node, by_ms } if node == from => Some(by_ms * MS),
            _ => None,
        });
        self.oracle.happened.add("slices_late", u64::from(late.is_some()));
        late.unwrap_or_default()
    }

    /// How many of a slice's shreds leave.
    pub(in super::super) fn shreds_sent(&mut self, from: usize, all: usize) -> usize {
        if self.faults.contains(&Fault::Withhold { node: from }) {
            self.oracle.happened.count("slices_withheld");
            return self.cluster.coding.data_shreds() - 1;
        }
        all
    }

    /// The highest block of a slot that a correct node held once.
    pub(super) fn block_of(&self, slot: Slot) -> Option<BlockId> {
        self.oracle.blocks().rev().find(|block| block.slot == slot)
    }
}
