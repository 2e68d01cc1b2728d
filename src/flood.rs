//! An attacker with a validator's keys, for experiments: sends the others, as fast as it is told, what costs them most
//! of each kind, all of it with valid MACs. It sits beside a node that does its work, in its process.
//!
//! - votes and certificates with a signature that is a point of the curve, but for something else: a pairing check
//!   until this validator is barred, and again when the bar ends;
//! - shreds in the places of this relay, of ever new slices: a signature check for each slice;
//! - questions for blocks that nobody has: an answer each;
//! - transactions that were never seen before, as long as they may be.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use alpenglow_control::bls::{HashedPayload, SecretKey, SignatureBytes};
use alpenglow_control::certificate::{Certificate, Signers, Statement};
use alpenglow_control::message::{encode_certificate, encode_vote};
use alpenglow_control::repair::{RepairMessage, RepairRequest, RequestId, Want};
use alpenglow_control::vote::{Vote, VotePayload};
use alpenglow_dataplane::Horizon;
use alpenglow_dataplane::auth::PairwiseKeys;
use alpenglow_dataplane::datagram::{Header, Kind, covered, message_lane};
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::LeaderSchedule;
use alpenglow_rotor::shred::{SHRED_HEADER_BYTES, wire_bytes};
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, SLICES_MAX, SliceIndex, Slot, ValidatorIndex};

/// How far ahead of the closed slots the attacker aims: so far votes are taken.
const SLOTS_AHEAD: u64 = 40;
/// Bytes of a transaction.
const TRANSACTION_BYTES: usize = 1_024;
/// How often a burst leaves.
const BURSTS_PER_S: u64 = 1_000;

/// What the attacker knows.
pub(crate) struct FloodPlan {
    /// Its keys with the others.
    pub(crate) keys: PairwiseKeys,
    /// Where every validator receives.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) cluster: ClusterId,
    pub(crate) coding: CodingParameters,
    pub(crate) schedule: Arc<LeaderSchedule>,
    pub(crate) sampler: Arc<RelaySampler>,
    /// What the node beside it has closed.
    pub(crate) horizon: Arc<Horizon>,
    /// Datagrams each second, to all others together.
    pub(crate) datagrams_per_s: NonZero<u32>,
}

/// An attacker that runs.
pub(crate) struct Flood {
    thread: JoinHandle<u64>,
    stop: Arc<AtomicBool>,
}

impl Flood {
    /// Starts it.
    ///
    /// # Errors
    /// If there is no socket or thread to be had.
    pub(crate) fn start(plan: FloodPlan) -> io::Result<Self> {
        let own = plan.addresses[plan.keys.own().get()];
        let socket = UdpSocket::bind((own.ip(), 0))?;
        // What the kernel does not take at once is as good as lost on the way.
        socket.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (told, attacker) = (Arc::clone(&stop), Attacker::new(plan, socket));
        let thread = thread::Builder::new().name("flood".to_owned()).spawn(move || attacker.run(&told))?;
        Ok(Self { thread, stop })
    }

    /// Ends it. Returns how many datagrams have left.
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

struct Attacker {
    plan: FloodPlan,
    socket: UdpSocket,
    others: Vec<ValidatorIndex>,
    /// A point of the curve, and no signature of anything that is sent.
    signature: SignatureBytes,
    number: u64,
}

impl Attacker {
    fn new(plan: FloodPlan, socket: UdpSocket) -> Self {
        let own = plan.keys.own();
        let others = (0..plan.addresses.len() as u16).map(ValidatorIndex).filter(|other| *other != own).collect();
        let signature = SecretKey::from_entropy(&[1; 32]).sign(&HashedPayload::new(b"something else")).to_bytes();
        Self { plan, socket, others, signature, number: 0 }
    }

    /// Sends until it is told to stop. A burst that is late is left out.
    fn run(mut self, stop: &AtomicBool) -> u64 {
        let per_burst = u64::from(self.plan.datagrams_per_s.get()).div_ceil(BURSTS_PER_S);
        let pause = Duration::from_secs(1) / BURSTS_PER_S as u32;
        let (mut sent, mut due) = (0, Instant::now());
        while !stop.load(Ordering::Relaxed) {
            sent += (0..per_burst).filter(|_| self.send_next()).count() as u64;
            due = (due + pause).max(Instant::now());
            thread::sleep(due - Instant::now());
        }
        sent
    }

    /// Whether the kernel took it.
    fn send_next(&mut self) -> bool {
        self.number += 1;
        let (number, others) = (self.number, self.others.len() as u64);
        let Some(&to) = self.others.get((number % others.max(1)) as usize) else { return false };
        let Some((kind, lane, body)) = self.message(number / others, to) else { return false };
        let prefix = Header::prefix(kind, lane, self.plan.keys.own(), self.plan.cluster);
        let tag = self.plan.keys.tag_to(to, (&prefix, covered(kind, &body)));
        let datagram = [&prefix[..], &tag, &body].concat();
        self.socket.send_to(&datagram, self.plan.addresses[to.get()]).is_ok()
    }

    /// The message of this number to `to`: its kind, lane and body. `None` if there is no place for it.
    ///
    /// Each receiver gets votes or certificates: whichever of the two it finds wrong first, it looks at no more of
    /// either.
    fn message(&self, number: u64, to: ValidatorIndex) -> Option<(Kind, u8, Vec<u8>)> {
        let round = number / 5;
        let closed_through = self.plan.horizon.closed_through.load(Ordering::Relaxed);
        let block = BlockId { slot: Slot(closed_through + 1 + round % SLOTS_AHEAD), hash: hash(round) };
        let lane = message_lane(self.plan.keys.own());
        Some(match number % 5 {
            0 | 1 if to.get().is_multiple_of(2) => (Kind::Vote, lane, self.vote(block)),
            0 | 1 => (Kind::Certificate, lane, self.certificate(block)),
            2 => {
                let (lane, shred) = self.shred(round)?;
                (Kind::Shred, lane, shred)
            }
            3 => {
                let request = RepairRequest { id: RequestId(round as u32), block, want: Want::LastSlice };
                (Kind::RepairRequest, lane, RepairMessage::Request(request).encode())
            }
            _ => (Kind::ForwardedTransaction, lane, filled(round, TRANSACTION_BYTES)),
        })
    }

    fn vote(&self, block: BlockId) -> Vec<u8> {
        let signer = self.plan.keys.own();
        encode_vote(&Vote { payload: VotePayload::Notar(block), signer, signature: self.signature })
    }

    fn certificate(&self, block: BlockId) -> Vec<u8> {
        let validators = self.plan.addresses.len();
        let everybody = (0..validators as u16).map(ValidatorIndex);
        encode_certificate(&Certificate {
            statement: Statement::Notarization(block),
            signers: Signers::of(validators, everybody),
            fallback_signers: Signers::none(validators),
            signature: self.signature,
        })
    }

    /// A shred of a slice that its leader never made, in this relay's place; and its lane.
    fn shred(&self, round: u64) -> Option<(u8, Vec<u8>)> {
        let FloodPlan { keys, coding, schedule, sampler, horizon, .. } = &self.plan;
        let closed_through = horizon.closed_through.load(Ordering::Relaxed);
        let wanted = horizon.shreds_through.load(Ordering::Relaxed).saturating_sub(closed_through);
        let slot = Slot(closed_through + 1 + round.checked_rem(wanted)?);
        let slice = SliceId { slot, index: SliceIndex::new((round % SLICES_MAX as u64) as usize)? };
        let mut relays = vec![ValidatorIndex(0); coding.total_shreds()];
        sampler.sample(slice, &mut relays);
        let index = relays.iter().position(|relay| *relay == keys.own())?;
        if schedule.leader(slot) == keys.own() {
            return None;
        }
        let mut shred = filled(round, wire_bytes(coding, coding.shred_bytes()));
        shred[..8].copy_from_slice(&slot.0.to_le_bytes());
        shred[8..10].copy_from_slice(&(slice.index.get() as u16).to_le_bytes());
        shred[10..12].copy_from_slice(&(index as u16).to_le_bytes());
        shred[12..SHRED_HEADER_BYTES].fill(0);
        Some((slice.lane(), shred))
    }
}

/// As many bytes, other ones for each number.
fn filled(number: u64, length: usize) -> Vec<u8> {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes().into_iter().cycle().take(length).collect()
}

fn hash(number: u64) -> Hash {
    Hash(filled(number, 32).try_into().expect("32 bytes were asked for"))
}
