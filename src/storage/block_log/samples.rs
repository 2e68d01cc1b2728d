//! Blocks and certificates made up, for tests, fuzzing and measuring.

use std::sync::Arc;

use alpenglow_control::block::{Block, ParentStatement, SliceBuilder};
use alpenglow_control::block_log::decode_block;
use alpenglow_control::bls::SignatureBytes;
use alpenglow_control::certificate::{Certificate, Signers, Statement};
use alpenglow_rotor::merkle;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::types::{BlockId, ClusterId, Slot, ValidatorIndex};

use super::segment::{LogParameters, Mark};

/// The cluster that they are of.
pub(super) const CLUSTER: ClusterId = ClusterId([3; 32]);
/// How many validators it has.
pub(super) const VALIDATORS: usize = 5;

/// The mark of segments that are made up.
pub(super) const MARK: Mark = Mark(*b"a mark!\xfe");

/// What a log of theirs is read with.
pub(super) fn parameters() -> LogParameters {
    LogParameters { cluster: CLUSTER, coding: CodingParameters::default(), validators: VALIDATORS }
}

/// A block of one slice with so many bytes in it.
pub(super) fn block(slot: u64, parent: BlockId, bytes: usize) -> Block {
    block_of(slot, parent, &vec![vec![slot as u8; bytes.min(1_000)]; bytes.div_ceil(1_000)])
}

/// A block of one slice with these transactions.
pub(super) fn block_of(slot: u64, parent: BlockId, transactions: &[Vec<u8>]) -> Block {
    let mut builder = SliceBuilder::new(ParentStatement::Parent(parent), 28_000);
    transactions.iter().for_each(|transaction| assert!(builder.push(transaction)));
    let payload = builder.finish();
    let root = Recoder::new(CodingParameters::default(), CLUSTER).root(slot, &payload);
    let id = BlockId { slot: Slot(slot), hash: merkle::block_hash(&[root]) };
    // By its encoding, as nothing here can make a block otherwise.
    let mut record = Vec::new();
    for BlockId { slot, hash } in [id, parent] {
        record.extend(slot.0.to_le_bytes());
        record.extend(hash.0);
    }
    record.extend([1, 0]);
    record.extend(root.0);
    record.extend(slot.to_le_bytes());
    record.extend((payload.len() as u32).to_le_bytes());
    record.extend(payload);
    decode_block(&record).expect("it was made with care")
}

/// A certificate that makes a block final, but for its signature.
pub(super) fn fast(id: BlockId) -> Vec<Arc<Certificate>> {
    let none = Signers::none(VALIDATORS);
    let signers = Signers::of(VALIDATORS, [0, 1, 2, 3].map(ValidatorIndex));
    let signature = SignatureBytes([7; 96]);
    vec![Arc::new(Certificate { statement: Statement::Fast(id), signers, fallback_signers: none, signature })]
}
