//! Running shards, and datagrams that come to the wrong one.

use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use alpenglow_rotor::erasure::Kernel;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::shred;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{ClusterId, SliceIndex, Slot, Stake, Time, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;

use super::*;
use crate::buffers::Received;
use crate::config::{EngineKind, Poll};
use crate::counters::Counter;
use crate::datagram::{self, Header, Kind};
use crate::limits::{ClientLimits, Source};
use crate::link::FromShard;

const CLUSTER: ClusterId = ClusterId([4; 32]);
/// Leads the slots that are used.
const LEADER: ValidatorIndex = ValidatorIndex(0);
const NODE: ValidatorIndex = ValidatorIndex(1);
const VALIDATORS: usize = 4;
const SHARDS: usize = 3;
const SLOT: Slot = Slot(1);
const PATIENCE: Duration = Duration::from_secs(30);

fn identity(index: ValidatorIndex) -> SigningKey {
    SigningKey::from_bytes(&[index.0 as u8 + 1; 32])
}

/// A node whose copies for others all go to `others`.
fn config(others: SocketAddr, engine: EngineKind) -> DataplaneConfig {
    let validators = (0..VALIDATORS as u16).map(ValidatorIndex);
    let validators = validators.map(|index| (identity(index).verifying_key().to_bytes(), Stake(1))).collect();
    let validators = Arc::new(ValidatorSet::new(validators).unwrap());
    let (seed, coding) = (EpochSeed([7; 32]), CodingParameters::default());
    DataplaneConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        addresses: vec![others; VALIDATORS],
        own: NODE,
        cluster: CLUSTER,
        coding,
        kernel: Kernel::best(),
        identity: identity(NODE),
        schedule: Arc::new(LeaderSchedule::new(ScheduleKind::RoundRobin, seed, &validators)),
        sampler: Arc::new(RelaySampler::new(&validators, seed, coding.total_shreds())),
        validators,
        shards: SHARDS,
        cores: vec![None; SHARDS],
        poll: Poll::Wait,
        slice_memory_bytes: 16 << 20,
        socket_buffer_bytes: 4 << 20,
        egress_mbit: None,
        clients: ClientLimits::default(),
        silent_relay: false,
        engine,
    }
}

/// A running node and all who send to it.
struct Fixture {
    dataplane: Dataplane,
    links: Vec<ShardLink>,
    config: DataplaneConfig,
    sender: Engine,
    others: UdpSocket,
    _reader: UnixStream,
}

fn fixture(engine: EngineKind) -> Fixture {
    let others = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    others.set_read_timeout(Some(PATIENCE)).unwrap();
    socket2::SockRef::from(&others).set_recv_buffer_size(64 << 20).unwrap();
    let config = config(others.local_addr().unwrap(), engine);
    let (waker, reader) = ControlWaker::pair().unwrap();
    let horizon = Arc::new(Horizon::new(Slot::GENESIS, Slot(100)));
    let (dataplane, links) = Dataplane::start(config.clone(), waker, horizon).unwrap();
    let (_, control) = link(ShardWaker::new().unwrap(), 0);
    let parts = EngineParts {
        socket: socket::open(config.bind, 4 << 20).unwrap(),
        buffers: BufferCounts {
            receive_buffers: 2,
            send_slots: 64,
            slice_buffers: 1,
            slice_buffer_bytes: 1,
            handed_over_bytes: 0,
        },
        peers: Box::new([dataplane.address().into()]),
        control,
        control_waker: ControlWaker::pair().unwrap().0,
        neighbours: Arc::default(),
        counters: Arc::new(Counters::new()),
    };
    let sender = Engine::new(EngineKind::IoUring, RingDepth { submissions: 64, completions: 256 }, parts).unwrap();
    Fixture { dataplane, links, config, sender, others, _reader: reader }
}

/// The datagrams of a slice as its leader and relays send them to the node.
fn datagrams(config: &DataplaneConfig, index: usize) -> Vec<Vec<u8>> {
    let id = slice_id(index);
    let coding = config.coding;
    let mut shredder = Shredder::new(coding, CLUSTER);
    let payload = vec![index as u8; coding.slice_payload_bytes()];
    let bytes = shred::wire_bytes(&coding, shredder.shred_len(payload.len()));
    let mut shreds = vec![0; coding.total_shreds() * bytes];
    let offsets: Vec<usize> = (0..coding.total_shreds()).map(|index| index * bytes).collect();
    let signer = SliceSigner::new(&identity(LEADER));
    shredder.shred(id, false, 0, &payload, &signer, &mut shreds, &offsets);
    let mut relays = vec![LEADER; coding.total_shreds()];
    config.sampler.sample(id, &mut relays);
    let sealed = |(shred, relay): (&[u8], &ValidatorIndex)| {
        let sender = if *relay == NODE { LEADER } else { *relay };
        let keys = PairwiseKeys::derive(&identity(sender), &config.validators, CLUSTER, sender).unwrap();
        let prefix = Header::prefix(Kind::Shred, id.lane(), sender, CLUSTER);
        let tag = keys.tag_to(NODE, (&prefix, datagram::covered(Kind::Shred, shred)));
        [&prefix[..], &tag, shred].concat()
    };
    shreds.chunks(bytes).zip(&relays).map(sealed).collect()
}

impl Fixture {
    /// Sends datagrams of one length as one that the kernel steers by the first one's lane.
    fn send_joined(&mut self, datagrams: &[Vec<u8>]) {
        self.sender.reap(None, &mut Vec::new());
        let slot = self.sender.take_slot().unwrap();
        let joined = datagrams.concat();
        self.sender.slot_bytes(&slot)[..joined.len()].copy_from_slice(&joined);
        self.sender.send(slot, joined.len(), 0, datagrams[0].len());
        self.sender.submit();
    }

    fn counted(&self, counter: Counter) -> u64 {
        self.dataplane.counters().iter().map(|counters| counters.get(counter)).sum()
    }
}

fn slice_id(index: usize) -> SliceId {
    SliceId { slot: SLOT, index: SliceIndex::new(index).unwrap() }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Joined datagrams of three slices, one for each shard, in turns: whichever shard gets them keeps a third. The shards
/// sleep before and must be woken.
fn misrouted_shreds_are_decoded_and_relayed_by_their_own_shard(engine: EngineKind) {
    let mut fixture = fixture(engine);
    let slices = [0, 1, 2].map(|index| datagrams(&fixture.config, index));
    let shards: std::collections::BTreeSet<usize> =
        (0..3).map(|index| usize::from(slice_id(index).lane()) % SHARDS).collect();
    assert_eq!(shards.len(), SHARDS, "slices of one slot lie on all shards");
    let mixed: Vec<Vec<u8>> =
        (0..slices[0].len()).flat_map(|shred| slices.each_ref().map(|slice| slice[shred].clone())).collect();
    for joined in mixed.chunks(48) {
        fixture.send_joined(joined);
        thread::sleep(Duration::from_millis(5));
    }
    let (mut decoded, mut seen_by) = (Vec::new(), Vec::new());
    wait_until("the decoding of all slices", || {
        for (shard, link) in fixture.links.iter().enumerate() {
            while let Some(event) = link.pop_slice() {
                match event {
                    FromShard::Slice { slice, .. } => decoded.push((slice.id.index.get(), shard)),
                    FromShard::LeaderSeen(slot) if slot == slice_id(0).slot => seen_by.push(shard),
                    event => panic!("{event:?}"),
                }
            }
        }
        decoded.len() == 3
    });
    seen_by.sort_unstable();
    assert_eq!(seen_by, Vec::from_iter(0..SHARDS), "each shard says once that the window's leader is alive");
    for (index, shard) in decoded {
        assert_eq!(shard, usize::from(slice_id(index).lane()) % SHARDS);
    }
    let total = fixture.config.coding.total_shreds() as u64;
    let handled = || fixture.counted(Counter::ShredsFromLeader) + fixture.counted(Counter::ShredsFromRelays);
    wait_until("the last shred", || handled() == 3 * total);
    assert_eq!(fixture.counted(Counter::HandedOver), 2 * total);
    assert_eq!(fixture.counted(Counter::HandedOverReceived), 2 * total);
    let relayed = |index| {
        let mut relays = vec![LEADER; total as usize];
        fixture.config.sampler.sample(slice_id(index), &mut relays);
        relays.iter().filter(|relay| **relay == NODE).count()
    };
    let relayed: usize = (0..3).map(relayed).sum();
    let mut copy = [0; 2_048];
    for _ in 0..relayed * (VALIDATORS - 2) {
        let bytes = fixture.others.recv(&mut copy).unwrap();
        assert_eq!(Header::parse(&copy[..bytes]).unwrap().0.sender, NODE.0);
    }
    let drops = Counter::ALL.iter().filter(|counter| counter.is_drop() && fixture.counted(**counter) > 0);
    assert_eq!(drops.map(|counter| counter.name()).collect::<Vec<_>>(), [""; 0]);
}

/// Whoever joins its messages to something of another lane, which the kernel steers by, has the rate of one shard all
/// the same.
#[test]
fn a_validators_messages_are_counted_by_one_shard_wherever_they_come_in() {
    let mut fixture = fixture(EngineKind::IoUring);
    let keys = PairwiseKeys::derive(&identity(LEADER), &fixture.config.validators, CLUSTER, LEADER).unwrap();
    let sealed = |lane: u8, body: &[u8]| {
        let prefix = Header::prefix(Kind::Vote, lane, LEADER, CLUSTER);
        let tag = keys.tag_to(NODE, (&prefix, body));
        [&prefix[..], &tag, body].concat()
    };
    let lane = datagram::message_lane(LEADER);
    for other in 0..SHARDS as u8 {
        let joined: Vec<_> = [sealed(other, b"1"), sealed(lane, b"2"), sealed(lane, b"3")].into();
        fixture.send_joined(&joined);
    }
    let mut came_to = vec![0; SHARDS];
    wait_until("the last message", || {
        for (link, count) in fixture.links.iter().zip(&mut came_to) {
            *count += std::iter::from_fn(|| link.pop_message()).count();
        }
        came_to.iter().sum::<usize>() > 2 * SHARDS
    });
    let mut expected = vec![0; SHARDS];
    expected[usize::from(lane) % SHARDS] = 2 * SHARDS + 1;
    assert_eq!(came_to, expected);
    assert_eq!(fixture.counted(Counter::WrongLane), SHARDS as u64 - 1);
}

#[test]
fn misrouted_shreds_reach_their_shard_by_io_uring() {
    misrouted_shreds_are_decoded_and_relayed_by_their_own_shard(EngineKind::IoUring);
}

#[test]
fn misrouted_shreds_reach_their_shard_by_syscalls() {
    misrouted_shreds_are_decoded_and_relayed_by_their_own_shard(EngineKind::Syscalls);
}

/// The first of two shards, which receive nothing by themselves.
struct Lone {
    intake: Intake,
    link: ShardLink,
    /// The other one's.
    neighbour: ControlLink,
    config: DataplaneConfig,
    counters: Arc<Counters>,
}

fn lone() -> Lone {
    let config = config(SocketAddr::from(([127, 0, 0, 1], 9)), EngineKind::IoUring);
    let keys = PairwiseKeys::derive(&config.identity, &config.validators, CLUSTER, NODE).unwrap();
    let [(link, control), (_, neighbour)] =
        [(); 2].map(|()| link(ShardWaker::new().unwrap(), config.coding.datagram_bytes()));
    let config = DataplaneConfig { shards: 2, ..config };
    let counters = Arc::new(Counters::new());
    let intake = Intake::new(IntakeParts {
        lineups: Lineups::new(Arc::clone(&config.sampler), Arc::clone(&config.schedule)),
        gate: Gate::new(&config, Arc::new(keys), 0),
        limits: Limits::new(config.clients, &config.addresses, config.shards),
        assembler: Assembler::with_kernel(config.coding, CLUSTER, config.slice_memory_bytes, config.kernel),
        coding: config.coding,
        own: NODE,
        validators: Arc::clone(&config.validators),
        horizon: Arc::new(Horizon::new(Slot::GENESIS, Slot(100))),
        silent_relay: false,
        neighbours: [&control, &neighbour].map(ControlLink::neighbour).into(),
        control,
        counters: Arc::clone(&counters),
    });
    Lone { intake, link, neighbour, config, counters }
}

impl Lone {
    /// What is no shred for this shard.
    fn receive(&mut self, buffer: &[u8], segment_bytes: usize, source: Source) {
        let received = Received { payload: buffer, segment_bytes, stamp_ns: None, source, truncated: false };
        let mut datagrams = self.intake.split(&received, Time(0));
        assert!(self.intake.next_batch(&mut datagrams).is_none());
    }
}

/// The other shard takes nothing out.
#[test]
fn what_finds_a_full_inbox_is_counted() {
    let mut shard = lone();
    let config = shard.config.clone();
    let of_other = (0..100).filter(|index| slice_id(*index).lane() % 2 == 1).take(5);
    for slice in of_other.map(|index| datagrams(&config, index)) {
        shard.receive(&slice.concat(), slice[0].len(), Source::default());
    }
    assert_eq!(shard.intake.take_handed_over(), 0b10);
    let counted = [Counter::HandedOver, Counter::InboxFull].map(|counter| shard.counters.get(counter));
    assert_eq!(counted, [256, 5 * config.coding.total_shreds() as u64 - 256]);
}

/// Someone has recorded a vote and sends it again and again, at one instant.
#[test]
fn who_replays_a_vote_from_another_address_keeps_no_vote_of_its_voter_out() {
    let mut shard = lone();
    let [own, other] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|ip| Source::from(IpAddr::from(ip)));
    let vote = |sender: ValidatorIndex, body: &[u8]| {
        let keys = PairwiseKeys::derive(&identity(sender), &shard.config.validators, CLUSTER, sender).unwrap();
        let prefix = Header::prefix(Kind::Vote, datagram::message_lane(sender), sender, CLUSTER);
        let tag = keys.tag_to(NODE, (&prefix, body));
        [&prefix[..], &tag, body].concat()
    };
    let (recorded, new, of_neighbour) = (vote(LEADER, b"old"), vote(LEADER, b"new"), vote(ValidatorIndex(3), b"vote"));
    for _ in 0..10_000 {
        shard.receive(&recorded, recorded.len(), other);
        while shard.link.pop_message().is_some_and(|message| *message.body == *b"old") {}
    }
    assert!(shard.counters.get(Counter::VoteOverRate) > 5_000);
    shard.receive(&new, new.len(), own);
    assert_eq!(*shard.link.pop_message().unwrap().body, *b"new");
    shard.receive(&of_neighbour, of_neighbour.len(), other);
    let source = shard.neighbour.inbox().take(|_, source| source);
    assert_eq!(source, Some(other), "it is handed over with the address");
}
