//! Control's end of the record.

use std::fs::File;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::vote_record::{Entry, Kept};
use alpenglow_dataplane::ControlWaker;
use alpenglow_rotor::types::{Slot, Time};
use crossbeam::channel::{self, Receiver, Sender, TrySendError};

use super::disk::FileSystem;
use super::keeper::{Answer, Keeper, Order, Work};
use super::opening::Opened;
use super::{Owner, VoteLogError, file};
use crate::config::Durability;
use crate::failpoint::{FailPoints, Point};
use crate::storage::data_folder::DataFolder;
use crate::storage::frames::FrameFile;

/// A log is replaced when it is longer than this and than twice what it was replaced by the last time.
const LOG_BYTES: u64 = 1 << 20;
/// What may be said while a shorter log is being written; if it is more, that log is not used.
const SINCE_BYTES: usize = 1 << 20;
/// Orders under way: one reservation and what belongs to one replacement. More reservations wait for room.
const ORDERS: usize = 8;
/// After an append that the file system refused, it is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Recorder {
    log: FrameFile,
    kept: Kept,
    replacement: Replacement,
    /// The length at which the log is to be replaced.
    replace_at: u64,
    /// What could not be appended, and when to try again. Until it is, nothing may follow from it.
    missed: Option<(Entry, Time)>,
    /// A reservation that found no room among the orders.
    reserve: Option<Slot>,
    orders: Sender<Order>,
    answers: Receiver<Answer>,
    durability: Durability,
    fail_points: FailPoints,
}

/// How a shorter log takes the place of the one that has grown. Until it has, every entry goes into both, so that no
/// file that is found after a crash lacks one.
enum Replacement {
    None,
    /// It is being written; these entries came since.
    Written(Vec<Vec<u8>>),
    /// Too many did.
    GivenUp,
    /// It is written, and takes its place at any moment.
    Switched(FrameFile),
}

/// What there is to remember on, once the threads run.
pub(crate) fn start(
    folder: &DataFolder,
    owner: Owner,
    opened: Opened,
    waker: &Arc<ControlWaker>,
    fail_points: FailPoints,
) -> Result<(Keeper, Recorder), VoteLogError> {
    let Opened { restoration, log, durability } = opened;
    let (orders, to_do) = channel::bounded(ORDERS);
    // As many as there can be orders unanswered: the keeper never waits for control.
    let (to_answer, answers) = channel::unbounded();
    let keeper = Keeper::start(Work {
        data: folder.path().to_owned(),
        owner,
        durable: restoration.durable(),
        log: log.share().map_err(VoteLogError::Thread)?,
        durability,
        sync: Box::new(File::sync_data),
        sync_name: Box::new(|data| file::sync_name(&mut FileSystem, data)),
        is_switching: false,
        has_lost: false,
        orders: to_do,
        answers: to_answer,
        waker: Arc::clone(waker),
        fail_points: fail_points.clone(),
    })?;
    let recorder = Recorder {
        replace_at: LOG_BYTES.max(2 * log.end()),
        log,
        kept: restoration.entries().cloned().collect(),
        replacement: Replacement::None,
        missed: None,
        reserve: None,
        orders,
        answers,
        durability,
        fail_points,
    };
    Ok((keeper, recorder))
}

impl Recorder {
    /// Appends an entry. If that fails, nothing may be done that follows from it: see [`Self::is_behind`].
    ///
    /// # Errors
    /// What the file system says. The entry is kept, to be appended later.
    ///
    /// # Panics
    /// If the one before is not appended yet.
    pub(crate) fn record(&mut self, now: Time, entry: Entry) -> io::Result<()> {
        assert!(!self.is_behind(), "nothing is said after what is not written down");
        let appended = self.append(&entry);
        match appended {
            Ok(()) => self.kept.push(entry),
            Err(_) => self.missed = Some((entry, now.after(TRY_AGAIN_AFTER))),
        }
        self.replace_if_long();
        appended
    }

    /// Whether an entry is missing in the log, so that nothing may follow from it.
    pub(crate) const fn is_behind(&self) -> bool {
        self.missed.is_some()
    }

    /// Appends what is missing, if it is time to try. True if that is done.
    pub(crate) fn catch_up(&mut self, now: Time) -> bool {
        let Some((missed, _)) = self.missed.take_if(|(_, due)| *due <= now) else { return false };
        if self.append(&missed).is_err() {
            // A log that is about to be replaced may have it already, and then has it twice.
            self.missed = Some((missed, now.after(TRY_AGAIN_AFTER)));
            return false;
        }
        self.kept.push(missed);
        true
    }

    /// Orders a reservation up to `slot`.
    pub(crate) fn reserve(&mut self, slot: Slot) {
        self.reserve = self.reserve.max(Some(slot));
        self.offer_reservation();
    }

    /// Takes what the keeper has done: a reservation that is on disk.
    pub(crate) fn poll(&mut self) -> Option<Slot> {
        self.offer_reservation();
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Answer::Reserved(slot) => return Some(slot),
                Answer::Shortened(shorter) => self.shortened(shorter),
                Answer::Switched(switched) => self.switched(switched),
            }
        }
        None
    }

    /// Whether [`Self::poll`] has something to take.
    pub(crate) fn is_idle(&self) -> bool {
        self.answers.is_empty()
    }

    /// Another file in the place of the log; the log.
    #[cfg(test)]
    pub(super) const fn replace_log(&mut self, file: FrameFile) -> FrameFile {
        mem::replace(&mut self.log, file)
    }

    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let bytes = entry.encode();
        self.fail_points.pass(Point::BeforeLog);
        self.fail_points.pass_after(Point::WithinLog, || drop(self.log.append_part(&bytes)));
        append_to(&mut self.log, &bytes, self.durability)?;
        match &mut self.replacement {
            Replacement::None | Replacement::GivenUp => {}
            Replacement::Written(since) if since.iter().map(Vec::len).sum::<usize>() > SINCE_BYTES => {
                self.replacement = Replacement::GivenUp;
            }
            Replacement::Written(since) => since.push(bytes),
            Replacement::Switched(shorter) => append_to(shorter, &bytes, self.durability)?,
        }
        self.fail_points.pass(Point::AfterLog);
        Ok(())
    }

    fn replace_if_long(&mut self) {
        if self.log.end() < self.replace_at || !matches!(self.replacement, Replacement::None) || self.is_behind() {
            return;
        }
        let entries = self.kept.entries().map(|entry| entry.encode()).collect();
        if self.orders.try_send(Order::Shorten(entries)).is_ok() {
            self.replacement = Replacement::Written(Vec::new());
        }
    }

    fn shortened(&mut self, shorter: Option<FrameFile>) {
        let (Replacement::Written(since), Some(mut shorter)) =
            (mem::replace(&mut self.replacement, Replacement::None), shorter)
        else {
            self.replace_at = 2 * self.log.end();
            return;
        };
        let appended = since.iter().try_for_each(|entry| append_to(&mut shorter, entry, self.durability));
        let shared = appended.and_then(|()| shorter.share());
        // An entry that is only missed so far goes into both, later.
        match shared.map(|file| self.orders.try_send(Order::Switch(file))) {
            Ok(Ok(())) => self.replacement = Replacement::Switched(shorter),
            Ok(Err(_)) | Err(_) => self.replace_at = 2 * self.log.end(),
        }
    }

    fn switched(&mut self, switched: bool) {
        if let Replacement::Switched(shorter) = mem::replace(&mut self.replacement, Replacement::None)
            && switched
        {
            let old = mem::replace(&mut self.log, shorter);
            // Without room among the orders it is closed here.
            let _ = self.orders.try_send(Order::Close(old));
        }
        self.replace_at = LOG_BYTES.max(2 * self.log.end());
    }

    fn offer_reservation(&mut self) {
        if let Some(slot) = self.reserve.take()
            && let Err(TrySendError::Full(_)) = self.orders.try_send(Order::Reserve(slot))
        {
            self.reserve = Some(slot);
        }
    }
}

fn append_to(log: &mut FrameFile, entry: &[u8], durability: Durability) -> io::Result<()> {
    match durability {
        Durability::Process => log.append(entry),
        Durability::Power => log.append_synced(entry),
    }
}
