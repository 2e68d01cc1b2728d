//! Who leads a slice and who relays which of its shreds: sampled once for a slice and remembered for a while.

use std::sync::Arc;

use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::LeaderSchedule;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::ValidatorIndex;

use crate::counters::Counter;

/// Slices remembered: two leader windows of some 100 slices for each block, divided by the shards. A slice that was
/// replaced by another is sampled anew, which takes microseconds and nothing else.
const LINEUPS: usize = 512;

/// Who leads and who relays one slice.
#[derive(Clone, Copy)]
pub(crate) struct Lineup<'a> {
    pub(crate) leader: ValidatorIndex,
    /// Of the window after the slice's.
    pub(crate) next_leader: ValidatorIndex,
    pub(crate) relays: &'a [ValidatorIndex],
}

/// What a shred that is acceptable from its sender is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It comes from the leader, and this node is its relay.
    Relay,
    /// It comes from its relay; or from the leader, who is its relay.
    Receiver,
}

impl Lineup<'_> {
    /// What to do with shred `index` from `sender`, who is not `own`; or the reason to drop it.
    pub(crate) fn role(&self, index: usize, sender: ValidatorIndex, own: ValidatorIndex) -> Result<Role, Counter> {
        let relay = self.relays[index];
        if self.leader == own {
            Err(Counter::OwnSlot)
        } else if sender == relay {
            Ok(Role::Receiver)
        } else if sender != self.leader {
            Err(Counter::WrongRelay)
        } else if relay == own {
            Ok(Role::Relay)
        } else {
            Err(Counter::Misdirected)
        }
    }
}

/// A slice whose relays are remembered, its leader and the next window's.
#[derive(Clone, Copy)]
struct Held {
    slice: SliceId,
    leaders: [ValidatorIndex; 2],
}

/// The lineups of recent slices, each at a place given by slot and index.
pub(crate) struct Lineups {
    sampler: Arc<RelaySampler>,
    schedule: Arc<LeaderSchedule>,
    slices: Box<[Option<Held>]>,
    relays: Box<[ValidatorIndex]>,
}

impl Lineups {
    pub(crate) fn new(sampler: Arc<RelaySampler>, schedule: Arc<LeaderSchedule>) -> Self {
        let relays = vec![ValidatorIndex::default(); LINEUPS * sampler.total_shreds()].into();
        Self { sampler, schedule, slices: vec![None; LINEUPS].into(), relays }
    }

    pub(crate) fn of(&mut self, slice: SliceId) -> Lineup<'_> {
        // Consecutive slices of one slot take consecutive places, and consecutive slots start far apart.
        let place = (slice.index.get() + 131 * (slice.slot.0 % LINEUPS as u64) as usize) % LINEUPS;
        let total = self.sampler.total_shreds();
        let relays = &mut self.relays[place * total..][..total];
        let [leader, next_leader] = match self.slices[place] {
            Some(held) if held.slice == slice => held.leaders,
            _ => {
                self.sampler.sample(slice, relays);
                let leaders = [slice.slot, slice.slot.window_last().next()].map(|slot| self.schedule.leader(slot));
                self.slices[place] = Some(Held { slice, leaders });
                leaders
            }
        };
        Lineup { leader, next_leader, relays }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: ValidatorIndex = ValidatorIndex(0);
    const OWN: ValidatorIndex = ValidatorIndex(1);
    const OTHER: ValidatorIndex = ValidatorIndex(2);
    /// Shred 0 is relayed by the leader, 1 by this node, 2 by another.
    const LINEUP: Lineup<'_> = Lineup { leader: LEADER, next_leader: OTHER, relays: &[LEADER, OWN, OTHER] };

    #[test]
    fn a_shred_is_taken_from_its_relay_or_from_the_leader_in_its_place() {
        assert_eq!(LINEUP.role(0, LEADER, OWN), Ok(Role::Receiver));
        assert_eq!(LINEUP.role(1, LEADER, OWN), Ok(Role::Relay));
        assert_eq!(LINEUP.role(2, OTHER, OWN), Ok(Role::Receiver));
        assert_eq!(LINEUP.role(2, LEADER, OWN), Err(Counter::Misdirected));
        assert_eq!(LINEUP.role(0, OTHER, OWN), Err(Counter::WrongRelay));
        assert_eq!(LINEUP.role(1, OTHER, OWN), Err(Counter::WrongRelay));
    }

    #[test]
    fn a_leader_takes_no_shred_of_its_own_slot() {
        for (index, sender) in [(0, OWN), (1, OWN), (2, OTHER)] {
            assert_eq!(LINEUP.role(index, sender, LEADER), Err(Counter::OwnSlot));
        }
    }
}
