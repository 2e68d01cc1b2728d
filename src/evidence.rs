//! Proofs that this node found, kept in its data folder: a thread writes them, so that no vote waits for a disk. They
//! stay where they were found; `alpenglow evidence` shows and checks them.
//!
//! The file is bounded as [`Ledger`] says, over all runs of the node: what a validator did once more often proves
//! nothing new. A node votes without evidence rather than not at all: if the file cannot be used, it says so and goes
//! on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use alpenglow_control::evidence::{BYTES_MAX, Ledger, OffenceKind, PROOF_BYTES_MAX, Proof, ProofFormatError};
use alpenglow_rotor::types::ClusterId;
use crossbeam::channel::{self, Receiver, Sender};

use crate::storage::frames::{Format, FrameFile, OpenError, Tail};
use crate::topology::EVIDENCE_QUEUE;

/// When a proof was written, in milliseconds of the node's clock.
const TIME_BYTES: usize = 8;
/// Room for all that a ledger lets pass, with what is around each proof.
const FILE_BYTES_MAX: u64 = 2 * BYTES_MAX as u64;

/// The file's format.
pub(crate) const FORMAT: Format = Format {
    magic: *b"agproofs",
    version: 1,
    record_bytes_max: TIME_BYTES + PROOF_BYTES_MAX,
    file_bytes_max: FILE_BYTES_MAX,
    tail: Tail::Spoilt,
};

/// The file in a node's data folder.
pub(crate) fn path(data: &Path) -> PathBuf {
    data.join("evidence.log")
}

/// A name for people and programs.
pub(crate) const fn kind_name(kind: OffenceKind) -> &'static str {
    match kind {
        OffenceKind::Slices => "contradicting-slices",
        OffenceKind::MalformedSlice => "malformed-slice",
        OffenceKind::Votes => "conflicting-votes",
    }
}

/// A proof and when it was written, in milliseconds since 1970.
pub(crate) fn parse(record: &[u8]) -> Result<(u64, Proof), ProofFormatError> {
    let (time, proof) = record.split_first_chunk::<TIME_BYTES>().ok_or(ProofFormatError::At(0))?;
    Ok((u64::from_le_bytes(*time), Proof::decode(proof)?))
}

/// Where control leaves proofs. Never blocks.
pub(crate) struct Evidence(Sender<Arc<Proof>>);

impl Evidence {
    /// Leaves a proof; whether there was room.
    pub(crate) fn offer(&self, proof: Arc<Proof>) -> bool {
        self.0.try_send(proof).is_ok()
    }
}

/// The thread that writes.
pub(crate) struct EvidenceWriter(JoinHandle<()>);

impl EvidenceWriter {
    /// Starts it. A file that cannot be used is no error, only said.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(data: &Path, cluster: ClusterId) -> io::Result<(Self, Evidence)> {
        let (sender, receiver) = channel::bounded(EVIDENCE_QUEUE);
        let data = data.to_owned();
        let thread =
            thread::Builder::new().name("evidence".into()).spawn(move || write_all(&data, cluster, &receiver))?;
        Ok((Self(thread), Evidence(sender)))
    }

    /// Writes what is left. The [`Evidence`] must have been dropped.
    pub(crate) fn stop(self) {
        if self.0.join().is_err() {
            tracing::error!("the evidence thread panicked: proofs since then are lost");
        }
    }
}

fn write_all(data: &Path, cluster: ClusterId, proofs: &Receiver<Arc<Proof>>) {
    let mut book = Book::open(data, cluster).inspect_err(|error| tracing::error!("no evidence is kept: {error}")).ok();
    for proof in proofs {
        let (validator, slot, kind) = (proof.validator.0, proof.slot().0, kind_name(proof.kind()));
        match book.as_mut().map(|book| book.keep(&proof, SystemTime::now())) {
            Some(Ok(true)) => {
                tracing::warn!(validator, slot, kind, "proof of an offence kept; see `alpenglow evidence`")
            }
            Some(Ok(false)) => tracing::debug!(validator, slot, kind, "enough proofs of such offences are kept"),
            Some(Err(error)) => tracing::error!(validator, slot, kind, %error, "proof of an offence lost"),
            None => tracing::warn!(validator, slot, kind, "proof of an offence not kept"),
        }
    }
}

/// The file, and what is in it already.
struct Book {
    file: FrameFile,
    ledger: Ledger,
}

impl Book {
    fn open(data: &Path, cluster: ClusterId) -> Result<Self, OpenError> {
        fs::create_dir_all(data).map_err(|source| OpenError::Io { path: data.to_owned(), source })?;
        let (file, bytes) = FrameFile::open(FORMAT, &path(data), cluster)?;
        let mut ledger = Ledger::new();
        let contents = FORMAT.read(&bytes).expect("it was read when it was opened");
        for record in contents.records.iter().filter_map(|record| record.bytes) {
            if let Ok((_, proof)) = parse(record) {
                // One that would be refused today is there all the same.
                let _ = ledger.admit(proof);
            }
        }
        Ok(Self { file, ledger })
    }

    /// Whether the proof was worth keeping.
    fn keep(&mut self, proof: &Proof, now: SystemTime) -> io::Result<bool> {
        let Ok(proof) = self.ledger.admit(proof.clone()) else { return Ok(false) };
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut record = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX).to_le_bytes().to_vec();
        record.extend(proof.encode());
        self.file.append_synced(&record).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_control::bls::SignatureBytes;
    use alpenglow_control::evidence::SIGNED_MAX;
    use alpenglow_control::vote::{UnverifiedVote, VotePayload};
    use alpenglow_rotor::types::{Slot, ValidatorIndex};

    use super::*;
    use crate::storage::frames::End;

    const CLUSTER: ClusterId = ClusterId([3; 32]);

    fn proof(validator: u16, slot: u64) -> Proof {
        let vote = |payload| {
            let signature = SignatureBytes([7; 96]);
            UnverifiedVote { payload, signer: ValidatorIndex(validator), signature }
        };
        Proof::votes(vote(VotePayload::Skip(Slot(slot))), vote(VotePayload::Final(Slot(slot))))
    }

    fn kept(data: &Path) -> Vec<(u16, u64)> {
        let bytes = fs::read(path(data)).unwrap();
        let contents = FORMAT.read(&bytes).unwrap();
        assert_eq!(contents.end, End::Whole);
        let parsed = contents.records.iter().map(|record| parse(record.bytes.unwrap()).unwrap().1);
        parsed.map(|proof| (proof.validator.0, proof.slot().0)).collect()
    }

    #[test]
    fn the_thread_writes_everything_before_it_stops() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let (writer, evidence) = EvidenceWriter::start(&data, CLUSTER).unwrap();
        for slot in [1, 2, 2] {
            assert!(evidence.offer(Arc::new(proof(1, slot))));
        }
        drop(evidence);
        writer.stop();
        assert_eq!(kept(&data), [(1, 1), (1, 2)]);
    }

    #[test]
    fn what_is_kept_counts_after_a_restart_too() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let mut book = Book::open(folder.path(), CLUSTER).unwrap();
            for slot in 1..100 {
                book.keep(&proof(1, slot), UNIX_EPOCH).unwrap();
            }
        }
        assert_eq!(kept(folder.path()).len(), SIGNED_MAX);
        assert!(Book::open(folder.path(), CLUSTER).unwrap().keep(&proof(2, 1), UNIX_EPOCH).unwrap());
    }

    #[test]
    fn a_file_that_cannot_be_used_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(folder.path()), "something else that somebody wrote into this very file").unwrap();
        let (writer, evidence) = EvidenceWriter::start(folder.path(), CLUSTER).unwrap();
        assert!(evidence.offer(Arc::new(proof(1, 1))));
        drop(evidence);
        writer.stop();
        assert!(fs::read(path(folder.path())).unwrap().starts_with(b"something else"), "nothing is overwritten");
    }
}
