//! `alpenglow node`: runs one validator.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::config::{self, ConfigFlags};
use crate::node;

/// Runs one validator until it gets SIGTERM or SIGINT.
///
/// The config file, the keys and the genesis file are what `alpenglow genesis` writes. When the node stops it leaves
/// report.json in its data folder: latency histograms of every stage and counts of everything dropped, by reason.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  alpenglow node --config cluster/node-0/node.toml")]
pub(crate) struct NodeArgs {
    /// The node's config file; every key of it is explained in the file itself
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Write what happens to standard output, one JSON object a line: ready, decided, applied
    #[arg(long)]
    events: bool,
    #[command(flatten)]
    flags: ConfigFlags,
}

impl NodeArgs {
    /// Runs it.
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = config::load(&self.config, &self.flags).map_err(CliError::failed)?;
        node::run(config, self.events).map_err(CliError::failed)
    }
}
