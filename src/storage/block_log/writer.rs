//! The thread that writes the block log and reads from it, and control's end of its queues. Control never waits for it:
//! what finds a queue full is dropped and counted, and fetched from others later. What must be written before a vote
//! control writes itself ([`super::held`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{BlockLogAnswer, BlockLogOrder, LOADS_MAX};
use alpenglow_control::certificate::Certificate;
use alpenglow_control::repair::REPAIRED_AT_A_TIME_MAX;
use alpenglow_dataplane::{ControlWaker, clock};
use alpenglow_rotor::types::{BlockId, Time};
use crossbeam::channel::{self, Receiver, Sender, TryRecvError};

use super::held::{HeldFile, HeldSlices, SPARE_FILES};
use super::log::{BlockLog, Kept};
use crate::failpoint::FailPoints;
use crate::report::{Stage, StageHistograms};

/// Orders to write that may wait: of each block two, for more slots than anything else here lags behind.
const ORDERS_MAX: usize = 256;
/// Bytes of final blocks that may wait.
const FINAL_BYTES_MAX: usize = 64 << 20;
/// How often the thread looks whether there is something to do. It sleeps in between rather than wait, so that control
/// need not wake it: on a machine whose cores are all busy a wake-up can take the core of the one who wakes for a
/// millisecond, and control is about to vote.
const LOOK_AFTER: Duration = Duration::from_millis(5);
/// How much nicer the thread is than the others of the node. It wakes when the disk has done something, and must not
/// take a core away then from one whose vote others wait for.
const NICENESS: i32 = 10;
/// How often the thread does what nobody asks for.
const TICK: Duration = Duration::from_millis(100);
/// Bytes that are looked at in a tick.
const LOOK_BYTES: u64 = 4 << 20;
/// How often what was written is synced: what a power loss costs.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// Or when so much was written since. Whoever syncs a file next, as the vote log's thread does for the reservation, may
/// have to wait until the disk has all of it.
pub(super) const UNSYNCED_BYTES_MAX: u64 = 256 << 10;
/// After a sync that took longer than this, the disk is left to others for as long as it took, …
pub(super) const SLOW_SYNC: Duration = Duration::from_millis(50);
/// … or for so long.
const REST_MAX: Duration = Duration::from_secs(5);
/// What waits is written at a stop as far as there is time.
pub(crate) const STOP_WITHIN: Duration = Duration::from_millis(500);
/// After the disk refused, so long nothing is tried.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Lost blocks that control is told of at a time: as many as it asks others for.
const TOLD_MAX: usize = REPAIRED_AT_A_TIME_MAX;
/// When a lost block is told once more that was not found.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// One thing to do.
pub(super) enum Order {
    /// Write a block.
    Write(Write),
    /// Slices that are in segments now.
    Remove(HeldFile),
}

/// A block to write.
pub(super) struct Write {
    block: Arc<Block>,
    /// If it is final: its certificates, and whether it is the next one of the chain.
    finality: Option<(Vec<Arc<Certificate>>, bool)>,
    /// When that was ordered.
    at: Time,
    /// What it counts among what waits.
    bytes: usize,
}

/// Bytes of blocks that wait.
#[derive(Default)]
struct Waiting {
    /// In memory that shards need back.
    held: AtomicUsize,
    /// In memory of their own.
    finals: AtomicUsize,
}

/// Control's end.
pub(crate) struct BlockLogHandle {
    held: HeldSlices,
    orders: Sender<Order>,
    loads: Sender<BlockId>,
    answers: Receiver<BlockLogAnswer>,
    waiting: Arc<Waiting>,
    bounds: Bounds,
    is_behind: bool,
}

/// What may wait and be kept beside the segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Memory of complete blocks that wait to be written, which shards need back.
    pub(crate) waiting_bytes_max: usize,
    /// What each of their slices takes of it.
    pub(crate) slice_memory_bytes: usize,
    /// Bytes of files of slices that may be voted for.
    pub(crate) held_bytes_max: u64,
    /// Whether blocks are to be on disk before they are voted for, and to stay there.
    pub(crate) synced: bool,
    /// When an append to them takes longer, votes do not wait for the next ones.
    pub(crate) stall: Duration,
    /// So long what waits is written at a stop.
    pub(crate) stop_within: Duration,
}

/// What the thread leaves.
#[derive(Default)]
pub(crate) struct BlockLogReport {
    /// Times from the order to the return of the write.
    pub(crate) stages: StageHistograms,
    /// What was not written or not read, by reason.
    pub(crate) drops: Vec<(&'static str, u64)>,
    /// Blocks written.
    pub(crate) blocks: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
    /// Blocks read for others or for control.
    pub(crate) loaded: u64,
}

/// The running thread.
pub(crate) struct BlockLogThread {
    thread: JoinHandle<BlockLogReport>,
    is_stopping: Arc<AtomicBool>,
}

impl BlockLogThread {
    /// Starts it.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(
        log: BlockLog,
        bounds: Bounds,
        waker: Arc<ControlWaker>,
        fail_points: FailPoints,
    ) -> io::Result<(Self, BlockLogHandle)> {
        let (orders, work) = channel::bounded(ORDERS_MAX);
        let (loads, wanted) = channel::bounded(LOADS_MAX);
        let (answers, told) = channel::bounded(LOADS_MAX + TOLD_MAX);
        let waiting = Arc::new(Waiting::default());
        let (spares, held_files) = channel::bounded(SPARE_FILES);
        let mut writer = Writer::new(log, Arc::clone(&waiting), answers, spares, waker, &bounds);
        writer.make_spares();
        let is_stopping = Arc::clone(&writer.is_stopping);
        let thread = thread::Builder::new().name("block-log".into()).spawn(move || writer.run(&work, &wanted))?;
        let held = HeldSlices::new(held_files, orders.clone(), &bounds, fail_points);
        let handle = BlockLogHandle { held, orders, loads, answers: told, waiting, bounds, is_behind: false };
        Ok((Self { thread, is_stopping }, handle))
    }

    /// Lets it write what waits, as far as there is time. The [`BlockLogHandle`] must have been dropped.
    pub(crate) fn stop(self) -> BlockLogReport {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| {
            tracing::error!("the thread of the block log panicked: blocks since then are not in it");
            BlockLogReport::default()
        })
    }
}

impl BlockLogHandle {
    /// Carries out an order, or hands it over; `count` takes the reasons of what fails.
    pub(crate) fn push(&mut self, now: Time, order: BlockLogOrder, mut count: impl FnMut(&'static str)) {
        match order {
            BlockLogOrder::Load(id) => {
                // Without its thread the log answers nothing any more, and control asks for nothing more.
                if self.loads.try_send(id).is_err() {
                    count("block_log_load_dropped");
                }
            }
            BlockLogOrder::HoldSlice(slice) => self.held.slice(now, &slice),
            BlockLogOrder::Hold { block, before_vote } => {
                if before_vote && !self.held.block(now, &block) {
                    count("block_not_written_before_vote");
                }
                let bytes = block.slices.len() * self.bounds.slice_memory_bytes;
                self.hand_over(Write { block, finality: None, at: now, bytes }, count);
            }
            BlockLogOrder::Final { block, certificates, in_order } => {
                let (slot, bytes) = (block.id.slot, block.payload_bytes());
                self.hand_over(Write { block, finality: Some((certificates, in_order)), at: now, bytes }, count);
                if in_order {
                    self.held.finalized(slot);
                }
            }
        }
    }

    fn hand_over(&mut self, write: Write, mut count: impl FnMut(&'static str)) {
        let (waiting, bytes_max, dropped) = match write.finality {
            // It is offered once more when it is final.
            None => (&self.waiting.held, self.bounds.waiting_bytes_max, "block_log_behind_held"),
            Some(_) => (&self.waiting.finals, FINAL_BYTES_MAX, "block_log_behind"),
        };
        let bytes = write.bytes;
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        // A single block that is longer than the bound may pass alone.
        let has_room = before == 0 || before + bytes <= bytes_max;
        let is_pushed = has_room && self.orders.try_send(Order::Write(write)).is_ok();
        if !is_pushed {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
            count(dropped);
            if !std::mem::replace(&mut self.is_behind, true) {
                tracing::warn!(
                    "the disk is too slow for the block log: blocks are left out, and fetched from others later; voting goes on"
                );
            }
        } else if self.is_behind && before == 0 {
            self.is_behind = false;
            tracing::info!("the block log has caught up");
        }
    }

    /// The next answer.
    pub(crate) fn pop(&self) -> Option<BlockLogAnswer> {
        self.answers.try_recv().ok()
    }

    /// Whether the thread has something to do, or has made fewer files than control may need.
    #[cfg(test)]
    pub(super) fn awaits_thread(&self) -> bool {
        !self.orders.is_empty() || self.held.lacks_spares()
    }

    /// Whether no answer waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}

struct Writer {
    log: BlockLog,
    waiting: Arc<Waiting>,
    answers: Sender<BlockLogAnswer>,
    /// Files that control takes from.
    spares: Sender<HeldFile>,
    waker: Arc<ControlWaker>,
    report: BlockLogReport,
    /// The disk refused: nothing is written before.
    retry_at: Option<Instant>,
    /// See [`Bounds::synced`].
    is_synced_for_votes: bool,
    refused: u64,
    too_long: u64,
    left_at_stop: u64,
    synced: Instant,
    unsynced_bytes: u64,
    /// Nothing is written before.
    rests_until: Option<Instant>,
    is_stopping: Arc<AtomicBool>,
    stop_within: Duration,
    lost: BTreeSet<BlockId>,
    /// Those that control was told of, and when.
    told: BTreeMap<BlockId, Instant>,
    /// The one that it was told of last.
    told_last: BlockId,
}

impl Writer {
    fn new(
        log: BlockLog,
        waiting: Arc<Waiting>,
        answers: Sender<BlockLogAnswer>,
        spares: Sender<HeldFile>,
        waker: Arc<ControlWaker>,
        bounds: &Bounds,
    ) -> Self {
        Self {
            log,
            is_synced_for_votes: bounds.synced,
            stop_within: bounds.stop_within,
            waiting,
            answers,
            spares,
            waker,
            report: BlockLogReport::default(),
            retry_at: None,
            refused: 0,
            too_long: 0,
            left_at_stop: 0,
            synced: Instant::now(),
            unsynced_bytes: 0,
            rests_until: None,
            is_stopping: Arc::default(),
            lost: BTreeSet::new(),
            told: BTreeMap::new(),
            told_last: BlockId::GENESIS,
        }
    }

    fn run(mut self, orders: &Receiver<Order>, loads: &Receiver<BlockId>) -> BlockLogReport {
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::warn!(%error, "the thread of the block log is as urgent as the others");
        }
        let mut ticked = Instant::now();
        let mut stops_since = None;
        loop {
            if let Ok(id) = loads.try_recv() {
                self.load(id);
            }
            if self.is_stopping.load(Ordering::Relaxed)
                && stops_since.get_or_insert_with(Instant::now).elapsed() >= self.stop_within
            {
                // What is not final is in files that the next start looks into, the rest others have.
                self.left_at_stop = orders.try_iter().filter(|order| matches!(order, Order::Write(_))).count() as u64;
                break;
            }
            self.rests_until.take_if(|until| stops_since.is_some() || *until <= Instant::now());
            let has_worked = self.rests_until.is_none()
                && match orders.try_recv() {
                    Ok(order) => {
                        self.carry_out(order);
                        true
                    }
                    Err(TryRecvError::Empty) => false,
                    // Control is gone, and asks for nothing more.
                    Err(TryRecvError::Disconnected) => break,
                };
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick(!has_worked);
            }
            if !has_worked && loads.is_empty() {
                self.tell_lost();
                thread::sleep(LOOK_AFTER);
            }
        }
        self.finish()
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Write(write) => self.write(write),
            Order::Remove(file) => {
                if self.is_synced_for_votes {
                    self.sync();
                }
                self.log.remove_held(file);
            }
        }
    }

    fn write(&mut self, Write { block, finality, at, bytes }: Write) {
        let before = self.log.bytes();
        let waiting = if finality.is_none() { &self.waiting.held } else { &self.waiting.finals };
        let written = self.retry_at.is_none().then(|| match &finality {
            None => self.log.hold(&block),
            Some((certificates, in_order)) => self.log.finalize(&block, certificates, *in_order),
        });
        waiting.fetch_sub(bytes, Ordering::Relaxed);
        match written {
            Some(Ok(Kept::Written)) => {
                self.report.stages.record_ns(Stage::BlockLog, clock::now().0.saturating_sub(at.0));
                self.report.blocks += u64::from(finality.is_none());
                let bytes = self.log.bytes().saturating_sub(before);
                self.report.bytes += bytes;
                self.unsynced_bytes += bytes;
            }
            Some(Ok(Kept::Known)) => {}
            Some(Ok(Kept::TooLong)) => self.too_long += 1,
            Some(Err(error)) => self.refuse(&error),
            None => self.refused += 1,
        }
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.sync();
        }
        self.make_spares();
    }

    fn sync(&mut self) {
        let begun = Instant::now();
        if let Err(error) = self.log.sync() {
            self.refuse(&error);
        }
        (self.synced, self.unsynced_bytes) = (Instant::now(), 0);
        let took = self.synced - begun;
        self.rests_until = (took > SLOW_SYNC).then(|| self.synced + took.min(REST_MAX));
    }

    /// So that control always finds a file to go on with.
    fn make_spares(&mut self) {
        while self.retry_at.is_none() && !self.spares.is_full() {
            match self.make_spare() {
                Ok(file) => {
                    if let Err(gone) = self.spares.try_send(file) {
                        // Control needs none any more.
                        return self.log.remove_held(gone.into_inner());
                    }
                }
                Err(error) => self.refuse(&error),
            }
        }
    }

    fn make_spare(&mut self) -> io::Result<HeldFile> {
        let file = self.log.make_held()?;
        if self.is_synced_for_votes {
            self.log.sync_names()?;
        }
        Ok(file)
    }

    fn refuse(&mut self, error: &io::Error) {
        self.refused += 1;
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        tracing::error!(%error, "the block log cannot be written: blocks are left out, and fetched from others later; voting goes on. Make room on the disk, or lower block_log_mib");
    }

    fn load(&mut self, id: BlockId) {
        let block = self.log.load(id).map(Arc::new);
        self.report.loaded += u64::from(block.is_some());
        self.answer(BlockLogAnswer::Loaded { id, block });
    }

    fn answer(&mut self, answer: BlockLogAnswer) {
        // It has room for all that control asked for and is told at a time, unless control was told a minute ago and
        // has not looked; when it is closed control is gone.
        if self.answers.try_send(answer).is_ok() {
            self.waker.wake();
        }
    }

    fn tick(&mut self, is_idle: bool) {
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.retry_at.or(self.rests_until).is_none() && now - self.synced >= SYNC_AFTER {
            self.sync();
        }
        self.make_spares();
        if !is_idle {
            return;
        }
        let mut looked_at = 0;
        while looked_at < LOOK_BYTES
            && let Some(bytes) = self.log.look_at_next()
        {
            looked_at += bytes;
        }
    }

    /// A few at a time, in turns, since nobody may have those that were told of before.
    fn tell_lost(&mut self) {
        if self.retry_at.is_some() {
            return;
        }
        match self.log.take_lost_if_changed() {
            Ok(Some(lost)) => self.lost_changed(lost),
            Ok(None) => {}
            Err(error) => return self.refuse(&error),
        }
        if self.lost.is_empty() {
            return;
        }
        let now = Instant::now();
        self.told.retain(|id, at| self.lost.contains(id) && now - *at < TELL_AGAIN_AFTER);
        let behind = self.lost.range((Excluded(self.told_last), Unbounded));
        let in_turns = behind.chain(self.lost.range(..=self.told_last)).filter(|id| !self.told.contains_key(id));
        let next: Vec<BlockId> = in_turns.take(TOLD_MAX - self.told.len()).copied().collect();
        for id in next {
            self.told.insert(id, now);
            self.told_last = id;
            self.answer(BlockLogAnswer::Lost(id));
        }
    }

    fn lost_changed(&mut self, lost: Vec<BlockId>) {
        if let (true, Some(first)) = (self.lost.is_empty(), lost.first()) {
            tracing::warn!(block = %first, "final blocks are not in the block log: they are fetched from others");
        } else if !self.lost.is_empty() && lost.is_empty() {
            tracing::info!("the block log lacks nothing any more");
        }
        self.lost = lost.into_iter().collect();
    }

    fn finish(mut self) -> BlockLogReport {
        if let Err(error) = self.log.sync() {
            self.refuse(&error);
        }
        self.report.drops = vec![
            ("block_log_refused", self.refused),
            ("block_log_too_long", self.too_long),
            ("block_log_left_at_stop", self.left_at_stop),
            ("block_log_corrupt", self.log.corrupt()),
        ];
        self.report.drops.retain(|(_, count)| *count > 0);
        self.report
    }
}
