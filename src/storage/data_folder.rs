//! The folder for what a node writes, used by one process at a time.

use std::fs::{self, File, FileType, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "lock";
const BLOCKS_FOLDER: &str = "blocks";
/// What a data folder has at least one of, from when it is made ready or a part of it is copied away.
const FILES: [&str; 5] = [LOCK_FILE, "reservation", "vote.log", "evidence.log", BLOCKS_FOLDER];
/// What is in it besides for a while.
const UNFINISHED_FILES: [&str; 3] = ["reservation.new", "vote.log.new", "vote.log.corrupt"];

/// A data folder that no other process uses as long as this lives.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataFolderError {
    /// Another process has it.
    #[error(
        "{folder} is in use by another node{}: stop that one first, or give this one a data folder of its own",
        process(holder)
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// What the other process wrote into the lock file: its number.
        holder: String,
    },
    /// There is something else in the place of one of its files.
    #[error(transparent)]
    WrongKind(#[from] WrongKind),
    /// The file system refuses.
    #[error("cannot use {path}: {source}; set `data` to a folder that this user may write to")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Something in a data folder that is of another kind than what a node writes there: a pipe, which would hang whoever
/// opens it, a device, or a folder where a file should be.
#[derive(Debug, thiserror::Error)]
#[error("{path} is {}; a node writes a {expected} there: move it away", kind(found))]
pub(crate) struct WrongKind {
    path: PathBuf,
    found: FileType,
    expected: &'static str,
}

/// Why a path cannot be read as a node's data folder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoDataFolder {
    /// There is nothing that a node wrote.
    #[error("{} {}; give the data folder of a node, `data` in its node.toml", path.display(), if *.is_there { "holds nothing that a node wrote" } else { "is no folder" })]
    Nothing {
        /// The path.
        path: PathBuf,
        /// Whether it is a folder.
        is_there: bool,
    },
    /// There is something that no node wrote.
    #[error(transparent)]
    WrongKind(#[from] WrongKind),
}

/// Refuses what is no node's data folder, for those who only read there.
///
/// # Errors
/// [`NoDataFolder`].
pub(crate) fn expect_data_folder(path: &Path) -> Result<(), NoDataFolder> {
    let is_there = path.is_dir();
    if is_there && (fs::read_dir(path).is_err() || FILES.iter().any(|name| path.join(name).symlink_metadata().is_ok()))
    {
        return Ok(expect_kinds(path)?);
    }
    Err(NoDataFolder::Nothing { path: path.to_owned(), is_there })
}

/// Looks at what each thing in a data folder is, before any of them is opened.
///
/// # Errors
/// [`WrongKind`] for the first one that a node would not have made.
pub(crate) fn expect_kinds(folder: &Path) -> Result<(), WrongKind> {
    let found = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.file_type());
    for name in FILES.into_iter().chain(UNFINISHED_FILES) {
        let path = folder.join(name);
        let Some(found) = found(&path) else { continue };
        let (is_right, expected) =
            if name == BLOCKS_FOLDER { (found.is_dir(), "folder") } else { (found.is_file(), "file") };
        if !is_right {
            return Err(WrongKind { path, found, expected });
        }
    }
    let blocks = fs::read_dir(folder.join(BLOCKS_FOLDER)).into_iter().flatten().flatten();
    for path in blocks.map(|entry| entry.path()) {
        // A folder among them, such as `lost+found`, is none of a node's.
        if let Some(found) = found(&path).filter(|found| !found.is_file() && !found.is_dir()) {
            return Err(WrongKind { path, found, expected: "file" });
        }
    }
    Ok(())
}

fn kind(found: &FileType) -> &'static str {
    if found.is_file() {
        "a file"
    } else if found.is_dir() {
        "a folder"
    } else if found.is_fifo() {
        "a named pipe"
    } else if found.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn process(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" (process {holder})") }
}

impl DataFolder {
    /// Makes the folder if there is none, and takes it.
    ///
    /// # Errors
    /// [`DataFolderError`].
    pub(crate) fn take(path: &Path) -> Result<Self, DataFolderError> {
        let refuse = |path: &Path| {
            let path = path.to_owned();
            |source| DataFolderError::Io { path, source }
        };
        fs::create_dir_all(path).map_err(refuse(path))?;
        expect_kinds(path)?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(refuse(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&lock_path).unwrap_or_default().trim().to_owned();
                return Err(DataFolderError::InUse { folder: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(refuse(&lock_path)(source)),
        }
        // Only for the message above: a full disk costs the number and nothing else.
        let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    use super::*;

    fn make_pipe(path: &Path) {
        mknodat(CWD, path, Kind::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[test]
    fn what_is_no_file_in_the_place_of_one_is_refused_before_it_is_opened() {
        let names =
            FILES.into_iter().chain(UNFINISHED_FILES).chain(["blocks/00000001.segment", "blocks/00000002.held"]);
        for name in names {
            let folder = tempfile::tempdir().unwrap();
            drop(DataFolder::take(folder.path()).unwrap());
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name == LOCK_FILE {
                fs::remove_file(&path).unwrap();
            }
            make_pipe(&path);
            let refused = DataFolder::take(folder.path()).unwrap_err().to_string();
            assert!(refused.contains(&format!("{name} is a named pipe; a node writes a fi")) || name == BLOCKS_FOLDER);
            assert!(expect_data_folder(folder.path()).unwrap_err().to_string().contains("a named pipe"), "{name}");
        }
    }

    #[test]
    fn folders_and_files_are_not_taken_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| fs::create_dir_all(folder.path().join(name)).unwrap();
        make("blocks/lost+found");
        drop(DataFolder::take(folder.path()).unwrap());
        make("vote.log");
        let refused = DataFolder::take(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("vote.log is a folder; a node writes a file there: move it away"), "{refused}");
        fs::remove_dir(folder.path().join("vote.log")).unwrap();
        fs::remove_dir_all(folder.path().join(BLOCKS_FOLDER)).unwrap();
        fs::write(folder.path().join(BLOCKS_FOLDER), "").unwrap();
        let refused = DataFolder::take(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("blocks is a file; a node writes a folder there"), "{refused}");
        fs::remove_file(folder.path().join(BLOCKS_FOLDER)).unwrap();
        let _socket = UnixListener::bind(folder.path().join("reservation")).unwrap();
        assert!(DataFolder::take(folder.path()).unwrap_err().to_string().contains("reservation is a socket"));
    }

    #[test]
    fn a_folder_is_used_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/data");
        let first = DataFolder::take(&path).unwrap();
        let refused = DataFolder::take(&path).unwrap_err().to_string();
        assert!(refused.contains("in use by another node (process "), "{refused}");
        assert_eq!(first.path(), path);
        drop(first);
        DataFolder::take(&path).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(DataFolder::take(&file.join("data")).unwrap_err().to_string().contains("file/data"));
    }
}
