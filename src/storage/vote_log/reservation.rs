//! The part that is on disk when its write is reported done: one small file, replaced as a whole.
//!
//! ```text
//! magic 8 | version u32 | cluster id 32 | identity 32 | started u8 | machine 16 | boot 16 | reservation u64 |
//! kind of bar u8 | bar u64 | clean u8 | synced u8 | CRC-32C of all that u32
//! ```

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use alpenglow_control::vote_record::{Bar, Durable, Host};
use alpenglow_rotor::types::{ClusterId, Slot};

use super::disk::{self, Disk};
use super::{Owner, VoteLogError};

const MAGIC: [u8; 8] = *b"agreserv";
const VERSION: u32 = 1;
const OWNER_AT: usize = 12;
const BODY_AT: usize = OWNER_AT + 64;
const CHECKED_BYTES: usize = BODY_AT + 1 + 16 + 16 + 8 + 1 + 8 + 1 + 1;
const FILE_BYTES: usize = CHECKED_BYTES + 4;

/// The file in a node's data folder.
pub(crate) fn path(data: &Path) -> PathBuf {
    data.join("reservation")
}

/// Reads it. `None` if there is none, or it cannot be read, which is said: then nothing tells how far the node has
/// voted.
///
/// # Errors
/// [`VoteLogError`] if it is another node's, of another cluster or of a later version, or the file system refuses.
pub(super) fn read(path: &Path, owner: &Owner) -> Result<Option<Durable>, VoteLogError> {
    let mut bytes = Vec::new();
    // One byte more tells a longer file, of which no more is needed: the version is at its beginning.
    let begin = File::open(path).and_then(|file| file.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes));
    match begin {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(VoteLogError::Io { path: path.to_owned(), source }),
    }
    let durable = parse(&bytes, owner, path)?;
    if durable.is_none() {
        tracing::error!(path = %path.display(), "the reservation cannot be read; it counts as lost");
    }
    Ok(durable)
}

pub(super) fn parse(bytes: &[u8], owner: &Owner, path: &Path) -> Result<Option<Durable>, VoteLogError> {
    let Some((head, _)) = bytes.split_first_chunk::<OWNER_AT>() else { return Ok(None) };
    let found = u32::from_le_bytes(*head[8..].first_chunk().expect("the head has four bytes more"));
    if head[..8] != MAGIC {
        return Ok(None);
    }
    if found > VERSION {
        return Err(VoteLogError::Version { path: path.to_owned(), found, known: VERSION });
    }
    let Ok(bytes) = <&[u8; FILE_BYTES]>::try_from(bytes) else { return Ok(None) };
    let (checked, checksum) = bytes.split_at(CHECKED_BYTES);
    if crc32c::crc32c(checked).to_le_bytes() != checksum {
        return Ok(None);
    }
    let take = |at: usize| <[u8; 32]>::try_from(&checked[at..at + 32]).expect("the owner has 64 bytes");
    owner.check(ClusterId(take(OWNER_AT)), take(OWNER_AT + 32), path)?;
    Ok(parse_body(&checked[BODY_AT..]))
}

fn parse_body(body: &[u8]) -> Option<Durable> {
    let flag = |at: usize| match body[at] {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    let bytes16 = |at: usize| <[u8; 16]>::try_from(&body[at..at + 16]).expect("the body is long enough");
    let slot = |at: usize| Slot(u64::from_le_bytes(*body[at..].first_chunk().expect("the body is long enough")));
    let host = flag(0)?.then(|| Host { machine: bytes16(1), boot: bytes16(17) });
    let bar = if flag(41)? { Bar::PastFirstFinalization(slot(42)) } else { Bar::Through(slot(42)) };
    Some(Durable { host, reservation: slot(33), bar, clean: flag(50)?, synced: flag(51)? })
}

pub(super) fn encode(durable: &Durable, owner: &Owner) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(owner.cluster.0);
    bytes.extend(owner.identity);
    let Host { machine, boot } = durable.host.unwrap_or(Host { machine: [0; 16], boot: [0; 16] });
    bytes.push(durable.host.is_some().into());
    bytes.extend(machine);
    bytes.extend(boot);
    bytes.extend(durable.reservation.0.to_le_bytes());
    let (is_unknown, bar) = match durable.bar {
        Bar::Through(slot) => (false, slot),
        Bar::PastFirstFinalization(slot) => (true, slot),
    };
    bytes.push(is_unknown.into());
    bytes.extend(bar.0.to_le_bytes());
    bytes.extend([u8::from(durable.clean), u8::from(durable.synced)]);
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// Writes it in the place of the one before. It is on disk when this returns; until then the one before is.
///
/// # Errors
/// When the file system refuses.
pub(super) fn write(disk: &mut impl Disk, path: &Path, durable: &Durable, owner: &Owner) -> io::Result<()> {
    disk::replace(disk, path, &encode(durable, owner))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::super::disk::FileSystem;
    use super::*;

    const OWNER: Owner = Owner { cluster: ClusterId([3; 32]), identity: [4; 32] };

    fn read_bytes(bytes: &[u8], owner: &Owner) -> Result<Option<Durable>, VoteLogError> {
        parse(bytes, owner, Path::new("reservation"))
    }

    fn durables() -> impl Strategy<Value = Durable> {
        let host = proptest::option::of(any::<([u8; 16], [u8; 16])>());
        (host, any::<[u64; 2]>(), any::<[bool; 3]>()).prop_map(
            |(host, [reservation, bar], [unknown, clean, synced])| {
                let bar = if unknown { Bar::PastFirstFinalization(Slot(bar)) } else { Bar::Through(Slot(bar)) };
                let host = host.map(|(machine, boot)| Host { machine, boot });
                Durable { host, reservation: Slot(reservation), bar, clean, synced }
            },
        )
    }

    #[test]
    fn a_file_is_replaced_whole_and_lies_beside_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        assert_eq!(read(&path, &OWNER).unwrap(), None);
        for slot in [8, 16] {
            let durable = Durable::new().renewed(Slot(slot));
            write(&mut FileSystem, &path, &durable, &OWNER).unwrap();
            assert_eq!(read(&path, &OWNER).unwrap(), Some(durable));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_node_another_cluster_and_a_later_version_are_refused() {
        let bytes = encode(&Durable::new(), &OWNER);
        let other = Owner { cluster: ClusterId([5; 32]), ..OWNER };
        assert!(matches!(read_bytes(&bytes, &other), Err(VoteLogError::OtherCluster { .. })));
        let other = Owner { identity: [5; 32], ..OWNER };
        assert!(matches!(read_bytes(&bytes, &other), Err(VoteLogError::OtherIdentity { .. })));
        let later = [&MAGIC[..], &[2, 0, 0, 0], b"in a form of which nothing is known"].concat();
        let refused = read_bytes(&later, &OWNER).unwrap_err().to_string();
        assert!(refused.contains("version 2") && refused.contains("version 1"), "{refused}");
    }

    #[test]
    fn a_file_of_any_length_is_read_no_further_than_it_could_be_right() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        fs::write(&path, encode(&Durable::new(), &OWNER)).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&path, &OWNER).unwrap(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_what_is_spoilt_is_not(durable in durables(), at: proptest::sample::Index, bit in 0..8) {
            let bytes = encode(&durable, &OWNER);
            prop_assert_eq!(bytes.len(), FILE_BYTES);
            prop_assert_eq!(read_bytes(&bytes, &OWNER).unwrap(), Some(durable));
            let mut spoilt = bytes.clone();
            let at = at.index(FILE_BYTES);
            spoilt[at] ^= 1_u8 << bit;
            prop_assert!(!matches!(read_bytes(&spoilt, &OWNER), Ok(Some(_))));
            prop_assert!(matches!(read_bytes(&bytes[..at], &OWNER), Ok(None)));
        }

        #[test]
        fn any_bytes_are_taken_or_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = read_bytes(&bytes, &OWNER);
            let _ = read_bytes(&[&MAGIC[..], &bytes].concat(), &OWNER);
        }
    }
}
