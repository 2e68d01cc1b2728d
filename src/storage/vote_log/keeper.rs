//! The thread that waits for the disk, so that control does not.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use alpenglow_control::vote_record::Durable;
use alpenglow_dataplane::ControlWaker;
use alpenglow_rotor::types::Slot;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::disk::{FailingFileSystem, FileSystem};
use super::{Owner, VoteLogError, file, reservation};
use crate::config::Durability;
use crate::failpoint::{FailPoints, Point};
use crate::storage::frames::FrameFile;

/// After a write that the file system refused, it is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Without orders there is nothing to do.
const FOREVER: Duration = Duration::from_secs(3_600);

/// What control asks for.
pub(super) enum Order {
    /// A reservation up to this slot.
    Reserve(Slot),
    /// A log of these entries under an unfinished name.
    Shorten(Vec<Vec<u8>>),
    /// The unfinished log is to take the place of the other one. From now on this is the file to sync.
    Switch(File),
    /// A file that is no longer needed: closing it may take long.
    Close(FrameFile),
}

/// What control is told.
pub(super) enum Answer {
    /// The reservation is on disk.
    Reserved(Slot),
    /// The shorter log, or that there will be none.
    Shortened(Option<FrameFile>),
    /// Whether the unfinished log has taken its place.
    Switched(bool),
}

/// Returns when what is in a file is on disk.
pub(super) type Sync = Box<dyn FnMut(&File) -> io::Result<()> + Send>;
/// Returns when the names in a folder are on disk.
pub(super) type SyncNames = Box<dyn FnMut(&Path) -> io::Result<()> + Send>;

/// What the thread works with.
pub(super) struct Work {
    pub(super) data: PathBuf,
    pub(super) owner: Owner,
    pub(super) durable: Durable,
    pub(super) log: File,
    pub(super) durability: Durability,
    /// [`File::sync_data`], or a test's.
    pub(super) sync: Sync,
    /// [`file::sync_name`], or a test's.
    pub(super) sync_name: SyncNames,
    /// Another log has the name, and after a power loss the former one may have it again.
    pub(super) is_switching: bool,
    /// A sync of the log failed. The system may have let go of what it could not write, and report the next one done.
    pub(super) has_lost: bool,
    pub(super) orders: Receiver<Order>,
    pub(super) answers: Sender<Answer>,
    pub(super) waker: Arc<ControlWaker>,
    pub(super) fail_points: FailPoints,
}

/// The running thread.
pub(crate) struct Keeper(JoinHandle<Work>);

impl Keeper {
    pub(super) fn start(work: Work) -> Result<Self, VoteLogError> {
        let thread = thread::Builder::new().name("vote-log".into()).spawn(move || work.run());
        thread.map(Self).map_err(VoteLogError::Thread)
    }

    /// Whether it has ended although the recorder is there: by a panic.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }

    /// Ends it; the recorder must have been dropped. If `is_complete`, that is if everything that was said is in the
    /// log, marks the stop as clean: at the next start the log is trusted, whatever happens to the machine until then.
    pub(crate) fn stop(self, is_complete: bool) {
        match self.0.join() {
            Ok(work) if is_complete => work.mark_clean(),
            Ok(_) => {}
            Err(_) => tracing::error!("the thread that renews the reservation panicked"),
        }
    }
}

impl Work {
    fn run(mut self) -> Self {
        let mut wanted = None;
        loop {
            let patience = if wanted.is_some() { TRY_AGAIN_AFTER } else { FOREVER };
            match self.orders.recv_timeout(patience) {
                Ok(Order::Reserve(slot)) => {
                    // Orders that came while this thread was busy are covered by the last one.
                    wanted = wanted.max(Some(slot));
                    if self.orders.is_empty() {
                        wanted = self.reserve(wanted);
                    }
                }
                Ok(order) => {
                    self.carry_out(order);
                    wanted = self.reserve(wanted);
                }
                Err(RecvTimeoutError::Timeout) => wanted = self.reserve(wanted),
                Err(RecvTimeoutError::Disconnected) => return self,
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Reserve(_) => {}
            Order::Shorten(entries) => {
                let entries = entries.iter().map(Vec::as_slice);
                let shorter = file::create(&self.data, &self.owner, entries)
                    .inspect_err(|error| tracing::warn!(%error, "the vote log grows: no shorter one can be written"));
                self.answer(Answer::Shortened(shorter.ok()));
            }
            Order::Switch(log) => {
                if let Err(error) = file::put_in_place(&mut FileSystem, &self.data) {
                    tracing::warn!(%error, "the vote log grows: no shorter one can be put in place");
                    return self.answer(Answer::Switched(false));
                }
                self.log = log;
                match (self.sync_name)(&self.data) {
                    Ok(()) => self.answer(Answer::Switched(true)),
                    Err(error) => {
                        // Control goes on to append to both.
                        self.is_switching = true;
                        tracing::warn!(%error, "cannot sync the data folder: done with the next reservation");
                    }
                }
            }
            Order::Close(file) => drop(file),
        }
    }

    /// What is still wanted afterwards.
    fn reserve(&mut self, wanted: Option<Slot>) -> Option<Slot> {
        let slot = wanted?;
        let renewed = self.durable.renewed(slot);
        self.fail_points.pass(Point::BeforeReservation);
        if let Err(error) = self.write_reservation(&renewed) {
            tracing::error!(%error, %slot, "cannot write the reservation: this node votes no further than {}", self.durable.reservation);
            return wanted;
        }
        self.fail_points.pass(Point::AfterReservation);
        self.durable = renewed;
        self.answer(Answer::Reserved(slot));
        // The reservation's name is in the same folder.
        if mem::take(&mut self.is_switching) {
            self.answer(Answer::Switched(true));
        }
        // Nothing depends on it but how much is found after a power loss. What control syncs at each append is left to
        // it: of two that sync an open file, one alone is told of a failure.
        if self.durability == Durability::Process
            && let Err(error) = (self.sync)(&self.log)
        {
            self.has_lost = true;
            tracing::warn!(%error, "cannot sync the vote log: it will not be trusted after a power loss, nor after this node was stopped and its machine restarted");
        }
        None
    }

    fn write_reservation(&self, durable: &Durable) -> io::Result<()> {
        let mut disk = FailingFileSystem { fail_points: &self.fail_points, point: Point::WithinReservation };
        reservation::write(&mut disk, &reservation::path(&self.data), durable, &self.owner)
    }

    fn answer(&self, answer: Answer) {
        // Control may have ended.
        let _ = self.answers.send(answer);
        self.waker.wake();
    }

    fn mark_clean(mut self) {
        if self.has_lost {
            tracing::warn!("this stop is not marked as clean: the vote log could not be synced before");
            return;
        }
        let clean = Durable { clean: true, ..self.durable };
        let marked = (self.sync)(&self.log).and_then(|()| self.write_reservation(&clean));
        if let Err(error) = marked {
            tracing::warn!(%error, "this stop cannot be marked as clean: after a power loss the vote log will not be trusted");
        }
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::types::ClusterId;
    use crossbeam::channel;

    use super::*;

    const OWNER: Owner = Owner { cluster: ClusterId([3; 32]), identity: [4; 32] };

    /// A thread's work, whose syncs of the log end so.
    fn work(data: &Path, durability: Durability, sync: impl FnMut(&File) -> io::Result<()> + Send + 'static) -> Work {
        Work {
            data: data.to_owned(),
            owner: OWNER,
            durable: Durable { clean: false, ..Durable::new() },
            log: File::create(file::path(data)).unwrap(),
            durability,
            sync: Box::new(sync),
            sync_name: Box::new(|_| Ok(())),
            is_switching: false,
            has_lost: false,
            orders: channel::never(),
            answers: channel::unbounded().0,
            waker: ControlWaker::pair().unwrap().0,
            fail_points: FailPoints::default(),
        }
    }

    fn is_marked_clean(data: &Path) -> bool {
        reservation::read(&reservation::path(data), &OWNER).unwrap().unwrap().clean
    }

    #[test]
    fn after_a_failed_sync_no_later_one_makes_the_log_trusted() {
        for failing in [None, Some(0), Some(1), Some(2)] {
            let folder = tempfile::tempdir().unwrap();
            let mut syncs = 0..;
            let mut work = work(folder.path(), Durability::Process, move |_| match failing {
                Some(failing) if syncs.next() == Some(failing) => Err(io::Error::from_raw_os_error(libc::EIO)),
                _ => Ok(()),
            });
            for slot in [8, 16] {
                assert_eq!(work.reserve(Some(Slot(slot))), None, "votes go on");
            }
            work.mark_clean();
            assert_eq!(is_marked_clean(folder.path()), failing.is_none(), "sync {failing:?} failed");
        }
    }

    #[test]
    fn a_log_whose_name_may_be_lost_is_no_log_alone_until_the_folder_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let (to_answer, answers) = channel::unbounded();
        let sync_name = Box::new(|_: &Path| Err(io::Error::from_raw_os_error(libc::EIO)));
        let power = work(folder.path(), Durability::Power, |_| Ok(()));
        let mut work = Work { answers: to_answer, sync_name, ..power };
        let shorter = file::create(folder.path(), &OWNER, []).unwrap();
        work.carry_out(Order::Switch(shorter.share().unwrap()));
        assert!(answers.is_empty(), "entries go to both");
        assert_eq!(work.reserve(Some(Slot(8))), None);
        let answers: Vec<Answer> = answers.try_iter().collect();
        assert!(matches!(answers[..], [Answer::Reserved(Slot(8)), Answer::Switched(true)]));
    }

    #[test]
    fn where_control_syncs_the_log_nobody_else_takes_its_failures() {
        let folder = tempfile::tempdir().unwrap();
        let mut work = work(folder.path(), Durability::Power, |_| panic!("control would not be told of a failure"));
        assert_eq!(work.reserve(Some(Slot(8))), None);
        work.sync = Box::new(File::sync_data);
        work.mark_clean();
        assert!(is_marked_clean(folder.path()));
    }
}
