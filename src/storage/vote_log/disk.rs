//! What it takes to replace a file for good, step by step, so that a test can cut the power between any two.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::failpoint::{FailPoints, Point};

/// Steps on files of one folder.
pub(super) trait Disk {
    /// Makes a file of these bytes, or replaces what is in it.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Returns when what is in the file is on disk.
    fn sync(&mut self, path: &Path) -> io::Result<()>;
    /// Gives the file `from` the name `to`, which another one may have had.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the names beside `path` are on disk.
    fn sync_folder_of(&mut self, path: &Path) -> io::Result<()>;
}

/// The file system.
pub(super) struct FileSystem;

impl Disk for FileSystem {
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn sync(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder_of(&mut self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

/// The file system, for a process that may be told to end at a point: it is passed when a part of a file is written,
/// and after each step.
pub(super) struct FailingFileSystem<'f> {
    pub(super) fail_points: &'f FailPoints,
    pub(super) point: Point,
}

impl FailingFileSystem<'_> {
    fn pass_after(&self, step: io::Result<()>) -> io::Result<()> {
        self.fail_points.pass(self.point);
        step
    }
}

impl Disk for FailingFileSystem<'_> {
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.fail_points.pass_after(self.point, || drop(fs::write(path, &bytes[..bytes.len() / 2])));
        self.pass_after(FileSystem.write(path, bytes))
    }

    fn sync(&mut self, path: &Path) -> io::Result<()> {
        self.pass_after(FileSystem.sync(path))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass_after(FileSystem.rename(from, to))
    }

    fn sync_folder_of(&mut self, path: &Path) -> io::Result<()> {
        self.pass_after(FileSystem.sync_folder_of(path))
    }
}

/// Puts a file of these bytes in the place of the one at `path`. It is there for good when this returns; until then,
/// whenever the power fails, either the old one is there or the new one.
///
/// # Errors
/// What the file system says.
pub(super) fn replace(disk: &mut impl Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    disk.write(&unfinished, bytes)?;
    disk.sync(&unfinished)?;
    disk.rename(&unfinished, path)?;
    disk.sync_folder_of(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    /// A disk whose power fails after some steps. What was not synced by then may be there in part or not at all.
    #[derive(Clone, Default)]
    struct Failing {
        files: Vec<Contents>,
        names: BTreeMap<PathBuf, usize>,
        names_on_disk: BTreeMap<PathBuf, usize>,
        steps_left: usize,
    }

    #[derive(Clone, Default)]
    struct Contents {
        bytes: Vec<u8>,
        on_disk: Option<Vec<u8>>,
    }

    impl Failing {
        fn step(&mut self) -> io::Result<()> {
            self.steps_left = self.steps_left.checked_sub(1).ok_or(io::ErrorKind::Interrupted)?;
            Ok(())
        }

        /// What may be read there when the power is back: of the file that has the name on disk and of the one that has
        /// it in memory, what is on disk, or if that is not known, nothing, a part, zeros, or all.
        fn after_power_loss(&self, path: &Path) -> Vec<Option<Vec<u8>>> {
            let of = |file: Option<&usize>| match file.map(|file| &self.files[*file]) {
                None => vec![None],
                Some(Contents { on_disk: Some(bytes), .. }) => vec![Some(bytes.clone())],
                Some(Contents { bytes, on_disk: None }) => {
                    let part = bytes[..bytes.len() / 2].to_vec();
                    vec![Some(Vec::new()), Some(part), Some(vec![0; bytes.len()]), Some(bytes.clone())]
                }
            };
            [of(self.names_on_disk.get(path)), of(self.names.get(path))].concat()
        }
    }

    impl Disk for Failing {
        fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            self.step()?;
            self.files.push(Contents { bytes: bytes.to_vec(), on_disk: None });
            self.names.insert(path.to_owned(), self.files.len() - 1);
            Ok(())
        }

        fn sync(&mut self, path: &Path) -> io::Result<()> {
            self.step()?;
            let file = &mut self.files[self.names[path]];
            file.on_disk = Some(file.bytes.clone());
            Ok(())
        }

        fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
            self.step()?;
            let file = self.names.remove(from).unwrap();
            self.names.insert(to.to_owned(), file);
            Ok(())
        }

        fn sync_folder_of(&mut self, _: &Path) -> io::Result<()> {
            self.step()?;
            self.names_on_disk.clone_from(&self.names);
            Ok(())
        }
    }

    const PATH: &str = "reservation";

    fn with_the_old_file() -> Failing {
        let mut disk = Failing { steps_left: 4, ..Failing::default() };
        replace(&mut disk, Path::new(PATH), b"old").unwrap();
        disk
    }

    #[test]
    fn whenever_the_power_fails_the_old_file_or_the_new_one_is_there() {
        let (old, new) = (Some(b"old".to_vec()), Some(b"new one".to_vec()));
        for steps in 0..=4 {
            let mut disk = Failing { steps_left: steps, ..with_the_old_file() };
            let done = replace(&mut disk, Path::new(PATH), b"new one").is_ok();
            assert_eq!(done, steps == 4);
            let found = disk.after_power_loss(Path::new(PATH));
            let expected = if done { vec![&new] } else { vec![&old, &new] };
            assert!(found.iter().all(|file| expected.contains(&file)), "after {steps} steps: {found:?}");
        }
    }

    #[test]
    fn the_file_system_does_what_the_test_takes_it_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PATH);
        for bytes in [&b"old and long"[..], b"new"] {
            replace(&mut FileSystem, &path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
