//! The folder for what a node writes, used by one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "lock";
/// What a data folder has at least one of, from when it is made ready or a part of it is copied away.
const FILES: [&str; 5] = [LOCK_FILE, "reservation", "vote.log", "evidence.log", "blocks"];

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
    /// The file system refuses.
    #[error("cannot use {path}: {source}; set `data` to a folder that this user may write to")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A path at which there is nothing that a node wrote.
#[derive(Debug, thiserror::Error)]
#[error("{} {}; give the data folder of a node, `data` in its node.toml", path.display(), if *.is_there { "holds nothing that a node wrote" } else { "is no folder" })]
pub(crate) struct NoDataFolder {
    path: PathBuf,
    is_there: bool,
}

/// Refuses what is no node's data folder, for those who only read there.
///
/// # Errors
/// [`NoDataFolder`].
pub(crate) fn expect_data_folder(path: &Path) -> Result<(), NoDataFolder> {
    let is_there = path.is_dir();
    if is_there && (fs::read_dir(path).is_err() || FILES.iter().any(|name| path.join(name).symlink_metadata().is_ok()))
    {
        return Ok(());
    }
    Err(NoDataFolder { path: path.to_owned(), is_there })
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
    use super::*;

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
