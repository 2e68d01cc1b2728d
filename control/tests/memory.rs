//! What votes and certificates cost in memory when 2,000 validators all misbehave as much as they are let.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::bls::{HashedPayload, SecretKey, SignatureBytes};
use alpenglow_control::certificate::{Certificate, Signers, Statement, UnverifiedCertificate};
use alpenglow_control::control::{Control, ControlConfig};
use alpenglow_control::input::Input;
use alpenglow_control::output::{Event, Output};
use alpenglow_control::stakes::Stakes;
use alpenglow_control::vote::{UnverifiedVote, VotePayload};
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot, Stake, Time, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;

const VALIDATORS: usize = 2_000;
/// The goal, for everything that depends on what other validators send.
const GOAL_BYTES: usize = 256 << 20;
/// Votes are taken of 40 slots past slot 1, or of as many below the highest slot that a certificate has made ready as
/// the bound of slots allows.
const VOTE_SLOTS_MAX: usize = 48;
/// Certificates that need not lead to a finalization are taken up to here.
const CERTIFICATE_SLOTS_MAX: usize = 1 + 40 + 1_024;
/// Blocks of a slot that can be certified.
const CERTIFIED_PER_SLOT_MAX: u8 = 8;
/// What is filled in earnest; the rest follows in proportion.
const VOTE_SLOTS: usize = 2;
const CERTIFICATE_SLOTS: usize = 32;

struct Counting;

thread_local! {
    /// Of this thread; below zero where it frees what another one allocated.
    static IN_USE: Cell<isize> = const { Cell::new(0) };
}

/// As the system's allocator lays chunks out: eight bytes beside each, in steps of 16.
fn chunk(layout: Layout) -> isize {
    (layout.size() + 8).next_multiple_of(16).max(32).cast_signed()
}

// SAFETY: every call goes to the system allocator unchanged; counting touches no heap.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = IN_USE.try_with(|bytes| bytes.set(bytes.get() + chunk(layout)));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = IN_USE.try_with(|bytes| bytes.set(bytes.get() - chunk(layout)));
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn in_use() -> usize {
    IN_USE.with(Cell::get).try_into().expect("this thread holds the node")
}

struct Node {
    control: Control,
    now: Time,
    any_signature: SignatureBytes,
    evidence: usize,
    certificates: usize,
}

impl Node {
    /// Everything that votes can lead to is checked at once, and found right.
    fn new() -> Self {
        let identity = |at: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(at as u64 + 1).to_le_bytes());
            SigningKey::from_bytes(&bytes).verifying_key().to_bytes()
        };
        let validators = ValidatorSet::new((0..VALIDATORS).map(|at| (identity(at), Stake(1))).collect()).unwrap();
        let schedule = LeaderSchedule::new(ScheduleKind::RoundRobin, EpochSeed([1; 32]), &validators);
        let key = SecretKey::from_entropy(&[1; 32]);
        let any_signature = key.sign(&HashedPayload::new(b"any")).to_bytes();
        // Not the leader of window 0, which would make a block.
        let (own, stakes) = (ValidatorIndex(1_999), Arc::new(Stakes::new(vec![Stake(1); VALIDATORS])));
        let mut config =
            ControlConfig::new(own, key, stakes, Arc::new(schedule), ClusterId([0; 32]), CodingParameters::default());
        config.checking.patience = Duration::from_nanos(1);
        let now = Time(1);
        let control = Control::new(config, now).unwrap();
        Self { control, now, any_signature, evidence: 0, certificates: 0 }
    }

    fn handle(&mut self, input: Input) {
        self.now = self.now.after(Duration::from_nanos(2));
        self.control.handle(self.now, input);
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Check { id, job } => {
                    let verdict = job.assume_checked();
                    self.control.handle(self.now, Input::Checked { id, verdict });
                }
                Output::Event(Event::Evidence(_)) => self.evidence += 1,
                Output::Broadcast(_) => self.certificates += 1,
                _ => {}
            }
        }
    }

    fn vote(&mut self, payload: VotePayload, signer: usize) {
        let signer = ValidatorIndex(signer as u16);
        self.handle(Input::Vote(UnverifiedVote { payload, signer, signature: self.any_signature }));
    }

    fn certificate(&mut self, statement: Statement) {
        let everybody = || Signers::of(VALIDATORS, (0..VALIDATORS).map(|at| ValidatorIndex(at as u16)));
        let none = || Signers::none(VALIDATORS);
        let certificate = UnverifiedCertificate(Certificate {
            statement,
            signers: everybody(),
            fallback_signers: if statement.fallback_payload().is_some() { everybody() } else { none() },
            signature: self.any_signature,
        });
        self.handle(Input::Certificate { certificate, sender: ValidatorIndex(0) });
    }
}

/// A hash of the validator's own.
fn own_block(slot: Slot, validator: usize, which: u8) -> BlockId {
    let mut hash = [which; 32];
    hash[..2].copy_from_slice(&(validator as u16).to_le_bytes());
    BlockId { slot, hash: Hash(hash) }
}

/// One notarization vote, three notar-fallback votes, each for a block that nobody else votes for, a skip-fallback
/// vote, and votes that conflict with them.
fn misbehave(node: &mut Node, slot: Slot, validator: usize) {
    node.vote(VotePayload::Notar(own_block(slot, validator, 0)), validator);
    for which in 1..=4 {
        node.vote(VotePayload::NotarFallback(own_block(slot, validator, which)), validator);
    }
    node.vote(VotePayload::SkipFallback(slot), validator);
    for conflicting in [VotePayload::Notar(own_block(slot, validator, 5)), VotePayload::Final(slot)] {
        node.vote(conflicting, validator);
    }
}

#[test]
fn two_thousand_validators_that_misbehave_to_the_limit_fill_less_than_256_mebibytes() {
    let mut node = Node::new();
    let before = in_use();
    for slot in 0..VOTE_SLOTS {
        for validator in 0..VALIDATORS - 1 {
            misbehave(&mut node, Slot(10 + slot as u64), validator);
        }
    }
    let votes_per_slot = (in_use() - before) / VOTE_SLOTS;
    assert_eq!(node.evidence, VOTE_SLOTS * (VALIDATORS - 1), "the first of each validator and slot");

    let (before, broadcast) = (in_use(), node.certificates);
    let mut filled = 0;
    // Not the slots before a window, whose certificates would move the horizon.
    for slot in (100..).filter(|slot| slot % 4 != 3).take(CERTIFICATE_SLOTS).map(Slot) {
        for which in 0..CERTIFIED_PER_SLOT_MAX + 1 {
            node.certificate(Statement::NotarFallback(own_block(slot, 0, which)));
        }
        node.certificate(Statement::Skip(slot));
        filled += 1 + usize::from(CERTIFIED_PER_SLOT_MAX);
    }
    assert_eq!(
        node.certificates - broadcast,
        filled,
        "one kind of each block, and no more blocks than can be certified"
    );
    // Near slots may hold a second certificate of each block, and a finalization certificate.
    let certificates_per_slot = (in_use() - before) / CERTIFICATE_SLOTS;
    let certificates = certificates_per_slot * (CERTIFICATE_SLOTS_MAX + VOTE_SLOTS_MAX);

    let total = votes_per_slot * VOTE_SLOTS_MAX + certificates;
    assert!(
        total < GOAL_BYTES,
        "{votes_per_slot} bytes of votes in each of {VOTE_SLOTS_MAX} slots and {certificates} of certificates: {total}"
    );
}
