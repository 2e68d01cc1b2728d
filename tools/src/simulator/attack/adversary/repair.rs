//! Validators that lie in repair.

use std::sync::Arc;

use alpenglow_control::block::{Block, ParentStatement, SliceBuilder};
use alpenglow_control::repair::{
    AnswerContent, BlockSource, RepairAnswer, RepairMessage, RepairRequest, Responder, ServingLimits,
};
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::slice::{Slice, SliceId, SliceSignature};
use alpenglow_rotor::types::{BlockId, Hash, SliceIndex, Slot, ValidatorIndex};

use super::super::cluster::CLUSTER;
use super::super::fault::{Fault, RepairLie};
use super::super::world::{Datagram, World};

/// Answers for blocks that it does not hold, as if it held something under their names.
pub(in super::super) struct Forger {
    responder: Responder,
    source: Forgery,
}

/// One payload, for every block.
struct Forgery {
    payload: Vec<u8>,
    root: Hash,
}

impl BlockSource for Forgery {
    fn block(&self, id: BlockId) -> Option<Arc<Block>> {
        let slice = Slice {
            id: SliceId { slot: id.slot, index: SliceIndex::new(0)? },
            is_last: true,
            root: self.root,
            signature: SliceSignature([0; 64]),
            leader_stamp_ns: 0,
            payload: self.payload.clone().into(),
        };
        Some(Arc::new(Block {
            id,
            parent: BlockId::GENESIS,
            slices: vec![slice],
            first_counted: SliceIndex::new(0)?,
            transaction_ids: Vec::new(),
        }))
    }
}

impl Forger {
    pub(in super::super) fn new(coding: CodingParameters, validators: usize) -> Self {
        let parent = ParentStatement::Parent(BlockId { slot: Slot::GENESIS, hash: Hash([6; 32]) });
        let payload = SliceBuilder::new(parent, coding.slice_payload_bytes()).finish();
        let mut recoder = Recoder::new(coding, CLUSTER);
        let source = Forgery { root: recoder.root(0, &payload), payload };
        Self { responder: Responder::new(ServingLimits::default(), coding, recoder, validators), source }
    }
}

impl World {
    fn repair_lies(&self, of: usize) -> Vec<RepairLie> {
        let lies = self.faults.iter().filter_map(|fault| match *fault {
            Fault::LieInRepair { node, lie } if node == of => Some(lie),
            _ => None,
        });
        lies.collect()
    }

    /// Answers a request with another block, if the node does that.
    pub(in super::super) fn forges_answers(&mut self, node: usize, asker: usize, request: &RepairRequest) -> bool {
        if !self.repair_lies(node).contains(&RepairLie::OtherBlock) {
            return false;
        }
        let (now, sender) = (self.clock(node), ValidatorIndex(asker as u16));
        let Forger { responder, source } = &mut self.forger;
        let answers = responder.answer(now, request, sender, source).unwrap_or_default();
        for answer in answers {
            self.oracle.happened.count("repair_lies");
            let body = RepairMessage::Answer(answer).encode().into();
            self.send(node, asker, 0, Datagram::RepairAnswer(body));
        }
        true
    }

    pub(in super::super) fn send_repair(&mut self, from: usize, to: usize, message: RepairMessage) {
        match message {
            RepairMessage::Request(_) => {
                self.oracle.happened.count("repair_requests");
                self.send(from, to, 0, Datagram::RepairRequest(message.encode().into()));
            }
            RepairMessage::Answer(mut answer) => {
                let is_list = matches!(answer.content, AnswerContent::Ancestors { .. });
                self.oracle.happened.add("ancestors_named", u64::from(is_list));
                for lie in self.repair_lies(from) {
                    let is_told = lie == RepairLie::Silence || falsify(&mut answer, lie);
                    self.oracle.happened.add("repair_lies", u64::from(is_told));
                    if lie == RepairLie::Silence {
                        return;
                    }
                    self.oracle.happened.add("ancestors_falsified", u64::from(is_told && is_list));
                }
                let body = RepairMessage::Answer(answer).encode().into();
                self.send(from, to, 0, Datagram::RepairAnswer(body));
            }
        }
    }
}

/// Whether there is anything in it to lie about.
fn falsify(answer: &mut RepairAnswer, lie: RepairLie) -> bool {
    match (&mut answer.content, lie) {
        (AnswerContent::Roots { roots, .. }, RepairLie::WrongRoots) => {
            roots.iter_mut().for_each(|root| root.0[0] ^= 1);
        }
        (AnswerContent::LastSlice { root, .. }, RepairLie::WrongRoots) => root.0[0] ^= 1,
        (AnswerContent::LastSlice { index, path, .. }, RepairLie::WrongCount) => {
            *index = SliceIndex::new(2 * index.get() + 1).unwrap_or(*index);
            path.push(Hash([0; 32]));
        }
        (AnswerContent::Shred(part), RepairLie::WrongShreds) => part.data[0] ^= 1,
        (AnswerContent::Ancestors { blocks }, RepairLie::WrongAncestors) => match blocks.len() % 3 {
            0 => blocks.reverse(),
            1 => {
                let right = blocks.len() / 2;
                blocks[right..].iter_mut().for_each(|block| block.hash.0[0] ^= 1);
            }
            _ => blocks.retain(|block| block.slot.0.is_multiple_of(2)),
        },
        _ => return false,
    }
    true
}
