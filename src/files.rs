//! Files that people hand us: read with a bound and without ever waiting for a pipe; written so that nothing is lost.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Mode of a file that only its owner may read.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of any other file, before the umask.
pub(crate) const PUBLIC: u32 = 0o644;

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The file system refuses.
    #[error("cannot {verb} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried: "read" or "write".
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// A folder, pipe or device.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Longer than any file of its sort.
    #[error("{path} is longer than {bytes_max} bytes, so it is not what it should be", path = .path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// The bound.
        bytes_max: usize,
    },
    /// Nothing is ever overwritten.
    #[error("{} exists already: remove it or choose another place", .0.display())]
    Exists(PathBuf),
}

/// Reads a regular file of at most `bytes_max` bytes. The bytes are wiped when dropped: they may be a key.
///
/// # Errors
/// [`FileError`].
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<(Zeroizing<Vec<u8>>, Metadata), FileError> {
    let failed = |source| FileError::Io { verb: "read", path: path.to_owned(), source };
    // Opening a pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    let too_long = || FileError::TooLong { path: path.to_owned(), bytes_max };
    let expected = usize::try_from(metadata.len()).ok().filter(|&bytes| bytes <= bytes_max).ok_or_else(too_long)?;
    // Room for all of it at once, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bytes_max { Err(too_long()) } else { Ok((bytes, metadata)) }
}

/// Writes a new file, through to the disk.
///
/// # Errors
/// [`FileError::Exists`] if there is such a file, whatever it holds; else [`FileError::Io`].
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => FileError::Io { verb: "write", path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_new(&path, b"12345", PRIVATE).unwrap();
        assert_eq!(**read(&path, 5).unwrap().0, *b"12345");
        assert!(matches!(read(&path, 4), Err(FileError::TooLong { bytes_max: 4, .. })));
        assert!(matches!(write_new(&path, b"", PRIVATE), Err(FileError::Exists(_))));
        assert_eq!(**read(&path, 5).unwrap().0, *b"12345");
    }

    #[test]
    fn a_pipe_or_a_folder_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(matches!(read(&pipe, 10), Err(FileError::NotAFile(_))));
        assert!(matches!(read(folder.path(), 10), Err(FileError::NotAFile(_))));
        assert!(matches!(read(&folder.path().join("none"), 10), Err(FileError::Io { .. })));
    }
}
