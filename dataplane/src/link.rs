//! What passes between a shard and the control thread: three bounded queues for each shard, none of which ever blocks.
//! A fourth one holds what other shards have received for it.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use alpenglow_rotor::assembler::{Equivocation, MalformedSlice};
use alpenglow_rotor::parameters::DATAGRAM_BYTES_DEFAULT;
use alpenglow_rotor::slice::{Slice, SliceId, SlicePayload, SliceSignature};
use alpenglow_rotor::types::{Hash, Slot, Time, VALIDATORS_MAX, ValidatorIndex};

use crate::counters::Counter;
use crate::datagram::{HEADER_BYTES, Kind};
use crate::inbox::Inbox;
use crate::limits::Source;
use crate::sync::{ArrayQueue, AtomicU16, Ordering};
use crate::wake::ShardWaker;

/// Most bytes in the body of a message that is not a shred: what the default datagram limit leaves, whatever the
/// cluster's own limit is.
pub const MESSAGE_BYTES_MAX: usize = DATAGRAM_BYTES_DEFAULT - HEADER_BYTES;

/// Slices and reports on their way to control. A shard reads on only while there is room for all that one receive
/// buffer can yield; the rest of the depth covers the slices that arrive while control is busy for a few milliseconds.
pub(crate) const SLICE_QUEUE: usize = 640;
/// Messages on their way to control: two votes of each of 2,000 validators.
pub(crate) const MESSAGE_QUEUE: usize = 4_096;
/// A validator's messages may take up to the room that is left divided by this. So whoever floods the queue leaves room
/// for others, and many who do so leave less room to each other.
const SENDER_SHARE: usize = 4;
/// Orders on their way to a shard. A standstill bundle is spread out by control, so this is several times what one
/// round of the control loop emits; what does not fit control keeps and offers again.
pub(crate) const ORDER_QUEUE: usize = 512;

/// The body of a message that is not a shred, in place, so that no queue entry owns memory elsewhere.
#[derive(Clone)]
pub struct MessageBytes {
    length: u16,
    bytes: [u8; MESSAGE_BYTES_MAX],
}

/// A body longer than [`MESSAGE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message body of {0} bytes does not fit a datagram; at most {MESSAGE_BYTES_MAX} do")]
pub struct MessageTooLong(pub usize);

impl TryFrom<&[u8]> for MessageBytes {
    type Error = MessageTooLong;
    fn try_from(body: &[u8]) -> Result<Self, MessageTooLong> {
        let mut bytes = [0; MESSAGE_BYTES_MAX];
        bytes.get_mut(..body.len()).ok_or(MessageTooLong(body.len()))?.copy_from_slice(body);
        Ok(Self { length: body.len() as u16, bytes })
    }
}

impl Deref for MessageBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for MessageBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageBytes({} bytes)", self.len())
    }
}

/// A message that is not a shred, its sender authenticated, its body unchecked.
#[derive(Clone, Debug)]
pub struct InboundMessage {
    /// What the body is.
    pub kind: Kind,
    /// The validator whose MAC it carries; `None` only for [`Kind::Transaction`], which comes from anyone.
    pub sender: Option<ValidatorIndex>,
    /// The body, unparsed.
    pub body: MessageBytes,
    /// When the shard took it from its ring.
    pub received: Time,
}

/// What a shard tells control about slices.
#[derive(Clone, Debug)]
pub enum FromShard {
    /// A slice of another leader was decoded.
    Slice {
        /// The slice; its payload goes back to the shard when the last handle on it is dropped.
        slice: Slice,
        /// When it was decoded, for the `handoff` stage.
        decoded: Time,
    },
    /// The slice that control gave out was encoded and all its shreds are on their way.
    SliceSent {
        /// Which one.
        id: SliceId,
        /// Whether it was flagged as its block's last.
        is_last: bool,
        /// Root of the tree over its shreds.
        root: Hash,
        /// Our signature.
        signature: SliceSignature,
        /// When its encoding began.
        leader_stamp_ns: u64,
    },
    /// A valid shred of this slot came, the first one of a window.
    LeaderSeen(Slot),
    /// The leader signed a root over something that is no slice: the block is dead for everybody.
    MalformedSlice(MalformedSlice),
    /// The leader signed two versions of one slice.
    Equivocation(Equivocation),
}

/// What control orders a shard to send. Messages leave before the shreds that are queued.
#[derive(Clone, Debug)]
pub enum ToShard {
    /// Encode this slice, for which this node is the leader, and send each shred to its relay. Give it to the shard
    /// that owns its lane: `id.lane() % shards`.
    SendSlice {
        /// Its place.
        id: SliceId,
        /// Whether it is its block's last.
        is_last: bool,
        /// What the leader puts in; at most [`alpenglow_rotor::parameters::CodingParameters::slice_payload_bytes`].
        payload: SlicePayload,
    },
    /// To every other validator.
    Broadcast {
        /// What the body is.
        kind: Kind,
        /// The body.
        body: MessageBytes,
    },
    /// To one other validator. Dropped and counted if that is not another validator of the set.
    SendTo {
        /// Who gets it.
        to: ValidatorIndex,
        /// What the body is.
        kind: Kind,
        /// The body.
        body: MessageBytes,
    },
}

/// The slots whose shreds are wanted. Control writes, shards read before they look at a shred any closer.
#[derive(Debug)]
pub struct Horizon {
    /// Slots up to this one are closed: their shreds are dropped and what is stored of them is forgotten.
    pub closed_through: AtomicU64,
    /// Shreds of later slots are dropped.
    pub shreds_through: AtomicU64,
}

impl Horizon {
    /// Wants the slots after `closed_through` and up to `shreds_through`.
    #[must_use]
    pub const fn new(closed_through: Slot, shreds_through: Slot) -> Self {
        Self { closed_through: AtomicU64::new(closed_through.0), shreds_through: AtomicU64::new(shreds_through.0) }
    }

    pub(crate) fn closed_through(&self) -> Slot {
        Slot(self.closed_through.load(Ordering::Relaxed))
    }

    pub(crate) fn shreds_through(&self) -> Slot {
        Slot(self.shreds_through.load(Ordering::Relaxed))
    }
}

struct Queues {
    slices: ArrayQueue<FromShard>,
    messages: ArrayQueue<InboundMessage>,
    /// Messages queued, by sender.
    messages_of: Box<[AtomicU16]>,
    orders: ArrayQueue<ToShard>,
    inbox: Inbox,
    waker: ShardWaker,
}

/// Control's end of the queues of one shard.
pub struct ShardLink {
    queues: Arc<Queues>,
    pushed: Cell<bool>,
}

impl ShardLink {
    pub(crate) fn another(&self) -> Self {
        Self { queues: Arc::clone(&self.queues), pushed: Cell::new(false) }
    }

    /// The next slice or report about one.
    #[must_use]
    pub fn pop_slice(&self) -> Option<FromShard> {
        self.queues.slices.pop()
    }

    /// The next message.
    #[must_use]
    pub fn pop_message(&self) -> Option<InboundMessage> {
        let message = self.queues.messages.pop()?;
        if let Some(sender) = message.sender {
            self.queues.messages_of[sender.get()].fetch_sub(1, Ordering::Relaxed);
        }
        Some(message)
    }

    /// Whether nothing waits to be popped. Control asks between [`crate::ControlWaker::park`] and its wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.slices.is_empty() && self.queues.messages.is_empty()
    }

    /// Orders something. The shard may not see it before [`ShardLink::flush`].
    ///
    /// # Errors
    /// Gives the order back when the queue is full: offer it again later.
    #[expect(clippy::result_large_err, reason = "the order itself comes back; boxing it would allocate")]
    pub fn push(&self, order: ToShard) -> Result<(), ToShard> {
        self.queues.orders.push(order)?;
        self.pushed.set(true);
        Ok(())
    }

    /// Whether so few orders wait that one of no urgency may be added without delaying those that come after it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queues.orders.len() < ORDER_QUEUE / 8
    }

    /// Wakes the shard if it sleeps and there is something for it: an order, or room that it waits for. Call it once
    /// after a round of pops and pushes; it is a load unless the shard sleeps.
    pub fn flush(&self) {
        self.queues.waker.wake(self.pushed.replace(false));
    }
}

/// The shard's end.
#[derive(Clone)]
pub(crate) struct ControlLink {
    queues: Arc<Queues>,
}

impl ControlLink {
    /// Hands over a slice or a report. The caller has asked [`ControlLink::slice_room`] and is the only one who pushes.
    pub(crate) fn push_slice(&self, event: FromShard) {
        assert!(self.queues.slices.push(event).is_ok(), "room was there, and only this shard takes it");
    }

    pub(crate) fn slice_room(&self) -> usize {
        self.queues.slices.capacity() - self.queues.slices.len()
    }

    /// Hands over a message, or says why it is lost. Transactions, which anyone can send, and repair, which comes in
    /// bursts, may fill half of the queue only: votes and certificates must get through. The sender, if any, is a
    /// validator of the set.
    pub(crate) fn push_message(&self, message: InboundMessage) -> Result<(), Counter> {
        let share = match message.kind {
            Kind::Transaction | Kind::ForwardedTransaction | Kind::RepairRequest | Kind::RepairAnswer => {
                MESSAGE_QUEUE / 2
            }
            _ => MESSAGE_QUEUE,
        };
        let room = share.saturating_sub(self.queues.messages.len());
        let of_sender = message.sender.map(|sender| &self.queues.messages_of[sender.get()]);
        if room == 0 {
            return Err(Counter::queue_full(message.kind));
        }
        // Only this shard adds, so the number can only be smaller in the meantime.
        if of_sender.is_some_and(|queued| usize::from(queued.load(Ordering::Relaxed)) > room / SENDER_SHARE) {
            return Err(Counter::share_full(message.kind));
        }
        if let Some(queued) = of_sender {
            queued.fetch_add(1, Ordering::Relaxed);
        }
        assert!(self.queues.messages.push(message).is_ok(), "room was there, and only this shard takes it");
        Ok(())
    }

    pub(crate) fn pop_order(&self) -> Option<ToShard> {
        self.queues.orders.pop()
    }

    pub(crate) fn has_orders(&self) -> bool {
        !self.queues.orders.is_empty()
    }

    /// What other shards have received for this one.
    pub(crate) fn inbox(&self) -> &Inbox {
        &self.queues.inbox
    }

    pub(crate) fn waker(&self) -> &ShardWaker {
        &self.queues.waker
    }

    /// What the other shards of the node have of this one.
    pub(crate) fn neighbour(&self) -> Neighbour {
        Neighbour { queues: Arc::clone(&self.queues) }
    }
}

/// Another shard of the node.
pub(crate) struct Neighbour {
    queues: Arc<Queues>,
}

impl Neighbour {
    /// Copies a datagram that belongs to that shard into its inbox; `false` if there is no room. The shard may not see
    /// it before it was woken.
    pub(crate) fn hand_over(&self, datagram: &[u8], source: Source) -> bool {
        self.queues.inbox.put(datagram, source)
    }

    pub(crate) fn waker(&self) -> &ShardWaker {
        &self.queues.waker
    }
}

/// The two ends of one shard's queues. Its inbox takes datagrams of up to `datagram_bytes` from its neighbours.
pub(crate) fn link(waker: ShardWaker, datagram_bytes: usize) -> (ShardLink, ControlLink) {
    let queues = Arc::new(Queues {
        slices: ArrayQueue::new(SLICE_QUEUE),
        messages: ArrayQueue::new(MESSAGE_QUEUE),
        messages_of: (0..VALIDATORS_MAX).map(|_| AtomicU16::new(0)).collect(),
        orders: ArrayQueue::new(ORDER_QUEUE),
        inbox: Inbox::new(datagram_bytes),
        waker,
    });
    (ShardLink { queues: Arc::clone(&queues), pushed: Cell::new(false) }, ControlLink { queues })
}

/// Every order in which a shard, control and who else reads a slice can meet.
#[cfg(all(test, loom))]
mod orders {
    use alpenglow_rotor::slice::SliceMemory;
    use alpenglow_rotor::types::SliceIndex;
    use loom::{sync, thread};

    use super::*;

    fn slice(payload: SlicePayload) -> FromShard {
        let id = SliceId { slot: Slot(1), index: SliceIndex::new(0).unwrap() };
        let signature = SliceSignature([0; 64]);
        let slice = Slice { id, is_last: true, root: Hash([0; 32]), signature, leader_stamp_ns: 0, payload };
        FromShard::Slice { slice, decoded: Time(0) }
    }

    /// The payload goes to control, which reads it and lends it to its block log; the shard takes the memory up again.
    #[test]
    fn nobody_who_reads_a_slice_sees_the_next_one_in_its_memory_in_every_order() {
        loom::model(|| {
            let (shard_link, control_link) = link(ShardWaker::new().unwrap(), 0);
            let control = thread::spawn(move || {
                let Some(FromShard::Slice { slice, .. }) = shard_link.pop_slice() else { return };
                let lent = slice.payload.clone();
                let log = thread::spawn(move || assert_eq!(*lent, [1]));
                assert_eq!(*slice.payload, [1]);
                drop(slice);
                log.join().unwrap();
            });
            let mut memory = SliceMemory::zeroed(1);
            let write = |memory: &mut sync::Arc<SliceMemory>, byte| {
                sync::Arc::get_mut(memory).map(|memory| memory.bytes_mut()[0] = byte)
            };
            write(&mut memory, 1).unwrap();
            control_link.push_slice(slice(SlicePayload::new(sync::Arc::clone(&memory), 0..1)));
            write(&mut memory, 2);
            control.join().unwrap();
            // What control did not pop is in the queue, which goes.
            drop(control_link);
            assert!(write(&mut memory, 3).is_some(), "nobody holds it any more");
        });
    }

    #[test]
    fn a_senders_messages_are_counted_as_they_come_and_go_in_every_order() {
        loom::model(|| {
            let (shard_link, control_link) = link(ShardWaker::new().unwrap(), 0);
            let queued = |queues: &Queues| queues.messages_of[1].load(Ordering::Relaxed);
            let control = thread::spawn(move || {
                let popped = [(); 2].map(|()| {
                    let message = shard_link.pop_message();
                    assert!(queued(&shard_link.queues) <= 2, "taken off before it was counted");
                    usize::from(message.is_some())
                });
                (popped[0] + popped[1], shard_link)
            });
            for _ in 0..2 {
                let body = MessageBytes::try_from(&[][..]).unwrap();
                let vote =
                    InboundMessage { kind: Kind::Vote, sender: Some(ValidatorIndex(1)), body, received: Time(0) };
                assert_eq!(control_link.push_message(vote), Ok(()), "there is room");
            }
            let (popped, shard_link) = control.join().unwrap();
            assert_eq!(usize::from(queued(&control_link.queues)), 2 - popped);
            while shard_link.pop_message().is_some() {}
            assert_eq!(queued(&control_link.queues), 0);
        });
    }

    #[test]
    fn no_order_is_left_with_a_shard_that_sleeps_in_every_order() {
        loom::model(|| {
            let (shard_link, control_link) = link(ShardWaker::new().unwrap(), 0);
            let control = thread::spawn(move || {
                let body = MessageBytes::try_from(&[][..]).unwrap();
                assert!(shard_link.push(ToShard::Broadcast { kind: Kind::Vote, body }).is_ok());
                shard_link.flush();
            });
            control_link.waker().park(false);
            let has_seen = control_link.has_orders();
            control.join().unwrap();
            let woken =
                rustix::event::PollFd::from_borrowed_fd(control_link.waker().event(), rustix::event::PollFlags::IN);
            let is_woken = rustix::event::poll(&mut [woken], Some(&rustix::time::Timespec::default())).unwrap() == 1;
            assert!(has_seen || is_woken, "the shard would wait for ever");
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote_of(sender: u16) -> InboundMessage {
        let body = MessageBytes::try_from(&b"a vote"[..]).unwrap();
        InboundMessage { kind: Kind::Vote, sender: Some(ValidatorIndex(sender)), body, received: Time(0) }
    }

    /// What finds no room is counted by its kind: with the queue half full there is still some for votes.
    #[test]
    fn messages_without_room_are_counted_by_kind() {
        let (_shard_link, control) = link(ShardWaker::new().unwrap(), 0);
        let of_kind =
            |kind, sender: Option<u16>| InboundMessage { kind, sender: sender.map(ValidatorIndex), ..vote_of(0) };
        while control.push_message(of_kind(Kind::Transaction, None)).is_ok() {}
        let kinds =
            [Kind::Transaction, Kind::ForwardedTransaction, Kind::RepairRequest, Kind::RepairAnswer, Kind::Vote];
        let lost = kinds.map(|kind| control.push_message(of_kind(kind, Some(1))).err());
        let (transaction, repair) = (Some(Counter::TransactionQueueFull), Some(Counter::RepairQueueFull));
        assert_eq!(lost, [transaction, transaction, repair, repair, None]);
        while control.push_message(of_kind(Kind::Certificate, Some(2))).is_ok() {}
        assert_eq!(control.push_message(of_kind(Kind::Certificate, Some(2))), Err(Counter::CertificateShareFull));
    }

    /// However many messages a validator sends, those of others get through, and its own again when control has read.
    #[test]
    fn a_flooding_validator_leaves_room_for_others() {
        let (shard_link, control) = link(ShardWaker::new().unwrap(), 0);
        let flood = |sender| (0..2 * MESSAGE_QUEUE).filter(|_| control.push_message(vote_of(sender)).is_ok()).count();
        let taken: Vec<usize> = (1..=20).map(flood).collect();
        assert!(taken[0] < MESSAGE_QUEUE / 4 && taken.iter().all(|&taken| taken > 0), "{taken:?}");
        assert_eq!(control.push_message(vote_of(1)), Err(Counter::VoteShareFull));
        assert_eq!(control.push_message(vote_of(0)), Ok(()));
        while shard_link.pop_message().is_some() {}
        assert_eq!(flood(1), taken[0]);
    }

    #[test]
    fn a_body_over_the_limit_is_refused_with_its_length() {
        assert_eq!(MessageBytes::try_from(&[7; MESSAGE_BYTES_MAX][..]).unwrap().len(), MESSAGE_BYTES_MAX);
        let over = MESSAGE_BYTES_MAX + 1;
        assert_eq!(MessageBytes::try_from(&vec![7; over][..]).unwrap_err(), MessageTooLong(over));
    }
}
