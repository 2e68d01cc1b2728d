//! Files of records that are only ever appended to. A crash while a record is written costs that record and no other
//! one.
//!
//! ```text
//! file:   magic 8 | version u32 | cluster id 32 | CRC-32C of these u32 | frame…
//! frame:  length u32 | CRC-32C of the record u32 | CRC-32C of the eight bytes before u32 | record
//! ```
//! Integers are little-endian. The head of a frame has a checksum of its own, so that a spoilt length is not taken for
//! the file's end, and a spoilt record does not hide those that follow it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use alpenglow_rotor::types::ClusterId;

/// What a file holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// First bytes of the file.
    pub(crate) magic: [u8; 8],
    /// Of what its records hold.
    pub(crate) version: u32,
    /// Longest record.
    pub(crate) record_bytes_max: usize,
    /// Longest file.
    pub(crate) file_bytes_max: u64,
    /// What its end may look like.
    pub(crate) tail: Tail,
}

/// What is at the end of a file that is not corrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Whatever a power loss leaves where the last frame was being written: a spoilt frame or a part of one.
    Spoilt,
    /// At most the beginning of a frame, as a process leaves it that ends while it writes. A whole frame that is spoilt
    /// was written once, and is not taken for one that was not.
    CutShort,
}

const CHECKED_HEADER_BYTES: usize = 8 + 4 + 32;
/// Bytes before the first frame.
pub(crate) const HEADER_BYTES: usize = CHECKED_HEADER_BYTES + 4;
/// Bytes of a frame before its record.
pub(crate) const FRAME_HEAD_BYTES: usize = 12;

/// Why a file is not one of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// Shorter than a header.
    #[error("it ends within its header, at byte {0}")]
    Short(usize),
    /// Another kind of file.
    #[error("its first bytes are not those of such a file")]
    Magic,
    /// Spoilt.
    #[error("its header is corrupt")]
    Checksum,
    /// A later version, perhaps.
    #[error("its version is {found}, this program knows version {known}")]
    Version {
        /// In the file.
        found: u32,
        /// Known.
        known: u32,
    },
}

/// How the frames of a file end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the file.
    Whole,
    /// In a frame that was not written to its end, at this byte.
    Torn(u64),
    /// In zeros from this byte on: a power loss came after the file had become longer, and before what belongs there
    /// was on disk.
    Unwritten(u64),
    /// In a frame whose head is corrupt, at this byte. What follows cannot be told from it.
    Lost(u64),
}

/// A record and where its frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'b> {
    pub(crate) at: u64,
    /// `None` if it is corrupt.
    pub(crate) bytes: Option<&'b [u8]>,
}

/// A frame, or what is in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameAt<'b> {
    /// Its record.
    Whole(&'b [u8]),
    /// Its record is corrupt; the frame is so long.
    Spoilt(usize),
    /// The bytes end within it.
    CutShort,
    /// No frame begins here, or its head is corrupt.
    NoHead,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Contents<'b> {
    pub(crate) cluster: ClusterId,
    pub(crate) records: Vec<Record<'b>>,
    pub(crate) end: End,
}

impl Format {
    /// What a file begins with.
    pub(crate) fn header(&self, cluster: ClusterId) -> Vec<u8> {
        let mut header = self.magic.to_vec();
        header.extend(self.version.to_le_bytes());
        header.extend(cluster.0);
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        header
    }

    /// The bytes of a file from where it stands: if it is longer than the format's bound, one more than that.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn read_bounded(&self, file: &File) -> io::Result<Vec<u8>> {
        let most = self.file_bytes_max + 1;
        let mut bytes = Vec::with_capacity(file.metadata()?.len().saturating_add(1).min(most) as usize);
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// [`HeaderError`] if they are no file of this format.
    pub(crate) fn read<'b>(&self, bytes: &'b [u8]) -> Result<Contents<'b>, HeaderError> {
        let cluster = self.read_header(bytes)?;
        let (records, end) = self.frames(bytes);
        Ok(Contents { cluster, records, end })
    }

    /// The cluster of a file that begins with these bytes.
    ///
    /// # Errors
    /// [`HeaderError`] if it is no file of this format.
    pub(crate) fn read_header(&self, bytes: &[u8]) -> Result<ClusterId, HeaderError> {
        let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(HeaderError::Short(bytes.len()))?;
        let (checked, checksum) = header.split_at(CHECKED_HEADER_BYTES);
        if checked[..8] != self.magic {
            return Err(HeaderError::Magic);
        }
        if crc32c::crc32c(checked).to_le_bytes() != checksum {
            return Err(HeaderError::Checksum);
        }
        let found = word(&checked[8..]);
        if found != self.version {
            return Err(HeaderError::Version { found, known: self.version });
        }
        Ok(ClusterId(checked[12..].try_into().expect("the header has 32 bytes more")))
    }

    /// The frame that these bytes begin with.
    pub(crate) fn frame_at<'b>(&self, bytes: &'b [u8]) -> FrameAt<'b> {
        let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return FrameAt::CutShort };
        let length = word(head) as usize;
        if crc32c::crc32c(&head[..8]) != word(&head[8..]) || length > self.record_bytes_max {
            return FrameAt::NoHead;
        }
        match rest.get(..length) {
            None => FrameAt::CutShort,
            Some(record) if crc32c::crc32c(record) == word(&head[4..]) => FrameAt::Whole(record),
            Some(_) => FrameAt::Spoilt(FRAME_HEAD_BYTES + length),
        }
    }

    fn frames<'b>(&self, bytes: &'b [u8]) -> (Vec<Record<'b>>, End) {
        let (mut records, mut at) = (Vec::new(), HEADER_BYTES);
        while at < bytes.len() {
            let Some((head, rest)) = bytes[at..].split_first_chunk::<FRAME_HEAD_BYTES>() else {
                return (records, End::Torn(at as u64));
            };
            let length = word(head) as usize;
            let is_sound = crc32c::crc32c(&head[..8]) == word(&head[8..]) && length <= self.record_bytes_max;
            if !is_sound {
                let is_unwritten = bytes[at..].iter().all(|byte| *byte == 0);
                return (records, if is_unwritten { End::Unwritten(at as u64) } else { End::Lost(at as u64) });
            }
            let Some((record, after)) = rest.split_at_checked(length) else {
                return (records, End::Torn(at as u64));
            };
            let is_whole = crc32c::crc32c(record) == word(&head[4..]);
            if !is_whole && after.is_empty() && self.tail == Tail::Spoilt {
                return (records, End::Torn(at as u64));
            }
            records.push(Record { at: at as u64, bytes: is_whole.then_some(record) });
            at += FRAME_HEAD_BYTES + length;
        }
        (records, End::Whole)
    }

    /// A record as it is appended.
    ///
    /// # Panics
    /// If it is longer than the format's bound.
    pub(crate) fn frame(&self, record: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + record.len());
        self.append_frame(&mut frame, |to| to.extend_from_slice(record));
        frame
    }

    /// Appends the frame of the record that `write` appends.
    ///
    /// # Panics
    /// If the record is longer than the format's bound.
    pub(crate) fn append_frame(&self, to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = to.len();
        to.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        write(to);
        let (head, record) = to[start..].split_at_mut(FRAME_HEAD_BYTES);
        assert!(record.len() <= self.record_bytes_max, "a record of {} bytes", record.len());
        head[..4].copy_from_slice(&(record.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&crc32c::crc32c(record).to_le_bytes());
        let checksum = crc32c::crc32c(&head[..8]);
        head[8..].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(*bytes.first_chunk().expect("four bytes were looked for"))
}

/// Why a file cannot be appended to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The file system refuses.
    #[error("cannot use {path}: {source}; give this user the right to write there")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else.
    #[error("{path} cannot be used: {reason}; move it away, a new one is made at the next start")]
    Header {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: HeaderError,
    },
    /// It is of another cluster.
    #[error("{path} is of another cluster; give each cluster a data folder of its own, or move the file away")]
    Cluster {
        /// Which file.
        path: PathBuf,
    },
    /// Its end is lost.
    #[error("{path} is corrupt at byte {at}; move it away, a new one is made at the next start")]
    Lost {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// Longer than such a file gets.
    #[error("{path} is longer than the {most} bytes that such a file gets; move it away")]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// The most.
        most: u64,
    },
}

/// A file that is being appended to, by one process alone.
#[derive(Debug)]
pub(crate) struct FrameFile {
    format: Format,
    file: File,
    /// End of the last whole frame.
    end: u64,
    frame: Vec<u8>,
}

impl FrameFile {
    /// Opens the file, or makes it. Gives the bytes of what is in it; a torn tail is cut off.
    ///
    /// # Errors
    /// [`OpenError`] says what to do.
    pub(crate) fn open(format: Format, path: &Path, cluster: ClusterId) -> Result<(Self, Vec<u8>), OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut bytes = format.read_bounded(&file).map_err(io)?;
        if bytes.len() as u64 > format.file_bytes_max {
            return Err(OpenError::TooLong { path: path.to_owned(), most: format.file_bytes_max });
        }
        // A crash while it was made.
        let header = format.header(cluster);
        if bytes.len() < HEADER_BYTES && header.starts_with(&bytes) {
            file.rewind().and_then(|()| file.write_all(&header)).and_then(|()| file.sync_all()).map_err(io)?;
            bytes = header;
        }
        let contents = format.read(&bytes).map_err(|reason| OpenError::Header { path: path.to_owned(), reason })?;
        if contents.cluster != cluster {
            return Err(OpenError::Cluster { path: path.to_owned() });
        }
        let end = match contents.end {
            End::Whole => bytes.len() as u64,
            End::Torn(at) | End::Unwritten(at) => at,
            End::Lost(at) => return Err(OpenError::Lost { path: path.to_owned(), at }),
        };
        file.set_len(end).map_err(io)?;
        bytes.truncate(end as usize);
        Ok((Self { format, file, end, frame: Vec::new() }, bytes))
    }

    /// Makes a file of these records in the place of what is at `path`. It is on disk when this returns, its name
    /// perhaps not yet.
    ///
    /// # Errors
    /// When the file system refuses.
    ///
    /// # Panics
    /// If a record is longer than the format's bound.
    pub(crate) fn create<'r>(
        format: Format,
        path: &Path,
        cluster: ClusterId,
        records: impl IntoIterator<Item = &'r [u8]>,
    ) -> io::Result<Self> {
        let mut bytes = format.header(cluster);
        records.into_iter().for_each(|record| bytes.extend(format.frame(record)));
        let mut file = File::create(path)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        Ok(Self { format, file, end: bytes.len() as u64, frame: Vec::new() })
    }

    /// Makes a file without records where there is none. Nothing of it need be on disk when this returns.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn begin(format: Format, path: &Path, cluster: ClusterId) -> io::Result<Self> {
        let header = format.header(cluster);
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        if let Err(error) = file.write_all(&header) {
            let _ = fs::remove_file(path);
            return Err(error);
        }
        Ok(Self { format, file, end: header.len() as u64, frame: Vec::new() })
    }

    /// Appends a record. It outlives the process when this returns, but perhaps not the machine's power.
    ///
    /// # Errors
    /// When the file system refuses, or there is no room below the format's bound. The file is then as it was before,
    /// as far as the file system lets it.
    ///
    /// # Panics
    /// If the record is longer than the format's bound.
    pub(crate) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.append_with(|to| to.extend_from_slice(record))
    }

    /// Appends the record that `encode` appends to its argument.
    ///
    /// # Errors
    /// As for [`Self::append`].
    ///
    /// # Panics
    /// As [`Self::append`].
    pub(crate) fn append_with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.write(encode, |_| Ok(()))
    }

    /// Appends a record, on disk when this returns.
    ///
    /// # Errors
    /// As for [`Self::append`].
    ///
    /// # Panics
    /// As [`Self::append`].
    pub(crate) fn append_synced(&mut self, record: &[u8]) -> io::Result<()> {
        self.write(|to| to.extend_from_slice(record), File::sync_data)
    }

    /// Writes a part of what [`Self::append`] does, as a process that ends meanwhile: for tests of what a restart makes
    /// of it. How long it is depends on where the file ends.
    ///
    /// # Errors
    /// When the file system refuses.
    ///
    /// # Panics
    /// As [`Self::append`].
    pub(crate) fn append_part(&self, record: &[u8]) -> io::Result<()> {
        let frame = self.format.frame(record);
        let part = 1 + self.end as usize % (frame.len() - 1);
        self.file.write_all_at(&frame[..part], self.end)
    }

    /// A file that the file system has no room for.
    #[cfg(test)]
    pub(crate) fn on_a_full_disk(format: Format) -> Self {
        let file = OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
        Self { format, file, end: 0, frame: Vec::new() }
    }

    /// A file that can be written and never gets to the disk.
    #[cfg(test)]
    pub(crate) fn on_a_disk_that_does_not_sync(format: Format) -> Self {
        let file = OpenOptions::new().write(true).open("/dev/null").expect("every Linux has it");
        Self { format, file, end: 0, frame: Vec::new() }
    }

    /// Bytes of the whole frames.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// Has the disk begin with what was appended, and does not wait for it.
    pub(crate) fn begin_sync(&self) {
        // That the pages leave the cache as well, once they are clean, costs nothing: nobody reads them. Where the
        // system does otherwise, a sync takes longer.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    /// Returns when what was appended is on disk; the file's name perhaps is not.
    ///
    /// # Errors
    /// When the file system refuses. What was appended may be lost then, also if a later call succeeds.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The same file for another thread, to sync it.
    ///
    /// # Errors
    /// When the process may open no more files.
    pub(crate) fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn write(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>),
        then: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        self.frame.clear();
        self.format.append_frame(&mut self.frame, encode);
        if self.end + self.frame.len() as u64 > self.format.file_bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is full"));
        }
        let written = self.file.write_all_at(&self.frame, self.end).and_then(|()| then(&self.file));
        match written {
            Ok(()) => self.end += self.frame.len() as u64,
            // What was written of it would be overwritten by the next record, but not if that is shorter.
            Err(_) => drop(self.file.set_len(self.end)),
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([3; 32]);
    const FORMAT: Format =
        Format { magic: *b"testfile", version: 7, record_bytes_max: 100, file_bytes_max: 1_000, tail: Tail::Spoilt };
    const RECORDS: [&[u8]; 4] = [b"one", b"", b"three", &[0; 40]];

    fn bytes() -> Vec<u8> {
        let frames = RECORDS.iter().flat_map(|record| FORMAT.frame(record));
        FORMAT.header(CLUSTER).into_iter().chain(frames).collect()
    }

    fn whole<'b>(contents: &Contents<'b>) -> Vec<&'b [u8]> {
        contents.records.iter().filter_map(|record| record.bytes).collect()
    }

    #[test]
    fn the_layout_is_this() {
        let header = FORMAT.header(CLUSTER);
        assert_eq!(header[..12], *b"testfile\x07\0\0\0");
        assert_eq!((header.len(), header[12..44] == [3; 32]), (HEADER_BYTES, true));
        // CRC-32C of "123456789" is the checksum's known answer.
        let frame = FORMAT.frame(b"123456789");
        assert_eq!(frame[..8], [9, 0, 0, 0, 0x83, 0x92, 0x06, 0xe3]);
        assert_eq!((frame.len(), &frame[12..]), (21, &b"123456789"[..]));
    }

    #[test]
    fn a_file_that_ends_early_gives_the_records_before() {
        let bytes = bytes();
        let mut starts = vec![HEADER_BYTES];
        starts.extend(RECORDS.iter().scan(HEADER_BYTES, |at, record| {
            *at += FRAME_HEAD_BYTES + record.len();
            Some(*at)
        }));
        for length in 0..=bytes.len() {
            let read = FORMAT.read(&bytes[..length]);
            if length < HEADER_BYTES {
                assert_eq!(read.unwrap_err(), HeaderError::Short(length));
                continue;
            }
            let contents = read.unwrap();
            let count = starts.iter().filter(|start| **start <= length).count() - 1;
            assert_eq!(whole(&contents), RECORDS[..count]);
            let end = if starts.contains(&length) { End::Whole } else { End::Torn(starts[count] as u64) };
            assert_eq!(contents.end, end, "{length} bytes");
        }
    }

    #[test]
    fn a_flipped_byte_costs_its_record_and_never_invents_one() {
        let bytes = bytes();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let Ok(contents) = FORMAT.read(&flipped) else {
                assert!(at < HEADER_BYTES, "byte {at}");
                continue;
            };
            assert!(at >= HEADER_BYTES, "byte {at}");
            assert!(whole(&contents).iter().all(|record| RECORDS.contains(record)));
            assert!(whole(&contents).len() < RECORDS.len() || contents.end != End::Whole, "byte {at} went unnoticed");
        }
        let mut flipped = bytes;
        flipped[HEADER_BYTES + FRAME_HEAD_BYTES] ^= 1;
        let contents = FORMAT.read(&flipped).unwrap();
        assert_eq!((whole(&contents), contents.end), (RECORDS[1..].to_vec(), End::Whole));
    }

    #[test]
    fn where_power_losses_do_not_count_only_the_beginning_of_a_frame_is_a_torn_tail() {
        let format = Format { tail: Tail::CutShort, ..FORMAT };
        let (bytes, last) = (bytes(), FRAME_HEAD_BYTES + RECORDS[3].len());
        let start = bytes.len() - last;
        for length in start + 1..bytes.len() {
            let contents = format.read(&bytes[..length]).unwrap();
            assert_eq!((whole(&contents).len(), contents.end), (3, End::Torn(start as u64)), "{length} bytes");
        }
        for at in start..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let contents = format.read(&flipped).unwrap();
            let is_seen = contents.end == End::Lost(start as u64) || contents.records[3].bytes.is_none();
            assert!(is_seen && !matches!(contents.end, End::Torn(_)), "byte {at}: {contents:?}");
        }
    }

    #[test]
    fn zeros_up_to_the_end_are_told_from_everything_else() {
        for format in [FORMAT, Format { tail: Tail::CutShort, ..FORMAT }] {
            let end_of = |zeros: &[u8]| format.read(&[&bytes()[..], zeros].concat()).unwrap().end;
            let at = bytes().len() as u64;
            assert_eq!(end_of(&[0; FRAME_HEAD_BYTES - 1]), End::Torn(at), "or the beginning of a frame");
            for length in FRAME_HEAD_BYTES..100 {
                assert_eq!(end_of(&vec![0; length]), End::Unwritten(at));
                for spoilt in 0..length {
                    let mut zeros = vec![0; length];
                    zeros[spoilt] = 1;
                    assert_eq!(end_of(&zeros), End::Lost(at));
                }
            }
        }
    }

    #[test]
    fn a_file_made_of_records_is_appended_to_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "something longer that was there before, and is of no use any more").unwrap();
        let mut file = FrameFile::create(FORMAT, &path, CLUSTER, RECORDS).unwrap();
        assert_eq!((fs::read(&path).unwrap(), file.end()), (bytes(), bytes().len() as u64));
        file.append(b"next").unwrap();
        file.share().unwrap().sync_data().unwrap();
        let after = fs::read(&path).unwrap();
        assert_eq!(whole(&FORMAT.read(&after).unwrap()).last(), Some(&&b"next"[..]));
    }

    #[test]
    fn a_torn_tail_is_cut_and_records_go_on_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for tail in [&[][..], &[5, 0, 0], &[0; 100], &FORMAT.frame(b"torn")[..14]] {
            fs::write(&path, [bytes(), tail.to_vec()].concat()).unwrap();
            let (mut file, before) = FrameFile::open(FORMAT, &path, CLUSTER).unwrap();
            assert_eq!(before, bytes());
            file.append_synced(b"next").unwrap();
            let after = fs::read(&path).unwrap();
            let contents = FORMAT.read(&after).unwrap();
            assert_eq!((whole(&contents), contents.end), ([&RECORDS[..], &[b"next"]].concat(), End::Whole));
        }
    }

    #[test]
    fn a_file_is_made_refused_or_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, &FORMAT.header(CLUSTER)[..20]).unwrap();
        let (mut file, before) = FrameFile::open(FORMAT, &path, CLUSTER).unwrap();
        assert_eq!(before, FORMAT.header(CLUSTER));
        while file.append(&[1; 100]).is_ok() {}
        assert_eq!(fs::read(&path).unwrap().len(), HEADER_BYTES + 8 * (FRAME_HEAD_BYTES + 100));
        assert!(matches!(FrameFile::open(FORMAT, &path, ClusterId([4; 32])), Err(OpenError::Cluster { .. })));
        let later = Format { version: 8, ..FORMAT };
        let refused = FrameFile::open(later, &path, CLUSTER).unwrap_err();
        assert!(refused.to_string().contains("its version is 7, this program knows version 8"), "{refused}");
        File::options().append(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(FrameFile::open(FORMAT, &path, CLUSTER), Err(OpenError::TooLong { most: 1_000, .. })));
        let mut spoilt = bytes();
        spoilt[HEADER_BYTES] ^= 1;
        fs::write(&path, spoilt).unwrap();
        assert!(matches!(FrameFile::open(FORMAT, &path, CLUSTER), Err(OpenError::Lost { at, .. }) if at == 48));
    }
}
