//! `alpenglow blocks`: shows, checks and exports the blocks that a node keeps.

mod export;
mod list;
mod show;
mod verify;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::certificate::Certificate;
use alpenglow_control::vote_record::Entry;
use alpenglow_rotor::types::{BlockId, Slot};
use clap::{Args, Subcommand};
use serde::Serialize;

use self::export::ExportArgs;
use self::list::ListArgs;
use self::show::ShowArgs;
use self::verify::VerifyArgs;
use super::CliError;
use crate::encoding::hex;
use crate::genesis::Genesis;
use crate::storage::block_log::{self, Defect, LogParameters, LoggedBlock, Reader, Survey};
use crate::storage::data_folder::expect_kinds;
use crate::storage::vote_log;

/// Shows, checks and exports the blocks that a node keeps in its data folder.
///
/// A node writes every complete block into its block log, then that it is final and the certificates that make it so;
/// see block_log_mib in node.toml. These commands only read, and may be used while the node runs.
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

Exit codes: 0 done, 1 the log cannot be read, or verify or export found that blocks are missing or wrong, 2 wrong flags.";

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists blocks: slot, hash, parent, what makes them final, bytes
    List(ListArgs),
    /// Shows the blocks of a slot with their slices and certificates
    Show(ShowArgs),
    /// Checks everything: checksums, block hashes by shredding again, the chain of parents, certificates
    ///
    /// Without --genesis, that certificates are about their blocks; with it, also their stake and signatures. It fails
    /// if final blocks are missing or do not hold. Missing ones the node left out when the disk was slow or full, or
    /// they were where the log is corrupt: while it runs it fetches them from others and writes them anew. A corrupt
    /// place is named until its segment goes, also when nothing is missing any more. Blocks above the last one that is
    /// there are told of where the vote log has their finalization, and are no failure: a node that runs may be about
    /// to write them. A last record that is incomplete is no corruption: it is being written, or a crash tore it.
    Verify(VerifyArgs),
    /// Writes final blocks as JSON, one object a line: with every slice's payload and every certificate in hexadecimal
    ///
    /// It fails, after it has written those that are there, if the log lacks final blocks of these slots.
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
        if !self.folder().is_dir() {
            return Err(CliError::Failed(format!(
                "there is no block log in {}; give the data folder of a node that has run, `data` in its node.toml",
                self.data.display()
            )));
        }
        expect_kinds(&self.data).map_err(CliError::failed)?;
        let reader = Reader::new(self.folder());
        let survey = reader.survey().map_err(CliError::failed)?;
        Ok((reader, survey))
    }

    /// Slot of the last finalization in the vote log, if that can be read.
    fn vote_log_final(&self, survey: &Survey, genesis: Option<&Genesis>) -> Option<Slot> {
        let parameters = survey.parameters.or_else(|| genesis.map(LogParameters::of_cluster))?;
        let file = File::open(vote_log::path(&self.data)).ok()?;
        let bytes = vote_log::FORMAT.read_bounded(&file).ok()?;
        let contents = vote_log::FORMAT.read(&bytes).ok().filter(|log| log.cluster == parameters.cluster)?;
        let entries = contents.records.iter().filter_map(|record| record.bytes);
        let finalized = entries.filter_map(|entry| match Entry::decode(entry, parameters.validators) {
            Ok(Entry::Finalized(certificates)) => certificates.first().map(|certificate| certificate.statement.slot()),
            _ => None,
        });
        finalized.max()
    }

    fn folder(&self) -> PathBuf {
        block_log::folder(&self.data)
    }
}

impl Slots {
    fn contain(&self, block: BlockId) -> bool {
        (self.from..=self.through).contains(&block.slot.0)
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

/// How many validators the certificates of a log are about; none if it is empty.
fn validators(survey: &Survey) -> Result<usize, CliError> {
    match survey.parameters {
        Some(parameters) => Ok(parameters.validators),
        None if survey.blocks.is_empty() => Ok(0),
        None => Err(CliError::Failed(
            "what the blocks of the log are to be read with is corrupt in every segment; `alpenglow blocks verify --genesis` can still check them"
                .to_owned(),
        )),
    }
}

/// What to add where a corrupt place may be why something is not shown.
fn corrupt_places(survey: &Survey) -> String {
    match survey.defects.len() {
        0 => String::new(),
        places => format!("; {places} places of the log are corrupt, see `alpenglow blocks verify`"),
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

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("its keys are strings") + "\n"
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
