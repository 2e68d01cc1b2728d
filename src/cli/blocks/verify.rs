//! `alpenglow blocks verify`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use alpenglow_control::certificate::UnverifiedCertificate;
use alpenglow_control::checker::{CheckJob, CheckVerdict, Checker};
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::types::{BlockId, ValidatorIndex};
use clap::Args;
use serde::Serialize;

use super::{Missing, Source, json, read};
use crate::cli::cluster::OutputForm;
use crate::cli::{CliError, print};
use crate::encoding::hex;
use crate::genesis::{self, Genesis};
use crate::storage::block_log::{Defect, LogParameters, LoggedBlock, Loss, Reader, Survey, shred_again};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  alpenglow blocks verify --data cluster/node-0/data --genesis cluster/genesis.json")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    source: Source,
    /// Genesis file of the cluster, to check certificates against its keys
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = OutputForm::Text)]
    output: OutputForm,
}

/// What was checked.
#[derive(Debug, Serialize)]
struct Verification {
    folder: PathBuf,
    cluster: Option<String>,
    /// Whether every final block from the lowest one on is there and holds.
    chain_is_whole: bool,
    /// Whether certificates were checked from their signatures up.
    signatures_checked: bool,
    blocks: usize,
    final_blocks: usize,
    certificates: usize,
    /// Final blocks above the last one with certificates.
    not_certified_yet: usize,
    missing: Vec<Missing>,
    /// Slot of the last final block.
    last_final_slot: Option<u64>,
    /// Slot of the last finalization in the vote log beside it. What lies in between is not there yet, or lost.
    vote_log_final_slot: Option<u64>,
    /// Places that cannot be read.
    corrupt: Vec<Corrupt>,
    /// What can be read and does not hold.
    wrong: Vec<Wrong>,
    /// Where the last record begins if it is incomplete.
    incomplete_at: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Corrupt {
    file: PathBuf,
    at: u64,
    /// Of what was there, if that is known.
    slot: Option<u64>,
    what: String,
    loss: Loss,
}

#[derive(Debug, Serialize)]
struct Wrong {
    file: PathBuf,
    at: u64,
    slot: Option<u64>,
    what: String,
}

impl VerifyArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let genesis = self.genesis.as_deref().map(genesis::load).transpose().map_err(CliError::failed)?;
        let (reader, survey) = self.source.survey()?;
        let verification = self.verify(&reader, &survey, genesis.as_ref())?;
        print(&match self.output {
            OutputForm::Text => verification.text(),
            OutputForm::Json => json(&verification),
        })?;
        match (verification.missing.len(), verification.wrong.len()) {
            (0, 0) if verification.chain_is_whole => Ok(()),
            (0, 0) => Err(CliError::Failed(
                "no segment of the block log can be read; a node that runs with it begins another one".to_owned(),
            )),
            (missing, 0) => Err(CliError::Failed(format!(
                "the block log lacks {missing} final blocks; a node that runs with it fetches them from others"
            ))),
            (_, wrong) => Err(CliError::Failed(format!(
                "{wrong} blocks of the block log do not hold; move the folder away: a new one is made, and its blocks are fetched from others as they are needed"
            ))),
        }
    }

    fn verify(&self, reader: &Reader, survey: &Survey, genesis: Option<&Genesis>) -> Result<Verification, CliError> {
        let (mut wrong, mut certificates) = (Vec::new(), 0);
        if let Some(mut check) = Check::new(survey, genesis)? {
            for logged in survey.blocks.values() {
                match check.block(reader, logged) {
                    Ok(count) => certificates += count,
                    Err(defect) => wrong.push(defect),
                }
            }
        }
        let contradictions = survey.contradictions();
        wrong.extend(contradictions.into_iter().map(|(one, other)| contradiction(reader, survey, one, other)));
        Ok(Verification {
            folder: self.source.folder(),
            cluster: survey.cluster.map(|cluster| hex(&cluster.0)),
            chain_is_whole: survey.missing.is_empty() && wrong.is_empty() && !survey.is_unreadable(),
            signatures_checked: genesis.is_some(),
            blocks: survey.blocks.len(),
            final_blocks: survey.blocks.values().filter(|block| block.finality.is_some()).count(),
            certificates,
            not_certified_yet: survey.unproven(),
            missing: Missing::all(survey),
            last_final_slot: survey.last_final().map(|slot| slot.0),
            vote_log_final_slot: self.source.vote_log_final(survey, genesis).map(|slot| slot.0),
            corrupt: survey.defects.iter().map(|defect| Corrupt::new(defect, survey)).collect(),
            wrong: wrong.into_iter().map(Wrong::new).collect(),
            incomplete_at: survey.incomplete_at.as_ref().map(|(_, at)| *at),
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
    fn new(defect: &Defect, survey: &Survey) -> Self {
        let Defect { file, at, block, what } = defect.clone();
        Self { file, at, slot: block.map(|block| block.slot.0), what, loss: survey.loss(defect) }
    }
}

impl Wrong {
    fn new(Defect { file, at, block, what }: Defect) -> Self {
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
    /// `None` for an empty log.
    fn new(survey: &Survey, genesis: Option<&Genesis>) -> Result<Option<Self>, CliError> {
        let Some(cluster) = survey.cluster else { return Ok(None) };
        if let Some(genesis) = genesis
            && genesis.cluster != cluster
        {
            return Err(CliError::Failed(format!(
                "the block log is of cluster {}, the genesis file makes cluster {}; give the genesis file that the node runs with",
                hex(&cluster.0),
                hex(&genesis.cluster.0)
            )));
        }
        let Some(parameters) = survey.parameters.or_else(|| genesis.map(LogParameters::of_cluster)) else {
            return Err(CliError::Failed(
                "what the blocks of the log are to be read with is corrupt in every segment; give the genesis file that the node runs with (--genesis)".to_owned(),
            ));
        };
        let checker = genesis.map(|genesis| {
            Checker::new(genesis.cluster, Arc::clone(&genesis.voting_keys), Arc::clone(&genesis.stakes))
        });
        let recoder = Recoder::new(parameters.coding, parameters.cluster);
        Ok(Some(Self { parameters, recoder, checker }))
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

const fn describe(loss: Loss) -> &'static str {
    match loss {
        Loss::WrittenAgain => "what it said is written again elsewhere",
        Loss::Nothing => "the chain lacks nothing by it",
        Loss::Missing => "the chain lacks the block",
        Loss::Unknown => "what was there is not known",
    }
}

impl Verification {
    fn text(&self) -> String {
        let mut text = String::new();
        let write = &mut text;
        let of_slot = |slot: &Option<u64>| slot.map_or_else(String::new, |slot| format!(" (slot {slot})"));
        for Corrupt { file, at, slot, what, loss } in &self.corrupt {
            let (file, slot, loss) = (file.display(), of_slot(slot), describe(*loss));
            writeln!(write, "corrupt: {file} at byte {at}{slot}: {what}; {loss}").expect("strings take any text");
        }
        for Wrong { file, at, slot, what } in &self.wrong {
            writeln!(write, "wrong: {} at byte {at}{}: {what}", file.display(), of_slot(slot))
                .expect("strings take any text");
        }
        for Missing { slot, hash } in &self.missing {
            writeln!(write, "missing: block {hash} of slot {slot}").expect("strings take any text");
        }
        if let Some(slot) = self.vote_log_final_slot.filter(|slot| Some(*slot) > self.last_final_slot) {
            let last = self.last_final_slot.map_or_else(String::new, |last| format!(" from slot {} on", last + 1));
            writeln!(write, "blocks up to slot {slot} are final by the vote log: those{last} are not in the block log; a node that runs with it fetches them from others").expect("strings take any text");
        }
        if let Some(at) = self.incomplete_at {
            writeln!(write, "the last record, at byte {at}, is incomplete: it is being written, or a crash tore it")
                .expect("strings take any text");
        }
        let how =
            if self.signatures_checked { "with their signatures" } else { "without their signatures (--genesis)" };
        let chain = if self.chain_is_whole { "the chain is whole" } else { "the chain is not whole" };
        let Self { blocks, final_blocks, certificates, not_certified_yet, missing, corrupt, wrong, .. } = self;
        writeln!(
            write,
            "{blocks} blocks, {final_blocks} of them final ({not_certified_yet} wait for a certificate); {certificates} certificates checked, {how}; {} places corrupt, {} blocks missing, {} wrong: {chain}",
            corrupt.len(),
            missing.len(),
            wrong.len()
        )
        .expect("strings take any text");
        text
    }
}
