//! The vote record's files as fuzzing meets them.

use std::path::Path;

use alpenglow_control::vote::VotePayload;
use alpenglow_control::vote_record::{Bar, Durable, Entry, FoundLog, Host};
use alpenglow_rotor::types::{BlockId, Hash, Slot};

use super::{Owner, file, reservation};

const VALIDATORS: usize = 4;

/// Takes any bytes for a log; whether they are a whole one. What was written whole is read as it was written.
pub(crate) fn log(bytes: &[u8], owner: &Owner) -> bool {
    let Ok(FoundLog::Whole(entries)) = file::parse(bytes, owner, VALIDATORS, Path::new("")) else { return false };
    assert!(bytes.starts_with(&written(owner, &entries)), "nothing but a torn tail may follow");
    true
}

/// Takes any bytes for a reservation, with the checksum that they should have: it would keep all others out.
pub(crate) fn reservation(bytes: &[u8], owner: &Owner) -> bool {
    let mut bytes = bytes.to_vec();
    let _ = reservation::parse(&bytes, owner, Path::new(""));
    if let Some((checked, checksum)) = bytes.split_last_chunk_mut::<4>() {
        *checksum = crc32c::crc32c(checked).to_le_bytes();
    }
    let Ok(Some(durable)) = reservation::parse(&bytes, owner, Path::new("")) else { return false };
    let again = reservation::encode(&durable, owner);
    assert_eq!(reservation::parse(&again, owner, Path::new("")).ok().flatten(), Some(durable));
    true
}

/// Logs as they are written.
pub(crate) fn logs(owner: &Owner) -> Vec<Vec<u8>> {
    let block = BlockId { slot: Slot(9), hash: Hash([5; 32]) };
    let entries = [
        Entry::Window(Slot(8)),
        Entry::Vote(VotePayload::Notar(block)),
        Entry::Vote(VotePayload::Skip(Slot(10))),
        Entry::Barred(Slot(40)),
    ];
    vec![written(owner, &[]), written(owner, &entries)]
}

/// Reservations as they are written.
pub(crate) fn reservations(owner: &Owner) -> Vec<Vec<u8>> {
    let of = |host, bar| {
        reservation::encode(&Durable { host, reservation: Slot(400), bar, clean: false, synced: true }, owner)
    };
    let host = Host { machine: [1; 16], boot: [2; 16] };
    vec![of(Some(host), Bar::Through(Slot(7))), of(None, Bar::PastFirstFinalization(Slot(7)))]
}

fn written(owner: &Owner, entries: &[Entry]) -> Vec<u8> {
    let records = entries.iter().map(Entry::encode);
    let frames = std::iter::once(owner.identity.to_vec()).chain(records).flat_map(|record| file::FORMAT.frame(&record));
    file::FORMAT.header(owner.cluster).into_iter().chain(frames).collect()
}
