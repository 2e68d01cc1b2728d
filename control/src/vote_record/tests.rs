use std::collections::VecDeque;
use std::sync::Arc;

use alpenglow_rotor::types::{BlockId, Hash, Slot, ValidatorIndex};

use super::*;
use crate::bls::SignatureBytes;
use crate::certificate::{Certificate, Signers, Statement};
use crate::output::Output;
use crate::vote::VotePayload;

const HERE: Host = Host { machine: [1; 16], boot: [1; 16] };
const REBOOTED: Host = Host { machine: [1; 16], boot: [2; 16] };
const ELSEWHERE: Host = Host { machine: [2; 16], boot: [1; 16] };

fn block(slot: u64) -> BlockId {
    BlockId { slot: Slot(slot), hash: Hash([slot as u8; 32]) }
}

fn finalized(slot: u64) -> Entry {
    let signers = Signers::of(10, (0..8).map(ValidatorIndex));
    let statement = Statement::Fast(block(slot));
    let signature = SignatureBytes([3; 96]);
    Entry::Finalized(vec![Arc::new(Certificate { statement, signers, fallback_signers: Signers::none(10), signature })])
}

fn entries() -> Vec<Entry> {
    vec![
        Entry::Vote(VotePayload::Notar(block(5))),
        Entry::Window(Slot(8)),
        finalized(6),
        Entry::Vote(VotePayload::Notar(block(7))),
        Entry::Vote(VotePayload::NotarFallback(block(8))),
        Entry::Vote(VotePayload::Skip(Slot(9))),
        Entry::Vote(VotePayload::SkipFallback(Slot(7))),
        Entry::Vote(VotePayload::Final(Slot(10))),
        Entry::Barred(Slot(40)),
    ]
}

/// As a node leaves it that crashes: reserved up to slot 14.
fn running() -> Durable {
    Durable { host: Some(HERE), reservation: Slot(14), clean: false, ..Durable::new() }
}

fn of(durable: Option<Durable>, log: FoundLog, host: Host) -> Restoration {
    Restoration::of(Found { durable, log }, host, false)
}

#[test]
fn entries_have_one_encoding_and_nothing_else_is_read() {
    for entry in entries() {
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes, 10), Ok(entry));
        for length in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..length], 10).is_err());
        }
        assert!(Entry::decode(&[&bytes[..], &[0]].concat(), 10).is_err());
    }
    assert_eq!(Entry::decode(&[9; 9], 10), Err(EntryError::Layout));
    assert_eq!(
        Entry::decode(&finalized(6).encode(), 17),
        Err(EntryError::Certificate(crate::message::MessageError::Bitmap))
    );
}

#[test]
fn a_rotation_keeps_the_highest_finalization_and_what_was_said_after_it() {
    let kept: Kept = entries().into_iter().collect();
    let left: Vec<Entry> = kept.entries().cloned().collect();
    let expected: Vec<Entry> = [2, 1, 3, 4, 5, 6, 7, 8].map(|at| entries()[at].clone()).to_vec();
    assert_eq!(left, expected);
    let again: Kept = left.iter().cloned().chain([finalized(5)]).collect();
    assert_eq!(again.entries().cloned().collect::<Vec<_>>(), expected, "an older finalization changes nothing");
}

#[test]
fn a_whole_log_is_replayed() {
    let clean = Durable { clean: true, ..running() };
    let synced = Durable { synced: true, ..running() };
    for (durable, host) in [(running(), HERE), (clean, REBOOTED), (synced, REBOOTED)] {
        let restoration = of(Some(durable), FoundLog::Whole(entries()), host);
        assert_eq!((restoration.doubt(), restoration.bar()), (None, Bar::Through(Slot(0))));
        assert_eq!(restoration.votes().count(), 5);
        assert_eq!(restoration.led_windows().collect::<Vec<_>>(), [Slot(8)]);
        let expected = Durable { host: Some(host), clean: false, synced: false, ..running() };
        assert_eq!(restoration.durable(), expected, "no longer clean, here and now");
    }
}

#[test]
fn defect_28_a_lost_or_spoilt_log_bars_every_slot_that_was_reserved() {
    let cases = [
        (FoundLog::Whole(entries()), REBOOTED, Doubt::PowerLoss),
        (FoundLog::Unwritten(entries()), REBOOTED, Doubt::PowerLoss),
        (FoundLog::Corrupt(entries()), REBOOTED, Doubt::PowerLoss),
        (FoundLog::Missing, HERE, Doubt::LogMissing),
        (FoundLog::Missing, REBOOTED, Doubt::LogMissing),
        (FoundLog::Corrupt(vec![finalized(6)]), HERE, Doubt::LogCorrupt),
    ];
    for (log, host, doubt) in cases {
        let least = if doubt == Doubt::PowerLoss { Slot(40) } else { Slot(14) };
        let restoration = of(Some(running()), log, host);
        assert_eq!((restoration.doubt(), restoration.bar()), (Some(doubt), Bar::Through(least)));
        assert_eq!((restoration.votes().count(), restoration.led_windows().count()), (0, 0));
        assert_eq!(restoration.finalization().count(), usize::from(doubt != Doubt::LogMissing));
        // A crash of the process alone does not lift it.
        let log = FoundLog::Whole(restoration.entries().cloned().collect());
        let next = of(Some(restoration.durable()), log, host);
        assert_eq!((next.doubt(), next.bar()), (None, Bar::Through(least)));
    }
}

#[test]
fn zeros_where_the_next_entry_was_to_be_are_what_a_power_loss_leaves_and_nothing_else_does() {
    let of = |durable, host| of(Some(durable), FoundLog::Unwritten(entries()), host);
    let synced = Durable { synced: true, ..running() };
    let restoration = of(synced, REBOOTED);
    assert_eq!((restoration.doubt(), restoration.bar()), (None, Bar::Through(Slot(0))));
    assert_eq!(restoration.votes().count(), 5, "nothing has left that is not there");
    let clean = |durable| Durable { clean: true, ..durable };
    for (durable, host) in [(synced, HERE), (running(), HERE), (clean(synced), REBOOTED), (clean(running()), REBOOTED)]
    {
        assert_eq!(of(durable, host).doubt(), Some(Doubt::LogCorrupt), "{durable:?}");
    }
    let spoilt = Restoration::of(Found { durable: Some(synced), log: FoundLog::Corrupt(entries()) }, REBOOTED, true);
    assert_eq!(spoilt.doubt(), Some(Doubt::LogCorrupt), "what was synced is not spoilt by a power loss");
}

#[test]
fn who_knows_nothing_of_its_votes_waits_for_a_finalization() {
    let cases = [
        (Some(running()), FoundLog::Whole(entries()), ELSEWHERE, Doubt::OtherMachine),
        (None, FoundLog::Missing, HERE, Doubt::ReservationMissing),
        (None, FoundLog::Whole(entries()), HERE, Doubt::ReservationMissing),
        (Some(Durable::new()), FoundLog::Whole(entries()), HERE, Doubt::ReservationMissing),
    ];
    for (durable, log, host, doubt) in cases {
        let restoration = of(durable, log, host);
        assert_eq!(restoration.doubt(), Some(doubt));
        assert!(matches!(restoration.bar(), Bar::PastFirstFinalization(_)), "{:?}", restoration.bar());
        let log: Vec<Entry> = restoration.entries().cloned().collect();
        let next = of(Some(restoration.durable()), FoundLog::Whole(log.clone()), host);
        assert_eq!(next.bar(), restoration.bar(), "not found out before the next crash");
        let found_out = FoundLog::Whole([log, vec![Entry::Barred(Slot(99))]].concat());
        assert_eq!(of(Some(restoration.durable()), found_out, host).bar(), Bar::Through(Slot(99)));
    }
}

/// The durable part is written first: a crash or a full disk may leave it beside the log of before.
#[test]
fn a_bar_found_out_long_ago_does_not_answer_for_one_that_is_still_unknown() {
    for (durable, host) in [(Some(running()), ELSEWHERE), (None, HERE)] {
        let log = || FoundLog::Whole(entries());
        let first = of(durable, log(), host);
        assert_eq!(first.bar(), Bar::PastFirstFinalization(Slot(40)));
        let second = of(Some(first.durable()), log(), host);
        assert_eq!(second.bar(), first.bar(), "what is known of slot 40 was known before");
    }
}

#[test]
fn a_folder_made_for_a_node_is_taken_wherever_it_starts_first() {
    for host in [HERE, REBOOTED, ELSEWHERE] {
        let restoration = of(Some(Durable::new()), FoundLog::Missing, host);
        assert_eq!((restoration.doubt(), restoration.bar()), (None, Bar::Through(Slot(0))));
        assert_eq!(restoration.durable().host, Some(host));
    }
}

#[test]
fn a_reservation_is_ahead_of_the_highest_vote_and_never_more_than_eight_slots() {
    let mut live = Live::restored(&Restoration::fresh());
    let mut reserved = Slot::GENESIS;
    for voted in 0..100 {
        let mut outputs = VecDeque::new();
        live.renew(Slot(voted), &mut outputs);
        live.renew(Slot(voted), &mut outputs);
        assert!(outputs.len() <= 1, "asked for once");
        for output in outputs {
            let Output::Reserve(slot) = output else { panic!("{output:?}") };
            assert!(slot > reserved && slot.0 <= voted + 8, "{slot} after a vote in slot {voted}");
            reserved = slot;
        }
        assert!(reserved.0 >= voted + 4, "{reserved} after a vote in slot {voted}: the next vote would wait");
    }
}
