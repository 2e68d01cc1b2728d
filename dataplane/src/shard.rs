//! A shard: one thread, one engine, one socket. A shred's way is [`Shard::take_in`] and then [`Shard::run`], from top
//! to bottom.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alpenglow_rotor::types::Time;

use crate::buffers::{BufferId, SEGMENTS_MAX};
use crate::clock;
use crate::config::Poll;
use crate::counters::{Counter, Counters};
use crate::egress::Egress;
use crate::engine::Engine;
use crate::intake::Intake;
use crate::link::{ControlLink, FromShard};
use crate::stages::ShardReport;

/// What one buffer can yield for control: of each datagram that its leader is alive, and a slice or a report about one.
const YIELD_MAX: usize = 2 * SEGMENTS_MAX;
/// Buffers handled before control's orders and the ring have their turn again.
const BUFFERS_PER_TURN: usize = 16;
/// Longest sleep. Nothing needs it: every reason to get up wakes the shard, or is a time that it knows.
const SLEEP: Duration = Duration::from_millis(100);

/// See the module.
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) poll: Poll,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) engine: Engine,
    pub(crate) intake: Intake,
    pub(crate) egress: Egress,
    pub(crate) control: ControlLink,
    pub(crate) counters: Arc<Counters>,
    /// Buffers that were received and not yet looked at.
    pub(crate) received: VecDeque<BufferId>,
    /// When the buffer at hand had its turn.
    pub(crate) received_at: Time,
    pub(crate) turn: usize,
}

impl Shard {
    /// Runs until it is told to stop.
    pub(crate) fn run(mut self) -> ShardReport {
        self.housekeep();
        while !self.stop.load(Ordering::Relaxed) {
            self.reap();
            while let Some(buffer) = self.next_buffer() {
                self.take_in(buffer);
                self.forward(buffer);
                while let Some(decoded) = self.intake.decode() {
                    self.hand_off(decoded);
                }
            }
            self.submit();
            self.housekeep();
        }
        ShardReport { shard: self.index, stages: self.intake.stages, counters: self.counters }
    }

    /// What a buffer brings, up to where each shred lies in its slice.
    fn take_in(&mut self, buffer: BufferId) {
        let (intake, received) = (&mut self.intake, self.engine.received(buffer));
        let mut datagrams = intake.split(&received, self.received_at);
        while let Some(shreds) = intake.next_batch(&mut datagrams) {
            let verified = intake.verify(&shreds);
            for (shred, verified) in shreds.iter().flatten().zip(verified) {
                let Some(verified) = verified else { continue };
                intake.relay(shred, &verified);
                intake.assemble(shred, verified);
            }
        }
    }

    /// Takes completions, after a sleep if there is nothing to do.
    fn reap(&mut self) {
        let waker = self.control.waker();
        let sleepy = self.poll == Poll::Wait && {
            waker.park(self.waits_for_room());
            !self.has_work()
        };
        let pause = if sleepy { self.egress.pause(clock::now()) } else { None };
        self.engine.reap(sleepy.then(|| pause.map_or(SLEEP, |pause| pause.min(SLEEP))), &mut self.received);
        waker.unpark();
        self.take_handed_over();
        self.turn = 0;
    }

    /// Takes what other shards have received for this one.
    fn take_handed_over(&mut self) {
        let (engine, inbox) = (&mut self.engine, self.control.inbox());
        while engine.can_admit()
            && let Some(admitted) = inbox.take(|datagram, source| engine.admit(datagram, source))
        {
            self.received.extend(admitted);
            self.counters.add(Counter::HandedOverReceived, 1);
        }
    }

    /// Whether anything can be done without a completion. Asked after the shard has called itself parked.
    fn has_work(&self) -> bool {
        let buffers = !self.received.is_empty() && self.has_room();
        let orders = self.egress.accepts_orders() && self.control.has_orders();
        let sends = self.egress.can_forward(&self.engine) || self.egress.can_encode(&self.control);
        let handed_over = self.engine.can_admit() && !self.control.inbox().is_empty();
        buffers || orders || sends || handed_over || self.stop.load(Ordering::Relaxed)
    }

    /// Without room for what a buffer can yield it is left alone, and the reading stops when all buffers are.
    fn has_room(&self) -> bool {
        self.control.slice_room() >= YIELD_MAX
    }

    fn waits_for_room(&self) -> bool {
        (!self.received.is_empty() && !self.has_room()) || self.egress.waits_for_room(&self.control)
    }

    fn next_buffer(&mut self) -> Option<BufferId> {
        if self.turn == BUFFERS_PER_TURN || !self.has_room() {
            return None;
        }
        let buffer = self.received.pop_front()?;
        self.turn += 1;
        self.received_at = clock::now();
        Some(buffer)
    }

    /// Sends the copies of what this node relays. They leave before the decoding starts.
    fn forward(&mut self, buffer: BufferId) {
        for fan_out in self.intake.fan_outs() {
            self.egress.relay(&mut self.engine, buffer, fan_out);
        }
        self.engine.release(buffer);
        self.engine.wake_control();
        self.wake_neighbours();
        self.egress.forward(&mut self.engine, &self.control, &mut self.intake.stages, &mut self.received);
    }

    fn wake_neighbours(&mut self) {
        let mut shards = self.intake.take_handed_over();
        while shards != 0 {
            self.engine.wake_shard(shards.trailing_zeros() as usize);
            shards &= shards - 1;
        }
    }

    /// Gives control a slice or a report about one.
    fn hand_off(&mut self, decoded: FromShard) {
        self.control.push_slice(decoded);
        self.engine.wake_control();
        self.engine.submit();
    }

    /// Sends what control has ordered and what waited for a free slot.
    fn submit(&mut self) {
        self.egress.forward(&mut self.engine, &self.control, &mut self.intake.stages, &mut self.received);
        self.egress.send_slice(&mut self.engine, &mut self.intake.lineups, &self.control, &mut self.intake.stages);
        self.engine.submit();
    }

    /// Follows control's horizon.
    fn housekeep(&mut self) {
        self.intake.follow_horizon();
    }
}
