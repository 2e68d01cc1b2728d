//! What one correct node may vote, given what it voted before and what it knows.

use alpenglow_control::vote::VotePayload;
use alpenglow_rotor::types::{BlockId, Slot};

use super::view::View;

/// The rule that a vote breaks, if it breaks one. `stakes` are those of its slot.
pub(super) fn broken_rule(view: &View, node: usize, vote: VotePayload, stakes: &[u64]) -> Option<&'static str> {
    if stakes[node] == 0 {
        return Some("it is no member of the slot's epoch");
    }
    if vote.slot() <= view.closed {
        return Some("the slot is closed");
    }
    let cast = view.cast.get(&vote.slot()).map_or(&[][..], Vec::as_slice);
    if cast.iter().any(|before| exclude(before, &vote) || exclude(&vote, before)) {
        return Some("votes exclude each other");
    }
    let first = cast.iter().find(|vote| matches!(vote, VotePayload::Notar(_) | VotePayload::Skip(_))).copied();
    match vote {
        VotePayload::Notar(_) | VotePayload::Skip(_) if first.is_some() => Some("it is a second first vote"),
        VotePayload::Notar(block) => broken_by_notar(view, block),
        VotePayload::Skip(_) => None,
        VotePayload::NotarFallback(block) => broken_by_notar_fallback(view, block, first, stakes),
        VotePayload::SkipFallback(slot) => broken_by_skip_fallback(view, slot, first, stakes),
        VotePayload::Final(_) => match first {
            Some(VotePayload::Notar(block)) if view.is_notarized(block) => None,
            _ => Some("it is a finalization vote without the own vote for a notarized block"),
        },
    }
}

/// Whether no correct node casts both, in this order or the other.
fn exclude(one: &VotePayload, other: &VotePayload) -> bool {
    use VotePayload::{Final, Notar, NotarFallback, Skip, SkipFallback};
    match (one, other) {
        (Notar(one), Notar(other)) => one != other,
        (Notar(_), Skip(_)) | (Skip(_), SkipFallback(_)) => true,
        (Final(_), Skip(_) | SkipFallback(_) | NotarFallback(_)) => true,
        (Notar(one), NotarFallback(other)) => one == other,
        _ => false,
    }
}

fn broken_by_notar(view: &View, block: BlockId) -> Option<&'static str> {
    let Some(&parent) = view.blocks.get(&block) else { return Some("it does not hold the block") };
    if view.equivocated.contains(&block.slot) {
        return Some("it has seen the leader contradict itself");
    }
    if block.slot.is_window_first() {
        return (!view.is_ready(block.slot, parent)).then_some("the parent is not ready");
    }
    if parent.slot.0 + 1 != block.slot.0 {
        return Some("the parent is not of the slot before");
    }
    let follows = view.has_cast(&VotePayload::Notar(parent)) || view.is_finalized(parent);
    (!follows).then_some("it neither voted for the parent nor is that final")
}

fn broken_by_notar_fallback(
    view: &View,
    block: BlockId,
    first: Option<VotePayload>,
    stakes: &[u64],
) -> Option<&'static str> {
    let Some(&parent) = view.blocks.get(&block) else { return Some("it does not hold the block") };
    if first.is_none() {
        return Some("it is a fallback vote before a first vote");
    }
    if !block.slot.is_window_first() && !view.is_certified(parent) {
        return Some("the parent has no certificate");
    }
    (!view.is_safe_to_notar(block, stakes)).then_some("the votes do not make it safe to notarize")
}

fn broken_by_skip_fallback(
    view: &View,
    slot: Slot,
    first: Option<VotePayload>,
    stakes: &[u64],
) -> Option<&'static str> {
    if first.is_none() {
        return Some("it is a fallback vote before a first vote");
    }
    (!view.is_safe_to_skip(slot, stakes)).then_some("the votes do not make it safe to skip")
}
