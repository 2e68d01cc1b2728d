//! What bytes from outside first meet, each as a function that any bytes may be given to. None may panic, and what is
//! read must be written back as the very bytes it was read from: then nothing has two encodings.
//!
//! Each of these functions is a fuzz target of the program in `fuzz/`; `tests/fuzzing.rs` gives them mutated seeds with
//! every run of the tests.

use std::sync::Arc;

use alpenglow_control::block::{ParentStatement, SLICE_PAYLOAD_BYTES_MIN, SliceBuilder, SliceContent};
use alpenglow_control::bls::{PublicKey, PublicKeyBytes, SecretKey, Signature, SignatureBytes};
use alpenglow_control::certificate::{Certificate, Signers, Statement};
use alpenglow_control::evidence::{Ledger, Offence, Proof};
use alpenglow_control::message::{decode_certificate, decode_vote, encode_certificate, encode_vote};
use alpenglow_control::repair::{
    AnswerContent, RepairAnswer, RepairMessage, RepairRequest, RequestId, ShredPart, Want, decode_answer,
    decode_request,
};
use alpenglow_control::vote::{UnverifiedVote, Vote, VotePayload};
use alpenglow_control::vote_record::Entry;
use alpenglow_dataplane::datagram::{HEADER_BYTES, Header, Kind};
use alpenglow_rotor::assembler::Equivocation;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::shred::{ShredView, wire_bytes};
use alpenglow_rotor::shredder::Shredder;
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::{SliceId, SliceSignature};
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, ShredIndex, SliceIndex, Slot, VALIDATORS_MAX, ValidatorIndex};
use ed25519_dalek::SigningKey;

use crate::conformance::Vector;

/// One place where bytes from outside come in.
#[derive(Clone, Copy)]
pub struct EntryPoint {
    /// Its fuzz target.
    pub name: &'static str,
    /// Takes any bytes, and says whether they were read or refused.
    pub run: fn(&[u8]) -> bool,
    /// Bytes that are well-formed there, for a start.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ENTRY_POINTS: [EntryPoint; 11] = [
    EntryPoint { name: "datagram", run: datagram, seeds: datagrams },
    EntryPoint { name: "shred", run: shred, seeds: shreds },
    EntryPoint { name: "slice_payload", run: slice_payload, seeds: slice_payloads },
    EntryPoint { name: "vote", run: vote, seeds: votes },
    EntryPoint { name: "certificate", run: certificate, seeds: certificates },
    EntryPoint { name: "repair_request", run: repair_request, seeds: repair_requests },
    EntryPoint { name: "repair_answer", run: repair_answer, seeds: repair_answers },
    EntryPoint { name: "vote_entry", run: vote_entry, seeds: vote_entries },
    EntryPoint { name: "proof", run: proof, seeds: proofs },
    EntryPoint { name: "curve_points", run: curve_points, seeds: points },
    EntryPoint { name: "conformance_vector", run: conformance_vector, seeds: vectors },
];

const CLUSTER: ClusterId = ClusterId([7; 32]);
const BLOCK: BlockId = BlockId { slot: Slot(9), hash: Hash([5; 32]) };

/// A datagram's header.
pub fn datagram(bytes: &[u8]) -> bool {
    let Ok((header, body)) = Header::parse(bytes) else { return false };
    assert_eq!([&header.encode()[..], body].concat(), bytes);
    true
}

fn datagrams() -> Vec<Vec<u8>> {
    let kinds = (0..=u8::MAX).filter_map(Kind::from_byte).filter(|kind| *kind != Kind::Transaction);
    let prefixes = kinds.map(|kind| Header::prefix(kind, 3, ValidatorIndex(2), CLUSTER));
    let sealed = prefixes.map(|prefix| [&prefix[..], &[9; HEADER_BYTES], b"body"].concat());
    sealed.chain([[&Header::of_transaction(1, CLUSTER).encode()[..], b"transaction"].concat()]).collect()
}

/// A shred of a cluster with the default parameters.
pub fn shred(bytes: &[u8]) -> bool {
    let coding = CodingParameters::default();
    let Ok(view) = ShredView::parse(bytes, &coding) else { return false };
    assert!(view.index().get() < coding.total_shreds() && view.data().len() <= coding.shred_bytes());
    assert_eq!(wire_bytes(&coding, view.data().len()), bytes.len());
    let _ = view.claimed_root();
    true
}

fn shreds() -> Vec<Vec<u8>> {
    let coding = CodingParameters::default();
    let mut shredder = Shredder::new(coding, CLUSTER);
    let signer = SliceSigner::new(&SigningKey::from_bytes(&[3; 32]));
    let first_and_parity = |payload: &[u8]| {
        let shred_bytes = wire_bytes(&coding, shredder.shred_len(payload.len()));
        let offsets: Vec<usize> = (0..coding.total_shreds()).map(|index| index * shred_bytes).collect();
        let mut out = vec![0; shred_bytes * coding.total_shreds()];
        let id = SliceId { slot: BLOCK.slot, index: SliceIndex::default() };
        shredder.shred(id, true, 1, payload, &signer, &mut out, &offsets);
        [0, coding.data_shreds()].map(|index| out[offsets[index]..][..shred_bytes].to_vec())
    };
    let payloads = [vec![], vec![1; 1_000], vec![2; coding.slice_payload_bytes()]];
    payloads.iter().map(Vec::as_slice).flat_map(first_and_parity).collect()
}

/// What a leader put into a slice: the first one of a block, and a later one.
pub fn slice_payload(bytes: &[u8]) -> bool {
    let mut read = false;
    for index in [SliceIndex::default(), later_slice()] {
        let Ok(content) = SliceContent::parse(index, bytes) else { continue };
        let mut builder = SliceBuilder::new(content.parent, bytes.len().max(SLICE_PAYLOAD_BYTES_MIN));
        assert!(content.transactions().all(|transaction| builder.push(transaction)));
        assert_eq!(builder.finish(), bytes);
        read = true;
    }
    read
}

fn later_slice() -> SliceIndex {
    SliceIndex::new(1).expect("a block may have two slices")
}

fn slice_payloads() -> Vec<Vec<u8>> {
    let statements = [ParentStatement::Nothing, ParentStatement::Parent(BLOCK), ParentStatement::Changed(BLOCK)];
    let with_transactions = |statement| {
        let mut builder = SliceBuilder::new(statement, SLICE_PAYLOAD_BYTES_MIN);
        assert!(builder.push(b"one") && builder.push(&[2; 300]));
        builder.finish()
    };
    statements.map(with_transactions).to_vec()
}

/// A vote.
pub fn vote(bytes: &[u8]) -> bool {
    let Ok(read) = decode_vote(bytes, ValidatorIndex(1)) else { return false };
    let vote = Vote { payload: read.payload, signer: read.signer, signature: read.signature };
    assert_eq!(encode_vote(&vote), bytes);
    true
}

fn votes() -> Vec<Vec<u8>> {
    let (slot, signature) = (BLOCK.slot, SignatureBytes([4; 96]));
    let payloads = [
        VotePayload::Notar(BLOCK),
        VotePayload::NotarFallback(BLOCK),
        VotePayload::Skip(slot),
        VotePayload::SkipFallback(slot),
        VotePayload::Final(slot),
    ];
    payloads.map(|payload| encode_vote(&Vote { payload, signer: ValidatorIndex(1), signature })).to_vec()
}

/// A certificate, for validator sets from the smallest to the largest.
pub fn certificate(bytes: &[u8]) -> bool {
    let mut is_read = false;
    for validators in [1, 8, 100, VALIDATORS_MAX] {
        let Ok(read) = decode_certificate(bytes, validators) else { continue };
        assert!(read.0.signers.iter().chain(read.0.fallback_signers.iter()).all(|v| v.get() < validators));
        assert_eq!(encode_certificate(&read.0), bytes);
        is_read = true;
    }
    is_read
}

fn certificates() -> Vec<Vec<u8>> {
    let statements = [
        Statement::Fast(BLOCK),
        Statement::Notarization(BLOCK),
        Statement::NotarFallback(BLOCK),
        Statement::Skip(BLOCK.slot),
        Statement::Finalization(BLOCK.slot),
    ];
    let of = |validators: usize, statement: Statement| {
        let indices = (0..validators as u16).map(ValidatorIndex);
        let has_fallback = statement.fallback_payload().is_some();
        let fallback = indices.clone().filter(|index| has_fallback && index.0 % 3 == 0);
        encode_certificate(&Certificate {
            statement,
            signers: Signers::of(validators, indices),
            fallback_signers: Signers::of(validators, fallback),
            signature: SignatureBytes([6; 96]),
        })
    };
    [1, 100, VALIDATORS_MAX]
        .iter()
        .flat_map(|&validators| statements.map(|statement| of(validators, statement)))
        .collect()
}

/// A question about a block.
pub fn repair_request(bytes: &[u8]) -> bool {
    let Ok(request) = decode_request(bytes) else { return false };
    assert_eq!(RepairMessage::Request(request).encode(), bytes);
    true
}

fn repair_requests() -> Vec<Vec<u8>> {
    let wants = [
        Want::LastSlice,
        Want::Roots { group: 3 },
        Want::Shreds { slice: later_slice(), first: 32, mask: 0xf0f0_0001 },
        Want::Ancestors,
    ];
    wants.map(|want| RepairMessage::Request(RepairRequest { id: RequestId(1), block: BLOCK, want }).encode()).to_vec()
}

/// An answer to one.
pub fn repair_answer(bytes: &[u8]) -> bool {
    let Ok(answer) = decode_answer(bytes) else { return false };
    assert_eq!(RepairMessage::Answer(answer).encode(), bytes);
    true
}

fn repair_answers() -> Vec<Vec<u8>> {
    let part =
        ShredPart { index: ShredIndex(40), data_bytes: 896, part: 0, path: vec![[1; 32]; 6], data: vec![2; 896] };
    let contents = [
        AnswerContent::NotHeld,
        AnswerContent::LastSlice { index: later_slice(), root: BLOCK.hash, path: vec![BLOCK.hash; 3] },
        AnswerContent::Roots { group: 0, roots: vec![BLOCK.hash; 16], path: vec![BLOCK.hash; 2] },
        AnswerContent::Shred(part),
        AnswerContent::Ancestors { blocks: vec![BLOCK; 3] },
    ];
    contents.map(|content| RepairMessage::Answer(RepairAnswer { id: RequestId(1), content }).encode()).to_vec()
}

/// A record of the log of votes.
pub fn vote_entry(bytes: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(bytes, 100) else { return false };
    assert_eq!(entry.encode(), bytes);
    true
}

fn vote_entries() -> Vec<Vec<u8>> {
    let certificate = |statement| {
        Arc::new(Certificate {
            statement,
            signers: Signers::of(100, (0..70).map(ValidatorIndex)),
            fallback_signers: Signers::none(100),
            signature: SignatureBytes([6; 96]),
        })
    };
    let slow = [Statement::Finalization(BLOCK.slot), Statement::Notarization(BLOCK)].map(certificate).to_vec();
    let entries = [
        Entry::Vote(VotePayload::Notar(BLOCK)),
        Entry::Vote(VotePayload::Final(BLOCK.slot)),
        Entry::Window(BLOCK.slot),
        Entry::Barred(BLOCK.slot),
        Entry::Finalized(vec![certificate(Statement::Fast(BLOCK))]),
        Entry::Finalized(slow),
    ];
    entries.map(|entry| entry.encode()).to_vec()
}

/// A record of the log of proofs.
pub fn proof(bytes: &[u8]) -> bool {
    let Ok(proof) = Proof::decode(bytes) else { return false };
    assert_eq!((proof.encode().as_slice(), proof.encoded_bytes()), (bytes, bytes.len()));
    let _ = Ledger::new().admit(proof);
    true
}

fn proofs() -> Vec<Vec<u8>> {
    let vote = |payload| UnverifiedVote { payload, signer: ValidatorIndex(1), signature: SignatureBytes([7; 96]) };
    let votes = Proof::votes(vote(VotePayload::Skip(BLOCK.slot)), vote(VotePayload::Notar(BLOCK)));
    let signed = |root: u8| SignedRoot {
        id: SliceId { slot: BLOCK.slot, index: later_slice() },
        is_last: false,
        root: Hash([root; 32]),
        signature: SliceSignature([8; 64]),
    };
    let slices = Offence::Slices(Equivocation { first: signed(1), second: signed(2) });
    vec![votes.encode(), Proof { validator: ValidatorIndex(1), offence: slices }.encode()]
}

/// A signature, and a public key.
pub fn curve_points(bytes: &[u8]) -> bool {
    let mut read = false;
    if let Some(bytes) = bytes.first_chunk().copied().map(SignatureBytes)
        && let Ok(signature) = Signature::from_bytes(&bytes)
    {
        assert_eq!(signature.to_bytes(), bytes);
        read = true;
    }
    if let Some(bytes) = bytes.first_chunk().copied().map(PublicKeyBytes)
        && let Ok(key) = PublicKey::from_bytes(&bytes)
    {
        assert_eq!(key.to_bytes(), bytes);
        read = true;
    }
    read
}

fn points() -> Vec<Vec<u8>> {
    let key = SecretKey::from_entropy(&[8; 32]);
    vec![key.public_key().to_bytes().0.to_vec(), key.prove_possession().0.0.to_vec()]
}

/// A line of a conformance file, which is run if it can be read.
pub fn conformance_vector(bytes: &[u8]) -> bool {
    let Ok(vector) = std::str::from_utf8(bytes).map_err(|_| String::new()).and_then(Vector::parse) else {
        return false;
    };
    let _ = vector.run();
    true
}

fn vectors() -> Vec<Vec<u8>> {
    let lines = [
        r#"{"name":"a","stakes":[1,1,1],"steps":[{"do":["block",1,"A",0,"G"],"expect":[["vote","notar",1,"A"]]}]}"#,
        r#"{"name":"b","stakes":[5,1],"steps":[{"do":["vote","skip",1,1,null],"expect":[]}]}"#,
    ];
    lines.map(|line| line.as_bytes().to_vec()).to_vec()
}
