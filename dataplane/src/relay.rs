//! Relaying: the shreds of one slice that lie in one buffer, sent to one validator after the other.

use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{Time, ValidatorIndex};

use crate::buffers::JOINED_BYTES_MAX;
use crate::datagram::{HEADER_BYTES, Kind};
use crate::letterhead::Letterhead;

/// Most datagrams in one send. Kernels before 6.9 take no more.
pub(crate) const JOINED_DATAGRAMS_MAX: usize = 64;

/// Datagrams of `bytes` each that one send can carry; at least 1.
pub(crate) const fn joined_most(bytes: usize) -> usize {
    let fitting = JOINED_BYTES_MAX / bytes;
    if fitting < JOINED_DATAGRAMS_MAX { fitting } else { JOINED_DATAGRAMS_MAX }
}

/// Positions below 256 in ascending order.
#[derive(Clone, Copy, Default)]
pub(crate) struct Positions([u64; 4]);

impl Positions {
    pub(crate) const fn insert(&mut self, position: usize) {
        self.0[position / 64] |= 1 << (position % 64);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The first one that is not below `start`.
    fn from(&self, start: usize) -> Option<usize> {
        let (first, bit) = (start / 64, start % 64);
        let masked = |index: usize| if index == first { self.0[index] & (u64::MAX << bit) } else { self.0[index] };
        (first..self.0.len())
            .find(|&index| masked(index) != 0)
            .map(|index| index * 64 + masked(index).trailing_zeros() as usize)
    }
}

/// Everybody in the order in which copies go out.
pub(crate) struct Audience {
    pub(crate) own: ValidatorIndex,
    pub(crate) by_decreasing_stake: Box<[ValidatorIndex]>,
}

/// Copies of one slice's shreds on their way to everybody but the slice's leader and this node: to the next window's
/// leader first, who needs the block to build on it, then by decreasing stake (paper §2.2).
pub(crate) struct FanOut {
    pub(crate) slice: SliceId,
    pub(crate) leader: ValidatorIndex,
    pub(crate) next_leader: ValidatorIndex,
    /// Which of the datagrams that lie `datagram_bytes` apart in the buffer.
    pub(crate) positions: Positions,
    pub(crate) datagram_bytes: usize,
    /// When they were there to be sent.
    pub(crate) since: Time,
    rank: usize,
    position: usize,
}

impl FanOut {
    pub(crate) fn new(
        slice: SliceId,
        leader: ValidatorIndex,
        next_leader: ValidatorIndex,
        datagram_bytes: usize,
        since: Time,
    ) -> Self {
        let positions = Positions::default();
        Self { slice, leader, next_leader, positions, datagram_bytes, since, rank: 0, position: 0 }
    }

    /// Who is next to get copies; `None` when everybody has.
    pub(crate) fn receiver(&mut self, audience: &Audience) -> Option<ValidatorIndex> {
        loop {
            let receiver = match self.rank {
                0 => self.next_leader,
                rank => *audience.by_decreasing_stake.get(rank - 1)?,
            };
            let is_repeated = self.rank > 0 && receiver == self.next_leader;
            if receiver != audience.own && receiver != self.leader && !is_repeated {
                return Some(receiver);
            }
            self.rank += 1;
        }
    }

    /// Writes the next send for `receiver` and goes on from there: datagrams one after the other, each with a header of
    /// its own. `source` is the whole buffer. Returns the bytes written.
    pub(crate) fn gather(
        &mut self,
        source: &[u8],
        letterhead: &Letterhead,
        receiver: ValidatorIndex,
        out: &mut [u8],
    ) -> usize {
        let mut written = 0;
        for _ in 0..joined_most(self.datagram_bytes) {
            let Some(position) = self.positions.from(self.position) else { break };
            let start = position * self.datagram_bytes;
            let datagram = &source[start..(start + self.datagram_bytes).min(source.len())];
            let copy = &mut out[written..][..datagram.len()];
            copy[HEADER_BYTES..].copy_from_slice(&datagram[HEADER_BYTES..]);
            letterhead.write(Kind::Shred, self.slice.lane(), receiver, copy);
            written += copy.len();
            self.position = position + 1;
        }
        if self.positions.from(self.position).is_none() {
            self.position = 0;
            self.rank += 1;
        }
        written
    }
}
