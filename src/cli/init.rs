//! `alpenglow init`: makes a data folder ready for a node's first start.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, print};
use crate::config::{self, ConfigFlags};
use crate::genesis;
use crate::keys;
use crate::storage::data_folder::DataFolder;
use crate::storage::vote_log::{self, Owner};

/// Makes a data folder ready for a node that has never voted with its keys in this cluster.
///
/// A node remembers its votes in its data folder, so that it never signs two that conflict. Where it finds nothing, it
/// cannot know whether it has voted, and does not vote until what it may have voted on is long past. This command says
/// that it has not. `alpenglow genesis` does the same for the nodes it makes. A folder that remembers votes is refused.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  alpenglow init --config my-validator/node.toml")]
pub(crate) struct InitArgs {
    /// The node's config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl InitArgs {
    /// Runs it.
    ///
    /// # Errors
    /// [`CliError`].
    pub(crate) fn run(self) -> Result<(), CliError> {
        let config = config::load(&self.config, &ConfigFlags::default()).map_err(CliError::failed)?;
        let cluster = genesis::load_cluster_id(&config.genesis).map_err(CliError::failed)?;
        let identity = keys::load_identity(&config.identity).map_err(CliError::failed)?;
        let owner = Owner { cluster, identity: identity.verifying_key().to_bytes() };
        let folder = DataFolder::take(&config.data).map_err(CliError::failed)?;
        vote_log::initialize(folder.path(), &owner).map_err(CliError::failed)?;
        print(&format!("{} is ready for the first start\n", config.data.display()))
    }
}
