//! Makes a new cluster's files: the genesis file, and for each validator a folder `node-I` with its keys and config.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use alpenglow_rotor::schedule::LeaderSchedule;
use alpenglow_rotor::types::{ClusterId, Stake, ValidatorIndex};

use crate::config::NewConfig;
use crate::genesis::{self, ClusterParameters, GENESIS_FILE, GenesisDefect, GenesisFile};
use crate::keys::{self, IDENTITY_FILE, KeyError, VOTING_KEY_FILE};
use crate::storage::vote_log::{self, Owner, VoteLogError};

/// Name of a node's config file in its folder.
const CONFIG_FILE: &str = "node.toml";
/// Name of the folder for what a node writes, in its folder.
const DATA_FOLDER: &str = "data";

/// The files of a cluster just made.
#[derive(Debug)]
pub(crate) struct NewCluster {
    folder: PathBuf,
    genesis: GenesisFile,
    identities: Vec<[u8; 32]>,
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
    /// A data folder cannot be made ready.
    #[error(transparent)]
    VoteLog(#[from] VoteLogError),
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
    /// Makes keys for `validators`, at least one, and writes everything into `folder`, which is created if it is
    /// missing. Their index is their position.
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
        genesis.set_epochs(&parameters.epochs);
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
        let identities = secret_keys.iter().map(|(identity, _)| identity.verifying_key().to_bytes()).collect();
        let mut cluster = Self { folder: folder.to_owned(), genesis, identities, id: ClusterId([0; 32]) };
        cluster.write_genesis()?;
        cluster.make_data_folders()?;
        Ok(cluster)
    }

    /// SHA-256 of the genesis file.
    pub(crate) const fn id(&self) -> ClusterId {
        self.id
    }

    /// Who leads which slot.
    ///
    /// # Errors
    /// [`NewClusterError::Parameters`], never after [`Self::create`].
    pub(crate) fn leader_schedule(&self) -> Result<LeaderSchedule, NewClusterError> {
        Ok(self.genesis.check(self.id)?.leader_schedule())
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

    /// Writes the genesis file anew with another start time. That makes it another cluster, with another id, and
    /// whatever its nodes wrote is removed: none of them may be running.
    ///
    /// # Errors
    /// [`NewClusterError::Write`], or [`NewClusterError::Parameters`] for a start time out of range.
    pub(crate) fn set_start_time(&mut self, start_time: SystemTime) -> Result<(), NewClusterError> {
        self.genesis.set_start_time(start_time);
        self.genesis.check_new()?;
        self.write_genesis()?;
        for index in 0..self.identities.len() {
            let data = node_folder(&self.folder, index).join(DATA_FOLDER);
            fs::remove_dir_all(&data).map_err(write_error(&data))?;
        }
        self.make_data_folders()
    }

    /// The validators' keys are new: none of them has ever voted.
    fn make_data_folders(&self) -> Result<(), NewClusterError> {
        for (index, &identity) in self.identities.iter().enumerate() {
            let data = node_folder(&self.folder, index).join(DATA_FOLDER);
            vote_log::initialize(&data, &Owner { cluster: self.id, identity })?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::config::{self, ConfigFlags};

    fn validators() -> Vec<NewValidator> {
        let config = |port: u16| NewConfig::at(([127, 0, 0, 1], port).into());
        [(5, 8_000), (1, 8_001), (1, 8_002)]
            .map(|(stake, port)| NewValidator { stake: Stake(stake), config: config(port) })
            .to_vec()
    }

    #[test]
    fn every_validator_of_a_new_cluster_can_start_from_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cluster =
            NewCluster::create(&folder.path().join("a/b"), &ClusterParameters::example(), &validators()).unwrap();
        for index in (0..3).map(ValidatorIndex) {
            let config = config::load(&cluster.config(index), &ConfigFlags::default()).unwrap();
            let genesis = genesis::load(&config.genesis).unwrap();
            assert_eq!(genesis.cluster, cluster.id());
            let identity = keys::load_identity(&config.identity).unwrap();
            let voting_key = keys::load_bls(&config.bls_key).unwrap();
            assert_eq!(genesis.own_index(&identity, &voting_key), Ok(index));
            let addresses = config.addresses(&genesis.validators, index).unwrap();
            assert_eq!(addresses.iter().map(SocketAddr::port).collect::<Vec<_>>(), [8_000, 8_001, 8_002]);
            assert_eq!(config.data, cluster.data_folder(index));
        }
    }

    #[test]
    fn another_start_time_is_another_cluster_of_the_same_validators() {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = NewCluster::create(folder.path(), &ClusterParameters::example(), &validators()).unwrap();
        let (before, start_time) = (cluster.id(), UNIX_EPOCH + Duration::from_secs(1_000));
        cluster.set_start_time(start_time).unwrap();
        let genesis = genesis::load(&folder.path().join(GENESIS_FILE)).unwrap();
        assert_eq!((genesis.cluster, genesis.start_time), (cluster.id(), start_time));
        assert_ne!(genesis.cluster, before);
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        NewCluster::create(folder.path(), &ClusterParameters::example(), &validators()).unwrap();
        let again = || NewCluster::create(folder.path(), &ClusterParameters::example(), &validators()).unwrap_err();
        assert!(matches!(again(), NewClusterError::Exists(path) if path.ends_with(GENESIS_FILE)));
        fs::remove_file(folder.path().join(GENESIS_FILE)).unwrap();
        assert!(matches!(again(), NewClusterError::Exists(path) if path.ends_with("node-0")));
    }

    #[test]
    fn parameters_that_no_cluster_can_have_are_refused_before_anything_is_written() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("cluster");
        let wrong = ClusterParameters { delta_block: Duration::ZERO, ..ClusterParameters::example() };
        assert!(matches!(
            NewCluster::create(&folder, &wrong, &validators()),
            Err(NewClusterError::Parameters(GenesisDefect::Range { key: "delta_block_ms", .. }))
        ));
        assert!(matches!(
            NewCluster::create(&folder, &ClusterParameters::example(), &[]),
            Err(NewClusterError::Parameters(_))
        ));
        assert!(!folder.exists());
    }
}
