//! What is asked of the log and by whom, and what came of it a moment ago.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alpenglow_rotor::types::{BlockId, ValidatorIndex};

use super::{LOADS_MAX, finalize};
use crate::block::Block;
use crate::certificate::Certificate;
use crate::repair::RepairRequest;

/// Requests that may wait for one block: more than a validator that repairs has under way.
const WAITING_MAX: usize = 128;
/// Memory of blocks that were read, since a block is asked for in many requests. A longer one stays alone.
const LOADED_BYTES_MAX: usize = 32 << 20;
/// Blocks that were read.
const LOADED_MAX: usize = 16;
/// Final blocks whose certificates wait for their hand-over: as many as the Pool waits for.
const CERTIFIED_MAX: usize = 1_024;

/// A block that is being read.
#[derive(Default)]
pub(crate) struct Awaiting {
    /// Whether this node lacks it itself.
    pub(crate) wanted_here: bool,
    /// Requests of others.
    pub(crate) requests: Vec<(ValidatorIndex, RepairRequest)>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Archive {
    /// Whether there is a log.
    pub(crate) is_kept: bool,
    certificates: BTreeMap<BlockId, Vec<Arc<Certificate>>>,
    awaited: BTreeMap<BlockId, Awaiting>,
    loaded: VecDeque<Arc<Block>>,
    loaded_bytes: usize,
}

impl Archive {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self { is_kept, ..Self::default() }
    }

    /// A block is final by these certificates, if they are its own.
    pub(crate) fn certified(&mut self, block: BlockId, certificates: &[Arc<Certificate>]) {
        if self.is_kept && finalize(block, certificates) {
            self.certificates.insert(block, certificates.to_vec());
            if self.certificates.len() > CERTIFIED_MAX {
                self.certificates.pop_first();
            }
        }
    }

    /// The certificates of a block that is handed over. Those below are not needed any more.
    pub(crate) fn take_certificates(&mut self, block: BlockId) -> Vec<Arc<Certificate>> {
        let certificates = self.certificates.remove(&block).unwrap_or_default();
        self.certificates = self.certificates.split_off(&BlockId { slot: block.slot.next(), ..BlockId::GENESIS });
        certificates
    }

    /// This node lacks a block. Whether the log is to be asked.
    pub(crate) fn want(&mut self, block: BlockId) -> bool {
        self.entry(block).is_ok_and(|(awaiting, is_new)| {
            awaiting.wanted_here = true;
            is_new
        })
    }

    /// Somebody asks for a block. Whether the log is to be asked.
    ///
    /// # Errors
    /// The reason to count why the request is dropped.
    pub(crate) fn ask(&mut self, sender: ValidatorIndex, request: RepairRequest) -> Result<bool, &'static str> {
        let (awaiting, is_new) = self.entry(request.block)?;
        if awaiting.requests.len() >= WAITING_MAX {
            return Err("repair_requests_waiting");
        }
        awaiting.requests.push((sender, request));
        Ok(is_new)
    }

    fn entry(&mut self, block: BlockId) -> Result<(&mut Awaiting, bool), &'static str> {
        let is_new = !self.awaited.contains_key(&block);
        if !self.is_kept || is_new && self.awaited.len() >= LOADS_MAX {
            return Err("block_log_busy");
        }
        Ok((self.awaited.entry(block).or_default(), is_new))
    }

    /// The log's answer; who waited for it.
    pub(crate) fn loaded(&mut self, id: BlockId, block: Option<&Arc<Block>>) -> Option<Awaiting> {
        let awaiting = self.awaited.remove(&id)?;
        if let Some(block) = block {
            self.loaded_bytes += block.payload_bytes();
            self.loaded.push_back(Arc::clone(block));
            while (self.loaded_bytes > LOADED_BYTES_MAX || self.loaded.len() > LOADED_MAX)
                && self.loaded.len() > 1
                && let Some(oldest) = self.loaded.pop_front()
            {
                self.loaded_bytes -= oldest.payload_bytes();
            }
        }
        Some(awaiting)
    }

    /// A block that was read a moment ago.
    pub(crate) fn block(&self, id: BlockId) -> Option<&Arc<Block>> {
        self.loaded.iter().find(|block| block.id == id)
    }
}
