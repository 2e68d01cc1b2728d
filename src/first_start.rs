//! A node starts once in a cluster: it keeps no log of its votes yet, so after a restart it could sign votes that conflict
//! with those it sent before. A mark in the data folder remembers the clusters that it has started in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use alpenglow_rotor::types::{ClusterId, Hash};

/// Why a node may not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirstStartError {
    /// It has started in this cluster before.
    #[error(
        "{mark} says that this node has started in this cluster before. It keeps no log of its votes, so starting again could sign votes that conflict with those it sent; make a new cluster with `alpenglow genesis`"
    )]
    StartedBefore {
        /// The mark.
        mark: PathBuf,
    },
    /// The data folder cannot be used.
    #[error("cannot write {path}: {source}; set `data` to a folder that this user may write to")]
    DataFolder {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Whether the node may start in `cluster`: the first thing to know, before anything is taken or made.
///
/// # Errors
/// [`FirstStartError::StartedBefore`].
pub(crate) fn check(data: &Path, cluster: ClusterId) -> Result<(), FirstStartError> {
    let mark = mark(data, cluster);
    if mark.exists() { Err(FirstStartError::StartedBefore { mark }) } else { Ok(()) }
}

/// Makes the data folder if there is none, and in it the mark of `cluster`, on disk when this returns.
///
/// # Errors
/// [`FirstStartError`].
pub(crate) fn claim(data: &Path, cluster: ClusterId) -> Result<(), FirstStartError> {
    let refuse = |path: &Path| {
        let path = path.to_owned();
        |source| FirstStartError::DataFolder { path, source }
    };
    fs::create_dir_all(data).map_err(refuse(data))?;
    let mark = mark(data, cluster);
    match OpenOptions::new().write(true).create_new(true).open(&mark) {
        Ok(file) => file.sync_all().and_then(|()| File::open(data)?.sync_all()).map_err(refuse(&mark)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(FirstStartError::StartedBefore { mark }),
        Err(error) => Err(refuse(&mark)(error)),
    }
}

fn mark(data: &Path, cluster: ClusterId) -> PathBuf {
    data.join(format!("started-in-{}", Hash(cluster.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defect_28_a_data_folder_serves_once_in_each_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        check(&data, ClusterId([1; 32])).unwrap();
        claim(&data, ClusterId([1; 32])).unwrap();
        claim(&data, ClusterId([2; 32])).unwrap();
        check(&data, ClusterId([1; 32])).unwrap_err();
        let error = claim(&data, ClusterId([1; 32])).unwrap_err();
        assert!(matches!(error, FirstStartError::StartedBefore { .. }), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(claim(&file.join("data"), ClusterId([1; 32])).unwrap_err().to_string().contains("data"));
    }
}
