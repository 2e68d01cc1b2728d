//! What is inside a slice's payload, and the block that the slices of one slot add up to.
//!
//! A payload is `statement | transactions`. The statement is one byte: 0 says nothing about the parent, 1 states it
//! (the block's first slice), 2 changes it; 1 and 2 are followed by the parent's slot (u64) and hash (32 bytes). Each
//! transaction is its length (u16) and its bytes. Integers are little-endian, and nothing may be left over.

use alpenglow_rotor::slice::Slice;
use alpenglow_rotor::types::{BlockId, Hash, SliceIndex, Slot};
use sha2::{Digest, Sha256};

/// Most bytes of one transaction; the least is 1.
pub const TRANSACTION_BYTES_MAX: usize = 1_024;
/// Least payload a cluster's slices must have room for: a parent statement and the largest transaction.
pub const SLICE_PAYLOAD_BYTES_MIN: usize = STATEMENT_BYTES_MAX + LENGTH_BYTES + TRANSACTION_BYTES_MAX;

const LENGTH_BYTES: usize = 2;
const STATEMENT_BYTES_MAX: usize = 1 + 8 + 32;
const STATES_NOTHING: u8 = 0;
const STATES_PARENT: u8 = 1;
const CHANGES_PARENT: u8 = 2;

/// SHA-256 of a transaction's bytes: what makes two transactions the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 32]);

impl TransactionId {
    /// The identity of these bytes.
    #[must_use]
    pub fn of(transaction: &[u8]) -> Self {
        Self(Sha256::digest(transaction).into())
    }
}

/// What a slice says about its block's parent (paper §2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentStatement {
    /// Nothing: every slice but the first, as a rule.
    Nothing,
    /// The parent; in the first slice, and only there.
    Parent(BlockId),
    /// Another parent than stated before; transactions of earlier slices do not count.
    Changed(BlockId),
}

/// Why a slice's payload, or the block it belongs to, is invalid. The verdict is the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// The payload ends inside its parent statement.
    #[error("payload ends inside its parent statement")]
    TruncatedStatement,
    /// The statement's first byte has no meaning.
    #[error("unknown parent statement {0}")]
    UnknownStatement(u8),
    /// The first slice does not state the parent, or a later one states it again.
    #[error("the parent must be stated in the first slice and only there")]
    MisplacedStatement,
    /// A parent change outside the first slot of a window, in the first slice, a second time, or to the same parent.
    #[error("parent changed where it must not be")]
    MisplacedChange,
    /// The parent's slot is not below the block's, or not the one before it although the block is not its window's
    /// first.
    #[error("parent of slot {0} cannot be this slot's parent")]
    ParentSlot(Slot),
    /// A transaction is empty or longer than [`TRANSACTION_BYTES_MAX`].
    #[error("transaction of {0} bytes")]
    TransactionLength(usize),
    /// The payload ends inside a transaction or its length.
    #[error("payload ends inside a transaction")]
    TruncatedTransaction,
    /// The shreds that the leader signed do not form a slice (paper §2.1, decode).
    #[error("the leader signed shreds that do not form a slice")]
    MalformedSlice,
    /// All slices a block may have are there and none is the last.
    #[error("no slice is the last one")]
    NoLastSlice,
}

impl InvalidBlock {
    /// A stable name for counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TruncatedStatement => "block_truncated_statement",
            Self::UnknownStatement(_) => "block_unknown_statement",
            Self::MisplacedStatement => "block_misplaced_statement",
            Self::MisplacedChange => "block_misplaced_change",
            Self::ParentSlot(_) => "block_parent_slot",
            Self::TransactionLength(_) => "block_transaction_length",
            Self::TruncatedTransaction => "block_truncated_transaction",
            Self::MalformedSlice => "block_malformed_slice",
            Self::NoLastSlice => "block_no_last_slice",
        }
    }
}

/// A parsed slice payload: every transaction in it has a legal length.
#[derive(Clone, Copy, Debug)]
pub struct SliceContent<'a> {
    /// What it says about the parent.
    pub parent: ParentStatement,
    transactions: &'a [u8],
}

impl<'a> SliceContent<'a> {
    /// Reads the payload of slice `index`. Whether a change of parent is allowed is the block's matter, not the
    /// slice's.
    ///
    /// # Errors
    /// [`InvalidBlock`] if any byte is not as the format says.
    pub fn parse(index: SliceIndex, payload: &'a [u8]) -> Result<Self, InvalidBlock> {
        let (parent, transactions) = parse_statement(payload)?;
        if (index.get() == 0) != matches!(parent, ParentStatement::Parent(_)) {
            return Err(InvalidBlock::MisplacedStatement);
        }
        let mut rest = transactions;
        while !rest.is_empty() {
            rest = split_transaction(rest)?.1;
        }
        Ok(Self { parent, transactions })
    }

    /// The transactions, in the leader's order.
    pub fn transactions(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.transactions;
        std::iter::from_fn(move || {
            let (transaction, after) = split_transaction(rest).ok()?;
            rest = after;
            Some(transaction)
        })
    }
}

fn parse_statement(payload: &[u8]) -> Result<(ParentStatement, &[u8]), InvalidBlock> {
    let (&kind, rest) = payload.split_first().ok_or(InvalidBlock::TruncatedStatement)?;
    if kind == STATES_NOTHING {
        return Ok((ParentStatement::Nothing, rest));
    }
    if kind != STATES_PARENT && kind != CHANGES_PARENT {
        return Err(InvalidBlock::UnknownStatement(kind));
    }
    let (slot, rest) = rest.split_first_chunk::<8>().ok_or(InvalidBlock::TruncatedStatement)?;
    let (hash, rest) = rest.split_first_chunk::<32>().ok_or(InvalidBlock::TruncatedStatement)?;
    let parent = BlockId { slot: Slot(u64::from_le_bytes(*slot)), hash: Hash(*hash) };
    let statement =
        if kind == STATES_PARENT { ParentStatement::Parent(parent) } else { ParentStatement::Changed(parent) };
    Ok((statement, rest))
}

fn split_transaction(bytes: &[u8]) -> Result<(&[u8], &[u8]), InvalidBlock> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>().ok_or(InvalidBlock::TruncatedTransaction)?;
    let length = usize::from(u16::from_le_bytes(*length));
    if length == 0 || length > TRANSACTION_BYTES_MAX {
        return Err(InvalidBlock::TransactionLength(length));
    }
    rest.split_at_checked(length).ok_or(InvalidBlock::TruncatedTransaction)
}

/// Whether a block of `slot` may have `parent` at all: the first one of a window any earlier block, the others the slot
/// before. Otherwise it is dead.
///
/// # Errors
/// [`InvalidBlock::ParentSlot`] if not.
pub fn check_parent_slot(slot: Slot, parent: BlockId) -> Result<(), InvalidBlock> {
    let fits = if slot.is_window_first() { parent.slot < slot } else { slot.previous() == Some(parent.slot) };
    if fits { Ok(()) } else { Err(InvalidBlock::ParentSlot(parent.slot)) }
}

/// A slice's payload while it is being written.
#[derive(Debug)]
pub struct SliceBuilder {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl SliceBuilder {
    /// A payload of at most `bytes_max` that says `parent` and holds no transaction yet.
    ///
    /// # Panics
    /// If `bytes_max` is below [`SLICE_PAYLOAD_BYTES_MIN`].
    #[must_use]
    pub fn new(parent: ParentStatement, bytes_max: usize) -> Self {
        assert!(bytes_max >= SLICE_PAYLOAD_BYTES_MIN);
        let mut bytes = Vec::with_capacity(bytes_max);
        let (kind, parent) = match parent {
            ParentStatement::Nothing => (STATES_NOTHING, None),
            ParentStatement::Parent(parent) => (STATES_PARENT, Some(parent)),
            ParentStatement::Changed(parent) => (CHANGES_PARENT, Some(parent)),
        };
        bytes.push(kind);
        if let Some(BlockId { slot, hash }) = parent {
            bytes.extend_from_slice(&slot.0.to_le_bytes());
            bytes.extend_from_slice(&hash.0);
        }
        Self { bytes, bytes_max }
    }

    /// Appends `transaction` if it fits whole; otherwise changes nothing and returns false.
    ///
    /// # Panics
    /// If `transaction` is empty or longer than [`TRANSACTION_BYTES_MAX`]: the pool admits no such transaction.
    #[must_use]
    pub fn push(&mut self, transaction: &[u8]) -> bool {
        assert!((1..=TRANSACTION_BYTES_MAX).contains(&transaction.len()));
        let fits = transaction.len() + LENGTH_BYTES <= self.bytes_max - self.bytes.len();
        if fits {
            self.bytes.extend_from_slice(&(transaction.len() as u16).to_le_bytes());
            self.bytes.extend_from_slice(transaction);
        }
        fits
    }

    /// The finished payload.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// A complete, valid block as this node holds it.
#[derive(Debug)]
pub struct Block {
    /// Slot and hash, the hash recomputed here from the slice roots.
    pub id: BlockId,
    /// The parent it states, after a change if there is one.
    pub parent: BlockId,
    /// All slices, in order.
    pub slices: Vec<Slice>,
    /// First slice whose transactions count: after a parent change, the slice that states it.
    pub first_counted: SliceIndex,
    /// Identities of the transactions that count, in order, repetitions included.
    pub transaction_ids: Vec<TransactionId>,
}

impl Block {
    /// The transactions that count, in order.
    pub fn transactions(&self) -> impl Iterator<Item = &[u8]> {
        self.slices[self.first_counted.get()..]
            .iter()
            .filter_map(|slice| SliceContent::parse(slice.id.index, &slice.payload).ok())
            .flat_map(|content| content.transactions())
    }

    /// The stamp of its last slice, in nanoseconds on the leader's clock. Measurement only.
    #[must_use]
    pub fn leader_stamp_ns(&self) -> u64 {
        self.slices.last().map_or(0, |slice| slice.leader_stamp_ns)
    }

    /// Bytes of payload in all slices.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.slices.iter().map(|slice| slice.payload.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARENT: BlockId = BlockId { slot: Slot(7), hash: Hash([9; 32]) };

    fn index(index: usize) -> SliceIndex {
        SliceIndex::new(index).unwrap()
    }

    #[test]
    fn the_payload_format_is_fixed_byte_by_byte() {
        let mut builder = SliceBuilder::new(ParentStatement::Parent(PARENT), 2_000);
        assert!(builder.push(b"abc"));
        let mut expected = vec![1, 7, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(&[9; 32]);
        expected.extend_from_slice(&[3, 0, b'a', b'b', b'c']);
        assert_eq!(builder.finish(), expected);
        assert_eq!(SliceBuilder::new(ParentStatement::Nothing, 2_000).finish(), [0]);
    }

    #[test]
    fn statements_are_refused_where_they_do_not_belong() {
        let refused = |index_, bytes: &[u8]| SliceContent::parse(index(index_), bytes).unwrap_err();
        let first = SliceBuilder::new(ParentStatement::Parent(PARENT), 2_000).finish();
        let changed = SliceBuilder::new(ParentStatement::Changed(PARENT), 2_000).finish();
        assert_eq!(refused(0, &[0]), InvalidBlock::MisplacedStatement);
        assert_eq!(refused(0, &changed), InvalidBlock::MisplacedStatement);
        assert_eq!(refused(3, &first), InvalidBlock::MisplacedStatement);
        assert_eq!(refused(0, &[]), InvalidBlock::TruncatedStatement);
        assert_eq!(refused(0, &first[..40]), InvalidBlock::TruncatedStatement);
        assert_eq!(refused(1, &[3]), InvalidBlock::UnknownStatement(3));
        assert!(SliceContent::parse(index(3), &changed).is_ok());
    }

    #[test]
    fn transactions_of_illegal_length_are_refused() {
        let refused = |bytes: &[u8]| SliceContent::parse(index(1), bytes).unwrap_err();
        assert_eq!(refused(&[0, 0, 0]), InvalidBlock::TransactionLength(0));
        assert_eq!(refused(&[0, 1, 4]), InvalidBlock::TransactionLength(1_025));
        assert_eq!(refused(&[0, 5]), InvalidBlock::TruncatedTransaction);
        assert_eq!(refused(&[0, 2, 0, 1]), InvalidBlock::TruncatedTransaction);
    }

    #[test]
    fn defect_12_a_parent_must_lie_before_its_child() {
        let parent = |slot| BlockId { slot: Slot(slot), hash: Hash([1; 32]) };
        assert!(check_parent_slot(Slot(8), parent(7)).is_ok() && check_parent_slot(Slot(8), parent(2)).is_ok());
        assert!(check_parent_slot(Slot(8), parent(8)).is_err() && check_parent_slot(Slot(8), parent(9)).is_err());
        assert!(check_parent_slot(Slot(9), parent(8)).is_ok() && check_parent_slot(Slot(9), parent(7)).is_err());
        assert!(check_parent_slot(Slot(1), BlockId::GENESIS).is_ok());
        assert!(check_parent_slot(Slot(0), BlockId::GENESIS).is_err());
    }

    #[test]
    fn defect_20_a_transaction_that_does_not_fit_changes_nothing() {
        let mut builder = SliceBuilder::new(ParentStatement::Parent(PARENT), SLICE_PAYLOAD_BYTES_MIN);
        assert!(builder.push(&[1; 1_000]));
        assert!(!builder.push(&[2; 1_024]) && !builder.push(&[2; 23]));
        assert!(builder.push(&[2; 22]));
        assert!(!builder.push(&[3]));
        assert_eq!(builder.finish().len(), SLICE_PAYLOAD_BYTES_MIN);
    }

    proptest! {
        #[test]
        fn what_is_packed_is_what_is_read(
            transactions in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=TRANSACTION_BYTES_MAX), 0..20),
            changed in any::<bool>(),
        ) {
            let statement = if changed { ParentStatement::Changed(PARENT) } else { ParentStatement::Nothing };
            let mut builder = SliceBuilder::new(statement, 16_384);
            let packed: Vec<&Vec<u8>> = transactions.iter().filter(|transaction| builder.push(transaction)).collect();
            let payload = builder.finish();
            prop_assert!(payload.len() <= 16_384);
            let content = SliceContent::parse(index(1), &payload).unwrap();
            prop_assert_eq!(content.parent, statement);
            prop_assert_eq!(content.transactions().collect::<Vec<_>>(), packed);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), first in any::<bool>()) {
            let slice = index(usize::from(!first));
            if let Ok(content) = SliceContent::parse(slice, &bytes) {
                let mut builder = SliceBuilder::new(content.parent, 4_096);
                prop_assert!(content.transactions().all(|transaction| builder.push(transaction)));
                prop_assert_eq!(builder.finish(), bytes);
            }
        }
    }
}
