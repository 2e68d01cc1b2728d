//! Whom to ask: others by stake, less often who was silent or wrong, and nobody beyond what it would answer.

use std::time::Duration;

use alpenglow_rotor::epochs::EpochStakes;
use alpenglow_rotor::types::{Slot, Time, ValidatorIndex};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::budget::{Allowance, Budget};
use crate::stakes::Stakes;

/// Draws by stake before all that may be asked are gone through.
const DRAWS: usize = 16;
/// Each step halves how often a validator is asked.
const PENALTY_MAX: u8 = 10;
/// Silence may be the network's fault.
const PENALTY_OF_SILENCE: u8 = 1;
const PENALTY_OF_SILENCE_MAX: u8 = 4;
/// A wrong answer is the peer's fault: only it can have made it.
const PENALTY_OF_LIE: u8 = 4;
/// After this long a step is forgiven.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// What one validator is asked for at most.
#[derive(Clone, Copy, Debug)]
pub struct AskingLimits {
    /// Requests.
    pub requests: Allowance,
    /// Bytes of answers, at their longest.
    pub bytes: Allowance,
    /// Requests without an answer at a time.
    pub open_max: u16,
}

impl Default for AskingLimits {
    /// Half of what a validator serves by default ([`super::ServingLimits`]), so that no request is over the budget.
    fn default() -> Self {
        Self {
            requests: Allowance { per_second: 512, burst: 512 },
            bytes: Allowance { per_second: 4 << 20, burst: 4 << 20 },
            open_max: 16,
        }
    }
}

/// How much of what may be asked of others something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// All of it.
    Now,
    /// What is there beyond half of it, which is left to what votes wait for.
    CanWait,
}

struct Peer {
    open: u16,
    requests: Budget,
    bytes: Budget,
    penalty: u8,
    /// When the last step was added or forgiven.
    penalty_since: Time,
}

/// See the module.
pub(super) struct Peers {
    own: ValidatorIndex,
    peers: Vec<Peer>,
    stakes: Stakes,
    /// By set of [`Stakes::sets`]: stake of all validators up to and with each.
    stake_through: Vec<Vec<u64>>,
    open_max: u16,
    random: ChaCha8Rng,
}

impl Peers {
    pub(super) fn new(own: ValidatorIndex, stakes: &Stakes, limits: AskingLimits, seed: [u8; 32]) -> Self {
        let peer = || Peer {
            open: 0,
            requests: Budget::new(limits.requests),
            bytes: Budget::new(limits.bytes),
            penalty: 0,
            penalty_since: Time(0),
        };
        let validators = (0..stakes.len() as u16).map(ValidatorIndex);
        let through = |set: &EpochStakes| {
            let through = validators.clone().scan(0, |sum, v| {
                *sum += set.of(v).0;
                Some(*sum)
            });
            through.collect()
        };
        Self {
            own,
            peers: validators.clone().map(|_| peer()).collect(),
            stake_through: stakes.sets().map(through).collect(),
            stakes: stakes.clone(),
            open_max: limits.open_max,
            random: ChaCha8Rng::from_seed(seed),
        }
    }

    /// How many others there are to be asked, see [`Peers::choose`].
    pub(super) fn others(&self, epoch_of: Slot) -> usize {
        let epoch = self.stakes.at(epoch_of);
        epoch.members().len() - usize::from(epoch.is_member(self.own))
    }

    /// Somebody to ask for something whose answer costs so many bytes: a member of the epoch of slot `epoch_of`, and
    /// not `excluded`.
    pub(super) fn choose(
        &mut self,
        now: Time,
        cost: u64,
        urgency: Urgency,
        epoch_of: Slot,
        excluded: impl Fn(ValidatorIndex) -> bool,
    ) -> Option<ValidatorIndex> {
        let set = self.stakes.set_index(epoch_of);
        let total = self.stakes.at(epoch_of).total().0;
        for _ in 0..DRAWS {
            let point = self.below(total);
            let drawn = self.stake_through[set].partition_point(|through| *through <= point);
            let penalty = self.penalty(now, drawn);
            let declined = penalty > 0 && self.random.next_u64() >> (64 - penalty) != 0;
            let drawn_index = ValidatorIndex(drawn as u16);
            if !declined && !excluded(drawn_index) && self.may_ask(now, drawn, cost, urgency) {
                return Some(drawn_index);
            }
        }
        self.choose_among_all(now, cost, urgency, epoch_of, excluded)
    }

    fn choose_among_all(
        &mut self,
        now: Time,
        cost: u64,
        urgency: Urgency,
        epoch_of: Slot,
        excluded: impl Fn(ValidatorIndex) -> bool,
    ) -> Option<ValidatorIndex> {
        let mut left: Vec<(usize, u64)> = Vec::new();
        let mut total = 0u64;
        for peer in 0..self.peers.len() {
            let index = ValidatorIndex(peer as u16);
            let stake = self.stakes.at(epoch_of).of(index).0;
            if stake > 0 && !excluded(index) && self.may_ask(now, peer, cost, urgency) {
                let weight = (stake >> self.penalty(now, peer)).max(1);
                total = total.saturating_add(weight);
                left.push((peer, weight));
            }
        }
        if left.is_empty() {
            return None;
        }
        let mut point = self.below(total);
        let drawn = left.iter().find(|(_, weight)| {
            let found = point < *weight;
            point = point.saturating_sub(*weight);
            found
        });
        drawn.or(left.last()).map(|(peer, _)| ValidatorIndex(*peer as u16))
    }

    /// An integer below `bound`, as good as uniform.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.random.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    fn may_ask(&mut self, now: Time, peer: usize, cost: u64, urgency: Urgency) -> bool {
        let is_own = peer == self.own.get();
        let peer = &mut self.peers[peer];
        let (open_max, [requests, bytes]) = match urgency {
            Urgency::Now => (self.open_max, [1, cost]),
            Urgency::CanWait => (self.open_max.div_ceil(2), [&peer.requests, &peer.bytes].map(Budget::half)),
        };
        !is_own
            && peer.open < open_max
            && peer.requests.has(now, requests.max(1))
            && peer.bytes.has(now, bytes.max(cost))
    }

    fn penalty(&mut self, now: Time, peer: usize) -> u8 {
        let peer = &mut self.peers[peer];
        while peer.penalty > 0 && now.since(peer.penalty_since) >= FORGIVEN_AFTER {
            peer.penalty -= 1;
            peer.penalty_since = peer.penalty_since.after(FORGIVEN_AFTER);
        }
        peer.penalty
    }

    /// A request went to `peer`.
    pub(super) fn asked(&mut self, peer: ValidatorIndex, cost: u64) {
        let peer = &mut self.peers[peer.get()];
        peer.open += 1;
        peer.requests.spend(1);
        peer.bytes.spend(cost);
    }

    /// A request is over, and the peer is not to be blamed.
    pub(super) fn released(&mut self, peer: ValidatorIndex) {
        self.peers[peer.get()].open -= 1;
    }

    /// A request was answered in full and rightly.
    pub(super) fn answered(&mut self, peer: ValidatorIndex) {
        self.released(peer);
        let peer = &mut self.peers[peer.get()];
        peer.penalty = peer.penalty.saturating_sub(1);
    }

    /// A request was not answered in time.
    pub(super) fn silent(&mut self, now: Time, peer: ValidatorIndex) {
        self.released(peer);
        let penalty = self.penalty(now, peer.get());
        if penalty < PENALTY_OF_SILENCE_MAX {
            self.punish(now, peer, PENALTY_OF_SILENCE);
        }
    }

    /// A request was answered wrongly.
    pub(super) fn lied(&mut self, now: Time, peer: ValidatorIndex) {
        self.released(peer);
        self.misled(now, peer);
    }

    /// What it answered some time ago turns out to be wrong.
    pub(super) fn misled(&mut self, now: Time, peer: ValidatorIndex) {
        self.punish(now, peer, PENALTY_OF_LIE);
    }

    fn punish(&mut self, now: Time, peer: ValidatorIndex, steps: u8) {
        let penalty = self.penalty(now, peer.get());
        let peer = &mut self.peers[peer.get()];
        (peer.penalty, peer.penalty_since) = ((penalty + steps).min(PENALTY_MAX), now);
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::types::Stake;

    use super::*;

    const NOW: Time = Time(1_000_000_000);
    const OWN: ValidatorIndex = ValidatorIndex(0);

    fn peers(stakes: &[u64], limits: AskingLimits) -> Peers {
        let stakes = Stakes::new(stakes.iter().copied().map(Stake).collect());
        Peers::new(OWN, &stakes, limits, [7; 32])
    }

    fn unlimited() -> AskingLimits {
        let endless = Allowance { per_second: 0, burst: u64::MAX };
        AskingLimits { requests: endless, bytes: endless, open_max: u16::MAX }
    }

    fn chosen(peers: &mut Peers, draws: usize, now: Time) -> Vec<usize> {
        let mut times = vec![0; peers.peers.len()];
        for _ in 0..draws {
            let peer = peers.choose(now, 1, Urgency::Now, Slot(1), |_| false).expect("somebody is left");
            times[peer.get()] += 1;
        }
        times
    }

    #[test]
    fn others_are_asked_by_stake() {
        let times = chosen(&mut peers(&[5_000, 1_000, 2_000, 7_000], unlimited()), 10_000, NOW);
        assert_eq!(times[0], 0, "never itself");
        assert!((900..1_100).contains(&times[1]) && (1_850..2_150).contains(&times[2]), "{times:?}");
    }

    #[test]
    fn liars_and_silent_peers_are_asked_less_and_forgiven() {
        let mut peers = peers(&[1_000; 4], unlimited());
        for _ in 0..3 {
            peers.asked(ValidatorIndex(1), 1);
            peers.lied(NOW, ValidatorIndex(1));
            peers.asked(ValidatorIndex(2), 1);
            peers.silent(NOW, ValidatorIndex(2));
        }
        let times = chosen(&mut peers, 10_000, NOW);
        assert!(times[1] < 40 && times[2] > 700 && times[2] < 1_500 && times[3] > 8_000, "{times:?}");
        let later = NOW.after(Duration::from_secs(200));
        let times = chosen(&mut peers, 10_000, later);
        assert!(times[1..].iter().all(|times| (3_000..3_700).contains(times)), "{times:?}");
        peers.asked(ValidatorIndex(1), 1);
        peers.lied(later, ValidatorIndex(1));
        for _ in 0..4 {
            peers.asked(ValidatorIndex(1), 1);
            peers.answered(ValidatorIndex(1));
        }
        assert_eq!(peers.penalty(later, 1), 0, "right answers make up for it");
    }

    #[test]
    fn nobody_is_asked_beyond_its_budget_or_with_too_much_open() {
        let limits = AskingLimits {
            requests: Allowance { per_second: 0, burst: 10 },
            bytes: Allowance { per_second: 0, burst: 1_000 },
            open_max: 4,
        };
        let mut by_open = peers(&[1_000; 3], limits);
        let mut asked = 0;
        while let Some(peer) = by_open.choose(NOW, 1, Urgency::Now, Slot(1), |_| false) {
            by_open.asked(peer, 1);
            asked += 1;
        }
        assert_eq!(asked, 8);
        let ask_and_answer = |cost: u64| {
            let mut peers = peers(&[1_000; 3], limits);
            let mut asked = 0;
            while let Some(peer) = peers.choose(NOW, cost, Urgency::Now, Slot(1), |_| false) {
                peers.asked(peer, cost);
                peers.answered(peer);
                asked += 1;
            }
            asked
        };
        assert_eq!((ask_and_answer(1), ask_and_answer(300)), (20, 6));
        let mut waiting = peers(&[1_000; 3], limits);
        while let Some(peer) = waiting.choose(NOW, 300, Urgency::CanWait, Slot(1), |_| false) {
            waiting.asked(peer, 300);
        }
        let mut left = 0;
        while let Some(peer) = waiting.choose(NOW, 300, Urgency::Now, Slot(1), |_| false) {
            waiting.asked(peer, 300);
            left += 1;
        }
        assert_eq!(left, 2, "of each peer two were asked, and one is left");
    }

    #[test]
    fn who_is_excluded_is_never_asked() {
        let mut peers = peers(&[1_000, 1_000_000, 1, 1], unlimited());
        for _ in 0..100 {
            assert_ne!(peers.choose(NOW, 1, Urgency::Now, Slot(1), |peer| peer.get() == 1), Some(ValidatorIndex(1)));
        }
        assert_eq!(peers.choose(NOW, 1, Urgency::Now, Slot(1), |_| true), None);
    }
}
