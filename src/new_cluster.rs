//! Makes a new cluster's files: the genesis file, and for each validator a folder `node-I` with its keys and config.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use alpenglow_rotor::types::{ClusterId, Stake, ValidatorIndex};

use crate::config::NewConfig;
use crate::genesis::{self, ClusterParameters, GENESIS_FILE, GenesisDefect, GenesisFile};
use crate::keys::{self, IDENTITY_FILE, KeyError, VOTING_KEY_FILE};

/// Name of a node's config file in its folder.
const CONFIG_FILE: &str = "node.toml";
/// Name of the folder for what a node writes, in its folder.
const DATA_FOLDER: &str = "data";

/// The files of a cluster just made.
#[derive(Debug)]
pub(crate) struct NewCluster {
    folder: PathBuf,
    genesis: GenesisFile,
    id: ClusterId,
}

/// A validator of a new cluster.
#[derive(Clone, Debug)]
pub(crate) struct NewValidator {
    /// Its stake.
    pub(crate) stake: Stake,
    /// Its config. The others are told to reach it where it binds.
    pub(crate) config: NewConfig,
}

/// Why a cluster is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewClusterError {
    /// No cluster can have these parameters.
    #[error("such a cluster cannot be: {0}; change the flags that say so")]
    Parameters(#[from] GenesisDefect),
    /// A key cannot be made or written.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file or folder is there already.
    #[error("{0} is there already: choose a new folder with --out; existing files are never overwritten")]
    Exists(PathBuf),
    /// The file system refuses.
    #[error("cannot write {path}: {source}; choose another folder with --out")]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NewCluster {
    /// Makes keys for `validators`, at least one, and writes everything into `folder`, which is created if it is missing.
    /// Their index is their position.
    ///
    /// # Errors
    /// [`NewClusterError`]; files written until then stay.
    pub(crate) fn create(
        folder: &Path,
        parameters: &ClusterParameters,
        validators: &[NewValidator],
    ) -> Result<Self, NewClusterError> {
        let path = folder.join(GENESIS_FILE);
        if path.exists() {
            return Err(NewClusterError::Exists(path));
        }
        let mut genesis = GenesisFile::new(parameters);
        let mut secret_keys = Vec::with_capacity(validators.len());
        for validator in validators {
            let (identity, voting_key) = (keys::new_identity()?, keys::new_bls()?);
            genesis.add_validator(&identity, &voting_key, validator.stake);
            secret_keys.push((identity, voting_key));
        }
        genesis.check_new()?;
        fs::create_dir_all(folder).map_err(write_error(folder))?;
        let addresses: Vec<SocketAddr> = validators.iter().map(|validator| validator.config.bind).collect();
        for ((index, validator), (identity, voting_key)) in validators.iter().enumerate().zip(&secret_keys) {
            let node = node_folder(folder, index);
            fs::create_dir(&node).map_err(write_error(&node))?;
            keys::write_identity(&node, identity)?;
            keys::write_bls(&node, voting_key)?;
            let path = node.join(CONFIG_FILE);
            fs::write(&path, config_text(&validator.config, &addresses)).map_err(write_error(&path))?;
        }
        let mut cluster = Self { folder: folder.to_owned(), genesis, id: ClusterId([0; 32]) };
        cluster.write_genesis()?;
        Ok(cluster)
    }

    /// SHA-256 of the genesis file.
    pub(crate) const fn id(&self) -> ClusterId {
        self.id
    }

    /// A validator's config file.
    pub(crate) fn config(&self, validator: ValidatorIndex) -> PathBuf {
        self.node_folder(validator).join(CONFIG_FILE)
    }

    /// A validator's folder.
    pub(crate) fn node_folder(&self, validator: ValidatorIndex) -> PathBuf {
        node_folder(&self.folder, validator.get())
    }

    /// The folder for what a validator writes, as its config says.
    pub(crate) fn data_folder(&self, validator: ValidatorIndex) -> PathBuf {
        self.node_folder(validator).join(DATA_FOLDER)
    }

    /// Writes the genesis file anew with another start time. That makes it another cluster, with another id: no node of it
    /// may be running.
    ///
    /// # Errors
    /// [`NewClusterError::Write`], or [`NewClusterError::Parameters`] for a start time out of range.
    pub(crate) fn set_start_time(&mut self, start_time: SystemTime) -> Result<(), NewClusterError> {
        self.genesis.set_start_time(start_time);
        self.genesis.check_new()?;
        self.write_genesis()
    }

    /// Under another name first, so that the genesis file is never there in part.
    fn write_genesis(&mut self) -> Result<(), NewClusterError> {
        let (path, text) = (self.folder.join(GENESIS_FILE), self.genesis.to_json());
        let unfinished = path.with_extension("json.new");
        fs::write(&unfinished, &text).map_err(write_error(&unfinished))?;
        fs::rename(&unfinished, &path).map_err(write_error(&path))?;
        self.id = genesis::cluster_id(text.as_bytes());
        Ok(())
    }
}

fn node_folder(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("node-{index}"))
}

fn config_text(config: &NewConfig, peers: &[SocketAddr]) -> String {
    let genesis = Path::new("..").join(GENESIS_FILE);
    config.to_toml(Path::new(IDENTITY_FILE), Path::new(VOTING_KEY_FILE), &genesis, Path::new(DATA_FOLDER), peers)
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> NewClusterError {
    move |source| match source.kind() {
        io::ErrorKind::AlreadyExists => NewClusterError::Exists(path.to_owned()),
        _ => NewClusterError::Write { path: path.to_owned(), source },
    }
}
