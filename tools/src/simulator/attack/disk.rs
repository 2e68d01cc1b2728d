//! What a node keeps through crashes: the log of what it said, the durable part beside it, and its blocks.

use std::mem;

use alpenglow_control::vote_record::{Durable, Entry, Found, FoundLog, Host, Kept, Restoration};
use alpenglow_rotor::types::{Slot, Time};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::block_log::BlockLog;

/// How often there are zeros where the next entry of a log was to be, …
const ZEROS_PERCENT: u64 = 20;
/// … and how often there is anything at all.
const DAMAGED_PERCENT: u64 = 40;
/// A longer log is written anew.
const LOG_ENTRIES_MAX: usize = 64;

/// How the log ends.
#[derive(Default)]
enum LogEnd {
    #[default]
    Whole,
    Zeros,
    Spoilt,
}

pub(super) struct Disk {
    pub(super) durable: Durable,
    log: Vec<Entry>,
    synced: bool,
    boot: u8,
    end: LogEnd,
    pub(super) blocks: BlockLog,
    /// When the block log's thread has done what it was given.
    pub(super) idle_at: Time,
}

impl Disk {
    /// Of a node that never started. `synced`: its log outlives a power loss.
    pub(super) fn new(synced: bool) -> Self {
        Self {
            durable: Durable::new(),
            log: Vec::new(),
            synced,
            boot: 1,
            end: LogEnd::Whole,
            blocks: BlockLog::new(synced),
            idle_at: Time(0),
        }
    }

    /// What a node may do that starts now; the disk then holds what a start writes.
    pub(super) fn start(&mut self) -> Restoration {
        let log = mem::take(&mut self.log);
        let log = match mem::take(&mut self.end) {
            LogEnd::Whole => FoundLog::Whole(log),
            LogEnd::Zeros => FoundLog::Unwritten(log),
            LogEnd::Spoilt => FoundLog::Corrupt(log),
        };
        let host = Host { machine: [7; 16], boot: [self.boot; 16] };
        let restoration = Restoration::of(Found { durable: Some(self.durable), log }, host, self.synced);
        self.durable = restoration.durable();
        self.log = restoration.entries().cloned().collect();
        restoration
    }

    pub(super) fn append(&mut self, entry: Entry) {
        self.log.push(entry);
        if self.log.len() > LOG_ENTRIES_MAX {
            let kept: Kept = mem::take(&mut self.log).into_iter().collect();
            self.log = kept.entries().cloned().collect();
        }
    }

    pub(super) fn reserve(&mut self, through: Slot) {
        self.durable = self.durable.renewed(through);
    }

    /// Whether the log says so.
    pub(super) fn has(&self, entry: &Entry) -> bool {
        self.log.contains(entry)
    }

    /// The power fails: unless it was synced, a part of the log at its end is gone, and the rest may be spoilt.
    pub(super) fn lose_power(&mut self, random: &mut ChaCha8Rng) {
        self.boot += 1;
        self.blocks.lose_power(random);
        if !self.synced {
            self.log.truncate((random.next_u64() % (self.log.len() as u64 + 1)) as usize);
        }
        self.end = match random.next_u64() % 100 {
            0..ZEROS_PERCENT => LogEnd::Zeros,
            ZEROS_PERCENT..DAMAGED_PERCENT if !self.synced => LogEnd::Spoilt,
            _ => LogEnd::Whole,
        };
    }
}
