//! What leaves first, seen by a receiver of everything.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use alpenglow_rotor::erasure::Kernel;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::shredder::Shredder;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::{SliceId, SlicePayload};
use alpenglow_rotor::types::{ClusterId, SliceIndex, Slot, Stake, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;

use super::*;
use crate::auth::PairwiseKeys;
use crate::buffers::BufferCounts;
use crate::config::EngineKind;
use crate::datagram::{HEADER_BYTES, Kind, PREFIX_BYTES};
use crate::engine::EngineParts;
use crate::link::{MessageBytes, ShardLink, link};
use crate::ring::RingDepth;
use crate::socket;
use crate::wake::{ControlWaker, ShardWaker};

const OWN: ValidatorIndex = ValidatorIndex(0);
const LEADER: ValidatorIndex = ValidatorIndex(1);
const VALIDATORS: usize = 120;
const CLUSTER: ClusterId = ClusterId([3; 32]);
const DATAGRAM_BYTES: usize = HEADER_BYTES + 200;
const PATIENCE: Duration = Duration::from_secs(30);

struct Fixture {
    egress: Egress,
    engine: Engine,
    lineups: Lineups,
    control: ControlLink,
    link: ShardLink,
    stages: Stages,
    received: VecDeque<BufferId>,
    sink: UdpSocket,
    now: Time,
}

/// A node with most of the stake, whose every peer is one socket.
fn fixture() -> Fixture {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let own = socket::open(loopback, 4 << 20).unwrap();
    let sink: UdpSocket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap().into();
    socket2::SockRef::from(&sink).bind(&loopback.into()).unwrap();
    socket2::SockRef::from(&sink).set_recv_buffer_size(64 << 20).unwrap();
    sink.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut peers = vec![sink.local_addr().unwrap(); VALIDATORS];
    peers[OWN.get()] = own.local_addr().unwrap().as_socket().unwrap();

    let identity = |index: usize| SigningKey::from_bytes(&[index as u8 + 1; 32]);
    let stake = |index: usize| Stake(if index == OWN.get() { 10_000 } else { 100 });
    let validators = (0..VALIDATORS).map(|index| (identity(index).verifying_key().to_bytes(), stake(index))).collect();
    let validators = ValidatorSet::new(validators).unwrap();
    let (seed, coding) = (EpochSeed([7; 32]), CodingParameters::default());
    let schedule = LeaderSchedule::new(ScheduleKind::RoundRobin, seed, &validators);
    let sampler = RelaySampler::new(&validators, seed, coding.total_shreds());
    let keys = PairwiseKeys::derive(&identity(OWN.get()), &validators, CLUSTER, OWN).unwrap();
    let counters = Arc::new(Counters::new());

    let (link, control) = link(ShardWaker::new().unwrap(), 0);
    let buffers = BufferCounts {
        receive_buffers: 8,
        send_slots: 64,
        slice_buffers: 2,
        slice_buffer_bytes: Encoder::buffer_bytes(&coding),
        handed_over_bytes: 0,
    };
    let (control_waker, _) = ControlWaker::pair().unwrap();
    let parts = EngineParts {
        socket: own,
        buffers,
        peers: peers.into_iter().map(Into::into).collect(),
        control: control.clone(),
        control_waker,
        neighbours: Arc::default(),
        counters: Arc::clone(&counters),
    };
    let engine = Engine::new(EngineKind::IoUring, RingDepth { submissions: 128, completions: 512 }, parts).unwrap();
    let epochs = Arc::clone(schedule.epochs());
    let audience = Audience { own: OWN, everybody: validators.by_decreasing_stake().into(), epochs };
    let letterhead = Letterhead::new(CLUSTER, OWN, Arc::new(keys));
    let shredder = Shredder::with_kernel(coding, CLUSTER, Kernel::best());
    let encoder = Encoder::new(coding, shredder, SliceSigner::new(&identity(OWN.get())));
    Fixture {
        egress: Egress::new(audience, letterhead, encoder, None, counters),
        engine,
        lineups: Lineups::new(Arc::new(sampler), Arc::new(schedule)),
        control,
        link,
        stages: Stages::new(),
        received: VecDeque::new(),
        sink,
        now: Time(1_000_000_000),
    }
}

impl Fixture {
    /// A received buffer of `datagrams`, from this node itself, each of which is filled with its position.
    fn receive(&mut self, datagrams: usize) -> BufferId {
        self.engine.reap(None, &mut self.received);
        let slot = self.engine.take_slot().unwrap();
        let bytes = datagrams * DATAGRAM_BYTES;
        let out = &mut self.engine.slot_bytes(&slot)[..bytes];
        out.chunks_mut(DATAGRAM_BYTES).enumerate().for_each(|(position, datagram)| datagram.fill(position as u8));
        self.engine.send(slot, bytes, OWN.get(), DATAGRAM_BYTES);
        while self.received.is_empty() {
            self.engine.reap(Some(PATIENCE), &mut self.received);
        }
        self.received.pop_front().unwrap()
    }

    /// Queues `count` relays of one shred each.
    fn queue_relays(&mut self, count: usize) {
        let buffer = self.receive(count);
        for position in 0..count {
            let slice = SliceId { slot: Slot(5), index: SliceIndex::new(position).unwrap() };
            let mut fan_out = FanOut::new(slice, LEADER, LEADER, DATAGRAM_BYTES, Time(0));
            fan_out.positions.insert(position);
            self.egress.relay(&mut self.engine, buffer, fan_out);
        }
        self.engine.release(buffer);
    }

    fn order_slice(&self, index: usize) {
        let id = SliceId { slot: Slot(1), index: SliceIndex::new(index).unwrap() };
        assert!(
            self.link
                .push(ToShard::SendSlice { id, is_last: false, payload: SlicePayload::from(vec![7; 20_000]) })
                .is_ok()
        );
    }

    fn order_vote(&self) {
        let body = MessageBytes::try_from(&b"a vote"[..]).unwrap();
        assert!(self.link.push(ToShard::Broadcast { kind: Kind::Vote, body }).is_ok());
    }

    fn burst(&mut self) {
        self.egress.queue_burst(&mut self.engine, &self.control, || self.now);
        self.engine.reap(None, &mut self.received);
    }

    fn turn(&mut self) {
        self.egress.forward(&mut self.engine, &self.control, &mut self.stages, &mut self.received);
        self.egress.send_slice(&mut self.engine, &mut self.lineups, &self.control, &mut self.stages);
        self.engine.reap(None, &mut self.received);
    }

    /// The kinds of all datagrams that have left, in their order.
    fn kinds(&mut self) -> Vec<Kind> {
        // A datagram to the sink itself comes last, for loopback keeps the order.
        let marker = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        marker.send_to(&[0xff; 4], self.sink.local_addr().unwrap()).unwrap();
        let mut datagram = [0; 2_048];
        let kind = |sink: &UdpSocket, datagram: &mut [u8]| {
            sink.recv(datagram).unwrap();
            Kind::from_byte(datagram[1])
        };
        std::iter::from_fn(|| kind(&self.sink, &mut datagram)).collect()
    }
}

fn count(kinds: &[Kind], kind: Kind) -> usize {
    kinds.iter().filter(|it| **it == kind).count()
}

const OTHERS: usize = VALIDATORS - 1;

#[test]
fn a_message_goes_between_two_bursts_of_a_long_fan_out() {
    let mut fixture = fixture();
    fixture.queue_relays(40);
    fixture.burst();
    let before = fixture.kinds();
    assert!((1..=32).contains(&before.len()), "{} copies left at once", before.len());
    fixture.order_vote();
    while fixture.egress.can_forward(&fixture.engine) || fixture.control.has_orders() {
        fixture.burst();
    }
    let after = fixture.kinds();
    assert!(after[..OTHERS].iter().all(|kind| *kind == Kind::Vote), "a shred left before a vote");
    assert_eq!(count(&after, Kind::Vote), OTHERS);
    // Neither this node nor the shreds' leader gets copies.
    assert_eq!(before.len() + count(&after, Kind::Shred), 40 * (OTHERS - 1));
}

#[test]
fn a_message_goes_before_all_relays_and_slices_that_wait() {
    let mut fixture = fixture();
    fixture.queue_relays(40);
    (0..3).for_each(|index| fixture.order_slice(index));
    fixture.turn();
    assert_eq!(count(&fixture.kinds(), Kind::Vote), 0);
    fixture.order_vote();
    let mut left = Vec::new();
    let mut reports = 0;
    while reports < 3 || fixture.egress.can_forward(&fixture.engine) {
        fixture.turn();
        left.extend(fixture.kinds());
        reports += std::iter::from_fn(|| fixture.link.pop_slice()).count();
    }
    assert!(left[..OTHERS].iter().all(|kind| *kind == Kind::Vote), "a shred left before a vote");
    assert!(left[OTHERS..].iter().all(|kind| *kind == Kind::Shred));
}

/// What a slot held from the last receiver's send is right for the next one: everybody gets the same bodies.
#[test]
fn copies_differ_in_their_headers_only() {
    let mut fixture = fixture();
    fixture.queue_relays(3);
    while fixture.egress.can_forward(&fixture.engine) {
        fixture.burst();
    }
    let mut datagram = [0; 2_048];
    for position in 0..3 {
        let mut tags = std::collections::BTreeSet::new();
        for _ in 0..OTHERS - 1 {
            let bytes = fixture.sink.recv(&mut datagram).unwrap();
            let (header, body) = datagram[..bytes].split_at(HEADER_BYTES);
            assert_eq!(body, [position; DATAGRAM_BYTES - HEADER_BYTES]);
            assert!(tags.insert(header[PREFIX_BYTES..].to_vec()), "two receivers got the same MAC");
        }
    }
}

/// 80 Mbit/s are 10 bytes in a microsecond, and 10,000 in the millisecond that can be saved up.
#[test]
fn shreds_are_spread_over_time_and_messages_are_not() {
    let mut fixture = fixture();
    fixture.egress.pacer = Some(Pacer::new(80, 1));
    fixture.queue_relays(10);
    fixture.order_vote();
    let mut left = Vec::new();
    while fixture.egress.can_forward(&fixture.engine) || fixture.control.has_orders() {
        fixture.burst();
        left.extend(fixture.kinds());
    }
    let shreds = count(&left, Kind::Shred);
    assert_eq!(count(&left, Kind::Vote), OTHERS);
    let vote_bytes = HEADER_BYTES + b"a vote".len();
    assert!((OTHERS * vote_bytes + shreds * DATAGRAM_BYTES).abs_diff(10_000) <= DATAGRAM_BYTES, "{shreds} shreds");

    let pause = fixture.egress.pause(fixture.now).unwrap();
    assert!(!pause.is_zero() && pause <= Duration::from_micros(DATAGRAM_BYTES as u64 / 10));
    fixture.order_vote();
    fixture.burst();
    assert_eq!(fixture.kinds(), [Kind::Vote; 16], "a burst of votes, though no shred may leave");

    fixture.now.0 += 2_000_000;
    let start = fixture.now;
    let (mut votes, mut shreds) = (0, 0);
    while fixture.egress.pause(fixture.now).is_some() || fixture.egress.can_forward(&fixture.engine) {
        fixture.burst();
        let left = fixture.kinds();
        (votes, shreds) = (votes + count(&left, Kind::Vote), shreds + count(&left, Kind::Shred));
        if let Some(pause) = fixture.egress.pause(fixture.now) {
            fixture.now.0 += pause.as_nanos() as u64;
        }
    }
    let sent = votes * vote_bytes + shreds * DATAGRAM_BYTES;
    let microseconds = (fixture.now.0 - start.0) / 1_000;
    assert!(
        (sent as u64 - 10_000).abs_diff(10 * microseconds) <= 2 * DATAGRAM_BYTES as u64,
        "{sent} in {microseconds}"
    );
}
