//! The block log: what is written to it and asked of it; see [`crate::block_log`].

use std::sync::Arc;

use alpenglow_rotor::slice::Slice;
use alpenglow_rotor::types::{BlockId, Slot, Time, ValidatorIndex};

use super::Control;
use crate::block::Block;
use crate::block_log::{Archive, BlockLogAnswer, BlockLogOrder, ChainTip};
use crate::blokstor::Blokstor;
use crate::output::Output;
use crate::repair::{BlockSource, RepairMessage, RepairRequest};

/// Blocks in memory, and those that were read from the log a moment ago.
struct Held<'c> {
    blokstor: &'c Blokstor,
    archive: &'c Archive,
}

impl BlockSource for Held<'_> {
    fn block(&self, id: BlockId) -> Option<Arc<Block>> {
        self.blokstor.block(id).or_else(|| self.archive.block(id)).cloned()
    }
}

impl Control {
    /// At start: the chain goes on after its last block in the log, as if that had just become final.
    pub(super) fn go_on_from(&mut self, start: Time, tip: ChainTip) {
        self.consensus.restore_tip(start, tip.block.id, tip.block.parent, &tip.certificates);
        self.blokstor.restore_tip(tip.block);
    }

    /// A slice came, or was made here. Comes before the vote for its block.
    pub(super) fn take_slice(&mut self, slice: Slice) -> Result<(), &'static str> {
        self.consensus.leader_seen(slice.id.slot);
        let to_hold = (self.archive.is_kept && self.may_be_voted_for(slice.id.slot)).then(|| slice.clone());
        self.blokstor.insert(slice).map_err(|refusal| refusal.name())?;
        if let Some(slice) = to_hold {
            self.order_log(BlockLogOrder::HoldSlice(slice));
        }
        Ok(())
    }

    /// A block is complete. Comes before the vote for it.
    pub(super) fn hold_in_log(&mut self, block: &Arc<Block>) {
        if self.archive.is_kept {
            let before_vote = self.may_be_voted_for(block.id.slot);
            self.order_log(BlockLogOrder::Hold { block: Arc::clone(block), before_vote });
        }
    }

    fn may_be_voted_for(&self, slot: Slot) -> bool {
        slot > self.consensus.highest_finalized().slot
    }

    /// A block was handed over.
    pub(super) fn finalize_in_log(&mut self, block: &Arc<Block>) {
        if self.archive.is_kept {
            let certificates = self.archive.take_certificates(block.id);
            // The copy that is kept for others has memory of its own.
            let block = Arc::clone(self.blokstor.block(block.id).unwrap_or(block));
            self.order_log(BlockLogOrder::Final { block, certificates, in_order: true });
        }
    }

    /// A block that the log had lost is here again.
    pub(super) fn found_for_log(&mut self, block: Arc<Block>) {
        self.order_log(BlockLogOrder::Final { block, certificates: Vec::new(), in_order: false });
    }

    /// This node lacks a block: its log may have it, from before a restart or before it had to make room in memory.
    pub(super) fn look_in_log(&mut self, block: BlockId) {
        if self.archive.want(block) {
            self.order_log(BlockLogOrder::Load(block));
        }
    }

    /// Somebody asks for a block: from memory at once, else when the log has answered.
    pub(super) fn repair_requested(
        &mut self,
        now: Time,
        request: RepairRequest,
        sender: ValidatorIndex,
    ) -> Result<(), &'static str> {
        self.responder.admit(now, sender)?;
        let held = Held { blokstor: &self.blokstor, archive: &self.archive };
        if !self.archive.is_kept || held.block(request.block).is_some() {
            return self.answer_repair(now, &request, sender);
        }
        if self.archive.ask(sender, request)? {
            self.order_log(BlockLogOrder::Load(request.block));
        }
        Ok(())
    }

    fn answer_repair(
        &mut self,
        now: Time,
        request: &RepairRequest,
        sender: ValidatorIndex,
    ) -> Result<(), &'static str> {
        let held = Held { blokstor: &self.blokstor, archive: &self.archive };
        let answers = self.responder.answer_admitted(now, request, sender, &held)?;
        let answers = answers.into_iter().map(RepairMessage::Answer);
        self.outputs.extend(answers.map(|message| Output::Repair { to: sender, message }));
        Ok(())
    }

    pub(super) fn log_answered(&mut self, now: Time, answer: BlockLogAnswer) -> Result<(), &'static str> {
        match answer {
            BlockLogAnswer::Loaded { id, block } => {
                let awaiting = self.archive.loaded(id, block.as_ref()).ok_or("block_log_answer_not_awaited")?;
                if let (Some(block), Some((asker, _))) = (&block, awaiting.requests.first()) {
                    self.counters.count("block_log_served");
                    self.responder.charge(*asker, block.payload_bytes());
                }
                for (sender, request) in awaiting.requests {
                    if let Err(reason) = self.answer_repair(now, &request, sender) {
                        self.counters.count(reason);
                    }
                }
                if let Some(block) = block.filter(|_| awaiting.wanted_here) {
                    self.requester.satisfied(id);
                    self.blokstor.insert_repaired(block);
                }
                Ok(())
            }
            BlockLogAnswer::Lost(id) => {
                match self.blokstor.block(id).cloned() {
                    Some(block) => self.found_for_log(block),
                    None => self.requester.need_for_log(now, id, &mut self.counters),
                }
                Ok(())
            }
        }
    }

    fn order_log(&mut self, order: BlockLogOrder) {
        self.outputs.push_back(Output::BlockLog(order));
    }
}
