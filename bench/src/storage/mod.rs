//! What a node pays for its files: each kind of write beside its floor, the bare system calls for as many bytes, in
//! turns.

mod handed_over;
mod place;
mod ring;
mod rings;
mod times;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use alpenglow::measuring::{self, ControlFile, Segments};
use alpenglow_control::block_log::held_slice_bytes;
use alpenglow_rotor::slice::Slice;

use self::handed_over::Load;
use self::place::Place;
use self::times::{Times, in_turns};
use crate::cores::{Cores, on_core};
use crate::report::{Report, Row};

/// Slices of a block, as a leader makes it of 5,000 transactions of 200 bytes a second.
const BLOCK_SLICES: usize = 14;

/// How often each kind is written.
#[derive(Clone, Copy, Debug)]
struct Rounds {
    unsynced: usize,
    synced: usize,
    blocks: usize,
    busy: usize,
}

const ROUNDS: Rounds = Rounds { unsynced: 1_000, synced: 200, blocks: 200, busy: 300 };

/// Measures in a new folder inside of `folder`, which is removed again.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn measure(folder: &Path) -> io::Result<Report> {
    measure_rounds(folder, ROUNDS)
}

fn measure_rounds(folder: &Path, rounds: Rounds) -> io::Result<Report> {
    let scratch = tempfile::Builder::new().prefix("alpenglow-storage-").tempdir_in(folder)?;
    let place = Place::of(scratch.path());
    let mut report = Report::begin("alpenglow.storage/1");
    report.machine["folder"] = folder.display().to_string().into();
    report.machine["file_system"] = place.file_system.into();
    report.machine["device"] = place.device.into();
    let scratch = scratch.path();
    report.rows = on_core(Cores::last(), || -> io::Result<Vec<Row>> {
        let mut rows = vec![vote(scratch, rounds)?, synced_vote(scratch, rounds)?];
        rows.extend(slice(scratch, rounds)?);
        rows.push(block(scratch, rounds)?);
        rows.extend(rings::rows(scratch, &Bare::slice_bytes(), rounds.unsynced)?);
        Ok(rows)
    })?;
    // Their threads are where the scheduler puts them.
    report.rows.push(handed_over::measure(scratch, Load::Idle, rounds.unsynced)?);
    report.rows.push(handed_over::measure(scratch, Load::Busy, rounds.busy)?);
    Ok(report)
}

/// A step beside its floor.
fn row(name: &str, ours: &Times, floor: &Times) -> Row {
    Row {
        name: name.into(),
        ours_us: ours.median(),
        floor_us: Some(floor.median()),
        rounds_ratio: Some(ours.ratio(floor)),
        ratio_goal: None,
        goal_us: None,
        details: BTreeMap::from([("p99_us".into(), ours.p99()), ("floor_p99_us".into(), floor.p99())]),
    }
}

/// A file that bytes are appended to, and nothing else.
struct Bare {
    file: File,
    end: u64,
}

impl Bare {
    fn create(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: File::create_new(path)?, end: 0 })
    }

    fn append(&mut self, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.end).expect("a scratch file can be written");
        self.end += bytes.len() as u64;
    }

    fn append_synced(&mut self, bytes: &[u8]) {
        self.append(bytes);
        self.file.sync_data().expect("a scratch file can be synced");
    }

    /// Appends the parts in one call, from where they are.
    fn append_parts(&mut self, parts: &[&[u8]]) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let written = rustix::io::pwritev(&self.file, &parts, self.end).expect("a scratch file can be written");
        assert_eq!(written, bytes, "a file takes all at once");
        self.end += bytes as u64;
    }

    /// As many bytes as a slice takes in a file.
    fn slice_bytes() -> Vec<u8> {
        let slice = full_slice();
        vec![7; slice.payload.len() + SLICE_HEAD_BYTES]
    }
}

/// Of a slice's frame, before its payload.
const SLICE_HEAD_BYTES: usize = measuring::FRAME_HEAD_BYTES + held_slice_bytes(0);

fn full_slice() -> Slice {
    let mut blocks = measuring::blocks(1, 1);
    blocks.remove(0).slices.remove(0)
}

/// A vote is appended to the vote log.
fn vote(folder: &Path, rounds: Rounds) -> io::Result<Row> {
    let vote = measuring::vote();
    let mut log = ControlFile::vote_log(&folder.join("votes"))?;
    let frame = frame_of(&mut log, &vote)?;
    let mut bare = Bare::create(folder.join("bare-votes"))?;
    let [ours, floor] = in_turns(
        rounds.unsynced,
        [&mut || log.append(&vote).expect("a scratch file can be written"), &mut || bare.append(&frame)],
    );
    Ok(row("vote_log_append", &ours, &floor))
}

/// As many bytes as a record takes in a file.
fn frame_of(file: &mut ControlFile, record: &[u8]) -> io::Result<Vec<u8>> {
    let before = file.bytes();
    file.append(record)?;
    Ok(vec![7; (file.bytes() - before) as usize])
}

/// The same with `durability = "power"`.
fn synced_vote(folder: &Path, rounds: Rounds) -> io::Result<Row> {
    let vote = measuring::vote();
    let mut log = ControlFile::vote_log(&folder.join("synced-votes"))?;
    let frame = frame_of(&mut log, &vote)?;
    let mut bare = Bare::create(folder.join("bare-synced-votes"))?;
    let [ours, floor] = in_turns(
        rounds.synced,
        [&mut || log.append_synced(&vote).expect("a scratch file can be written"), &mut || bare.append_synced(&frame)],
    );
    Ok(row("vote_log_append_synced", &ours, &floor))
}

/// A slice is appended by control before the vote, in one piece as it is, and from where it is, for comparison.
fn slice(folder: &Path, rounds: Rounds) -> io::Result<Vec<Row>> {
    let slice = full_slice();
    let mut held = ControlFile::held_slices(&folder.join("held"))?;
    let before = held.bytes();
    held.append_slice(&slice)?;
    let bytes = vec![7; (held.bytes() - before) as usize];
    assert_eq!(bytes.len(), Bare::slice_bytes().len());
    let mut bare = Bare::create(folder.join("bare-slices"))?;
    let mut gathered = Bare::create(folder.join("gathered-slices"))?;
    let [ours, in_parts, floor] = in_turns(
        rounds.unsynced,
        [
            &mut || held.append_slice(&slice).expect("a scratch file can be written"),
            &mut || {
                let checksum = crc32c::crc32c(&slice.payload);
                let mut head = [7; SLICE_HEAD_BYTES];
                head[..4].copy_from_slice(&checksum.to_le_bytes());
                gathered.append_parts(&[&head, &slice.payload]);
            },
            &mut || bare.append(&bytes),
        ],
    );
    Ok(vec![row("slice_append", &ours, &floor), row("slice_append_gathered", &in_parts, &floor)])
}

/// A whole block as the block log's thread writes it.
fn block(folder: &Path, rounds: Rounds) -> io::Result<Row> {
    let blocks = measuring::blocks(BLOCK_SLICES, rounds.blocks + 1);
    let segments = folder.join("blocks");
    fs::create_dir(&segments)?;
    let mut log = Segments::make(&segments).map_err(io::Error::other)?;
    let mut left = blocks.iter();
    let mut next = || left.next().expect("there is one for each round");
    log.write(next())?;
    let bytes = vec![7; log.bytes() as usize];
    let mut bare = Bare::create(folder.join("bare-blocks"))?;
    let [ours, floor] = in_turns(
        rounds.blocks - 1,
        [&mut || log.write(next()).expect("a scratch file can be written"), &mut || bare.append(&bytes)],
    );
    let mut row = row(&format!("block_of_{BLOCK_SLICES}_slices"), &ours, &floor);
    row.details.insert("mb_per_s".into(), bytes.len() as f64 / ours.median());
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_write_runs_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let rounds = Rounds { unsynced: 3, synced: 2, blocks: 3, busy: 2 };
        let report = measure_rounds(folder.path(), rounds).unwrap();
        assert!(report.rows.iter().all(|row| row.ours_us > 0.0 && row.floor_us.is_some_and(|floor| floor > 0.0)));
        let json = report.json();
        assert_eq!(json["schema"], "alpenglow.storage/1");
        assert!(json["steps"]["slice_append"]["details"]["floor_p99_us"].as_f64() > Some(0.0));
        assert!(json["machine"]["file_system"].as_str().is_some_and(|name| !name.is_empty()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(measure_rounds(&folder.path().join("none"), rounds).is_err());
    }
}
