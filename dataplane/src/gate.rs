//! The gate: what a datagram must pass before anything costly is done for it.

use std::sync::Arc;

use alpenglow_rotor::types::{ClusterId, Slot, ValidatorIndex};

use crate::auth::PairwiseKeys;
use crate::config::DataplaneConfig;
use crate::counters::Counter;
use crate::datagram::{self, Header, HeaderError, Kind, PREFIX_BYTES};

/// A datagram that comes from whom it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authentic<'a> {
    pub(crate) kind: Kind,
    /// `None` for [`Kind::Transaction`] only.
    pub(crate) sender: Option<ValidatorIndex>,
    pub(crate) lane: u8,
    pub(crate) body: &'a [u8],
}

/// See the module.
pub(crate) struct Gate {
    cluster: ClusterId,
    own: ValidatorIndex,
    validators: usize,
    datagram_bytes: usize,
    shard: usize,
    shards: usize,
    keys: Arc<PairwiseKeys>,
}

impl Gate {
    pub(crate) fn new(config: &DataplaneConfig, keys: Arc<PairwiseKeys>, shard: usize) -> Self {
        Self {
            cluster: config.cluster,
            own: config.own,
            validators: config.validators.len(),
            datagram_bytes: config.coding.datagram_bytes(),
            shard,
            shards: config.shards,
            keys,
        }
    }

    /// Checks a whole datagram, the cheap things first. `closed_through` is closed, as are the slots before it; shreds of
    /// slots after `shreds_through` are not wanted yet.
    pub(crate) fn admit<'a>(
        &self,
        bytes: &'a [u8],
        closed_through: Slot,
        shreds_through: Slot,
    ) -> Result<Authentic<'a>, Counter> {
        if bytes.len() > self.datagram_bytes {
            return Err(Counter::TooLong);
        }
        let (header, body) = Header::parse(bytes).map_err(reason)?;
        if !header.is_of(self.cluster) {
            return Err(Counter::WrongCluster);
        }
        if usize::from(header.lane) % self.shards != self.shard {
            return Err(Counter::WrongShard);
        }
        if header.kind == Kind::Transaction {
            return Ok(Authentic { kind: header.kind, sender: None, lane: header.lane, body });
        }
        let sender = ValidatorIndex(header.sender);
        if sender.get() >= self.validators {
            return Err(Counter::UnknownSender);
        }
        if sender == self.own {
            return Err(Counter::OwnSender);
        }
        if header.kind == Kind::Shred {
            within_horizon(body, closed_through, shreds_through)?;
        }
        let covered = [&bytes[..PREFIX_BYTES], datagram::covered(header.kind, body)];
        if !self.keys.verify_from(sender, &covered, &header.tag) {
            return Err(Counter::BadMac);
        }
        Ok(Authentic { kind: header.kind, sender: Some(sender), lane: header.lane, body })
    }
}

/// A shred begins with its slot.
fn within_horizon(body: &[u8], closed_through: Slot, shreds_through: Slot) -> Result<(), Counter> {
    let slot = Slot(u64::from_le_bytes(*body.first_chunk().ok_or(Counter::TooShort)?));
    if slot <= closed_through {
        Err(Counter::ClosedSlot)
    } else if slot > shreds_through {
        Err(Counter::SlotTooFar)
    } else {
        Ok(())
    }
}

const fn reason(error: HeaderError) -> Counter {
    match error {
        HeaderError::TooShort => Counter::TooShort,
        HeaderError::Version => Counter::BadVersion,
        HeaderError::Kind => Counter::BadKind,
        HeaderError::Reserved => Counter::BadHeader,
    }
}
