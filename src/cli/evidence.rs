//! `alpenglow evidence`: shows the proofs that a node keeps, and checks them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use alpenglow_control::evidence::{Authority, Offence, Proof, Standing};
use alpenglow_control::vote::{UnverifiedVote, VotePayload};
use alpenglow_rotor::signature::SignedRoot;
use clap::Args;
use serde::Serialize;

use super::cluster::OutputForm;
use super::{CliError, print};
use crate::encoding::{Identity, hex};
use crate::evidence::{self, FORMAT};
use crate::files::{self, Access, ReadError};
use crate::genesis;
use crate::storage::data_folder::expect_data_folder;
use crate::storage::frames::End;

/// Shows the proofs that a node found of validators that lied, and checks them.
///
/// A node keeps what shows that somebody signed what no correct validator signs: two statements of a leader about its
/// block that cannot both hold, a slice that is none, or two votes that exclude each other. The file is
/// evidence.log in its data folder; of each validator and kind a few are kept. It can be read while the node runs.
/// Proofs stay where they were found: other nodes keep their own.
///
/// With --genesis every proof is checked from its signatures up; without, they are only listed. A malformed slice whose
/// shreds were not kept is shown as signed-only: its leader signed that root, but the file does not show that no slice
/// has it.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct EvidenceArgs {
    /// Data folder of the node: `data` in its node.toml
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Genesis file of the cluster, to check the proofs against its keys
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Form of what is printed; json holds each proof whole, in hexadecimal
    #[arg(long, value_enum, default_value_t = OutputForm::Text)]
    output: OutputForm,
}

const AFTER_HELP: &str = "\
Examples:
  alpenglow evidence --data cluster/node-0/data --genesis cluster/genesis.json
  alpenglow evidence --data cluster/node-0/data --output json | jq '.proofs[].validator'

Exit codes: 0 all that is there was read (and, with --genesis, holds), 1 the file cannot be read, is corrupt, or a proof
does not hold, 2 wrong flags.";

/// What is printed.
#[derive(Debug, Serialize)]
struct Listing {
    file: PathBuf,
    /// `None` without a file.
    cluster: Option<String>,
    checked: bool,
    proofs: Vec<Entry>,
    /// Bytes at which a record is corrupt.
    corrupt_at: Vec<u64>,
    /// Where the last record, which is incomplete, begins: it is being written, or a crash tore it.
    incomplete_at: Option<u64>,
}

/// One proof.
#[derive(Debug, Serialize)]
struct Entry {
    /// Where in the file.
    at: u64,
    kept_unix_ms: u64,
    slot: u64,
    validator: u16,
    /// In base58, if the genesis file was given.
    identity: Option<String>,
    kind: &'static str,
    what: String,
    /// proven, signed-only, refused, or unchecked.
    standing: &'static str,
    /// Why it is refused.
    reason: Option<String>,
    proof: String,
}

impl EvidenceArgs {
    /// Runs it.
    ///
    /// # Errors
    /// [`CliError`].
    pub(crate) fn run(self) -> Result<(), CliError> {
        let listing = self.listing()?;
        print(&match self.output {
            OutputForm::Text => listing.text(),
            OutputForm::Json => serde_json::to_string_pretty(&listing).expect("its keys are strings") + "\n",
        })?;
        listing.verdict()
    }

    fn listing(&self) -> Result<Listing, CliError> {
        let file = evidence::path(&self.data);
        let mut listing = Listing {
            file,
            cluster: None,
            checked: self.genesis.is_some(),
            proofs: Vec::new(),
            corrupt_at: Vec::new(),
            incomplete_at: None,
        };
        let genesis = self.genesis.as_deref().map(genesis::load).transpose().map_err(CliError::failed)?;
        let Some(bytes) = read(&self.data, &listing.file)? else { return Ok(listing) };
        let shown = listing.file.display().to_string();
        let contents = FORMAT.read(&bytes).map_err(|reason| CliError::Failed(format!("{shown}: {reason}")))?;
        if let Some(genesis) = &genesis
            && genesis.cluster != contents.cluster
        {
            return Err(CliError::Failed(format!(
                "{shown} is of cluster {}, the genesis file makes cluster {}; give the genesis file that the node runs with",
                hex(&contents.cluster.0),
                hex(&genesis.cluster.0)
            )));
        }
        let authority = genesis.map(|genesis| genesis.authority());
        listing.cluster = Some(hex(&contents.cluster.0));
        for record in &contents.records {
            match record.bytes.and_then(|bytes| evidence::parse(bytes).ok()) {
                Some((kept_unix_ms, proof)) => {
                    listing.proofs.push(Entry::new(record.at, kept_unix_ms, &proof, authority.as_ref()));
                }
                None => listing.corrupt_at.push(record.at),
            }
        }
        match contents.end {
            End::Whole => {}
            End::Torn(at) | End::Unwritten(at) => listing.incomplete_at = Some(at),
            End::Lost(at) => listing.corrupt_at.push(at),
        }
        Ok(listing)
    }
}

/// The file's bytes, `None` if there is no file in the folder.
fn read(data: &Path, file: &Path) -> Result<Option<Vec<u8>>, CliError> {
    expect_data_folder(data).map_err(CliError::failed)?;
    let bytes_max = usize::try_from(FORMAT.file_bytes_max).expect("some MiB");
    match files::read(file, bytes_max, Access::Public) {
        Ok(bytes) => Ok(Some(bytes.to_vec())),
        Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(CliError::Failed(format!(
            "cannot read {}: {reason}; it must be the file that a node wrote, readable for this user",
            file.display()
        ))),
    }
}

impl Listing {
    fn verdict(&self) -> Result<(), CliError> {
        let file = self.file.display();
        if let Some(at) = self.corrupt_at.first() {
            let count = self.corrupt_at.len();
            return Err(CliError::Failed(format!(
                "{file} is corrupt at byte {at} (in {count} places); what is listed is intact. Keep a copy, move the file away, and the node makes a new one when it starts"
            )));
        }
        match self.proofs.iter().filter(|entry| entry.standing == "refused").count() {
            0 => Ok(()),
            count => Err(CliError::Failed(format!("{count} of the proofs in {file} do not hold"))),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let write = &mut text;
        if self.proofs.is_empty() {
            writeln!(write, "no proofs in {}", self.file.display()).expect("strings take any text");
        }
        for entry in &self.proofs {
            let Entry { slot, validator, standing, what, .. } = entry;
            writeln!(write, "slot {slot:<8} validator {validator:<5} {standing:<11} {what}")
                .expect("strings take any text");
            if let Some(reason) = &entry.reason {
                writeln!(write, "    {reason}").expect("strings take any text");
            }
        }
        if let Some(at) = self.incomplete_at {
            let note = "the last record is incomplete: it is being written, or a crash tore it (the node cuts it off when it starts)";
            writeln!(write, "byte {at}: {note}").expect("strings take any text");
        }
        text
    }
}

impl Entry {
    fn new(at: u64, kept_unix_ms: u64, proof: &Proof, authority: Option<&Authority>) -> Self {
        let (standing, reason) = match authority.map(|authority| proof.check(authority)) {
            None => ("unchecked", None),
            Some(Ok(Standing::Proven)) => ("proven", None),
            Some(Ok(Standing::SignedOnly)) => ("signed-only", None),
            Some(Err(error)) => ("refused", Some(error.to_string())),
        };
        let identity = authority
            .filter(|authority| proof.validator.get() < authority.validators.len())
            .map(|authority| Identity(authority.validators.identity(proof.validator).to_bytes()).to_string());
        Self {
            at,
            kept_unix_ms,
            slot: proof.slot().0,
            validator: proof.validator.0,
            identity,
            kind: evidence::kind_name(proof.kind()),
            what: what(proof),
            standing,
            reason,
            proof: hex(&proof.encode()),
        }
    }
}

fn what(proof: &Proof) -> String {
    match &proof.offence {
        Offence::Slices(statements) => {
            format!("signed as leader both {} and {}", statement(&statements.first), statement(&statements.second))
        }
        Offence::MalformedSlice(malformed) => {
            let shown = malformed
                .shreds
                .as_ref()
                .map_or_else(String::new, |shreds| format!(", {} bytes of shreds", shreds.len()));
            format!("signed as leader {}, which is none: {}{shown}", statement(&malformed.signed), malformed.defect)
        }
        Offence::Votes { first, second } => format!("voted both {} and {}", vote(first), vote(second)),
    }
}

fn statement(signed: &SignedRoot) -> String {
    let last = if signed.is_last { " (the last)" } else { "" };
    format!("slice {}{last} with root {}", signed.id.index.get(), signed.root)
}

fn vote(vote: &UnverifiedVote) -> String {
    match vote.payload {
        VotePayload::Notar(block) => format!("notar {}", block.hash),
        VotePayload::NotarFallback(block) => format!("notar-fallback {}", block.hash),
        VotePayload::Skip(_) => "skip".to_owned(),
        VotePayload::SkipFallback(_) => "skip-fallback".to_owned(),
        VotePayload::Final(_) => "final".to_owned(),
    }
}
