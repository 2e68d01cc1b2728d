//! On which file system something lies.

use std::fs;
use std::path::Path;

/// As the system's table of mounts has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file_system: String,
    pub(super) device: String,
}

impl Place {
    /// That of a folder.
    pub(super) fn of(folder: &Path) -> Self {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self::find(&mounts, &folder)
    }

    /// The mount that covers the folder most closely, and of those the last one.
    fn find(mounts: &str, folder: &Path) -> Self {
        let fields = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ');
            Some((fields.next()?, Path::new(fields.next()?), fields.next()?))
        });
        let covering = fields.filter(|(_, point, _)| folder.starts_with(point));
        let closest = covering.max_by_key(|(_, point, _)| point.components().count());
        let (device, _, file_system) = closest.unwrap_or(("unknown", Path::new(""), "unknown"));
        Self { file_system: file_system.to_owned(), device: device.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_and_last_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp xfs rw 0 0\nproc /proc proc rw 0 0\n";
        let find = |folder: &str| Place::find(mounts, Path::new(folder)).file_system;
        assert_eq!([find("/tmp/x"), find("/tmpx"), find("/home")], ["xfs", "ext4", "ext4"]);
        assert_eq!(Place::find("", Path::new("/")).file_system, "unknown");
    }
}
