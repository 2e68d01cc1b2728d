//! What flags of a run name: nodes at slots, and cores.

use std::str::FromStr;

use alpenglow_rotor::types::{Slot, ValidatorIndex};

/// Something that shall be done to a node as soon as any node has decided a slot. Written `I@SLOT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeAtSlot {
    /// To whom.
    pub(crate) node: ValidatorIndex,
    /// When.
    pub(crate) slot: Slot,
}

/// Text that names no node and slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected INDEX@SLOT, as in 4@12: node 4, when the first node decides slot 12")]
pub(crate) struct NodeAtSlotError;

impl FromStr for NodeAtSlot {
    type Err = NodeAtSlotError;

    fn from_str(text: &str) -> Result<Self, NodeAtSlotError> {
        let (node, slot) = text.split_once('@').ok_or(NodeAtSlotError)?;
        Ok(Self {
            node: ValidatorIndex(node.parse().map_err(|_| NodeAtSlotError)?),
            slot: Slot(slot.parse().map_err(|_| NodeAtSlotError)?),
        })
    }
}

/// Processor cores, written as numbers and ranges: `0,2-4`. In the order given; not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreList(pub(crate) Vec<usize>);

/// Text that is no list of cores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected core numbers below {CORES_MAX} and ranges of them, as in 0,2-4")]
pub(crate) struct CoreListError;

/// More cores than any host has; bounds what a range can ask for.
const CORES_MAX: usize = 4_096;

impl FromStr for CoreList {
    type Err = CoreListError;

    fn from_str(text: &str) -> Result<Self, CoreListError> {
        let number = |text: &str| text.parse().ok().filter(|core| *core < CORES_MAX).ok_or(CoreListError);
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (from, through) = match part.split_once('-') {
                Some((from, through)) => (number(from)?, number(through)?),
                None => (number(part)?, number(part)?),
            };
            if from > through || (from..=through).any(|core| cores.contains(&core)) {
                return Err(CoreListError);
            }
            cores.extend(from..=through);
        }
        Ok(Self(cores))
    }
}
