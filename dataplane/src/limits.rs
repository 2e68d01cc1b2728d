//! How many messages a shard lets through to control: of each validator by kind; of clients by the address that they
//! come from, and of all of them. Shreds are not counted here: what they may cost is bounded where it is spent (the
//! assembler).
//!
//! A validator's datagrams that do not come from its own address are counted apart, with the same rates: who replays
//! what it has recorded spends nothing of what the validator itself may send, unless it can forge that address as well.
//!
//! The memory is fixed. Clients' addresses share a table of counts by a hash that nobody outside can foresee, so an
//! address may share the count of another one; whoever can send from any address spends what all of them have, as far
//! as the total lets it.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;

use alpenglow_rotor::types::{Time, ValidatorIndex};

use crate::counters::Counter;
use crate::datagram::Kind;

/// Counts of clients' addresses.
const SOURCES: usize = 4_096;
/// Votes of a validator each second, and as many certificates: a validator casts up to seven votes in a slot, so this
/// is the pace of slots of 2 ms; and as much at once, which is what a standstill repeats, many times over.
const VOTES_PER_S: u32 = 4_096;
/// Questions of a validator about blocks each second: twice as many as it gets answers to.
const REPAIR_REQUESTS_PER_S: u32 = 2_048;
/// Answers of a validator each second: the bytes that one gives to another at most are half as many datagrams.
const REPAIR_ANSWERS_PER_S: u32 = 16_384;
/// Transactions that a validator passes on each second, beside what its clients give it: with a new window those that
/// are pending come again, 64 each millisecond.
const FORWARDED_AGAIN_PER_S: u32 = 65_536;

/// Transactions that clients may give a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// From one IPv4 address, or one IPv6 network of 64 bits, each second; a second's worth may come at once.
    pub of_source_per_s: NonZero<u32>,
    /// From all of them together.
    pub total_per_s: NonZero<u32>,
}

impl Default for ClientLimits {
    fn default() -> Self {
        let limit = |per_s| NonZero::new(per_s).expect("it is not zero");
        Self { of_source_per_s: limit(2_000), total_per_s: limit(20_000) }
    }
}

/// Where a datagram says that it comes from: an IPv4 address, or the first half of an IPv6 one. Nobody vouches for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Source(u64);

impl Source {
    /// Of a socket address as the kernel writes it. What is neither IPv4 nor IPv6 is all one source.
    pub(crate) fn of(name: &[u8]) -> Self {
        let family = name.first_chunk().map_or(0, |family| i32::from(u16::from_ne_bytes(*family)));
        let bytes = |start: usize| name.get(start..).unwrap_or_default();
        match family {
            libc::AF_INET => bytes(4).first_chunk::<4>().map(|&ip| Ipv4Addr::from(ip).into()),
            libc::AF_INET6 => bytes(8).first_chunk::<16>().map(|&ip| Ipv6Addr::from(ip).into()),
            _ => None,
        }
        .map_or(Self(0), |ip: IpAddr| Self::from(ip))
    }
}

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        // IPv4 behind a socket for both is IPv4.
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => u32::from(ip).into(),
            IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
        })
    }
}

/// One message each so many nanoseconds, and a second's worth at once.
#[derive(Clone, Copy)]
struct Pace {
    interval_ns: u64,
}

impl Pace {
    const SECOND_NS: u64 = 1_000_000_000;

    fn per_s(count: u64) -> Self {
        Self { interval_ns: Self::SECOND_NS / count.clamp(1, Self::SECOND_NS) }
    }
}

/// Until when what was let through is paid for.
#[derive(Clone, Copy, Default)]
struct Account(u64);

impl Account {
    /// Whether one more is let through.
    fn take(&mut self, now: Time, pace: Pace) -> bool {
        let paid_through = self.0.max(now.0);
        let is_let = paid_through - now.0 < Pace::SECOND_NS;
        if is_let {
            self.0 = paid_through.saturating_add(pace.interval_ns);
        }
        is_let
    }
}

/// Kinds of messages that validators send, as far as they are counted apart.
#[derive(Clone, Copy)]
enum Class {
    Vote,
    Certificate,
    RepairRequest,
    RepairAnswer,
    Transaction,
}

const CLASSES: usize = 5;

/// See the module.
pub(crate) struct Limits {
    /// Of each validator: what came from elsewhere, and what came from its own address.
    validators: Box<[[[Account; CLASSES]; 2]]>,
    own_addresses: Box<[Source]>,
    paces: [Pace; CLASSES],
    sources: Box<[Account]>,
    hasher: RandomState,
    of_source: Pace,
    total: Pace,
    all_clients: Account,
}

impl Limits {
    /// For the validators with these addresses, in one of `shards`: clients spread what they send over all of them.
    pub(crate) fn new(clients: ClientLimits, addresses: &[SocketAddr], shards: usize) -> Self {
        let share = |limit: NonZero<u32>| Pace::per_s(u64::from(limit.get()).div_ceil(shards as u64));
        let forwarded = u64::from(FORWARDED_AGAIN_PER_S) + u64::from(clients.total_per_s.get());
        let [votes, requests, answers] =
            [VOTES_PER_S, REPAIR_REQUESTS_PER_S, REPAIR_ANSWERS_PER_S].map(|count| Pace::per_s(count.into()));
        Self {
            validators: vec![[[Account::default(); CLASSES]; 2]; addresses.len()].into(),
            own_addresses: addresses.iter().map(|address| address.ip().into()).collect(),
            paces: [votes, votes, requests, answers, Pace::per_s(forwarded)],
            sources: vec![Account::default(); SOURCES].into(),
            hasher: RandomState::new(),
            of_source: share(clients.of_source_per_s),
            total: share(clients.total_per_s),
            all_clients: Account::default(),
        }
    }

    /// Whether a message may go to control, or what counts it. The sender, if any, is a validator of the set.
    pub(crate) fn admit(
        &mut self,
        now: Time,
        kind: Kind,
        sender: Option<ValidatorIndex>,
        source: Source,
    ) -> Result<(), Counter> {
        let (class, over) = match kind {
            Kind::Transaction => return self.admit_client(now, source),
            Kind::Vote => (Class::Vote, Counter::VoteOverRate),
            Kind::Certificate => (Class::Certificate, Counter::CertificateOverRate),
            Kind::RepairRequest => (Class::RepairRequest, Counter::RepairOverRate),
            Kind::RepairAnswer => (Class::RepairAnswer, Counter::RepairOverRate),
            Kind::ForwardedTransaction => (Class::Transaction, Counter::TransactionOverRate),
            Kind::Shred => unreachable!("shreds do not go to control"),
        };
        let sender = sender.expect("only transactions of clients come without").get();
        let is_own_address = source == self.own_addresses[sender];
        let accounts = &mut self.validators[sender][usize::from(is_own_address)];
        let is_let = accounts[class as usize].take(now, self.paces[class as usize]);
        if is_let { Ok(()) } else { Err(over) }
    }

    /// First the source's own count, so that one that sends too much takes nothing of the total.
    fn admit_client(&mut self, now: Time, source: Source) -> Result<(), Counter> {
        let place = self.hasher.hash_one(source) as usize % SOURCES;
        if !self.sources[place].take(now, self.of_source) {
            return Err(Counter::ClientOverRate);
        }
        if self.all_clients.take(now, self.total) { Ok(()) } else { Err(Counter::ClientsOverRate) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = Pace::SECOND_NS;

    fn clients(of_source: u32, total: u32) -> ClientLimits {
        let limit = |per_s| NonZero::new(per_s).unwrap();
        ClientLimits { of_source_per_s: limit(of_source), total_per_s: limit(total) }
    }

    fn source(address: &str) -> Source {
        let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), 9);
        let name = socket2::SockAddr::from(address);
        let mut bytes = vec![(name.family() as u8), 0, 0, 9];
        match address.ip() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend([0; 4].into_iter().chain(ip.octets())),
        }
        Source::of(&bytes)
    }

    /// How many of `offered` transactions, evenly in a second that begins with `start`, are let through.
    fn let_through(limits: &mut Limits, source: Source, start: u64, offered: u64) -> u64 {
        let at = |number| Time(start + number * SECOND / offered);
        (0..offered).filter(|&number| limits.admit(at(number), Kind::Transaction, None, source).is_ok()).count() as u64
    }

    #[test]
    fn a_client_gets_its_rate_and_what_it_sends_beyond_takes_nothing_from_others() {
        let mut limits = Limits::new(clients(100, 1_000), &[], 1);
        let (greedy, modest) = (source("10.0.0.1"), source("10.0.0.2"));
        for second in 1..10 {
            let taken = let_through(&mut limits, greedy, second * SECOND, 50_000);
            // The first second has the saved one too.
            assert!((99..=if second == 1 { 201 } else { 101 }).contains(&taken), "second {second}: {taken}");
            assert_eq!(let_through(&mut limits, modest, second * SECOND, 90), 90, "second {second}");
        }
        assert_eq!(limits.admit(Time(10 * SECOND), Kind::Transaction, None, greedy), Err(Counter::ClientOverRate));
    }

    #[test]
    fn all_clients_together_get_no_more_than_the_total_from_however_many_addresses() {
        let mut limits = Limits::new(clients(100, 1_000), &[], 1);
        let mut taken = 0;
        for number in 0..100_000_u64 {
            let from = Source(number);
            taken +=
                u64::from(limits.admit(Time(SECOND + number * SECOND / 50_000), Kind::Transaction, None, from).is_ok());
        }
        assert!((2_900..=3_001).contains(&taken), "{taken} in two seconds, with one saved");
        let end = Time(3 * SECOND - SECOND / 50_000);
        let refused = (0..100).map(|number| limits.admit(end, Kind::Transaction, None, Source(1 << 40 | number)));
        assert!(refused.collect::<Vec<_>>().contains(&Err(Counter::ClientsOverRate)));
    }

    #[test]
    fn shards_share_what_clients_may_send() {
        let mut limits = Limits::new(clients(100, 1_000), &[], 4);
        let taken = let_through(&mut limits, source("10.0.0.1"), 2 * SECOND, 1_000);
        assert!((49..=51).contains(&taken), "{taken}: a quarter of the rate, and as much saved");
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        for spoilt in [&[][..], &[9], &[libc::AF_INET as u8, 0, 0], &[libc::AF_INET6 as u8, 0, 1, 2, 3]] {
            assert_eq!(Source::of(spoilt), Source::default());
        }
    }

    fn addresses() -> [SocketAddr; 2] {
        ["10.0.0.1:8000", "[2001:db8::1]:8000"].map(|address| address.parse().unwrap())
    }

    #[test]
    fn a_validator_gets_its_rate_of_each_kind_and_takes_none_of_others() {
        let mut limits = Limits::new(ClientLimits::default(), &addresses(), 1);
        let [flooder, other] = [0, 1].map(ValidatorIndex);
        let kinds = [
            (Kind::Vote, VOTES_PER_S),
            (Kind::Certificate, VOTES_PER_S),
            (Kind::RepairRequest, REPAIR_REQUESTS_PER_S),
            (Kind::RepairAnswer, REPAIR_ANSWERS_PER_S),
        ];
        for (kind, rate) in kinds {
            let at = |number: u64| Time(SECOND + number * SECOND / 200_000);
            let admit = |limits: &mut Limits, number, sender| {
                limits.admit(at(number), kind, Some(sender), Source::default()).is_ok()
            };
            let taken = (0..200_000).filter(|&number| admit(&mut limits, number, flooder)).count();
            let most = 2 * rate as usize;
            assert!((most - 2..=most + 2).contains(&taken), "{kind:?}: {taken} in a second, with one saved");
            assert!(admit(&mut limits, 200_000, other));
        }
    }

    #[test]
    fn who_replays_a_validators_messages_from_elsewhere_takes_none_of_its_rate() {
        let mut limits = Limits::new(ClientLimits::default(), &addresses(), 1);
        for (sender, own) in [(ValidatorIndex(0), "10.0.0.1"), (ValidatorIndex(1), "2001:db8::1")] {
            let mut admit = |from| limits.admit(Time(SECOND), Kind::Vote, Some(sender), source(from));
            while admit("10.0.0.3").is_ok() {}
            assert_eq!(admit("2001:db8:0:1::1"), Err(Counter::VoteOverRate));
            let sent = (0..100_000).filter(|_| admit(own).is_ok()).count();
            assert!(sent >= VOTES_PER_S as usize, "{sent}");
        }
    }
}
