//! Messages other than shreds on their way out.

use std::collections::VecDeque;

use alpenglow_rotor::types::ValidatorIndex;

use crate::buffers::{JOINED_BYTES_MAX, SendSlot};
use crate::burst::Burst;
use crate::counters::{Counter, Counters};
use crate::datagram::{HEADER_BYTES, Kind};
use crate::engine::Engine;
use crate::letterhead::Letterhead;
use crate::link::MessageBytes;
use crate::relay::{Audience, JOINED_DATAGRAMS_MAX};

/// Broadcasts that are sent together: to each receiver all of them, before the next receiver's turn.
const ROUND_MAX: usize = 32;
/// Messages to single validators at hand.
const SINGLES_MAX: usize = 64;

struct Message {
    kind: Kind,
    body: MessageBytes,
}

/// Broadcasts and messages to single validators, in the order of their orders each.
pub(crate) struct Outbox {
    round: Vec<Message>,
    /// Whose turn it is, by decreasing stake, and with which message of the round.
    rank: usize,
    next: usize,
    singles: VecDeque<(ValidatorIndex, Message)>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self { round: Vec::with_capacity(ROUND_MAX), rank: 0, next: 0, singles: VecDeque::with_capacity(SINGLES_MAX) }
    }

    /// Whether another message of either sort may be added.
    pub(crate) fn has_room(&self) -> bool {
        let distributing = self.rank > 0 || self.next > 0;
        !distributing && self.round.len() < ROUND_MAX && self.singles.len() < SINGLES_MAX
    }

    pub(crate) fn broadcast(&mut self, kind: Kind, body: MessageBytes) {
        self.round.push(Message { kind, body });
    }

    pub(crate) fn send_to(&mut self, to: ValidatorIndex, kind: Kind, body: MessageBytes) {
        self.singles.push_back((to, Message { kind, body }));
    }

    /// Sends until nothing is left, no slot is free or the burst is over.
    pub(crate) fn pump(
        &mut self,
        engine: &mut Engine,
        audience: &Audience,
        letterhead: &Letterhead,
        counters: &Counters,
        burst: &mut Burst,
    ) {
        while let Some(receiver) = self.receiver(audience) {
            if burst.is_over() {
                return;
            }
            let Some(slot) = engine.take_slot() else { return };
            let messages = self.round[self.next..].iter();
            let (joined, bytes) = send_joined(engine, slot, letterhead, receiver, messages);
            burst.take(bytes);
            counters.add(Counter::MessagesSent, joined as u64);
            self.next += joined;
            if self.next == self.round.len() {
                (self.next, self.rank) = (0, self.rank + 1);
            }
        }
        while let Some(&(receiver, _)) = self.singles.front() {
            if burst.is_over() {
                return;
            }
            let Some(slot) = engine.take_slot() else { return };
            let for_receiver = self.singles.iter().take_while(|(to, _)| *to == receiver).map(|(_, message)| message);
            let (joined, bytes) = send_joined(engine, slot, letterhead, receiver, for_receiver);
            burst.take(bytes);
            counters.add(Counter::MessagesSent, joined as u64);
            self.singles.drain(..joined);
        }
    }

    /// Whether something is left to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.round.is_empty() && self.singles.is_empty()
    }

    /// Who is next to get the round; the round is over when everybody has it.
    fn receiver(&mut self, audience: &Audience) -> Option<ValidatorIndex> {
        if self.round.is_empty() {
            return None;
        }
        if audience.everybody.get(self.rank) == Some(&audience.own) {
            self.rank += 1;
        }
        let receiver = audience.everybody.get(self.rank).copied();
        if receiver.is_none() {
            self.round.clear();
            self.rank = 0;
        }
        receiver
    }
}

/// Sends as many of `messages` as one send can join: all of one length but for a shorter last one. Returns how many,
/// and the bytes of their datagrams.
fn send_joined<'a>(
    engine: &mut Engine,
    slot: SendSlot,
    letterhead: &Letterhead,
    receiver: ValidatorIndex,
    messages: impl Iterator<Item = &'a Message>,
) -> (usize, usize) {
    let out = engine.slot_bytes(&slot);
    let (mut written, mut joined, mut first, mut last) = (0, 0, 0, usize::MAX);
    // Headers are written for all messages of one kind that lie in a row.
    let (mut row_start, mut row_kind) = (0, None);
    for message in messages.take(JOINED_DATAGRAMS_MAX) {
        let bytes = HEADER_BYTES + message.body.len();
        if joined == 0 {
            (first, last) = (bytes, bytes);
        }
        if bytes > first || last < first || written + bytes > JOINED_BYTES_MAX {
            break;
        }
        if let Some(kind) = row_kind.replace(message.kind)
            && kind != message.kind
        {
            letterhead.write_row(kind, letterhead.message_lane(), receiver, first, &mut out[row_start..written]);
            row_start = written;
        }
        out[written..][HEADER_BYTES..bytes].copy_from_slice(&message.body);
        (written, joined, last) = (written + bytes, joined + 1, bytes);
    }
    if let Some(kind) = row_kind {
        letterhead.write_row(kind, letterhead.message_lane(), receiver, first, &mut out[row_start..written]);
    }
    engine.send(slot, written, receiver.get(), first);
    (joined, written)
}
