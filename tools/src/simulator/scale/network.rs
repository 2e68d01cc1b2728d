//! Who is where, and when what one sends reaches the others.

use std::num::NonZero;

use alpenglow_rotor::types::{Stake, Time, ValidatorIndex};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::Leader;
use crate::simulator::mainnet::Metros;

/// Picoseconds that a byte takes at 1 Mbit/s.
const BYTE_PS_AT_MBIT: u64 = 8_000_000;

/// A slice on its way.
pub(super) struct Dissemination<'a> {
    pub(super) leader: ValidatorIndex,
    pub(super) next_leader: ValidatorIndex,
    pub(super) relays: &'a [ValidatorIndex],
    /// So many shreds suffice.
    pub(super) data_shreds: usize,
    /// Of each shred on the wire.
    pub(super) datagram_bytes: usize,
}

pub(super) struct Network {
    metros: Metros,
    /// By validator.
    metro_of: Vec<usize>,
    /// By place, in increasing order.
    members: Vec<Vec<usize>>,
    /// By place and place.
    delays_ns: Vec<Vec<u64>>,
    egress: Option<Egress>,
}

/// What everybody has still to send.
struct Egress {
    byte_ps: u64,
    /// By validator, when all is sent.
    free: Vec<Time>,
}

impl Egress {
    fn send_ns(&self, bytes: usize) -> u64 {
        bytes as u64 * self.byte_ps / 1_000
    }

    /// Sends `copies` after what is to be sent already, and says when that begins.
    fn queue(&mut self, now: Time, from: ValidatorIndex, bytes: usize, copies: usize) -> Time {
        let begin = now.max(self.free[from.get()]);
        self.free[from.get()] = Time(begin.0 + self.send_ns(bytes) * copies as u64);
        begin
    }

    /// Sends `copies` before all else, and says how long it takes until half of them have left.
    fn overtake(&mut self, now: Time, from: ValidatorIndex, bytes: usize, copies: usize) -> u64 {
        let takes_ns = self.send_ns(bytes) * copies as u64;
        let free = &mut self.free[from.get()];
        *free = Time((*free).max(now).0 + takes_ns);
        takes_ns / 2
    }
}

impl Network {
    /// Spreads validators over the places: each, by decreasing stake, to a place drawn by the stake that it still
    /// lacks.
    pub(super) fn new(
        metros: Metros,
        stakes: &[Stake],
        leader: &Leader,
        egress_mbit: Option<NonZero<u32>>,
        seed: u64,
    ) -> Self {
        let mut random = ChaCha20Rng::seed_from_u64(seed);
        let total = stakes.iter().map(|stake| stake.0).sum::<u64>() as f64;
        let mut lacking: Vec<u64> = metros.metros.iter().map(|metro| (metro.share * total) as u64).collect();
        let mut metro_of: Vec<usize> = stakes.iter().map(|stake| place(&mut lacking, stake.0, &mut random)).collect();
        if let Leader::Metro(metro) = *leader
            && !metro_of.contains(&metro)
        {
            *metro_of.last_mut().expect("there are validators") = metro;
        }
        let places = metros.metros.len();
        let members = |metro| (0..stakes.len()).filter(|&validator| metro_of[validator] == metro).collect();
        let delays = |from| (0..places).map(|to| metros.delay_ns(from, to)).collect();
        let free = vec![Time(0); stakes.len()];
        let egress_of = |mbit: NonZero<u32>| Egress { byte_ps: BYTE_PS_AT_MBIT / u64::from(mbit.get()), free };
        Self {
            members: (0..places).map(members).collect(),
            delays_ns: (0..places).map(delays).collect(),
            egress: egress_mbit.map(egress_of),
            metro_of,
            metros,
        }
    }

    pub(super) fn metro_name(&self, validator: ValidatorIndex) -> &str {
        &self.metros.metros[self.metro_of[validator.get()]].name
    }

    pub(super) fn members(&self, metro: usize) -> &[usize] {
        &self.members[metro]
    }

    /// One way, without anything else to send.
    pub(super) fn delay_ns(&self, from: ValidatorIndex, to: ValidatorIndex) -> u64 {
        if from == to { 0 } else { self.delays_ns[self.metro_of[from.get()]][self.metro_of[to.get()]] }
    }

    /// When a small message to everybody reaches each place where somebody is.
    pub(super) fn broadcast(&mut self, now: Time, from: ValidatorIndex, bytes: usize) -> Vec<(Time, usize)> {
        let others = self.metro_of.len() - 1;
        let lag_ns = self.egress.as_mut().map_or(0, |egress| egress.overtake(now, from, bytes, others));
        let delays_ns = self.delays_ns[self.metro_of[from.get()]].iter().enumerate();
        let inhabited = delays_ns.filter(|(metro, _)| !self.members[*metro].is_empty());
        inhabited.map(|(metro, delay_ns)| (Time(now.0 + lag_ns + delay_ns), metro)).collect()
    }

    /// When a small message reaches one other validator.
    pub(super) fn send(&mut self, now: Time, from: ValidatorIndex, to: ValidatorIndex, bytes: usize) -> Time {
        let begin = self.egress.as_mut().map_or(now, |egress| egress.queue(now, from, bytes, 1));
        Time(begin.0 + self.delay_ns(from, to))
    }

    /// When each validator but the leader has enough shreds of a slice that is sent now.
    pub(super) fn disseminate(&mut self, now: Time, slice: &Dissemination<'_>) -> Vec<Time> {
        let leader = slice.leader;
        let validators = self.metro_of.len();
        let shred_ns = self.egress.as_ref().map_or(0, |egress| egress.send_ns(slice.datagram_bytes));
        let relaying: Vec<(ValidatorIndex, Time)> =
            slice.relays.iter().map(|&relay| (relay, self.relay_begins(now, slice, relay))).collect();
        let mut arrivals = vec![Time(0); relaying.len()];
        let mut complete = |to: ValidatorIndex| {
            // The next leader's copy leaves first, then the others' by decreasing stake.
            let place = if to == slice.next_leader { 1 } else { to.get() as u64 + 2 };
            for (arrival, &(relay, begin)) in arrivals.iter_mut().zip(&relaying) {
                let sent = if relay == to { begin.0 } else { begin.0 + place * shred_ns + self.delay_ns(relay, to) };
                *arrival = Time(sent);
            }
            *arrivals.select_nth_unstable(slice.data_shreds - 1).1
        };
        (0..validators as u16).map(ValidatorIndex).map(|to| if to == leader { now } else { complete(to) }).collect()
    }

    /// When the relay of the leader's next shred begins to send copies of it: when it has it, at the earliest.
    fn relay_begins(&mut self, now: Time, slice: &Dissemination<'_>, relay: ValidatorIndex) -> Time {
        let (leader, bytes) = (slice.leader, slice.datagram_bytes);
        let delay_ns = self.delay_ns(leader, relay);
        let copies = self.metro_of.len().saturating_sub(2);
        match &mut self.egress {
            None => Time(now.0 + delay_ns),
            Some(egress) if relay == leader => egress.queue(now, leader, bytes, copies + 1),
            Some(egress) => {
                let sent = egress.queue(now, leader, bytes, 1).0 + egress.send_ns(bytes);
                egress.queue(Time(sent + delay_ns), relay, bytes, copies)
            }
        }
    }
}

fn place(lacking: &mut [u64], stake: u64, random: &mut ChaCha20Rng) -> usize {
    // All places may have what they should already, but for what rounding took.
    let mut unit = random.next_u64() % lacking.iter().sum::<u64>().max(1);
    let drawn = lacking.iter().position(|&lacks| {
        let is_here = unit < lacks;
        unit = unit.saturating_sub(lacks);
        is_here
    });
    let metro = drawn.unwrap_or(0);
    lacking[metro] = lacking[metro].saturating_sub(stake);
    metro
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::mainnet;

    fn network(validators: usize, leader: &Leader, mbit: Option<u32>) -> Network {
        let stakes = mainnet::stakes(validators);
        Network::new(mainnet::metros(), &stakes, leader, mbit.map(|mbit| NonZero::new(mbit).unwrap()), 3)
    }

    fn slice<'a>(relays: &'a [ValidatorIndex], data_shreds: usize) -> Dissemination<'a> {
        let (leader, next_leader) = (ValidatorIndex(0), ValidatorIndex(7));
        Dissemination { leader, next_leader, relays, data_shreds, datagram_bytes: 1_000 }
    }

    #[test]
    fn places_have_their_share_of_stake() {
        let stakes = mainnet::stakes(1_500);
        let network = network(1_500, &Leader::Random, None);
        let total = stakes.iter().map(|stake| stake.0).sum::<u64>() as f64;
        for (metro, known) in network.metros.metros.iter().enumerate() {
            let stake: u64 = network.members(metro).iter().map(|&validator| stakes[validator].0).sum();
            let share = stake as f64 / total;
            assert!((share - known.share).abs() < 0.035, "{}: {share} for {}", known.name, known.share);
        }
    }

    #[test]
    fn a_leader_where_nobody_is_gets_the_smallest_validator() {
        let zurich = mainnet::metros().position("zurich").unwrap();
        assert!(network(100, &Leader::Random, None).members(zurich).is_empty());
        assert_eq!(network(100, &Leader::Metro(zurich), None).members(zurich), [99]);
    }

    #[test]
    fn a_slice_is_there_with_the_shred_that_completes_it() {
        let mut network = network(50, &Leader::Random, None);
        let relays: Vec<_> = [0, 1, 2, 3, 4, 4].map(ValidatorIndex).into();
        let by_way = |network: &Network, relay: u16, to: u16| {
            let (leader, relay, to) = (ValidatorIndex(0), ValidatorIndex(relay), ValidatorIndex(to));
            1_000 + network.delay_ns(leader, relay) + network.delay_ns(relay, to)
        };
        for needed in 1..=relays.len() {
            let arrivals = network.disseminate(Time(1_000), &slice(&relays, needed));
            for to in 1..50 {
                let mut ways: Vec<_> = relays.iter().map(|relay| by_way(&network, relay.0, to)).collect();
                ways.sort_unstable();
                assert_eq!(arrivals[usize::from(to)].0, ways[needed - 1], "{needed} to {to}");
            }
            assert_eq!(arrivals[0], Time(1_000));
        }
    }

    #[test]
    fn what_is_sent_at_a_rate_leaves_one_after_the_other() {
        // 8 µs for each shred of 1,000 bytes.
        let mut network = network(50, &Leader::Random, Some(1_000));
        let relays = [1, 2, 1].map(ValidatorIndex);
        let arrivals = network.disseminate(Time(0), &slice(&relays, 1));
        let relayed = |network: &Network, to: u16, place: u64| {
            let way = |relay: u16, sent: u64| {
                let relay = ValidatorIndex(relay);
                sent + network.delay_ns(ValidatorIndex(0), relay) + network.delay_ns(relay, ValidatorIndex(to))
            };
            way(1, 8_000).min(way(2, 16_000)) + place * 8_000
        };
        assert_eq!(arrivals[7].0, relayed(&network, 7, 1), "the next leader first");
        assert_eq!(arrivals[20].0, relayed(&network, 20, 22));
        // Both of relay 1's shreds to 48 others; the second one was there before the first one's last copy had left.
        let egress = network.egress.as_ref().unwrap();
        let first = 8_000 + network.delay_ns(ValidatorIndex(0), ValidatorIndex(1));
        assert_eq!(egress.free[1], Time(first + 2 * 48 * 8_000));
        assert_eq!(egress.free[0], Time(24_000));
        let votes = network.broadcast(Time(0), ValidatorIndex(0), 100);
        let own_metro = network.metro_of[0];
        let lag_ns = 49 * 800 / 2;
        assert!(votes.contains(&(Time(lag_ns + network.delays_ns[own_metro][own_metro]), own_metro)));
    }
}
