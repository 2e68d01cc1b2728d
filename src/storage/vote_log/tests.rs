use std::fs;
use std::thread;
use std::time::Duration;

use alpenglow_control::bls::SignatureBytes;
use alpenglow_control::certificate::{Certificate, Signers, Statement};
use alpenglow_control::vote::VotePayload;
use alpenglow_control::vote_record::{Bar, Doubt, Durable, Entry, Host, RESERVED_AHEAD_SLOTS, Restoration};
use alpenglow_dataplane::ControlWaker;
use alpenglow_rotor::types::{BlockId, Hash, Slot, Time, ValidatorIndex};
use tempfile::TempDir;

use super::disk::FileSystem;
use super::*;
use crate::config::Durability;
use crate::failpoint::FailPoints;
use crate::storage::data_folder::DataFolder;
use crate::storage::frames::{FRAME_HEAD_BYTES, FrameFile, HEADER_BYTES};

const OWNER: Owner = Owner { cluster: ClusterId([3; 32]), identity: [4; 32] };
const HERE: Host = Host { machine: [1; 16], boot: [1; 16] };
const REBOOTED: Host = Host { machine: [1; 16], boot: [2; 16] };
const VALIDATORS: usize = 10;
const NOW: Time = Time(0);
/// Longest that anything here waits: far more than it takes on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn block(slot: u64) -> BlockId {
    BlockId { slot: Slot(slot), hash: Hash([slot as u8; 32]) }
}

fn notar(slot: u64) -> Entry {
    Entry::Vote(VotePayload::Notar(block(slot)))
}

fn finalized(slot: u64) -> Entry {
    let signers = Signers::of(VALIDATORS, (0..8).map(ValidatorIndex));
    let fallback_signers = Signers::none(VALIDATORS);
    let signature = SignatureBytes([3; 96]);
    let certificate = Certificate { statement: Statement::Fast(block(slot)), signers, fallback_signers, signature };
    Entry::Finalized(vec![certificate.into()])
}

/// A node's disk.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        initialize(disk.data(), &OWNER).unwrap();
        disk
    }

    fn data(&self) -> &Path {
        self.0.path()
    }

    fn log(&self) -> PathBuf {
        path(self.data())
    }

    fn open_as(&self, owner: Owner, host: Host) -> Result<Restoration, VoteLogError> {
        let folder = DataFolder::take(self.data()).unwrap();
        open(&folder, &owner, VALIDATORS, host, Durability::Process, &FailPoints::default())
            .map(|opened| opened.restoration)
    }

    fn open(&self, host: Host) -> Restoration {
        self.open_as(OWNER, host).unwrap()
    }

    fn change_log(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.log()).unwrap();
        change(&mut bytes);
        fs::write(self.log(), bytes).unwrap();
    }

    /// Entries that the log holds on this disk.
    fn entries(&self) -> Vec<Entry> {
        match file::read(&self.log(), &OWNER, VALIDATORS).unwrap() {
            alpenglow_control::vote_record::FoundLog::Whole(entries) => entries,
            found => panic!("{found:?}"),
        }
    }
}

/// A node that runs, as far as its record goes.
struct Running {
    _folder: DataFolder,
    keeper: Keeper,
    recorder: Recorder,
    durable: Slot,
}

impl Running {
    fn start(disk: &Disk, host: Host) -> Self {
        Self::with(disk, host, Durability::Process)
    }

    fn with(disk: &Disk, host: Host, durability: Durability) -> Self {
        let folder = DataFolder::take(disk.data()).unwrap();
        let opened = open(&folder, &OWNER, VALIDATORS, host, durability, &FailPoints::default()).unwrap();
        let (waker, _) = ControlWaker::pair().unwrap();
        let (keeper, recorder) = start(&folder, OWNER, opened, &waker, FailPoints::default()).unwrap();
        Self { _folder: folder, keeper, recorder, durable: Slot::GENESIS }
    }

    fn record(&mut self, entry: Entry) {
        self.recorder.record(NOW, entry).unwrap();
    }

    fn reserve(&mut self, slot: u64) {
        self.recorder.reserve(Slot(slot));
        self.wait_until(|running| running.durable >= Slot(slot));
    }

    fn wait_until(&mut self, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(std::time::Instant::now() < deadline, "the disk does not answer");
            self.durable = self.durable.max(self.recorder.poll().unwrap_or_default());
            thread::yield_now();
        }
    }

    /// As by `kill -9`.
    fn crash(self) {
        drop(self.recorder);
        self.keeper.stop(false);
    }

    fn stop(self) {
        drop(self.recorder);
        self.keeper.stop(true);
    }
}

/// A disk after slots 1 to 5 were voted in, with the reservation at 8, and the process crashed.
fn crashed() -> Disk {
    let disk = Disk::new();
    let mut running = Running::start(&disk, HERE);
    running.reserve(8);
    (1..=5).for_each(|slot| running.record(notar(slot)));
    running.crash();
    disk
}

#[test]
fn after_a_crash_of_the_process_everything_written_counts() {
    let disk = crashed();
    let restoration = disk.open(HERE);
    assert_eq!((restoration.doubt(), restoration.bar()), (None, Bar::Through(Slot(0))));
    assert_eq!(restoration.entries().cloned().collect::<Vec<_>>(), (1..=5).map(notar).collect::<Vec<_>>());
    assert_eq!(disk.entries().len(), 5, "the new log says the same");
}

#[test]
fn after_a_power_loss_nothing_up_to_the_reservation_is_voted_on() {
    let disk = crashed();
    let restoration = disk.open(REBOOTED);
    assert_eq!((restoration.doubt(), restoration.bar()), (Some(Doubt::PowerLoss), Bar::Through(Slot(8))));
    let again = disk.open(REBOOTED);
    assert_eq!((again.doubt(), again.bar()), (None, Bar::Through(Slot(8))), "that stays so");
}

#[test]
fn after_a_clean_stop_a_machine_may_be_started_anew() {
    let disk = Disk::new();
    let mut running = Running::start(&disk, HERE);
    running.reserve(8);
    running.record(notar(3));
    running.stop();
    let restoration = disk.open(REBOOTED);
    assert_eq!((restoration.doubt(), restoration.entries().count()), (None, 1));
    assert_eq!(disk.open(HERE).doubt(), Some(Doubt::PowerLoss), "the clean mark is gone with the start");
}

#[test]
fn a_torn_tail_is_cut() {
    for cut in 1..FRAME_HEAD_BYTES + 41 {
        let disk = crashed();
        disk.change_log(|bytes| bytes.truncate(bytes.len() - cut));
        let restoration = disk.open(HERE);
        assert_eq!((restoration.doubt(), restoration.entries().count()), (None, 4), "{cut} bytes are missing");
    }
}

#[test]
fn one_flipped_bit_anywhere_behind_the_header_bars_up_to_the_reservation() {
    let disk = crashed();
    let reservation = reservation::path(disk.data());
    let [bytes, durable] = [&disk.log(), &reservation].map(|path| fs::read(path).unwrap());
    for at in HEADER_BYTES..bytes.len() {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 4;
        fs::write(disk.log(), &spoilt).unwrap();
        fs::write(&reservation, &durable).unwrap();
        let opened = disk.open_as(OWNER, HERE);
        let restoration = match opened {
            Err(VoteLogError::OtherIdentity { .. }) => panic!("byte {at}: spoilt is not another's"),
            opened => opened.unwrap(),
        };
        assert_eq!(
            (restoration.doubt(), restoration.bar()),
            (Some(Doubt::LogCorrupt), Bar::Through(Slot(8))),
            "byte {at}"
        );
        assert_eq!(fs::read(disk.log().with_extension("log.corrupt")).unwrap(), spoilt, "byte {at}");
    }
}

#[test]
fn a_missing_log_beside_a_reservation_bars_up_to_it() {
    let disk = crashed();
    fs::remove_file(disk.log()).unwrap();
    let restoration = disk.open(HERE);
    assert_eq!((restoration.doubt(), restoration.bar()), (Some(Doubt::LogMissing), Bar::Through(Slot(8))));
}

#[test]
fn without_a_reservation_nothing_says_how_far_a_node_has_voted() {
    let without_both = || tempfile::tempdir().map(Disk).unwrap();
    let without_reservation = || {
        let disk = crashed();
        fs::remove_file(reservation::path(disk.data())).unwrap();
        disk
    };
    let with_a_spoilt_one = || {
        let disk = crashed();
        fs::write(reservation::path(disk.data()), "agreserv").unwrap();
        disk
    };
    for disk in [without_both(), without_reservation(), with_a_spoilt_one()] {
        let restoration = disk.open(HERE);
        assert_eq!(restoration.doubt(), Some(Doubt::ReservationMissing));
        assert!(matches!(restoration.bar(), Bar::PastFirstFinalization(_)), "{restoration:?}");
    }
}

#[test]
fn another_node_another_cluster_and_a_later_version_are_refused_and_nothing_is_changed() {
    let disk = crashed();
    let before = fs::read(disk.log()).unwrap();
    let other = Owner { identity: [9; 32], ..OWNER };
    assert!(matches!(disk.open_as(other, HERE), Err(VoteLogError::OtherIdentity { .. })));
    let other = Owner { cluster: ClusterId([9; 32]), ..OWNER };
    assert!(matches!(disk.open_as(other, HERE), Err(VoteLogError::OtherCluster { .. })));
    for other in [Owner { identity: [9; 32], ..OWNER }, Owner { cluster: ClusterId([9; 32]), ..OWNER }] {
        fs::remove_file(reservation::path(disk.data())).unwrap();
        let refused = disk.open_as(other, HERE).unwrap_err();
        assert!(refused.to_string().contains("vote.log"), "the log tells as much: {refused}");
        reservation::write(&mut FileSystem, &reservation::path(disk.data()), &Durable::new(), &OWNER).unwrap();
    }
    assert_eq!(fs::read(disk.log()).unwrap(), before);
    disk.change_log(|bytes| {
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]).to_le_bytes();
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum);
    });
    let refused = disk.open_as(OWNER, HERE).unwrap_err().to_string();
    assert!(refused.contains("format version 2") && refused.contains("up to version 1"), "{refused}");
}

#[test]
fn a_folder_that_remembers_votes_is_not_made_ready_again() {
    let disk = crashed();
    assert!(matches!(initialize(disk.data(), &OWNER), Err(VoteLogError::Exists(_))));
    fs::remove_file(reservation::path(disk.data())).unwrap();
    assert!(matches!(initialize(disk.data(), &OWNER), Err(VoteLogError::Exists(path)) if path.ends_with("vote.log")));
}

#[test]
fn a_full_disk_costs_nothing_that_was_said_and_is_caught_up_with() {
    let disk = Disk::new();
    let mut running = Running::start(&disk, HERE);
    running.record(notar(1));
    let log = running.recorder.replace_log(FrameFile::on_a_full_disk(FORMAT));
    running.recorder.record(NOW, notar(2)).unwrap_err();
    assert!(running.recorder.is_behind());
    let later = Time(10_000_000_000);
    assert!(!running.recorder.catch_up(NOW), "it is too early to try again");
    assert!(!running.recorder.catch_up(later) && running.recorder.is_behind(), "it is still full");
    running.recorder.replace_log(log);
    assert!(running.recorder.catch_up(Time(2 * later.0)) && !running.recorder.is_behind());
    running.record(notar(3));
    running.crash();
    assert_eq!(disk.entries(), (1..=3).map(notar).collect::<Vec<_>>());
}

#[test]
fn a_log_that_grew_is_replaced_by_a_short_one_and_no_entry_is_missing_at_any_moment() {
    let disk = Disk::new();
    let mut running = Running::start(&disk, HERE);
    let (mut slot, mut longest) = (0, 0);
    let mut replaced = 0;
    while replaced < 2 {
        slot += 1;
        running.record(notar(slot));
        if slot > 3 {
            running.record(finalized(slot - 3));
        }
        let length = fs::metadata(disk.log()).unwrap().len();
        replaced += u32::from(length < longest);
        longest = if length < longest { 0 } else { length };
        if slot % 500 == 0 || replaced == 2 {
            let restored = Restoration::of(
                alpenglow_control::vote_record::Found {
                    durable: reservation::read(&reservation::path(disk.data()), &OWNER).unwrap(),
                    log: file::read(&disk.log(), &OWNER, VALIDATORS).unwrap(),
                },
                HERE,
                false,
            );
            let expected: Vec<Entry> = [finalized(slot - 3)].into_iter().chain((slot - 2..=slot).map(notar)).collect();
            assert_eq!(restored.entries().cloned().collect::<Vec<_>>(), expected, "in slot {slot}");
        }
        running.recorder.poll();
        assert!(slot < 1_000_000, "the log only grows");
    }
    running.stop();
    assert_eq!(disk.open(HERE).doubt(), None);
}

/// What a power loss may leave of a log that was synced up to a length.
fn after_power_loss(log: &[u8], synced: usize, random: &mut u64) -> Vec<u8> {
    let mut below = |bound: usize| {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) as usize % bound
    };
    let mut left = log[..synced + below(log.len() - synced + 1)].to_vec();
    match below(3) {
        0 => {}
        1 => left.resize(log.len(), 0),
        _ => {
            let from = synced.min(left.len());
            left[from..].iter_mut().for_each(|byte| *byte ^= below(256) as u8);
        }
    }
    left
}

#[test]
fn whatever_a_power_loss_leaves_of_the_log_no_slot_that_was_voted_in_is_voted_in_again() {
    for seed in 1..=60_u64 {
        let mut random = seed;
        let disk = Disk::new();
        let mut running = Running::start(&disk, HERE);
        let synced = fs::read(disk.log()).unwrap().len();
        let last = 1 + seed % 20;
        for slot in 1..=last {
            if slot > running.durable.0 {
                running.reserve(slot + RESERVED_AHEAD_SLOTS - 1);
            }
            running.record(notar(slot));
        }
        running.crash();
        let log = fs::read(disk.log()).unwrap();
        fs::write(disk.log(), after_power_loss(&log, synced, &mut random)).unwrap();
        let restoration = disk.open(REBOOTED);
        let Bar::Through(through) = restoration.bar() else { panic!("seed {seed}: {restoration:?}") };
        assert!(
            through >= Slot(last) && through < Slot(last + 2 * RESERVED_AHEAD_SLOTS),
            "seed {seed}: {restoration:?}"
        );
    }
}

#[test]
fn a_log_that_waits_for_the_disk_is_trusted_after_a_power_loss_and_only_then() {
    for (durability, doubt) in [(Durability::Power, None), (Durability::Process, Some(Doubt::PowerLoss))] {
        // The file may have become longer for an entry that did not get to the disk.
        for zeros in [0, FRAME_HEAD_BYTES, FRAME_HEAD_BYTES + 41, 5_000] {
            let disk = Disk::new();
            let mut running = Running::with(&disk, HERE, durability);
            running.reserve(8);
            (1..=5).for_each(|slot| running.record(notar(slot)));
            running.crash();
            disk.change_log(|bytes| bytes.resize(bytes.len() + zeros, 0));
            let restoration = disk.open(REBOOTED);
            assert_eq!(restoration.doubt(), doubt, "{durability:?}, {zeros} zeros");
            assert_eq!(restoration.entries().count(), if doubt.is_none() { 5 } else { 0 });
            assert!(!disk.log().with_extension("log.corrupt").exists(), "that is no corrupt log");
        }
    }
}

#[test]
fn zeros_behind_the_last_entry_make_a_log_corrupt_if_no_power_was_lost() {
    let disk = crashed();
    disk.change_log(|bytes| bytes.resize(bytes.len() + 100, 0));
    assert_eq!(disk.open(HERE).doubt(), Some(Doubt::LogCorrupt));
    assert!(disk.log().with_extension("log.corrupt").exists());
}
