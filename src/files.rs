//! Reading files that anybody may have written: never more than expected, and never waiting for a pipe.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// Who else may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody.
    Public,
    /// Its owner alone; a file that others can read is refused.
    OwnerOnly,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The file system refuses.
    #[error("{0}{remedy}", remedy = remedy(.0))]
    Io(#[from] io::Error),
    /// A folder, pipe or device.
    #[error("it is not a regular file")]
    NotAFile,
    /// Longer than such a file can be.
    #[error("it is longer than {bytes_max} bytes")]
    TooLong {
        /// The most.
        bytes_max: usize,
    },
    /// A secret that others can read.
    #[error("its mode {mode:03o} lets others than its owner at a secret key")]
    Exposed {
        /// Permission bits.
        mode: u32,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ", so that this user may not read it: run as the user who may",
        _ => "",
    }
}

/// Reads a regular file of at most `bytes_max` bytes. The memory is zeroed when dropped.
///
/// # Errors
/// [`ReadError`].
pub(crate) fn read(path: &Path, bytes_max: usize, access: Access) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // Without O_NONBLOCK, opening a pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    let mode = metadata.permissions().mode() & 0o777;
    if access == Access::OwnerOnly && mode & 0o077 != 0 {
        return Err(ReadError::Exposed { mode });
    }
    // One allocation: growing would leave copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max { Err(ReadError::TooLong { bytes_max }) } else { Ok(bytes) }
}

/// Creates a file that only its owner can read.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if there is one: keys are never overwritten.
pub(crate) fn create_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes).inspect_err(|_| {
        // A part of a key is of no use, and would be in the way of another try.
        let _ = fs::remove_file(path);
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn files_up_to_the_limit_are_read_and_longer_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, [7; 100]).unwrap();
        assert_eq!(*read(&path, 100, Access::Public).unwrap(), [7; 100]);
        assert!(matches!(read(&path, 99, Access::Public), Err(ReadError::TooLong { bytes_max: 99 })));
    }

    #[test]
    fn folders_and_pipes_are_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path(), 10, Access::Public), Err(ReadError::NotAFile)));
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(matches!(read(&pipe, 10, Access::Public), Err(ReadError::NotAFile)));
    }

    #[test]
    fn a_secret_is_its_owners_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create_secret(&path, b"one").unwrap();
        assert_eq!(*read(&path, 10, Access::OwnerOnly).unwrap(), b"one");
        assert_eq!(create_secret(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(read(&path, 10, Access::OwnerOnly), Err(ReadError::Exposed { mode: found }) if found == mode)
            );
        }
    }
}
