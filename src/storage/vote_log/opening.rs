//! The record at a node's start.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use alpenglow_control::vote_record::{Bar, Doubt, Durable, Found, FoundLog, Host, Restoration, UNKNOWN_SLOTS};
use alpenglow_rotor::types::Slot;

use super::disk::{FailingFileSystem, FileSystem};
use super::{Owner, VoteLogError, file, reservation};
use crate::config::Durability;
use crate::failpoint::{FailPoints, Point};
use crate::storage::data_folder::DataFolder;
use crate::storage::frames::FrameFile;

/// What a node goes on from.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What it may do.
    pub(crate) restoration: Restoration,
    /// The log, which says no more than that.
    pub(super) log: FrameFile,
    /// What the log is to outlive.
    pub(super) durability: Durability,
}

/// Says of a node that it has never voted and may: for keys that were just made.
///
/// # Errors
/// [`VoteLogError::Exists`] if there is a record of votes; otherwise what the file system refuses.
pub(crate) fn initialize(data: &Path, owner: &Owner) -> Result<(), VoteLogError> {
    let refuse = |path: &Path| {
        let path = path.to_owned();
        |source| VoteLogError::Io { path, source }
    };
    fs::create_dir_all(data).map_err(refuse(data))?;
    let path = reservation::path(data);
    if let Some(path) = [&path, &file::path(data)].into_iter().find(|path| path.exists()) {
        return Err(VoteLogError::Exists(path.clone()));
    }
    reservation::write(&mut FileSystem, &path, &Durable::new(), owner).map_err(refuse(&path))
}

/// Reads what is there, and writes what follows from it: first the durable part, then a log that says the same as the
/// old one in fewer words. A crash in between leaves what leads to the same.
///
/// # Errors
/// [`VoteLogError`] says what to do.
pub(crate) fn open(
    folder: &DataFolder,
    owner: &Owner,
    validators: usize,
    host: Host,
    durability: Durability,
    fail_points: &FailPoints,
) -> Result<Opened, VoteLogError> {
    let data = folder.path();
    let (log_path, reservation_path) = (file::path(data), reservation::path(data));
    let refuse = |path: &Path| {
        let path = path.to_owned();
        |source| VoteLogError::Io { path, source }
    };
    let durable = reservation::read(&reservation_path, owner)?;
    let log = file::read(&log_path, owner, validators)?;
    if !matches!(log, FoundLog::Missing) {
        // If the log is to outlive the power from now on, the durable part says so before the log is replaced.
        File::open(&log_path).and_then(|file| file.sync_all()).map_err(refuse(&log_path))?;
    }
    let restoration = Restoration::of(Found { durable, log }, host, durability == Durability::Power);
    if restoration.doubt() == Some(Doubt::LogCorrupt) {
        keep_aside(&log_path);
    }
    say(&restoration);
    let mut disk = FailingFileSystem { fail_points, point: Point::WithinStart };
    reservation::write(&mut disk, &reservation_path, &restoration.durable(), owner)
        .map_err(refuse(&reservation_path))?;
    let entries: Vec<Vec<u8>> = restoration.entries().map(|entry| entry.encode()).collect();
    let log = file::create(data, owner, entries.iter().map(Vec::as_slice)).map_err(refuse(&log_path))?;
    fail_points.pass(Point::WithinStart);
    file::put_in_place(&mut disk, data).and_then(|()| file::sync_name(&mut disk, data)).map_err(refuse(&log_path))?;
    Ok(Opened { restoration, log, durability })
}

/// A second name for the file that a new log is about to replace: takes no room, however long the file is.
fn keep_aside(corrupt: &Path) {
    let aside = corrupt.with_extension("log.corrupt");
    let removed = match fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    match removed.and_then(|()| fs::hard_link(corrupt, &aside)) {
        Ok(()) => tracing::error!(kept = %aside.display(), "the vote log is corrupt; it is kept under another name"),
        Err(error) => tracing::error!(%error, "the vote log is corrupt, and cannot be kept under another name"),
    }
}

fn say(restoration: &Restoration) {
    let why = restoration.doubt().map(|doubt| match doubt {
        Doubt::PowerLoss => "this machine was started anew since the node ran, so the end of its vote log may be lost",
        Doubt::LogMissing => "the vote log is missing",
        Doubt::LogCorrupt => "the vote log is corrupt",
        Doubt::OtherMachine => "the data folder comes from another machine",
        Doubt::ReservationMissing => {
            "nothing tells how far this node has voted: its reservation is missing or cannot be read (a new node's data folder is made ready by `alpenglow init`)"
        }
    });
    let kept = restoration.entries().count();
    match (why, restoration.bar()) {
        (Some(why), Bar::Through(through)) => {
            tracing::warn!(%through, "{why}: this node does not vote up to that slot");
        }
        (Some(why), Bar::PastFirstFinalization(least)) => tracing::warn!(
            %least,
            "{why}: this node does not vote up to {UNKNOWN_SLOTS} slots past the first finalization that it sees, and that slot at least"
        ),
        (None, Bar::Through(Slot::GENESIS)) => tracing::info!(entries = kept, "goes on from its vote log"),
        (None, Bar::Through(through)) => {
            tracing::info!(entries = kept, %through, "goes on from its vote log, and does not vote up to that slot");
        }
        (None, Bar::PastFirstFinalization(least)) => tracing::warn!(
            %least,
            "as said at an earlier start, this node does not vote up to {UNKNOWN_SLOTS} slots past the first finalization that it sees, and that slot at least"
        ),
    }
}
