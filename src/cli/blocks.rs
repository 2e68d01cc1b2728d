//! `alpenglow blocks`: shows, checks and exports the blocks that a node keeps.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::certificate::{Certificate, UnverifiedCertificate};
use alpenglow_control::checker::{CheckJob, CheckVerdict, Checker};
use alpenglow_control::message::Message;
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::types::{BlockId, ValidatorIndex};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::cluster::OutputForm;
use super::{CliError, print};
use crate::encoding::hex;
use crate::genesis::{self, Genesis};
use crate::storage::block_log::{self, Defect, LogParameters, LoggedBlock, Reader, Survey, shred_again};

/// Shows, checks and exports the blocks that a node keeps in its data folder.
///
/// A node writes every complete block into its block log, then that it is final and the certificates that make it so; see
/// block_log_mib in node.toml. These commands only read, and may be used while the node runs.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BlocksArgs {
    #[command(subcommand)]
    action: Action,
}

const AFTER_HELP: &str = "\
Examples:
  alpenglow blocks list --data cluster/node-0/data
  alpenglow blocks show 17 --data cluster/node-0/data
  alpenglow blocks verify --data cluster/node-0/data --genesis cluster/genesis.json
  alpenglow blocks export --data cluster/node-0/data --from 10 --through 20 | jq .hash

Exit codes: 0 done, 1 the log cannot be read, or verify found it corrupt, 2 wrong flags.";

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists blocks: slot, hash, parent, what makes them final, bytes
    List(ListArgs),
    /// Shows the blocks of a slot with their slices and certificates
    Show(ShowArgs),
    /// Checks everything: checksums, block hashes by shredding again, the chain of parents, certificates
    ///
    /// Without --genesis, that certificates are about their blocks; with it, also their stake and signatures. A last record
    /// that is incomplete is no corruption: it is being written, or a crash tore it. Nor are final blocks that are missing:
    /// the node left them out when the disk was slow or full, or lost them, and fetches them from others while it runs.
    Verify(VerifyArgs),
    /// Writes final blocks as JSON, one object a line: with every slice's payload and every certificate in hexadecimal
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct Source {
    /// Data folder of the node: `data` in its node.toml
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

#[derive(Clone, Copy, Debug, Args)]
struct Slots {
    /// First slot
    #[arg(long, value_name = "SLOT", default_value_t = 0, hide_default_value = true)]
    from: u64,
    /// Last slot
    #[arg(long, value_name = "SLOT", default_value_t = u64::MAX, hide_default_value = true)]
    through: u64,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    slots: Slots,
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = OutputForm::Text)]
    output: OutputForm,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The slot
    slot: u64,
    #[command(flatten)]
    source: Source,
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = OutputForm::Text)]
    output: OutputForm,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    source: Source,
    /// Genesis file of the cluster, to check certificates against its keys
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = OutputForm::Text)]
    output: OutputForm,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    slots: Slots,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl BlocksArgs {
    /// Runs it.
    ///
    /// # Errors
    /// [`CliError`].
    pub(crate) fn run(self) -> Result<(), CliError> {
        match self.action {
            Action::List(arguments) => arguments.run(),
            Action::Show(arguments) => arguments.run(),
            Action::Verify(arguments) => arguments.run(),
            Action::Export(arguments) => arguments.run(),
        }
    }
}

impl Source {
    fn survey(&self) -> Result<(Reader, Survey), CliError> {
        if !self.data.is_dir() {
            return Err(CliError::Failed(format!(
                "there is no folder {}; give the data folder of a node, `data` in its node.toml",
                self.data.display()
            )));
        }
        let reader = Reader::new(block_log::folder(&self.data));
        let survey = reader.survey().map_err(CliError::failed)?;
        Ok((reader, survey))
    }

    fn folder(&self) -> PathBuf {
        block_log::folder(&self.data)
    }
}

impl Slots {
    fn contain(&self, block: &LoggedBlock) -> bool {
        (self.from..=self.through).contains(&block.id.slot.0)
    }

    fn check(&self) -> Result<(), CliError> {
        let is_empty = self.from > self.through;
        if is_empty { Err(CliError::usage("--from is above --through: there is no such slot")) } else { Ok(()) }
    }
}

/// What makes a block final, for people and programs.
const fn finality(block: &LoggedBlock) -> &'static str {
    match block.finality {
        Some(finality) if finality.certified => "certified",
        Some(_) => "ancestor",
        None => "not-final",
    }
}

/// A block in a list.
#[derive(Debug, Serialize)]
struct Listed {
    slot: u64,
    hash: String,
    parent_slot: u64,
    parent_hash: String,
    /// certified, ancestor, or not-final.
    finality: &'static str,
    /// Of its record.
    bytes: u32,
    segment: u64,
    at: u64,
}

impl Listed {
    fn new(block: &LoggedBlock) -> Self {
        Self {
            slot: block.id.slot.0,
            hash: hex(&block.id.hash.0),
            parent_slot: block.parent.slot.0,
            parent_hash: hex(&block.parent.hash.0),
            finality: finality(block),
            bytes: block.bytes,
            segment: block.segment,
            at: block.at,
        }
    }
}

/// A final block that is not there.
#[derive(Debug, Serialize)]
struct Missing {
    slot: u64,
    hash: String,
}

impl Missing {
    fn all(survey: &Survey) -> Vec<Self> {
        survey.missing.iter().map(|id| Self { slot: id.slot.0, hash: hex(&id.hash.0) }).collect()
    }
}

#[derive(Debug, Serialize)]
struct List {
    folder: PathBuf,
    cluster: Option<String>,
    segments: usize,
    bytes: u64,
    blocks: Vec<Listed>,
    missing: Vec<Missing>,
}

impl ListArgs {
    fn run(self) -> Result<(), CliError> {
        self.slots.check()?;
        let (_, survey) = self.source.survey()?;
        let list = List {
            folder: self.source.folder(),
            cluster: survey.parameters.map(|parameters| hex(&parameters.cluster.0)),
            segments: survey.segments.len(),
            bytes: survey.segments.iter().map(|(_, bytes)| bytes).sum(),
            blocks: survey.blocks.values().filter(|block| self.slots.contain(block)).map(Listed::new).collect(),
            missing: Missing::all(&survey),
        };
        print(&match self.output {
            OutputForm::Text => list.text(),
            OutputForm::Json => json(&list),
        })
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("its keys are strings") + "\n"
}

impl List {
    fn text(&self) -> String {
        let mut text = String::new();
        for Listed { slot, hash, parent_slot, finality, bytes, .. } in &self.blocks {
            writeln!(text, "slot {slot:<8} {hash}  on slot {parent_slot:<8} {finality:<10} {bytes:>10} bytes")
                .expect("strings take any text");
        }
        let Self { blocks, segments, bytes, missing, .. } = self;
        let (blocks, missing) = (blocks.len(), missing.len());
        writeln!(text, "{blocks} blocks; {segments} segments of {bytes} bytes; {missing} final blocks missing")
            .expect("strings take any text");
        text
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    listed: Listed,
    payload_bytes: usize,
    transactions: usize,
    slices: Vec<ShownSlice>,
    certificates: Vec<ShownCertificate>,
}

#[derive(Debug, Serialize)]
struct ShownSlice {
    root: String,
    leader_stamp_ns: u64,
    payload_bytes: usize,
}

#[derive(Debug, Serialize)]
struct ShownCertificate {
    kind: String,
    signers: usize,
    signature: String,
}

impl Shown {
    fn new(logged: &LoggedBlock, block: &Block, certificates: &[Arc<Certificate>]) -> Self {
        let slices = block.slices.iter().map(|slice| ShownSlice {
            root: hex(&slice.root.0),
            leader_stamp_ns: slice.leader_stamp_ns,
            payload_bytes: slice.payload.len(),
        });
        let certificates = certificates.iter().map(|certificate| ShownCertificate {
            kind: format!("{:?}", certificate.statement.kind()).to_lowercase(),
            signers: certificate.signers.len(),
            signature: hex(&certificate.signature.0),
        });
        Self {
            listed: Listed::new(logged),
            payload_bytes: block.payload_bytes(),
            transactions: block.transactions().count(),
            slices: slices.collect(),
            certificates: certificates.collect(),
        }
    }

    fn text(&self) -> String {
        let Self { listed, payload_bytes, transactions, slices, certificates } = self;
        let Listed { slot, hash, parent_slot, parent_hash, finality, .. } = listed;
        let mut text = format!(
            "slot {slot}\n  hash    {hash}\n  parent  {parent_hash} of slot {parent_slot}\n  {finality}, {transactions} transactions, {payload_bytes} bytes of payload\n"
        );
        for (index, slice) in slices.iter().enumerate() {
            writeln!(text, "  slice {index:<4} {}  {} bytes", slice.root, slice.payload_bytes)
                .expect("strings take any text");
        }
        for certificate in certificates {
            writeln!(text, "  {} certificate of {} validators", certificate.kind, certificate.signers)
                .expect("strings take any text");
        }
        text
    }
}

fn corrupt(defect: Defect) -> CliError {
    CliError::Failed(format!("{}; see `alpenglow blocks verify`", describe(&defect)))
}

fn describe(defect: &Defect) -> String {
    let block =
        defect.block.map_or_else(String::new, |block| format!(" (block {} of slot {})", block.hash, block.slot));
    format!("{} at byte {}{block}: {}", defect.file.display(), defect.at, defect.what)
}

/// A block, and its certificates.
type Read = (Block, Vec<Arc<Certificate>>);

/// `None` if it went away meanwhile.
fn read(reader: &Reader, logged: &LoggedBlock, validators: usize) -> Result<Option<Read>, Defect> {
    let Some(block) = reader.block(logged)? else { return Ok(None) };
    Ok(Some((block, reader.certificates(logged, validators)?)))
}

impl ShowArgs {
    fn run(self) -> Result<(), CliError> {
        let (reader, survey) = self.source.survey()?;
        let validators = survey.parameters.map_or(0, |parameters| parameters.validators);
        let mut shown = Vec::new();
        for logged in survey.blocks.values().filter(|block| block.id.slot.0 == self.slot) {
            let read = read(&reader, logged, validators).map_err(corrupt)?;
            shown.extend(read.map(|(block, certificates)| Shown::new(logged, &block, &certificates)));
        }
        if shown.is_empty() {
            let ends = survey.blocks.first_key_value().zip(survey.blocks.last_key_value());
            let held = ends.map_or_else(
                || "no block at all".to_owned(),
                |((first, _), (last, _))| format!("blocks from slot {} to {}", first.slot, last.slot),
            );
            let slot = self.slot;
            return Err(CliError::Failed(format!(
                "no block of slot {slot} is there: it was skipped, or is not kept; the log has {held}"
            )));
        }
        print(&match self.output {
            OutputForm::Text => shown.iter().map(Shown::text).collect(),
            OutputForm::Json => json(&shown),
        })
    }
}

/// What was checked.
#[derive(Debug, Serialize)]
struct Verification {
    folder: PathBuf,
    cluster: Option<String>,
    /// Whether certificates were checked from their signatures up.
    signatures_checked: bool,
    blocks: usize,
    final_blocks: usize,
    certificates: usize,
    /// Final blocks above the last one with certificates.
    not_certified_yet: usize,
    missing: Vec<Missing>,
    corrupt: Vec<Corrupt>,
    /// Where the last record begins if it is incomplete.
    incomplete_at: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Corrupt {
    file: PathBuf,
    at: u64,
    slot: Option<u64>,
    what: String,
}

impl VerifyArgs {
    fn run(self) -> Result<(), CliError> {
        let genesis = self.genesis.as_deref().map(genesis::load).transpose().map_err(CliError::failed)?;
        let (reader, survey) = self.source.survey()?;
        let verification = self.verify(&reader, survey, genesis.as_ref())?;
        print(&match self.output {
            OutputForm::Text => verification.text(),
            OutputForm::Json => json(&verification),
        })?;
        match verification.corrupt.len() {
            0 => Ok(()),
            count => Err(CliError::Failed(format!(
                "the block log is corrupt in {count} places; a node that runs with it fetches what is lost from others"
            ))),
        }
    }

    fn verify(&self, reader: &Reader, mut survey: Survey, genesis: Option<&Genesis>) -> Result<Verification, CliError> {
        let mut defects = std::mem::take(&mut survey.defects);
        let mut certificates = 0;
        if let Some(parameters) = survey.parameters {
            let mut check = Check::new(parameters, genesis)?;
            for logged in survey.blocks.values() {
                match check.block(reader, logged) {
                    Ok(count) => certificates += count,
                    Err(defect) => defects.push(defect),
                }
            }
        }
        let contradictions = survey.contradictions();
        defects.extend(contradictions.into_iter().map(|(one, other)| contradiction(reader, &survey, one, other)));
        Ok(Verification {
            folder: self.source.folder(),
            cluster: survey.parameters.map(|parameters| hex(&parameters.cluster.0)),
            signatures_checked: genesis.is_some(),
            blocks: survey.blocks.len(),
            final_blocks: survey.blocks.values().filter(|block| block.finality.is_some()).count(),
            certificates,
            not_certified_yet: survey.unproven(),
            missing: Missing::all(&survey),
            corrupt: defects.into_iter().map(Corrupt::new).collect(),
            incomplete_at: survey.incomplete_at.map(|(_, at)| at),
        })
    }
}

fn contradiction(reader: &Reader, survey: &Survey, one: BlockId, other: BlockId) -> Defect {
    let above = &survey.blocks[&other];
    Defect {
        file: reader.path(above.segment),
        at: above.at,
        block: Some(other),
        what: format!("it cannot be final beside block {} of slot {}", one.hash, one.slot),
    }
}

impl Corrupt {
    fn new(defect: Defect) -> Self {
        let Defect { file, at, block, what } = defect;
        Self { file, at, slot: block.map(|block| block.slot.0), what }
    }
}

/// What blocks are checked with.
struct Check {
    parameters: LogParameters,
    recoder: Recoder,
    checker: Option<Checker>,
}

impl Check {
    fn new(parameters: LogParameters, genesis: Option<&Genesis>) -> Result<Self, CliError> {
        if let Some(genesis) = genesis
            && genesis.cluster != parameters.cluster
        {
            return Err(CliError::Failed(format!(
                "the block log is of cluster {}, the genesis file makes cluster {}; give the genesis file that the node runs with",
                hex(&parameters.cluster.0),
                hex(&genesis.cluster.0)
            )));
        }
        let checker = genesis.map(|genesis| {
            Checker::new(genesis.cluster, Arc::clone(&genesis.voting_keys), Arc::clone(&genesis.stakes))
        });
        let recoder = Recoder::new(parameters.coding, parameters.cluster);
        Ok(Self { parameters, recoder, checker })
    }

    /// How many certificates it has, all of which hold.
    fn block(&mut self, reader: &Reader, logged: &LoggedBlock) -> Result<usize, Defect> {
        let Some((block, certificates)) = read(reader, logged, self.parameters.validators)? else { return Ok(0) };
        let defect = |what: String| {
            let (file, block) = (reader.path(logged.segment), Some(logged.id));
            Err(Defect { file, at: logged.at, block, what })
        };
        match shred_again(&block, &mut self.recoder) {
            Some(hash) if hash == logged.id.hash => {}
            Some(hash) => return defect(format!("its slices, shredded again, make block {hash}")),
            None => return defect("a slice is longer than this cluster's slices".to_owned()),
        }
        if let Some(checker) = &mut self.checker {
            for certificate in &certificates {
                let job = CheckJob::certificate(UnverifiedCertificate((**certificate).clone()), ValidatorIndex(0));
                if !matches!(checker.check(job), CheckVerdict::Certificate { .. }) {
                    let kind = certificate.statement.kind();
                    return defect(format!("its {kind:?} certificate does not hold").to_lowercase());
                }
            }
        }
        Ok(certificates.len())
    }
}

impl Verification {
    fn text(&self) -> String {
        let mut text = String::new();
        let write = &mut text;
        for Corrupt { file, at, slot, what } in &self.corrupt {
            let slot = slot.map_or_else(String::new, |slot| format!(" (slot {slot})"));
            writeln!(write, "corrupt: {} at byte {at}{slot}: {what}", file.display()).expect("strings take any text");
        }
        for Missing { slot, hash } in &self.missing {
            writeln!(write, "missing: block {hash} of slot {slot}").expect("strings take any text");
        }
        if let Some(at) = self.incomplete_at {
            writeln!(write, "the last record, at byte {at}, is incomplete: it is being written, or a crash tore it")
                .expect("strings take any text");
        }
        let how =
            if self.signatures_checked { "with their signatures" } else { "without their signatures (--genesis)" };
        let Self { blocks, final_blocks, certificates, not_certified_yet, missing, corrupt, .. } = self;
        writeln!(
            write,
            "{blocks} blocks, {final_blocks} of them final ({not_certified_yet} wait for a certificate); {certificates} certificates checked, {how}; {} corrupt, {} missing",
            corrupt.len(),
            missing.len()
        )
        .expect("strings take any text");
        text
    }
}

/// A block as it is exported.
#[derive(Debug, Serialize)]
struct Exported {
    slot: u64,
    hash: String,
    parent_slot: u64,
    parent_hash: String,
    slices: Vec<ExportedSlice>,
    /// As they travel.
    certificates: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ExportedSlice {
    root: String,
    leader_stamp_ns: u64,
    payload: String,
}

impl Exported {
    fn new(block: &Block, certificates: Vec<Arc<Certificate>>) -> Self {
        let slices = block.slices.iter().map(|slice| ExportedSlice {
            root: hex(&slice.root.0),
            leader_stamp_ns: slice.leader_stamp_ns,
            payload: hex(&slice.payload),
        });
        Self {
            slot: block.id.slot.0,
            hash: hex(&block.id.hash.0),
            parent_slot: block.parent.slot.0,
            parent_hash: hex(&block.parent.hash.0),
            slices: slices.collect(),
            certificates: certificates.into_iter().map(|held| hex(&Message::Certificate(held).encode())).collect(),
        }
    }
}

impl ExportArgs {
    fn run(self) -> Result<(), CliError> {
        self.slots.check()?;
        let (reader, survey) = self.source.survey()?;
        let output: Box<dyn Write> = match &self.out {
            None => Box::new(io::stdout().lock()),
            Some(path) => Box::new(File::create(path).map_err(|error| cannot_write(Some(path), &error))?),
        };
        let mut output = BufWriter::new(output);
        let validators = survey.parameters.map_or(0, |parameters| parameters.validators);
        let finals = survey.blocks.values().filter(|block| block.finality.is_some() && self.slots.contain(block));
        for logged in finals {
            let Some((block, certificates)) = read(&reader, logged, validators).map_err(corrupt)? else { continue };
            let line = serde_json::to_string(&Exported::new(&block, certificates)).expect("its keys are strings");
            writeln!(output, "{line}").map_err(|error| cannot_write(self.out.as_deref(), &error))?;
        }
        output.flush().map_err(|error| cannot_write(self.out.as_deref(), &error))
    }
}

fn cannot_write(path: Option<&Path>, error: &io::Error) -> CliError {
    let to = path.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    CliError::Failed(format!("cannot write to {to}: {error}; check where it leads"))
}
