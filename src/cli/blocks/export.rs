//! `alpenglow blocks export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::certificate::Certificate;
use alpenglow_control::message::Message;
use clap::Args;
use serde::Serialize;

use super::{Slots, Source, corrupt, corrupt_places, read, validators};
use crate::cli::{CliError, written};
use crate::encoding::hex;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  alpenglow blocks export --data cluster/node-0/data --from 10 --through 20 | jq .hash"
)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    slots: Slots,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
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
    pub(super) fn run(self) -> Result<(), CliError> {
        self.slots.check()?;
        let (reader, survey) = self.source.survey()?;
        let validators = validators(&survey)?;
        let output: Box<dyn Write> = match &self.out {
            None => Box::new(io::stdout().lock()),
            Some(path) => Box::new(File::create(path).map_err(|error| cannot_write(path, &error))?),
        };
        let mut output = BufWriter::new(output);
        let finals = survey.blocks.values().filter(|block| block.finality.is_some() && self.slots.contain(block.id));
        for logged in finals {
            let Some((block, certificates)) = read(&reader, logged, validators).map_err(corrupt)? else { continue };
            let line = serde_json::to_string(&Exported::new(&block, certificates)).expect("its keys are strings");
            if let Err(error) = writeln!(output, "{line}") {
                return self.ended(Err(error));
            }
        }
        self.ended(output.flush())?;
        let missing = survey.missing.iter().filter(|id| self.slots.contain(**id)).count();
        if missing > 0 || survey.is_unreadable() {
            return Err(CliError::Failed(format!(
                "{missing} final blocks of these slots are not in the log{}; a node that runs with it fetches them from others",
                corrupt_places(&survey)
            )));
        }
        Ok(())
    }

    /// What became of writing.
    fn ended(&self, result: io::Result<()>) -> Result<(), CliError> {
        match &self.out {
            None => written(result),
            Some(path) => result.map_err(|error| cannot_write(path, &error)),
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    CliError::Failed(format!("cannot write to {}: {error}; give another file with --out", path.display()))
}
