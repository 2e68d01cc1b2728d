//! `alpenglow blocks show`.

use std::fmt::Write as _;
use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::certificate::Certificate;
use clap::Args;
use serde::Serialize;

use super::{Listed, Source, corrupt, corrupt_places, json, read, validators};
use crate::cli::cluster::OutputForm;
use crate::cli::{CliError, print};
use crate::encoding::hex;
use crate::storage::block_log::{LoggedBlock, Survey};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  alpenglow blocks show 17 --data cluster/node-0/data")]
pub(super) struct ShowArgs {
    /// The slot
    slot: u64,
    #[command(flatten)]
    source: Source,
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = OutputForm::Text)]
    output: OutputForm,
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

impl ShowArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let (reader, survey) = self.source.survey()?;
        let validators = validators(&survey)?;
        let mut shown = Vec::new();
        for logged in survey.blocks.values().filter(|block| block.id.slot.0 == self.slot) {
            let read = read(&reader, logged, validators).map_err(corrupt)?;
            shown.extend(read.map(|(block, certificates)| Shown::new(logged, &block, &certificates)));
        }
        if shown.is_empty() {
            return Err(CliError::Failed(self.not_there(&survey)));
        }
        print(&match self.output {
            OutputForm::Text => shown.iter().map(Shown::text).collect(),
            OutputForm::Json => json(&shown),
        })
    }

    fn not_there(&self, survey: &Survey) -> String {
        let slot = self.slot;
        if survey.missing.iter().any(|id| id.slot.0 == slot) {
            return format!(
                "the block of slot {slot} is final and not in the log; a node that runs with it fetches it from others"
            );
        }
        let ends = survey.blocks.first_key_value().zip(survey.blocks.last_key_value());
        let held = ends.map_or_else(
            || "no block at all".to_owned(),
            |((first, _), (last, _))| format!("blocks from slot {} to {}", first.slot, last.slot),
        );
        let corrupt = corrupt_places(survey);
        format!("no block of slot {slot} is there: it was skipped, or is not kept; the log has {held}{corrupt}")
    }
}
