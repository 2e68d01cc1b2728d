//! The block log's files as fuzzing meets them.

use std::ops::Range;

use alpenglow_control::block_log::{BlockHead, decode_block, encode_block};
use alpenglow_rotor::types::BlockId;

use super::samples::{CLUSTER, MARK, VALIDATORS, block, fast, parameters};
use super::segment::{self, FORMER_SEGMENT, Head, INDEX, LogParameters, Placed, SEGMENT};
use crate::storage::frames::{FRAME_HEAD_BYTES, FrameAt, HEADER_BYTES};

/// Bytes of the segment that an index is of.
const INDEXED_BYTES: u64 = 1 << 20;

/// Takes any bytes for a segment; whether they are a whole one. What is found is there, in order, and an index of it
/// says the same.
pub(crate) fn segment(bytes: &[u8]) -> bool {
    let Ok((cluster, found)) = segment::scan(bytes) else { return false };
    let mut end = HEADER_BYTES as u64;
    for placed in &found.records {
        assert!(placed.at >= end);
        end = placed.at + u64::from(placed.frame_bytes);
        let FrameAt::Whole(record) = SEGMENT.frame_at(&bytes[placed.at as usize..end as usize]) else {
            panic!("there is no record at {}", placed.at)
        };
        assert_eq!(Head::of(record), Some(placed.head));
    }
    assert!(end <= found.end && found.end <= bytes.len() as u64);
    assert!(found.corrupt.iter().all(|at| *at < found.end));
    let index = segment::encode_index(cluster, bytes.len() as u64, &found.records);
    assert_eq!(segment::decode_index(&index, bytes.len() as u64), Some((cluster, found.records)));
    found.corrupt.is_empty() && found.end == bytes.len() as u64
}

/// Takes any bytes for the record of an index, with the checksums that it should have: they would keep all others out.
pub(crate) fn index(bytes: &[u8]) -> bool {
    let _ = segment::decode_index(bytes, INDEXED_BYTES);
    let file = [INDEX.header(CLUSTER), INDEX.frame(bytes)].concat();
    let Some((_, records)) = segment::decode_index(&file, INDEXED_BYTES) else { return false };
    let again = segment::encode_index(CLUSTER, INDEXED_BYTES, &records);
    assert_eq!(segment::decode_index(&again, INDEXED_BYTES), Some((CLUSTER, records)));
    true
}

/// Takes any bytes for a record of a segment; whether all of it can be read.
pub(crate) fn record(bytes: &[u8]) -> bool {
    match Head::of(bytes) {
        None => false,
        Some(Head::Parameters) => {
            let Some(parameters) = LogParameters::of(bytes, CLUSTER) else { return false };
            let (_, again) = segment::scan(&parameters.begin_segment(MARK)).expect("it begins with a header");
            assert_eq!(again.parameters, Some(parameters));
            true
        }
        Some(Head::Block(head)) => {
            let body = segment::block_of(bytes).expect("it is one");
            let Ok(block) = decode_block(body) else { return false };
            let mut again = Vec::new();
            encode_block(&block, &mut again);
            assert!(BlockHead { id: block.id, parent: block.parent } == head && again == body);
            true
        }
        Some(Head::Final { id, in_order, certified }) => {
            let Some(certificates) = segment::certificates_of(bytes, VALIDATORS) else { return false };
            assert_eq!(certificates.is_empty(), !certified);
            let mut again = Vec::new();
            let frame = segment::frame_final(id, &certificates, in_order, &mut again);
            let again = segment::certificates_of(&again[frame.start + FRAME_HEAD_BYTES..], VALIDATORS);
            assert_eq!(again, Some(certificates));
            true
        }
    }
}

/// Segments as they are written.
pub(crate) fn segments() -> Vec<Vec<u8>> {
    let begin = parameters().begin_segment(MARK);
    let frames = records().into_iter().flat_map(|record| [MARK.0.to_vec(), SEGMENT.frame(&record)].concat());
    let former = records().into_iter().skip(1).flat_map(|record| SEGMENT.frame(&record));
    let former = FORMER_SEGMENT.header(CLUSTER).into_iter().chain(former).collect();
    vec![begin.clone(), begin.into_iter().chain(frames).collect(), former]
}

/// Records of indexes as they are written.
pub(crate) fn indexes() -> Vec<Vec<u8>> {
    let id = block(1, BlockId::GENESIS, 40).id;
    let placed = |at, head| Placed { at, frame_bytes: 500, head };
    let records = [
        placed(100, Head::Block(BlockHead { id, parent: BlockId::GENESIS })),
        placed(600, Head::Final { id, in_order: true, certified: true }),
        placed(1_100, Head::Final { id, in_order: false, certified: false }),
    ];
    let record = |records: &[Placed]| {
        segment::encode_index(CLUSTER, INDEXED_BYTES, records).split_off(HEADER_BYTES + FRAME_HEAD_BYTES)
    };
    vec![record(&[]), record(&records)]
}

/// Records of segments as they are written.
pub(crate) fn records() -> Vec<Vec<u8>> {
    let block = block(1, BlockId::GENESIS, 40);
    let frame = |write: &dyn Fn(&mut Vec<u8>) -> Range<usize>| {
        let mut frame = Vec::new();
        let range = write(&mut frame);
        frame.split_off(range.start + FRAME_HEAD_BYTES)
    };
    vec![
        parameters().begin_segment(MARK).split_off(HEADER_BYTES + MARK.0.len() + FRAME_HEAD_BYTES),
        frame(&|to| segment::frame_block(&block, to)),
        frame(&|to| segment::frame_final(block.id, &fast(block.id), true, to)),
        frame(&|to| segment::frame_final(block.id, &[], false, to)),
    ]
}
