//! What a shard counts: every datagram that it drops by its reason, and what it does with the others.

use std::sync::atomic::{AtomicU64, Ordering};

use alpenglow_rotor::assembler::Reject;

use crate::datagram::Kind;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $kind:ident,)*) => {
        /// Everything that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Stable name, in snake_case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether it counts datagrams or messages that were dropped.
            #[must_use]
            pub const fn is_drop(self) -> bool {
                match self { $(Self::$variant => counters!(@ $kind),)* }
            }
        }
    };
    (@ drop) => { true };
    (@ fact) => { false };
}

counters! {
    /// Datagrams taken from receive buffers.
    DatagramsReceived = "datagrams_received" fact,
    /// Receive completions: buffers that held one or more datagrams each.
    BuffersReceived = "buffers_received" fact,
    /// Valid shreds that came from their slot's leader.
    ShredsFromLeader = "shreds_from_leader" fact,
    /// Valid shreds that came from their relay.
    ShredsFromRelays = "shreds_from_relays" fact,
    /// Valid shreds that brought nothing new: held already, or of a slice decoded before. Half of all shreds are.
    ShredsSurplus = "shreds_surplus" fact,
    /// Shreds that this node forwarded as their relay, each counted once.
    ShredsRelayed = "shreds_relayed" fact,
    /// Slices decoded.
    SlicesDecoded = "slices_decoded" fact,
    /// Slices encoded and sent as their leader.
    SlicesSent = "slices_sent" fact,
    /// Messages handed to control.
    MessagesReceived = "messages_received" fact,
    /// Messages sent, counted once for each receiver.
    MessagesSent = "messages_sent" fact,
    /// Shreds that came to this shard, belong to another one and were handed over to it.
    HandedOver = "handed_over" fact,
    /// Shreds that another shard has handed over; they are among the datagrams received here once more.
    HandedOverReceived = "handed_over_received" fact,
    /// Datagrams sent.
    DatagramsSent = "datagrams_sent" fact,
    /// Send operations; each carried one or more datagrams to one peer.
    SendsCompleted = "sends_completed" fact,

    /// Shorter than a header, or than the body its kind needs.
    TooShort = "too_short" drop,
    /// Longer than the cluster's datagram limit, or cut off by a full receive buffer.
    TooLong = "too_long" drop,
    /// More datagrams in one receive buffer than the kernel ever joins.
    TooManySegments = "too_many_segments" drop,
    /// Another version of the wire format.
    BadVersion = "bad_version" drop,
    /// A kind that this version does not know.
    BadKind = "bad_kind" drop,
    /// Reserved header bytes that are not zero.
    BadHeader = "bad_header" drop,
    /// Meant for another cluster.
    WrongCluster = "wrong_cluster" drop,
    /// The lane does not follow from the sender or the slice.
    WrongLane = "wrong_lane" drop,
    /// A datagram of another shard of this node, in whose inbox there is no room.
    InboxFull = "inbox_full" drop,
    /// No validator has this index.
    UnknownSender = "unknown_sender" drop,
    /// Claims to come from this node.
    OwnSender = "own_sender" drop,
    /// A shred of a closed slot.
    ClosedSlot = "closed_slot" drop,
    /// A shred of a slot beyond the horizon.
    SlotTooFar = "slot_too_far" drop,
    /// The MAC does not verify.
    BadMac = "bad_mac" drop,
    /// A shred that does not parse.
    MalformedShred = "malformed_shred" drop,
    /// A shred of a slot that this node leads.
    OwnSlot = "own_slot" drop,
    /// A shred of a slot closed a moment ago.
    ShredLate = "shred_late" drop,
    /// No memory for a slice so far ahead.
    ShredBudget = "shred_budget" drop,
    /// The Merkle path does not lead to the slice's root.
    ShredWrongPath = "shred_wrong_path" drop,
    /// Not the last flag that was signed.
    ShredWrongLastFlag = "shred_wrong_last_flag" drop,
    /// Not the bytes known to be the leader's.
    ShredWrongBytes = "shred_wrong_bytes" drop,
    /// The signature is not the leader's.
    ShredBadSignature = "shred_bad_signature" drop,
    /// Another signature from a sender whose one check for the slice is spent.
    ShredSenderSpent = "shred_sender_spent" drop,
    /// The leader signed two versions of the slice; this shred proved it.
    ShredEquivocation = "shred_equivocation" drop,
    /// Another signature for a slice signed twice.
    ShredAfterEquivocation = "shred_after_equivocation" drop,
    /// Of a slice known to be malformed.
    ShredMalformedSlice = "shred_malformed_slice" drop,
    /// Its slice was evicted or closed before it could be kept.
    ShredEvicted = "shred_evicted" drop,
    /// A shred from a validator that is neither its relay nor its leader in the place of one.
    WrongRelay = "wrong_relay" drop,
    /// A shred that its leader should have sent to another relay.
    Misdirected = "misdirected" drop,
    /// The queue of messages to control had no room for a vote.
    VoteQueueFull = "vote_queue_full" drop,
    /// The same for a certificate.
    CertificateQueueFull = "certificate_queue_full" drop,
    /// The same for a transaction, from a client or a validator: less of the queue is theirs.
    TransactionQueueFull = "transaction_queue_full" drop,
    /// The same for a question or an answer about a block.
    RepairQueueFull = "repair_queue_full" drop,
    /// A vote of a validator that takes its share of that queue already.
    VoteShareFull = "vote_share_full" drop,
    /// The same for a certificate.
    CertificateShareFull = "certificate_share_full" drop,
    /// The same for a transaction that a validator passes on.
    TransactionShareFull = "transaction_share_full" drop,
    /// The same for a question or an answer about a block.
    RepairShareFull = "repair_share_full" drop,
    /// A vote of a validator that sends more of them than any correct one.
    VoteOverRate = "vote_over_rate" drop,
    /// The same for a certificate.
    CertificateOverRate = "certificate_over_rate" drop,
    /// The same for a transaction that a validator passes on.
    TransactionOverRate = "transaction_over_rate" drop,
    /// The same for a question or an answer about a block.
    RepairOverRate = "repair_over_rate" drop,
    /// A transaction from an address that has sent its share of this second's.
    ClientOverRate = "client_over_rate" drop,
    /// A transaction, when all clients together have sent as many as may come in a second.
    ClientsOverRate = "clients_over_rate" drop,
    /// A message longer than a queue entry holds.
    MessageTooLong = "message_too_long" drop,
    /// More copies wait to be relayed than fit.
    RelayBacklogFull = "relay_backlog_full" drop,
    /// An order to send to nobody, to this node or to no validator.
    NoSuchReceiver = "no_such_receiver" drop,
    /// A send that the kernel refused because it exceeds the path's MTU (datagrams are never fragmented).
    SendTooLong = "send_too_long" drop,
    /// A send that failed for another reason.
    SendFailed = "send_failed" drop,

    /// Times there was no receive buffer left for the kernel; reading went on when some had returned.
    ReceiveBuffersExhausted = "receive_buffers_exhausted" fact,
    /// Times the completion queue overflowed; the kernel keeps such completions and delivers them later.
    CompletionQueueOverflows = "completion_queue_overflows" fact,
    /// Receives that ended with an error; they were started again.
    ReceiveErrors = "receive_errors" fact,
    /// Times that sends began to wait because the socket's buffer was full. io_uring lets them wait in the kernel,
    /// unseen.
    SendsBlocked = "sends_blocked" fact,
    /// Failed calls to enter the ring, or to wait without one; they were repeated.
    EnterErrors = "enter_errors" fact,
}

impl Counter {
    /// The queue of messages to control had no room for one of this kind.
    ///
    /// # Panics
    /// For shreds, which do not go to control.
    pub(crate) const fn queue_full(kind: Kind) -> Self {
        match kind {
            Kind::Vote => Self::VoteQueueFull,
            Kind::Certificate => Self::CertificateQueueFull,
            Kind::Transaction | Kind::ForwardedTransaction => Self::TransactionQueueFull,
            Kind::RepairRequest | Kind::RepairAnswer => Self::RepairQueueFull,
            Kind::Shred => panic!("shreds do not go to control"),
        }
    }

    /// The sender of a message of this kind takes its share of that queue already.
    ///
    /// # Panics
    /// For shreds, which do not go to control.
    pub(crate) const fn share_full(kind: Kind) -> Self {
        match kind {
            Kind::Vote => Self::VoteShareFull,
            Kind::Certificate => Self::CertificateShareFull,
            Kind::Transaction | Kind::ForwardedTransaction => Self::TransactionShareFull,
            Kind::RepairRequest | Kind::RepairAnswer => Self::RepairShareFull,
            Kind::Shred => panic!("shreds do not go to control"),
        }
    }
}

impl From<Reject> for Counter {
    fn from(reject: Reject) -> Self {
        match reject {
            Reject::Late => Self::ShredLate,
            Reject::Budget => Self::ShredBudget,
            Reject::WrongPath => Self::ShredWrongPath,
            Reject::WrongLastFlag => Self::ShredWrongLastFlag,
            Reject::WrongBytes => Self::ShredWrongBytes,
            Reject::BadSignature => Self::ShredBadSignature,
            Reject::SenderSpent => Self::ShredSenderSpent,
            Reject::Equivocation => Self::ShredEquivocation,
            Reject::AfterEquivocation => Self::ShredAfterEquivocation,
        }
    }
}

const COUNTERS: usize = Counter::ALL.len();

/// One shard's counters. Only the shard writes; anyone may read at any time.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters([AtomicU64; COUNTERS]);

impl Counters {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; COUNTERS])
    }

    /// The value of one of them.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }

    /// All of them with their names.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.iter().map(|&counter| (counter, self.get(counter)))
    }

    /// One writer, so a load and a store do: no locked instruction on the way of a datagram.
    pub(crate) fn add(&self, counter: Counter, count: u64) {
        let cell = &self.0[counter as usize];
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_shred_is_counted_by_the_name_of_its_reason() {
        for reject in Reject::ALL {
            assert_eq!(Counter::from(reject).name(), reject.name());
        }
    }

    #[test]
    fn names_are_distinct_and_in_snake_case() {
        let mut names: Vec<_> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COUNTERS);
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }
}
