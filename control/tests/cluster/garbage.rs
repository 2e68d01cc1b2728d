//! One core, fed with anything its types allow: it may drop all of it, but neither panic nor grow.

use std::time::Duration;

use alpenglow_control::bls::SignatureBytes;
use alpenglow_control::certificate::{Certificate, CertificateKind, Signers, Statement, UnverifiedCertificate};
use alpenglow_control::checker::CheckVerdict;
use alpenglow_control::control::{Control, ControlConfigError};
use alpenglow_control::input::{Input, JobId};
use alpenglow_control::output::Output;
use alpenglow_control::production::SliceSent;
use alpenglow_control::transactions::TransactionSource;
use alpenglow_control::vote::{UnverifiedVote, VoteKind, VotePayload};
use alpenglow_rotor::assembler::{Defect, Equivocation, MalformedSlice};
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::slice::{Slice, SliceId, SliceSignature};
use alpenglow_rotor::types::{Hash, SliceIndex, Slot, Time, ValidatorIndex};

use crate::seeds;
use crate::world::{MS, Random, START, config};

const NODES: usize = 7;

fn slot(random: &mut Random) -> Slot {
    Slot(match random.below(10) {
        0 => u64::MAX - random.below(3),
        1 => random.next(),
        _ => random.below(24),
    })
}

fn hash(random: &mut Random) -> Hash {
    Hash([random.below(4) as u8; 32])
}

fn payload(random: &mut Random) -> Vec<u8> {
    let mut payload = vec![random.below(4) as u8];
    if payload[0] == 1 || payload[0] == 2 {
        payload.extend_from_slice(&slot(random).0.to_le_bytes());
        payload.extend_from_slice(&hash(random).0);
    }
    for _ in 0..random.below(3) {
        let length = random.below(20) as usize;
        payload.extend_from_slice(&(length as u16).to_le_bytes());
        payload.resize(payload.len() + length + usize::from(random.percent(10)), 7);
    }
    payload
}

fn signed(random: &mut Random) -> SignedRoot {
    let index = SliceIndex::new(if random.percent(90) { random.below(4) } else { random.below(1_024) } as usize);
    let id = SliceId { slot: slot(random), index: index.expect("below the limit") };
    SignedRoot { id, is_last: random.percent(30), root: hash(random), signature: SliceSignature([0; 64]) }
}

fn vote(random: &mut Random) -> UnverifiedVote {
    let kinds = [VoteKind::Notar, VoteKind::NotarFallback, VoteKind::Skip, VoteKind::SkipFallback, VoteKind::Final];
    let kind = kinds[random.below(5) as usize];
    let (slot, hash) = (slot(random), hash(random));
    let payload = VotePayload::from_parts(kind, slot, Some(hash)).or(VotePayload::from_parts(kind, slot, None));
    let signer = ValidatorIndex(random.below(NODES as u64 + 2) as u16);
    let payload = payload.expect("with a hash or without");
    UnverifiedVote { payload, signer, signature: SignatureBytes([random.below(2) as u8; 96]) }
}

fn certificate(random: &mut Random) -> UnverifiedCertificate {
    let kinds = [
        CertificateKind::Fast,
        CertificateKind::Notarization,
        CertificateKind::NotarFallback,
        CertificateKind::Skip,
        CertificateKind::Finalization,
    ];
    let kind = kinds[random.below(5) as usize];
    let (slot, hash) = (slot(random), hash(random));
    let statement = Statement::from_parts(kind, slot, Some(hash)).or(Statement::from_parts(kind, slot, None));
    let validators = [NODES, NODES, NODES, NODES + 20, 1][random.below(5) as usize];
    let signers = |random: &mut Random| {
        Signers::of(validators, (0..validators as u16).filter(|_| random.percent(80)).map(ValidatorIndex))
    };
    UnverifiedCertificate(Certificate {
        statement: statement.expect("with a hash or without"),
        signers: signers(random),
        fallback_signers: signers(random),
        signature: SignatureBytes([random.below(2) as u8; 96]),
    })
}

fn input(random: &mut Random) -> Input {
    let sender = ValidatorIndex(random.below(NODES as u64 + 2) as u16);
    match random.below(9) {
        0 | 1 => {
            let SignedRoot { id, is_last, root, signature } = signed(random);
            let payload = payload(random).into();
            Input::Slice(Slice { id, is_last, root, signature, leader_stamp_ns: random.next(), payload })
        }
        2 => {
            let SignedRoot { id, root, signature, .. } = signed(random);
            Input::SliceSent(SliceSent { id, root, signature, leader_stamp_ns: 0 })
        }
        3 => Input::MalformedSlice(MalformedSlice { signed: signed(random), defect: Defect::Code, shreds: None }),
        4 => Input::Equivocation(Equivocation { first: signed(random), second: signed(random) }),
        5 => Input::Vote(vote(random)),
        6 => Input::Certificate { certificate: certificate(random), sender },
        7 => {
            let bytes = vec![random.below(3) as u8; random.below(1_400) as usize].into();
            let client = random.percent(50);
            let source = if client { TransactionSource::Client } else { TransactionSource::Validator(sender) };
            Input::Transaction { bytes, source }
        }
        _ => Input::Checked { id: JobId(random.below(50)), verdict: false_verdict(random) },
    }
}

/// All that a check of garbage can say: none of it holds.
fn false_verdict(random: &mut Random) -> CheckVerdict {
    CheckVerdict::Votes { verified: Vec::new(), rejected: (0..random.below(3)).map(|_| vote(random)).collect() }
}

#[test]
fn no_input_makes_a_core_panic_or_grow() {
    for seed in seeds(8) {
        eprintln!("replay with ALPENGLOW_SEED={seed}");
        let mut random = Random(seed);
        let mut control = Control::new(config(NODES, 0), START).expect("a valid configuration");
        let mut now = START;
        for _ in 0..20_000 {
            now = now.after(Duration::from_micros(random.below(2_000)));
            let tick = control.next_timeout().is_some_and(|due| due <= now);
            control.handle(now, if tick { Input::Tick } else { input(&mut random) });
            let mut outputs = 0;
            while let Some(output) = control.poll_output() {
                outputs += 1;
                assert!(!matches!(output, Output::Finalized(_)), "nothing here was ever certified");
            }
            assert!(outputs < 1_000, "{outputs} outputs of one input");
        }
        assert!(now > Time(START.0 + 10_000 * MS));
        assert!(control.held_bytes() <= 32 << 20 && control.pending_transactions() < 5_000);
        assert!(control.counters().iter().count() > 10, "{:?}", control.counters());
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_reason() {
    let refused = |change: &dyn Fn(&mut alpenglow_control::control::ControlConfig)| {
        let mut config = config(NODES, 0);
        change(&mut config);
        Control::new(config, START).err()
    };
    assert_eq!(refused(&|_| ()), None);
    let too_small = CodingParameters::new(Code::Rs8, 2, 4, 512, 1_232).expect("a valid code");
    assert_eq!(refused(&|config| config.coding = too_small), Some(ControlConfigError::SliceTooSmall(1_012)));
    let own = ValidatorIndex(7);
    assert_eq!(refused(&|config| config.own = own), Some(ControlConfigError::Own(7, 7)));
    let zero = |name| Some(ControlConfigError::Zero(name));
    assert_eq!(refused(&|config| config.delta_block = Duration::ZERO), zero("delta_block"));
    assert_eq!(refused(&|config| config.checking.jobs_max = 0), zero("checking.jobs_max"));
}
