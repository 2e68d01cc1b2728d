//! What plain blst does: the floors, and an independent check of every certificate that the node makes.

use std::hint::black_box;

use alpenglow_control::certificate::{Certificate, CertificateKind, Statement};
use alpenglow_control::message::encode_certificate;
use alpenglow_rotor::types::ClusterId;
use blst::min_sig::{AggregatePublicKey, PublicKey, SecretKey, Signature};
use blst::{BLST_ERROR, MultiPoint, blst_fp12, blst_p1_affine, blst_p2_affine};

use crate::fixture::CLUSTER;
use crate::rounds::{Sampler, repeated};

const DOMAIN: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
/// Points that are added up in one sample.
const POINTS: usize = 500;

/// Microseconds that bare calls take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floors {
    /// Two Miller loops and a final exponentiation, of points that are at hand.
    pub(super) pairing_check: f64,
    /// Whether a signature lies in the subgroup.
    pub(super) subgroup: f64,
    pub(super) parse_signature: f64,
    pub(super) add_signature: f64,
    pub(super) add_key: f64,
    /// Hashing to the curve and signing, as blst does it in one call.
    pub(super) sign: f64,
}

impl Floors {
    pub(super) const COUNT: usize = 6;

    /// From the medians of [`samplers`].
    pub(super) fn new(medians: &[f64]) -> Self {
        let &[pairing_check, subgroup, parse_signature, add_signature, add_key, sign] = medians else {
            panic!("as many as there are samplers")
        };
        Self { pairing_check, subgroup, parse_signature, add_signature, add_key, sign }
    }

    /// Checking a sum of signatures.
    pub(super) fn verify(&self) -> f64 {
        self.subgroup + self.pairing_check
    }
}

/// One for each field of [`Floors`], in order.
pub(super) fn samplers() -> Vec<Sampler<'static>> {
    let secret = SecretKey::key_gen(&[9; 32], &[]).expect("enough entropy");
    let public = secret.sk_to_pk();
    let signature = secret.sign(b"a vote", DOMAIN, &[]);
    let bytes = signature.serialize();
    let (keys, signatures) = (vec![public; POINTS], vec![signature; POINTS]);
    let check = {
        // Any four points cost the same; those of a true equation show that the calls are the right ones.
        let (key, point) = (*<&blst_p2_affine>::from(&public), *<&blst_p1_affine>::from(&signature));
        repeated(move || {
            let left = blst_fp12::miller_loop(black_box(&key), black_box(&point));
            let right = blst_fp12::miller_loop(black_box(&key), black_box(&point));
            assert!(blst_fp12::finalverify(&left, &right));
        })
    };
    let both = {
        let (key, point) = (*<&blst_p2_affine>::from(&public), *<&blst_p1_affine>::from(&signature));
        repeated(move || {
            black_box(blst_fp12::miller_loop_n(black_box(&[key; 2]), black_box(&[point; 2])).final_exp());
        })
    };
    let per_point = |mut sampler: Sampler<'static>| -> Sampler<'static> { Box::new(move || sampler() / POINTS as f64) };
    vec![
        faster(check, both),
        repeated(move || assert!(black_box(&signature).subgroup_check())),
        repeated(move || {
            black_box(Signature::deserialize(black_box(&bytes)).is_ok());
        }),
        per_point(repeated(move || {
            black_box(black_box(signatures.as_slice()).add());
        })),
        per_point(repeated(move || {
            black_box(black_box(keys.as_slice()).add());
        })),
        repeated(move || {
            black_box(secret.sign(black_box(b"a vote"), DOMAIN, &[]));
        }),
    ]
}

/// The faster of two ways to do the same.
fn faster(mut one: Sampler<'static>, mut other: Sampler<'static>) -> Sampler<'static> {
    Box::new(move || one().min(other()))
}

/// Whether a certificate holds, by nothing of ours but the layout of what was signed.
pub(super) fn holds(certificate: &Certificate, keys: &[PublicKey]) -> bool {
    let signed = certificate.signers.as_bytes().iter().zip(certificate.fallback_signers.as_bytes());
    let count: usize = signed.map(|(first, second)| (first | second).count_ones() as usize).sum();
    let enough = if certificate.statement.kind() == CertificateKind::Fast { 80 } else { 60 };
    if count * 100 < enough * keys.len() || encode_certificate(certificate).len() > 1_200 {
        return false;
    }
    let Ok(signature) = Signature::deserialize(&certificate.signature.0) else { return false };
    let sum = |bits: &[u8]| {
        let chosen: Vec<&PublicKey> =
            keys.iter().enumerate().filter(|(at, _)| bits[at / 8] >> (at % 8) & 1 == 1).map(|(_, key)| key).collect();
        AggregatePublicKey::aggregate(&chosen, false).ok().map(|sum| sum.to_public_key())
    };
    let (first, second) = messages(certificate.statement);
    let lists = [(Some(first), &certificate.signers), (second, &certificate.fallback_signers)];
    let terms: Vec<_> =
        lists.into_iter().filter_map(|(message, signers)| Some((message?, sum(signers.as_bytes())?))).collect();
    let messages: Vec<&[u8]> = terms.iter().map(|(message, _)| message.as_slice()).collect();
    let sums: Vec<&PublicKey> = terms.iter().map(|(_, key)| key).collect();
    signature.aggregate_verify(true, &messages, DOMAIN, &sums, false) == BLST_ERROR::BLST_SUCCESS
}

/// What those in the two lists of a certificate have signed.
fn messages(statement: Statement) -> (Vec<u8>, Option<Vec<u8>>) {
    let ClusterId(cluster) = CLUSTER;
    let message = |kind: u8| {
        let slot = statement.slot().0.to_le_bytes();
        let hash = statement.block().map_or(Vec::new(), |block| block.hash.0.to_vec());
        [&b"alpenglow vote 1"[..], &cluster, &[kind], &slot, &hash].concat()
    };
    match statement {
        Statement::Fast(_) | Statement::Notarization(_) => (message(1), None),
        Statement::NotarFallback(_) => (message(1), Some(message(2))),
        Statement::Skip(_) => (message(3), Some(message(4))),
        Statement::Finalization(_) => (message(5), None),
    }
}
