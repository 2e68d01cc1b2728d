//! The log as a file.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use alpenglow_control::vote_record::{Entry, FoundLog};

use super::disk::Disk;
use super::{Owner, VoteLogError};
use crate::storage::frames::{End, Format, FrameFile, HeaderError, Tail};

/// The file's format. The longest record is a finalization: two certificates, each of which fits a datagram. A log is
/// far shorter than the longest file, if the disk lets it be replaced.
pub(crate) const FORMAT: Format =
    Format { magic: *b"agvotelg", version: 1, record_bytes_max: 4_096, file_bytes_max: 64 << 20, tail: Tail::CutShort };

/// The file in a node's data folder.
pub(crate) fn path(data: &Path) -> PathBuf {
    data.join("vote.log")
}

/// Where a shorter log is written before it takes the place of the other one.
pub(super) fn unfinished_path(data: &Path) -> PathBuf {
    data.join("vote.log.new")
}

/// Reads the log of a set of `validators`.
///
/// # Errors
/// [`VoteLogError`] if it is another node's, of another cluster or of a later version, or the file system refuses.
pub(super) fn read(path: &Path, owner: &Owner, validators: usize) -> Result<FoundLog, VoteLogError> {
    let refuse = |source| VoteLogError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(FoundLog::Missing),
        Err(source) => return Err(refuse(source)),
    };
    let bytes = FORMAT.read_bounded(&file).map_err(refuse)?;
    parse(&bytes, owner, validators, path)
}

pub(super) fn parse(bytes: &[u8], owner: &Owner, validators: usize, path: &Path) -> Result<FoundLog, VoteLogError> {
    let contents = match FORMAT.read(bytes) {
        Ok(contents) => contents,
        Err(HeaderError::Version { found, known }) => {
            return Err(VoteLogError::Version { path: path.to_owned(), found, known });
        }
        Err(HeaderError::Short(_) | HeaderError::Magic | HeaderError::Checksum) => {
            return Ok(FoundLog::Corrupt(Vec::new()));
        }
    };
    let mut records = contents.records.iter().map(|record| record.bytes);
    let identity = records.next().flatten().and_then(|record| <[u8; 32]>::try_from(record).ok());
    owner.check(contents.cluster, identity.unwrap_or(owner.identity), path)?;
    let mut is_whole =
        identity.is_some() && !matches!(contents.end, End::Lost(_)) && bytes.len() as u64 <= FORMAT.file_bytes_max;
    let mut entries = Vec::new();
    for record in records {
        match record.and_then(|bytes| Entry::decode(bytes, validators).ok()) {
            Some(entry) => entries.push(entry),
            None => is_whole = false,
        }
    }
    Ok(match contents.end {
        End::Unwritten(_) if is_whole => FoundLog::Unwritten(entries),
        _ if is_whole => FoundLog::Whole(entries),
        _ => FoundLog::Corrupt(entries),
    })
}

/// A log of these entries, encoded, on disk under an unfinished name.
///
/// # Errors
/// When the file system refuses.
pub(super) fn create<'e>(
    data: &Path,
    owner: &'e Owner,
    entries: impl IntoIterator<Item = &'e [u8]>,
) -> io::Result<FrameFile> {
    let records = [&owner.identity[..]].into_iter().chain(entries);
    FrameFile::create(FORMAT, &unfinished_path(data), owner.cluster, records)
}

/// Lets the unfinished log take the place of the other one. The change outlives the process; [`sync_name`] makes it
/// outlive the machine's power.
///
/// # Errors
/// When the file system refuses.
pub(super) fn put_in_place(disk: &mut impl Disk, data: &Path) -> io::Result<()> {
    disk.rename(&unfinished_path(data), &path(data))
}

/// Returns when the log's name is on disk.
///
/// # Errors
/// When the file system refuses.
pub(super) fn sync_name(disk: &mut impl Disk, data: &Path) -> io::Result<()> {
    disk.sync_folder_of(&path(data))
}
