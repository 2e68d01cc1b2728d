//! The names of the log's files, and what is read of them at places that are known.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use alpenglow_rotor::types::ClusterId;

use super::index::Place;
use super::segment::{self, INDEX, Placed, SEGMENT};
use crate::storage::frames::{FRAME_HEAD_BYTES, FrameAt};

/// The segments in a folder, in order.
pub(super) fn segment_numbers(folder: &Path) -> io::Result<Vec<u64>> {
    numbers(folder, ".segment")
}

/// The numbers that names with this suffix have, in order.
pub(super) fn numbers(folder: &Path, suffix: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(suffix)?.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.segment"))
}

pub(super) fn index_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.index"))
}

/// The index of a segment and its cluster, if there is one that fits it.
pub(super) fn read_index(folder: &Path, number: u64, segment_bytes: u64) -> Option<(ClusterId, Vec<Placed>)> {
    let bytes = File::open(index_path(folder, number)).and_then(|file| INDEX.read_bounded(&file)).ok()?;
    segment::decode_index(&bytes, segment_bytes)
}

/// A record, if it is whole.
pub(super) fn read_record(folder: &Path, place: Place) -> Option<Vec<u8>> {
    let mut frame = vec![0; place.frame_bytes as usize];
    File::open(segment_path(folder, place.segment)).and_then(|file| file.read_exact_at(&mut frame, place.at)).ok()?;
    match SEGMENT.frame_at(&frame) {
        FrameAt::Whole(_) => Some(frame.split_off(FRAME_HEAD_BYTES)),
        _ => None,
    }
}
