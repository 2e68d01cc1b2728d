//! Runs conformance vectors against the real Pool and Votor.
//!
//! A vector is a JSON object on a line of its own: its `name`, the `stakes`, and `steps`, each with an input, `do`, and
//! the outputs to `expect`, in any order. The node under test is validator 0. Own votes are really signed; what comes
//! in is taken for checked, but takes the way of real messages otherwise: admission for votes, the test whether it is
//! wanted for certificates.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::bls::{HashedPayload, SecretKey, SignatureBytes};
use alpenglow_control::certificate::{
    Certificate, CertificateKind, Signers, Statement, UnverifiedCertificate, VerifiedCertificate,
};
use alpenglow_control::consensus::{Admission, Consensus, ConsensusConfig, ConsensusEvent};
use alpenglow_control::stakes::Stakes;
use alpenglow_control::vote::{UnverifiedVote, VerifiedVotes, VoteKind, VotePayload};
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot, Stake, Time, VALIDATORS_MAX, ValidatorIndex};
use serde::Deserialize;
use serde_json::{Value, json};

const DELTA_BLOCK: Duration = Duration::from_millis(400);
const DELTA_TIMEOUT: Duration = Duration::from_millis(1_200);

/// Why vectors could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// A line is no vector.
    #[error("{}, line {line}: {reason}", path.display())]
    Malformed {
        /// In which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A file has no vector at all.
    #[error("{} holds no vectors", .0.display())]
    Empty(PathBuf),
    /// The report cannot be written.
    #[error("cannot write the report: {0}")]
    Write(#[from] io::Error),
}

/// How many vectors did what they should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Vectors without a failing step.
    pub passed: usize,
    /// Vectors with one.
    pub failed: usize,
}

/// Runs all vectors of `files`; writes each failing step and a closing line to `out`.
///
/// # Errors
/// [`ConformanceError`] for the first file that cannot be read or holds something else than vectors.
pub fn run_files(files: &[PathBuf], out: &mut impl Write) -> Result<Tally, ConformanceError> {
    let mut tally = Tally::default();
    for path in files {
        let text =
            std::fs::read_to_string(path).map_err(|reason| ConformanceError::Read { path: path.clone(), reason })?;
        run_text(path, &text, &mut tally, out)?;
    }
    writeln!(out, "{} passed, {} failed", tally.passed, tally.failed)?;
    Ok(tally)
}

fn run_text(path: &Path, text: &str, tally: &mut Tally, out: &mut impl Write) -> Result<(), ConformanceError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut vectors = 0;
    for (at, line) in lines {
        let malformed = |reason| ConformanceError::Malformed { path: path.to_path_buf(), line: at + 1, reason };
        let vector = Vector::parse(line).map_err(malformed)?;
        vectors += 1;
        let failures = vector.run();
        for failure in &failures {
            writeln!(out, "{}: {failure}", vector.name)?;
        }
        if failures.is_empty() {
            tally.passed += 1;
        } else {
            tally.failed += 1;
        }
    }
    if vectors == 0 { Err(ConformanceError::Empty(path.to_path_buf())) } else { Ok(()) }
}

/// A step that did something else than expected.
#[derive(Debug)]
pub struct Failure {
    step: usize,
    input: Value,
    expected: Vec<Value>,
    actual: Vec<Value>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |outputs: &[Value]| Value::from(outputs.to_vec());
        writeln!(f, "step {} {}", self.step, self.input)?;
        writeln!(f, "  expected {}", list(&self.expected))?;
        write!(f, "  actual   {}", list(&self.actual))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVector {
    name: String,
    stakes: Vec<u64>,
    steps: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    #[serde(rename = "do")]
    input: Value,
    expect: Vec<Value>,
}

/// What a step does.
enum Input {
    Block { block: BlockId, parent: BlockId },
    Vote(UnverifiedVote),
    Certificate(Certificate),
    Advance(Duration),
}

struct Step {
    raw: RawStep,
    input: Input,
}

/// A vector, checked to be well formed.
pub struct Vector {
    name: String,
    stakes: Stakes,
    steps: Vec<Step>,
    labels: Labels,
}

/// Hashes for labels and back.
struct Labels {
    hashes: BTreeMap<String, Hash>,
    names: BTreeMap<Hash, String>,
}

impl Labels {
    fn new() -> Self {
        let genesis = (String::from("G"), Hash::GENESIS);
        Self { names: BTreeMap::from([(genesis.1, genesis.0.clone())]), hashes: BTreeMap::from([genesis]) }
    }

    fn hash(&mut self, label: &str) -> Hash {
        if let Some(hash) = self.hashes.get(label) {
            return *hash;
        }
        let mut hash = Hash::default();
        hash.0[..8].copy_from_slice(&(self.hashes.len() as u64).to_le_bytes());
        self.hashes.insert(label.to_owned(), hash);
        self.names.insert(hash, label.to_owned());
        hash
    }

    fn name(&self, hash: Hash) -> &str {
        self.names.get(&hash).map_or("?", String::as_str)
    }
}

/// Reads the parts of a step.
struct Parts<'a> {
    parts: &'a [Value],
    validators: usize,
    labels: &'a mut Labels,
}

impl Parts<'_> {
    fn number(&self, at: usize) -> Result<u64, String> {
        self.parts[at].as_u64().ok_or_else(|| format!("{} is not a number from 0 on", self.parts[at]))
    }

    fn slot(&self, at: usize) -> Result<Slot, String> {
        self.number(at).map(Slot)
    }

    fn label(&mut self, at: usize) -> Result<Hash, String> {
        let label = self.parts[at].as_str().ok_or_else(|| format!("{} is not a hash label", self.parts[at]))?;
        Ok(self.labels.hash(label))
    }

    fn label_or_null(&mut self, at: usize) -> Result<Option<Hash>, String> {
        if self.parts[at].is_null() { Ok(None) } else { self.label(at).map(Some) }
    }

    fn block(&mut self, at: usize) -> Result<BlockId, String> {
        Ok(BlockId { slot: self.slot(at)?, hash: self.label(at + 1)? })
    }

    fn validator(&self, value: &Value) -> Result<ValidatorIndex, String> {
        let index = value.as_u64().and_then(|index| u16::try_from(index).ok());
        index
            .filter(|index| usize::from(*index) < self.validators)
            .map(ValidatorIndex)
            .ok_or_else(|| format!("{value} is not one of {} validators", self.validators))
    }

    fn signers(&self, at: usize) -> Result<Signers, String> {
        let list =
            self.parts[at].as_array().ok_or_else(|| format!("{} is not a list of validators", self.parts[at]))?;
        let indices = list.iter().map(|value| self.validator(value)).collect::<Result<Vec<_>, _>>()?;
        Ok(Signers::of(self.validators, indices))
    }

    fn vote(&mut self, signature: SignatureBytes) -> Result<UnverifiedVote, String> {
        let kind = match self.parts[1].as_str() {
            Some("notar") => VoteKind::Notar,
            Some("notar-fallback") => VoteKind::NotarFallback,
            Some("skip") => VoteKind::Skip,
            Some("skip-fallback") => VoteKind::SkipFallback,
            Some("final") => VoteKind::Final,
            _ => return Err(format!("{} is not a kind of vote", self.parts[1])),
        };
        let hash = self.label_or_null(4)?;
        let payload = VotePayload::from_parts(kind, self.slot(3)?, hash)
            .ok_or_else(|| String::from("a hash is missing, or does not belong to this kind of vote"))?;
        Ok(UnverifiedVote { payload, signer: self.validator(&self.parts[2])?, signature })
    }

    fn certificate(&mut self, signature: SignatureBytes) -> Result<Certificate, String> {
        let kind = match self.parts[1].as_str() {
            Some("fast") => CertificateKind::Fast,
            Some("notar") => CertificateKind::Notarization,
            Some("notar-fallback") => CertificateKind::NotarFallback,
            Some("skip") => CertificateKind::Skip,
            Some("final") => CertificateKind::Finalization,
            _ => return Err(format!("{} is not a kind of certificate", self.parts[1])),
        };
        let hash = self.label_or_null(3)?;
        let statement = Statement::from_parts(kind, self.slot(2)?, hash)
            .ok_or_else(|| String::from("a hash is missing, or does not belong to this kind of certificate"))?;
        let (signers, fallback_signers) = (self.signers(4)?, self.signers(5)?);
        Ok(Certificate { statement, signers, fallback_signers, signature })
    }
}

impl Vector {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Self, String> {
        let raw: RawVector = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let total = raw.stakes.iter().try_fold(0u64, |sum, stake| sum.checked_add(*stake));
        let (fits, some) = ((1..=VALIDATORS_MAX).contains(&raw.stakes.len()), !raw.stakes.contains(&0));
        if !fits || !some || total.is_none() {
            return Err(format!("needs 1 to {VALIDATORS_MAX} stakes past 0 whose total fits 64 bits"));
        }
        let mut labels = Labels::new();
        let signature = any_signature();
        let mut steps = Vec::with_capacity(raw.steps.len());
        for (at, step) in raw.steps.into_iter().enumerate() {
            let input = parse_input(&step.input, raw.stakes.len(), &mut labels, signature)
                .map_err(|reason| format!("step {}: {reason} in {}", at + 1, step.input))?;
            steps.push(Step { raw: step, input });
        }
        let stakes = Stakes::new(raw.stakes.into_iter().map(Stake).collect());
        Ok(Self { name: raw.name, stakes, steps, labels })
    }

    /// Runs it from the start; returns the steps that did something else than expected.
    #[must_use]
    pub fn run(&self) -> Vec<Failure> {
        let config = ConsensusConfig {
            own: ValidatorIndex(0),
            secret_key: own_key(),
            stakes: Arc::new(self.stakes.clone()),
            cluster: ClusterId([0; 32]),
            delta_block: DELTA_BLOCK,
            delta_timeout: DELTA_TIMEOUT,
            // The vectors' timeouts do not grow.
            standstill_interval: Duration::MAX,
            crashed_leader: None,
        };
        let mut now = Time(0);
        let mut consensus = Consensus::new(config, now);
        let mut failures = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            step.input.apply(&mut consensus, &mut now);
            let mut actual: Vec<Value> =
                std::iter::from_fn(|| consensus.poll()).filter_map(|event| self.output(&event)).collect();
            let mut expected = step.raw.expect.clone();
            expected.sort_by_key(Value::to_string);
            actual.sort_by_key(Value::to_string);
            if expected != actual {
                failures.push(Failure { step: at + 1, input: step.raw.input.clone(), expected, actual });
            }
        }
        failures
    }

    /// An event as vectors state it, if they do.
    fn output(&self, event: &ConsensusEvent) -> Option<Value> {
        let name = |hash: Option<Hash>| hash.map(|hash| self.labels.name(hash));
        Some(match event {
            ConsensusEvent::Vote(vote) => {
                let kind = match vote.payload.kind() {
                    VoteKind::Notar => "notar",
                    VoteKind::NotarFallback => "notar-fallback",
                    VoteKind::Skip => "skip",
                    VoteKind::SkipFallback => "skip-fallback",
                    VoteKind::Final => "final",
                };
                json!(["vote", kind, vote.payload.slot().0, name(vote.payload.hash())])
            }
            ConsensusEvent::Certificate(certificate) => self.certificate_output(certificate),
            ConsensusEvent::ParentReady { slot, parent } => {
                json!(["parent_ready", slot.0, parent.slot.0, self.labels.name(parent.hash)])
            }
            ConsensusEvent::Finalized { block, .. } => {
                json!(["finalized", block.slot.0, self.labels.name(block.hash)])
            }
            ConsensusEvent::RepairNeeded(block) => json!(["repair", block.slot.0, self.labels.name(block.hash)]),
            ConsensusEvent::Evidence(evidence) => {
                json!(["evidence", evidence.validator.0, evidence.conflicting.slot().0])
            }
            ConsensusEvent::BlockNotarized(_)
            | ConsensusEvent::Chained { .. }
            | ConsensusEvent::SkippedForGood { .. }
            | ConsensusEvent::Horizon(_) => return None,
            // Never to be expected: vectors hold authentic votes one by one, no restarts and no contradictions.
            ConsensusEvent::Recheck(_) => json!(["recheck"]),
            ConsensusEvent::Withheld(payload) => json!(["withheld", payload.slot().0]),
            ConsensusEvent::Contradiction { block, other } => {
                json!(["contradiction", block.slot.0, self.labels.name(block.hash), other.slot.0])
            }
        })
    }

    fn certificate_output(&self, certificate: &Certificate) -> Value {
        let kind = match certificate.statement.kind() {
            CertificateKind::Fast => "fast",
            CertificateKind::Notarization => "notar",
            CertificateKind::NotarFallback => "notar-fallback",
            CertificateKind::Skip => "skip",
            CertificateKind::Finalization => "final",
        };
        let hash = certificate.statement.block().map(|block| self.labels.name(block.hash));
        let signers: Vec<u16> = certificate.signers.iter().map(|signer| signer.0).collect();
        let only_fallback = certificate.fallback_signers.iter().filter(|signer| !certificate.signers.contains(*signer));
        let fallback: Vec<u16> = only_fallback.map(|signer| signer.0).collect();
        json!(["cert", kind, certificate.statement.slot().0, hash, signers, fallback])
    }
}

fn parse_input(
    value: &Value,
    validators: usize,
    labels: &mut Labels,
    signature: SignatureBytes,
) -> Result<Input, String> {
    let parts = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let kind = parts.first().and_then(Value::as_str).unwrap_or_default();
    let length = match kind {
        "block" | "vote" => 5,
        "cert" => 6,
        "advance" => 2,
        _ => return Err(String::from("a step is a list that begins with block, vote, cert or advance")),
    };
    if parts.len() != length {
        return Err(format!("a {kind} step has {length} parts"));
    }
    let mut parts = Parts { parts, validators, labels };
    Ok(match kind {
        "block" => Input::Block { block: parts.block(1)?, parent: parts.block(3)? },
        "vote" => Input::Vote(parts.vote(signature)?),
        "cert" => Input::Certificate(parts.certificate(signature)?),
        _ => Input::Advance(Duration::from_millis(parts.number(1)?)),
    })
}

impl Input {
    fn apply(&self, consensus: &mut Consensus, now: &mut Time) {
        match self {
            Self::Block { block, parent } => consensus.block_held(*now, *block, *parent),
            Self::Vote(vote) => match consensus.admit(vote) {
                Admission::Check | Admission::Conflict | Admission::ConflictAgain => {
                    consensus.votes(*now, VerifiedVotes::assume_checked(vec![*vote]));
                }
                Admission::Redundant
                | Admission::Closed
                | Admission::Ahead
                | Admission::Signer
                | Admission::NotMember => {}
            },
            Self::Certificate(certificate) => {
                if consensus.wants(&UnverifiedCertificate(certificate.clone())) {
                    consensus.certificate(*now, VerifiedCertificate::assume_checked(certificate.clone()));
                }
            }
            Self::Advance(duration) => {
                let until = now.after(*duration);
                // Each timer fires at its own time, so that what it sets counts from there.
                while let Some(due) = consensus.next_timeout().filter(|due| *due <= until) {
                    consensus.advance(due);
                }
                *now = until;
            }
        }
    }
}

fn own_key() -> SecretKey {
    SecretKey::from_entropy(&[0; 32])
}

/// A point of the curve, in place of the signatures that vectors do not have.
fn any_signature() -> SignatureBytes {
    own_key().sign(&HashedPayload::new(b"conformance")).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"name": "heavy", "stakes": [10, 60, 30], "steps": [
        {"do": ["vote", "notar", 1, 1, "A"], "expect": [["cert", "notar", 1, "A", [1], []], ["repair", 1, "A"]]},
        {"do": ["block", 1, "A", 0, "G"], "expect": [["vote", "final", 1, null], ["vote", "notar", 1, "A"]]}]}"#;

    fn run(text: &str) -> (Result<Tally, ConformanceError>, String) {
        let (mut tally, mut out) = (Tally::default(), Vec::new());
        let result = run_text(Path::new("vectors"), text, &mut tally, &mut out);
        (result.map(|()| tally), String::from_utf8(out).unwrap())
    }

    fn reason(step: &str) -> String {
        let line = format!(r#"{{"name": "x", "stakes": [1, 1], "steps": [{{"do": {step}, "expect": []}}]}}"#);
        run(&line).0.unwrap_err().to_string()
    }

    #[test]
    fn outputs_are_compared_in_any_order() {
        let (tally, report) = run(&GOOD.replace('\n', " "));
        assert_eq!(tally.unwrap(), Tally { passed: 1, failed: 0 }, "{report}");
    }

    #[test]
    fn a_failing_step_is_shown_with_expected_and_actual() {
        let changed = GOOD.replace('\n', " ").replace(r#"["repair", 1, "A"]"#, r#"["repair", 1, "B"]"#);
        let (tally, report) = run(&changed);
        assert_eq!(tally.unwrap(), Tally { passed: 0, failed: 1 });
        assert!(report.contains("heavy: step 1 [\"vote\",\"notar\",1,1,\"A\"]"), "{report}");
        assert!(report.contains(r#"expected [["cert","notar",1,"A",[1],[]],["repair",1,"B"]]"#), "{report}");
        assert!(report.contains(r#"actual   [["cert","notar",1,"A",[1],[]],["repair",1,"A"]]"#), "{report}");
    }

    #[test]
    fn a_missing_and_a_doubled_output_fail() {
        let missing = GOOD.replace('\n', " ").replace(r#", ["repair", 1, "A"]"#, "");
        assert_eq!(run(&missing).0.unwrap().failed, 1);
        let doubled =
            GOOD.replace('\n', " ").replace(r#"["repair", 1, "A"]"#, r#"["repair", 1, "A"], ["repair", 1, "A"]"#);
        assert_eq!(run(&doubled).0.unwrap().failed, 1);
    }

    #[test]
    fn malformed_lines_say_where_and_what() {
        let two_lines = format!("{}\n{{", GOOD.replace('\n', " "));
        assert!(run(&two_lines).0.unwrap_err().to_string().starts_with("vectors, line 2: EOF"), "line number");
        assert!(reason(r#"["jump", 1]"#).contains("begins with block, vote, cert or advance"));
        assert!(reason(r#"["vote", "notar", 1, 1]"#).contains("has 5 parts"));
        assert!(reason(r#"["vote", "nota", 1, 1, "A"]"#).contains("not a kind of vote"));
        assert!(reason(r#"["vote", "notar", 1, 1, null]"#).contains("hash is missing"));
        assert!(reason(r#"["vote", "skip", 2, 1, null]"#).contains("2 is not one of 2 validators"));
        assert!(reason(r#"["cert", "skip", 1, null, [0, -1], []]"#).contains("-1 is not one of 2 validators"));
        assert!(reason(r#"["cert", "skip", 1, null, 1, []]"#).contains("not a list"));
        assert!(reason(r#"["advance", 1.5]"#).contains("not a number"));
        assert!(reason("[]").contains("step 1"));
        let no_stake = r#"{"name": "x", "stakes": [], "steps": []}"#;
        assert!(run(no_stake).0.unwrap_err().to_string().contains("stakes"));
        assert!(matches!(run("\n").0, Err(ConformanceError::Empty(_))));
    }

    #[test]
    fn extreme_numbers_do_no_harm() {
        let line = r#"{"name": "x", "stakes": [1, 18446744073709551614], "steps": [
            {"do": ["advance", 18446744073709551615], "expect": [["vote", "skip", 1, null], ["vote", "skip", 2, null], ["vote", "skip", 3, null]]},
            {"do": ["vote", "notar", 1, 18446744073709551615, "A"], "expect": []},
            {"do": ["block", 18446744073709551615, "A", 18446744073709551614, "B"], "expect": []},
            {"do": ["cert", "skip", 18446744073709551615, null, [1], []], "expect": []},
            {"do": ["cert", "final", 18446744073709551615, null, [1], []], "expect": [["cert", "final", 18446744073709551615, null, [1], []]]},
            {"do": ["cert", "notar", 18446744073709551615, "A", [1], []], "expect": [["cert", "notar", 18446744073709551615, "A", [1], []],
                ["finalized", 18446744073709551615, "A"], ["finalized", 18446744073709551614, "B"], ["repair", 18446744073709551614, "B"]]},
            {"do": ["advance", 18446744073709551615], "expect": []}]}"#;
        let (tally, report) = run(&line.replace('\n', " "));
        assert_eq!(tally.unwrap(), Tally { passed: 1, failed: 0 }, "{report}");
    }
}
