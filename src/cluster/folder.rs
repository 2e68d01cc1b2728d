//! The folder of a run: the files of its cluster, and what we write about it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::outcome::Outcome;

/// The folder of one run.
#[derive(Clone, Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
}

/// Why a run's files cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// A folder with something in it.
    #[error("{0} is not empty: choose another folder with --out, or remove it")]
    NotEmpty(PathBuf),
    /// The file system refuses.
    #[error("cannot write {path}: {source}; choose another folder with --out")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
}

impl FolderError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

impl RunFolder {
    /// Creates the folder `path` with its parents; an empty one may be there.
    ///
    /// # Errors
    /// [`FolderError`].
    pub(crate) fn create(path: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(path).map_err(FolderError::at(path))?;
        let path = path.canonicalize().map_err(FolderError::at(path))?;
        if fs::read_dir(&path).map_err(FolderError::at(&path))?.next().is_some() {
            return Err(FolderError::NotEmpty(path));
        }
        Ok(Self { path })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the file that takes everything heard of the nodes.
    ///
    /// # Errors
    /// [`FolderError::File`].
    pub(crate) fn create_log(&self) -> Result<File, FolderError> {
        let path = self.path.join("events.jsonl");
        File::create(&path).map_err(FolderError::at(&path))
    }

    /// Writes the outcome, as an object and for people.
    ///
    /// # Errors
    /// [`FolderError::File`].
    pub(crate) fn write_outcome(&self, outcome: &Outcome, table: &str) -> Result<(), FolderError> {
        let object = serde_json::to_string_pretty(outcome).expect("its keys are strings");
        for (name, text) in [("outcome.json", object.as_str()), ("outcome.txt", table)] {
            let path = self.path.join(name);
            fs::write(&path, text).map_err(FolderError::at(&path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_folder_is_taken() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        RunFolder::create(&path).unwrap();
        let folder = RunFolder::create(&path).unwrap();
        folder.create_log().unwrap();
        assert!(matches!(RunFolder::create(&path), Err(FolderError::NotEmpty(_))));
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(RunFolder::create(&path), Err(FolderError::File { .. })));
    }
}
