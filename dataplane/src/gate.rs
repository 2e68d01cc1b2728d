//! The gate: what a datagram must pass before anything costly is done for it.

use std::sync::Arc;

use alpenglow_rotor::assembler::TOGETHER_MAX;
use alpenglow_rotor::types::{ClusterId, Slot, ValidatorIndex};

use crate::auth::{PairwiseKeys, PrefixedMessage, TAGS_AT_ONCE};
use crate::config::DataplaneConfig;
use crate::counters::Counter;
use crate::datagram::{self, HEADER_BYTES, Header, HeaderError, Kind};

/// One datagram and its place in the receive buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) position: usize,
}

/// A datagram that comes from whom it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authentic<'a> {
    pub(crate) kind: Kind,
    /// `None` for [`Kind::Transaction`] only.
    pub(crate) sender: Option<ValidatorIndex>,
    pub(crate) lane: u8,
    /// All of it, and its place in the receive buffer.
    pub(crate) datagram: Datagram<'a>,
}

impl<'a> Authentic<'a> {
    fn parts(&self) -> (&'a [u8; HEADER_BYTES], &'a [u8]) {
        self.datagram.bytes.split_first_chunk().expect("the gate lets in what has a header")
    }

    /// What follows the header.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.parts().1
    }
}

/// A datagram that is wanted if it comes from whom it says. Its MAC is not checked.
#[derive(Clone, Copy)]
pub(crate) struct Claimed<'a>(Authentic<'a>);

impl<'a> Claimed<'a> {
    /// What its MAC covers, and the MAC.
    fn sealed(&self) -> (PrefixedMessage<'a>, [u8; 16]) {
        let (header, body) = self.0.parts();
        let (prefix, tag) = header.split_first_chunk().expect("a header begins with the prefix");
        let tag = *tag.first_chunk().expect("and ends with the tag");
        ((prefix, datagram::covered(self.0.kind, body)), tag)
    }

    fn covered_bytes(&self) -> usize {
        self.sealed().0.1.len()
    }
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

    /// The shard that a validator's datagram belongs to, if it is another one. What clients send belongs to whichever
    /// shard it comes to, and each shard lets through its share.
    pub(crate) fn other_shard(&self, authentic: &Authentic<'_>) -> Option<usize> {
        let shard = usize::from(authentic.lane) % self.shards;
        (authentic.sender.is_some() && shard != self.shard).then_some(shard)
    }

    /// Checks everything about a datagram but its MAC, the cheapest first. `closed_through` is closed, as are the slots
    /// before it; shreds of slots after `shreds_through` are not wanted yet.
    pub(crate) fn admit<'a>(
        &self,
        datagram: Datagram<'a>,
        closed_through: Slot,
        shreds_through: Slot,
    ) -> Result<Claimed<'a>, Counter> {
        let bytes = datagram.bytes;
        if bytes.len() > self.datagram_bytes {
            return Err(Counter::TooLong);
        }
        let (header, body) = Header::parse(bytes).map_err(reason)?;
        if !header.is_of(self.cluster) {
            return Err(Counter::WrongCluster);
        }
        let sender = (header.kind != Kind::Transaction).then_some(ValidatorIndex(header.sender));
        if sender.is_some_and(|sender| sender.get() >= self.validators) {
            return Err(Counter::UnknownSender);
        }
        if sender == Some(self.own) {
            return Err(Counter::OwnSender);
        }
        if header.kind == Kind::Shred {
            within_horizon(body, closed_through, shreds_through)?;
        } else if sender.is_some_and(|sender| header.lane != datagram::message_lane(sender)) {
            return Err(Counter::WrongLane);
        }
        Ok(Claimed(Authentic { kind: header.kind, sender, lane: header.lane, datagram }))
    }

    /// Checks the MACs of up to [`TOGETHER_MAX`] datagrams: those of one sender and length at once. Those that come
    /// from whom they say are given back, each in its place.
    pub(crate) fn authenticate<'a>(&self, claimed: &[Option<Claimed<'a>>]) -> [Option<Authentic<'a>>; TOGETHER_MAX] {
        let mut authentic = [None; TOGETHER_MAX];
        let mut places = authentic.iter_mut();
        let sort = |claimed: &Option<Claimed<'_>>| claimed.map(|claimed| (claimed.0.sender, claimed.covered_bytes()));
        let alike = claimed.chunk_by(|left, right| sort(left) == sort(right));
        for alike in alike.flat_map(|alike| alike.chunks(TAGS_AT_ONCE)) {
            for ((claimed, is_authentic), place) in alike.iter().zip(self.verdicts(alike)).zip(&mut places) {
                *place = claimed.filter(|_| is_authentic).map(|claimed| claimed.0);
            }
        }
        authentic
    }

    /// Which ones of datagrams with one sender and length come from it.
    fn verdicts(&self, alike: &[Option<Claimed<'_>>]) -> [bool; TAGS_AT_ONCE] {
        let Some(first) = alike[0] else { return [false; TAGS_AT_ONCE] };
        let Some(sender) = first.0.sender else { return [true; TAGS_AT_ONCE] };
        let (mut messages, mut tags) = ([first.sealed().0; TAGS_AT_ONCE], [[0; 16]; TAGS_AT_ONCE]);
        for ((message, tag), claimed) in messages.iter_mut().zip(&mut tags).zip(alike.iter().flatten()) {
            (*message, *tag) = claimed.sealed();
        }
        self.keys.verify_all_from(sender, &messages[..alike.len()], &tags)
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
