//! `alpenglow blocks list`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Listed, Missing, Slots, Source, corrupt_places, json};
use crate::cli::cluster::OutputForm;
use crate::cli::{CliError, print};
use crate::encoding::hex;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  alpenglow blocks list --data cluster/node-0/data --from 10 --through 20")]
pub(super) struct ListArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    slots: Slots,
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = OutputForm::Text)]
    output: OutputForm,
}

#[derive(Debug, Serialize)]
struct List {
    folder: PathBuf,
    cluster: Option<String>,
    segments: usize,
    bytes: u64,
    blocks: Vec<Listed>,
    missing: Vec<Missing>,
    /// How many places are, where something may have been that is not listed.
    corrupt: usize,
    #[serde(skip)]
    corrupt_places: String,
}

impl ListArgs {
    pub(super) fn run(self) -> Result<(), CliError> {
        self.slots.check()?;
        let (_, survey) = self.source.survey()?;
        let list = List {
            folder: self.source.folder(),
            cluster: survey.cluster.map(|cluster| hex(&cluster.0)),
            segments: survey.segments.len(),
            bytes: survey.segments.iter().map(|(_, bytes)| bytes).sum(),
            blocks: survey.blocks.values().filter(|block| self.slots.contain(block.id)).map(Listed::new).collect(),
            missing: Missing::all(&survey),
            corrupt: survey.defects.len(),
            corrupt_places: corrupt_places(&survey),
        };
        print(&match self.output {
            OutputForm::Text => list.text(),
            OutputForm::Json => json(&list),
        })
    }
}

impl List {
    fn text(&self) -> String {
        let mut text = String::new();
        for Listed { slot, hash, parent_slot, finality, bytes, .. } in &self.blocks {
            writeln!(text, "slot {slot:<8} {hash}  on slot {parent_slot:<8} {finality:<10} {bytes:>10} bytes")
                .expect("strings take any text");
        }
        let Self { blocks, segments, bytes, missing, corrupt_places, .. } = self;
        let (blocks, missing) = (blocks.len(), missing.len());
        writeln!(
            text,
            "blocks: {blocks}; segments: {segments}, of {bytes} bytes; final blocks missing: {missing}{corrupt_places}"
        )
        .expect("strings take any text");
        text
    }
}
