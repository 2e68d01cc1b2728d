//! What a node holds when every validator does the worst that it can.

use alpenglow_control::bls::HashedPayload;
use alpenglow_control::control::Control;
use alpenglow_control::input::Input;
use alpenglow_control::vote::{UnverifiedVote, VotePayload};
use alpenglow_rotor::types::{BlockId, Hash, Slot, Time, ValidatorIndex};
use serde_json::{Value, json};

use super::node::config;
use super::usage::live_bytes;
use super::validators::Validators;

/// Most memory that votes may take (goal).
const GOAL_BYTES: usize = 256 << 20;
/// The slots that votes are taken for at the start.
const SLOTS: std::ops::RangeInclusive<u64> = 1..=41;

/// Every validator votes for blocks of its own in every slot that votes are taken for, as often as it may, and no check
/// ever ends.
pub(super) fn at_the_limit(set: &Validators) -> Value {
    let signature = set.secret_key(0).sign(&HashedPayload::new(b"anything")).to_bytes();
    let before = live_bytes();
    let mut control = Control::new(config(set, 1), Time(1)).expect("a sound configuration");
    let mut votes = 0_usize;
    for slot in SLOTS {
        for signer in (0..set.len() as u16).map(ValidatorIndex).filter(|signer| *signer != set.own()) {
            for payload in payloads(slot, signer) {
                control.handle(Time(1), Input::Vote(UnverifiedVote { payload, signer, signature }));
                while control.poll_output().is_some() {}
                votes += 1;
            }
        }
    }
    let bytes = live_bytes().saturating_sub(before);
    let dropped: u64 = control.counters().iter().map(|(_, count)| count).sum();
    let met = bytes <= GOAL_BYTES;
    json!({"votes": votes, "votes_dropped": dropped, "bytes": bytes, "goal_bytes": GOAL_BYTES, "met": met})
}

/// A first vote, three notar-fallback votes and a skip-fallback vote; a vote to finalize would exclude the others.
fn payloads(slot: u64, signer: ValidatorIndex) -> [VotePayload; 5] {
    let block = |number: u8| {
        let mut hash = [number; 32];
        hash[..2].copy_from_slice(&signer.0.to_le_bytes());
        BlockId { slot: Slot(slot), hash: Hash(hash) }
    };
    [
        VotePayload::Notar(block(1)),
        VotePayload::NotarFallback(block(2)),
        VotePayload::NotarFallback(block(3)),
        VotePayload::NotarFallback(block(4)),
        VotePayload::SkipFallback(Slot(slot)),
    ]
}
