//! What is spoilt, by chance or by somebody, and files of other versions.

use super::samples::block_of;
use super::segment::{BEGIN_BYTES, FORMER_SEGMENT, MARK_BYTES, RECORD_BYTES_MAX, SEGMENT};
use super::*;
use crate::storage::frames::{FRAME_HEAD_BYTES, FrameAt};

/// Longer than any disk here, and of no size on it.
const ENDLESS_BYTES: u64 = 1 << 40;

#[test]
fn a_spoilt_byte_is_noticed_wherever_it_is_and_costs_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(5, 40);
    let (mut log, _) = open(folder.path(), LIMITS);
    write(&mut log, &chain);
    drop(log);
    let path = segment_path(folder.path(), 1);
    let whole = fs::read(&path).unwrap();
    let records = segment::scan(&whole).unwrap().1.records;
    let last = records.last().unwrap().at as usize;
    for at in 0..whole.len() {
        let mut spoilt = whole.clone();
        spoilt[at] ^= 0x10;
        fs::write(&path, &spoilt).unwrap();
        if (8..12).contains(&at) || at < HEADER_BYTES {
            // Of an unknown file nothing is believed.
            let (mut log, opened) = open(folder.path(), LIMITS);
            assert_eq!((opened.corrupt, readable(&mut log, &chain).len()), (1, 0), "byte {at}");
            log.hold(&chain[0]).unwrap();
            assert_eq!(survey(folder.path()).defects.len(), 1, "byte {at}");
            fs::remove_file(segment_path(folder.path(), 2)).unwrap();
            continue;
        }
        let survey = survey(folder.path());
        let (mut log, opened) = open(folder.path(), LIMITS);
        let read = readable(&mut log, &chain).len();
        if at >= last - MARK_BYTES {
            // Not to be told from a tail that was torn.
            assert_eq!((opened.corrupt, survey.defects.len()), (0, 0), "byte {at}");
            assert!(opened.torn_bytes > 0 && survey.incomplete_at.is_some() && read == 5, "byte {at}");
        } else {
            assert_eq!((opened.corrupt, survey.defects.len()), (1, 1), "byte {at}");
            assert!(read >= 4, "byte {at}: {read} blocks");
            let lost = log.take_lost_if_changed().unwrap().unwrap();
            let above_lowest = (1..=5).find(|slot| log.load(chain[*slot - 1].id).is_some()).unwrap_or(5);
            assert_eq!(lost.len(), usize::from(read == 4 && above_lowest == 1), "byte {at}");
        }
    }
}

#[test]
fn a_whole_but_senseless_record_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path(), LIMITS);
    write(&mut log, &chain(1, 40));
    drop(log);
    let path = segment_path(folder.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let mark = segment::scan(&bytes).unwrap().1.mark.unwrap();
    for record in [&[99, 1, 2, 3][..], &[]] {
        bytes.extend(mark.0);
        SEGMENT.append_frame(&mut bytes, |to| to.extend(record));
    }
    fs::write(&path, bytes).unwrap();
    assert_eq!(survey(folder.path()).defects.len(), 1, "one place");
    assert_eq!(open(folder.path(), LIMITS).1.corrupt, 1);
}

/// Which block was in a corrupt place its index tells.
#[test]
fn what_is_corrupt_is_told_with_what_the_chain_lacks_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(100, LARGE);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    write(&mut log, &chain);
    drop(log);
    let path = segment_path(folder.path(), 2);
    let mut bytes = fs::read(&path).unwrap();
    let records = segment::scan(&bytes).unwrap().1.records;
    let [block, is_final] = [&records[8], &records[15]];
    let id = |placed: &Placed| match placed.head {
        Head::Block(BlockHead { id, .. }) | Head::Final { id, .. } => id,
        Head::Parameters => panic!("no block is in it"),
    };
    assert!(matches!((block.head, is_final.head), (Head::Block(_), Head::Final { .. })));
    for placed in [block, is_final] {
        bytes[placed.at as usize + 30] ^= 1;
    }
    fs::write(&path, &bytes).unwrap();
    let losses = || {
        let survey = survey(folder.path());
        let loss = |defect: &Defect| (defect.at, defect.block, survey.loss(defect));
        survey.defects.iter().map(loss).collect::<Vec<_>>()
    };
    let both = |loss| vec![(block.at, Some(id(block)), loss), (is_final.at, Some(id(is_final)), loss)];
    assert_eq!(losses(), both(Loss::Missing));

    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    while log.look_at_next().is_some() {}
    assert_eq!(log.corrupt(), 2);
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(vec![id(block)]), "that one is final is written at once");
    let found = chain.iter().find(|known| known.id == id(block)).unwrap();
    assert_eq!(log.finalize(found, &[], false).unwrap(), Kept::Written);
    drop(log);
    assert_eq!(losses(), both(Loss::WrittenAgain));
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    while log.look_at_next().is_some() {}
    assert_eq!((log.corrupt(), log.take_lost_if_changed().unwrap()), (0, Some(Vec::new())), "that is over");
    // Without the index nobody knows what was there, but nothing is missing.
    fs::remove_file(index_path(folder.path(), 2)).unwrap();
    assert_eq!(losses(), [(block.at, None, Loss::Nothing), (is_final.at, None, Loss::Nothing)]);
}

#[test]
fn corruption_in_the_middle_is_found_and_repaired_from_what_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(100, LARGE);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    write(&mut log, &chain);
    drop(log);
    let mut bytes = fs::read(segment_path(folder.path(), 1)).unwrap();
    let records = segment::scan(&bytes).unwrap().1.records;
    let of_tenth = records[18].at as usize;
    // A head, and the record after it.
    bytes[of_tenth] ^= 1;
    bytes[records[20].at as usize + 500] ^= 1;
    fs::write(segment_path(folder.path(), 1), &bytes).unwrap();
    assert_eq!(survey(folder.path()).defects.len(), 2);

    // The index hides it, but not from a look at everything, nor from whoever asks.
    let (mut log, opened) = open(folder.path(), SMALL_LIMITS);
    assert_eq!(opened, Opened::default());
    assert!(log.load(chain[9].id).is_none());
    assert_eq!(log.corrupt(), 1);
    while log.look_at_next().is_some() {}
    assert_eq!(log.corrupt(), 2);
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(vec![chain[9].id, chain[10].id]));
    assert_eq!(log.take_lost_if_changed().unwrap(), None, "once is enough");
    for lost in &chain[9..11] {
        assert_eq!(log.finalize(lost, &[], false).unwrap(), Kept::Written);
    }
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(Vec::new()));
    assert_eq!(readable(&mut log, &chain).len(), 100);
    drop(log);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    assert_eq!((readable(&mut log, &chain).len(), log.corrupt()), (100, 0), "what was written last counts");
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(Vec::new()));
}

#[test]
fn a_spoilt_or_missing_index_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(60, LARGE);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    write(&mut log, &chain);
    drop(log);
    let path = index_path(folder.path(), 1);
    let whole = fs::read(&path).unwrap();
    let spoilt = (0..whole.len()).step_by(7).map(|at| {
        let mut spoilt = whole.clone();
        spoilt[at] ^= 1;
        spoilt
    });
    let cut = (0..whole.len()).step_by(97).map(|length| whole[..length].to_vec());
    for bytes in spoilt.chain(cut) {
        fs::write(&path, bytes).unwrap();
        assert_eq!(survey(folder.path()).defects.len(), 1);
        let (mut log, opened) = open(folder.path(), SMALL_LIMITS);
        assert_eq!(opened, Opened { reindexed: 1, ..Opened::default() });
        assert_eq!(readable(&mut log, &chain[..3]).len(), 3);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    fs::remove_file(&path).unwrap();
    assert!(survey(folder.path()).defects.is_empty(), "a segment that was just filled has none yet");
    assert_eq!(open(folder.path(), SMALL_LIMITS).1.reindexed, 1);
}

#[test]
fn other_clusters_and_later_versions_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path(), LIMITS);
    write(&mut log, &chain(1, 40));
    drop(log);
    let other = LogParameters { cluster: ClusterId([4; 32]), ..parameters() };
    let refused = BlockLog::open(folder.path(), other, LIMITS).err().unwrap();
    assert!(refused.to_string().contains("another cluster"), "{refused}");
    let path = segment_path(folder.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let later = Format { version: 3, ..SEGMENT };
    bytes[..HEADER_BYTES].copy_from_slice(&later.header(CLUSTER));
    fs::write(&path, bytes).unwrap();
    let refused = BlockLog::open(folder.path(), parameters(), LIMITS).err().unwrap();
    assert!(refused.to_string().contains("its version is 3, this program knows version 2"), "{refused}");
    let refused = Reader::new(folder.path().to_owned()).survey().err().unwrap();
    assert!(refused.to_string().contains("version is 3"), "{refused}");
}

/// A segment of this version as version 1 wrote it.
fn former(segment: &[u8]) -> Vec<u8> {
    let mut file = [&b"agblocks\x01\0\0\0"[..], &CLUSTER.0].concat();
    file.extend(crc32c::crc32c(&file).to_le_bytes());
    let mut append = |record: &[u8]| {
        let mut head = (record.len() as u32).to_le_bytes().to_vec();
        head.extend(crc32c::crc32c(record).to_le_bytes());
        head.extend(crc32c::crc32c(&head).to_le_bytes());
        file.extend([&head, record].concat());
    };
    append(&segment[HEADER_BYTES + MARK_BYTES + FRAME_HEAD_BYTES..BEGIN_BYTES - MARK_BYTES]);
    for placed in segment::scan(segment).unwrap().1.records {
        append(&segment[placed.at as usize..][..placed.frame_bytes as usize][FRAME_HEAD_BYTES..]);
    }
    file
}

/// Turns a log into one of version 1, without indexes.
fn make_former(folder: &Path) {
    for number in files::segment_numbers(folder).unwrap() {
        let path = segment_path(folder, number);
        fs::write(&path, former(&fs::read(&path).unwrap())).unwrap();
        let _ = fs::remove_file(index_path(folder, number));
    }
}

#[test]
fn segments_of_the_former_version_are_read_and_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(101, LARGE);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    write(&mut log, &chain[..100]);
    drop(log);
    make_former(folder.path());
    let all = survey(folder.path());
    assert!(all.defects.is_empty() && all.missing.is_empty() && all.incomplete_at.is_none(), "{:?}", all.defects);
    assert_eq!((all.blocks.len(), all.parameters), (100, Some(parameters())));
    let numbers = files::segment_numbers(folder.path()).unwrap();
    let last = *numbers.last().unwrap();
    // A crash of the program that wrote it.
    let whole = fs::read(segment_path(folder.path(), last)).unwrap();
    fs::write(segment_path(folder.path(), last), [&whole[..], &whole[48..70]].concat()).unwrap();

    let (mut log, opened) = open(folder.path(), SMALL_LIMITS);
    assert_eq!(opened, Opened { torn_bytes: 22, reindexed: last - 1, ..Opened::default() });
    assert_eq!(readable(&mut log, &chain).len(), 100);
    assert_eq!(log.hold(&chain[100]).unwrap(), Kept::Written);
    drop(log);
    assert_eq!(fs::read(segment_path(folder.path(), last)).unwrap(), whole);
    let versions = files::segment_numbers(folder.path()).unwrap().into_iter().map(|number| {
        let bytes = fs::read(segment_path(folder.path(), number)).unwrap();
        assert!(FORMER_SEGMENT.read_header(&bytes).is_ok() || number == last + 1);
        bytes[8]
    });
    assert_eq!(versions.collect::<Vec<_>>(), [vec![1; last as usize], vec![2]].concat());
    let (mut log, opened) = open(folder.path(), SMALL_LIMITS);
    assert_eq!((opened, readable(&mut log, &chain).len()), (Opened::default(), 101));
    assert!(survey(folder.path()).defects.is_empty());
}

/// A leader knows the format and makes what is in a block, so checksums tell nothing of who made a frame.
#[test]
fn a_frame_that_a_leader_put_into_its_block_is_no_record_when_the_head_before_it_is_spoilt() {
    let folder = tempfile::tempdir().unwrap();
    let forged = block(77, BlockId { slot: Slot(76), hash: Hash([9; 32]) }, 40);
    let mut frame = Vec::new();
    let range = segment::frame_final(forged.id, &fast(forged.id), true, &mut frame);
    let mut of_block = Vec::new();
    let block_range = segment::frame_block(&forged, &mut of_block);
    // With a mark that it made up, and with none.
    let crafted = [frame.clone(), frame[range].to_vec(), of_block.clone(), of_block[block_range].to_vec()];
    let first = block(1, BlockId::GENESIS, 40);
    let hostile = block_of(2, first.id, &crafted);
    let last = block(3, hostile.id, 40);
    let (mut log, _) = open(folder.path(), LIMITS);
    write(&mut log, &[first, hostile, last]);
    drop(log);
    let whole = fs::read(segment_path(folder.path(), 1)).unwrap();
    let records = segment::scan(&whole).unwrap().1.records;
    let known = |bytes: &[u8]| segment::scan(bytes).map(|(_, found)| found.records).unwrap_or_default();
    assert_eq!(records.len(), 6);

    let at = records[2].at as usize;
    let told = |at: usize| match SEGMENT.frame_at(&whole[at..]) {
        FrameAt::Whole(record) => Head::of(record),
        _ => None,
    };
    let forged = Some(Head::Final { id: forged.id, in_order: true, certified: true });
    assert!((at + 1..records[3].at as usize).any(|at| told(at) == forged), "it has what it takes but for the mark");
    let without_hostile = [&records[..2], &records[3..]].concat();
    for spoilt in at - MARK_BYTES..at + FRAME_HEAD_BYTES {
        let mut bytes = whole.clone();
        bytes[spoilt] ^= 1;
        assert_eq!(known(&bytes), without_hostile, "byte {spoilt}");
    }
    // One place of the mark or the other, the header, and both places: the last segment has no index.
    let fronts = [&[50][..], &[80], &[BEGIN_BYTES - 1], &[20], &[50, 80]];
    for (spoilt, left) in fronts.into_iter().zip([5, 5, 5, 0, 0]) {
        let mut bytes = whole.clone();
        spoilt.iter().chain([&at]).for_each(|at| bytes[*at] ^= 1);
        assert_eq!(known(&bytes), without_hostile[..left], "bytes {spoilt:?}");
    }

    let whole = former(&whole);
    let records = known(&whole);
    let at = records[2].at as usize;
    for spoilt in at..at + FRAME_HEAD_BYTES {
        let mut bytes = whole.clone();
        bytes[spoilt] ^= 1;
        assert_eq!(known(&bytes), records[..2], "what follows is lost, and fetched from others");
    }
}

#[test]
fn where_the_front_of_a_segment_is_spoilt_its_index_tells_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(100, LARGE);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    write(&mut log, &chain);
    drop(log);
    let path = segment_path(folder.path(), 1);
    let whole = fs::read(&path).unwrap();
    let index = fs::read(index_path(folder.path(), 1)).unwrap();
    let records = segment::scan(&whole).unwrap().1.records;
    let in_first = records.iter().filter(|placed| matches!(placed.head, Head::Block(_))).count();
    for spoilt in [0..1, 30..31, 0..BEGIN_BYTES, HEADER_BYTES..BEGIN_BYTES] {
        let mut bytes = whole.clone();
        bytes[spoilt.clone()].fill(0);
        fs::write(&path, &bytes).unwrap();
        fs::write(index_path(folder.path(), 1), &index).unwrap();
        let all = survey(folder.path());
        assert_eq!((all.defects.len(), all.blocks.len(), all.missing.len()), (1, 100, 0), "{spoilt:?}");
        assert_eq!(all.loss(&all.defects[0]), Loss::Nothing);
        let (mut log, opened) = open(folder.path(), SMALL_LIMITS);
        let header = u64::from(spoilt.start < HEADER_BYTES);
        assert_eq!(opened, Opened { corrupt: header, ..Opened::default() }, "{spoilt:?}");
        assert_eq!(readable(&mut log, &chain).len(), 100, "{spoilt:?}");
        drop(log);

        fs::remove_file(index_path(folder.path(), 1)).unwrap();
        let all = survey(folder.path());
        assert_eq!((all.defects.len(), all.blocks.len()), (1, 100 - in_first), "{spoilt:?}");
        let (mut log, opened) = open(folder.path(), SMALL_LIMITS);
        assert_eq!((opened.corrupt, readable(&mut log, &chain).len()), (1, 100 - in_first), "{spoilt:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "it stays as it is");
    }
}

#[test]
fn files_that_are_longer_than_any_that_is_written_are_read_up_to_their_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(100, LARGE);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    write(&mut log, &chain);
    let before = log.bytes();
    drop(log);
    let last = *files::segment_numbers(folder.path()).unwrap().last().unwrap();
    let lengthen = |path: &Path| File::options().append(true).open(path).unwrap().set_len(ENDLESS_BYTES).unwrap();
    for path in [segment_path(folder.path(), 1), segment_path(folder.path(), last), index_path(folder.path(), 2)] {
        lengthen(&path);
    }
    let held = folder.path().join("00000001.held");
    fs::write(&held, []).unwrap();
    lengthen(&held);
    let all = survey(folder.path());
    assert_eq!((all.blocks.len(), all.missing.len(), all.incomplete_at.is_some()), (100, 0, true));
    assert_eq!(
        all.defects.len(),
        3,
        "a segment, its index that is not of it any more, and an index: {:?}",
        all.defects
    );

    let (mut log, opened) = open(folder.path(), Limits { bytes_max: 1 << 30, ..SMALL_LIMITS });
    assert_eq!((opened.corrupt, opened.reindexed), (1, 2));
    assert!(opened.torn_bytes > 0 && log.bytes() <= before + SEGMENT.file_bytes_max + 1);
    assert_eq!(readable(&mut log, &chain).len(), 100);
}

#[test]
fn an_index_that_names_what_is_longer_than_a_record_is_none() {
    let placed = |frame_bytes: usize| Placed {
        at: 100,
        frame_bytes: frame_bytes as u32,
        head: Head::Final { id: BlockId::GENESIS, in_order: true, certified: false },
    };
    let decode = |placed| {
        let index = segment::encode_index(CLUSTER, ENDLESS_BYTES, &[placed]);
        segment::decode_index(&index, ENDLESS_BYTES)
    };
    let longest = placed(FRAME_HEAD_BYTES + RECORD_BYTES_MAX);
    assert_eq!(decode(longest), Some((CLUSTER, vec![longest])));
    assert_eq!(decode(placed(FRAME_HEAD_BYTES + RECORD_BYTES_MAX + 1)), None);
}
