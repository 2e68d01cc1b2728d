//! `alpenglow genesis`: makes the files of a new cluster.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::{VALIDATORS_MAX, ValidatorIndex};
use clap::{Args, value_parser};

use super::coding::CodingArgs;
use super::epochs::EpochArgs;
use super::{CliError, print};
use crate::config::NewConfig;
use crate::encoding::hex;
use crate::epoch_stakes::EpochParameters;
use crate::genesis::{ClusterParameters, DELTA_BLOCK_MS_MAX, DELTA_TIMEOUT_MS_MAX, ScheduleName, parse_seed};
use crate::new_cluster::{NewCluster, NewClusterError, NewValidator};
use crate::stakes::StakeDistribution;

/// Configs shown as examples of how to start a node.
const NODES_SHOWN: usize = 3;

/// Makes the files of a new cluster: what its validators agree on, their keys and their configs.
///
/// Writes into a folder: genesis.json, of which every validator needs an exact copy (its SHA-256 is the cluster's id),
/// and for each validator a folder node-0, node-1, ... with identity.json, bls.json (both secret, readable by you only)
/// and node.toml, in which every key is explained. The nodes get consecutive UDP ports on one host; for more hosts,
/// give each node its folder and change `bind` and `peers` in its node.toml.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct GenesisArgs {
    /// Number of validators, 1 to 2000
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=VALIDATORS_MAX as i64))]
    validators: u16,
    /// Stakes: equal, mainnet (the proportions of Solana mainnet, scaled to N validators), or a list as in 5,1,1
    #[arg(long, default_value_t)]
    stakes: StakeDistribution,
    /// How leaders follow each other
    #[arg(long, value_enum, default_value_t)]
    schedule: ScheduleName,
    /// Time for one block (delta_block), in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 400)]
    #[arg(value_parser = value_parser!(u64).range(1..=DELTA_BLOCK_MS_MAX))]
    block_ms: u64,
    /// Time for a window's first block to arrive, besides (delta_timeout), in milliseconds [default: 3 times
    /// --block-ms]
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(1..=DELTA_TIMEOUT_MS_MAX))]
    timeout_ms: Option<u64>,
    #[command(flatten)]
    epochs: EpochArgs,
    #[command(flatten)]
    coding: CodingArgs,
    /// When the first slot starts, in milliseconds from now; a node that is started later begins at once
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    #[arg(value_parser = value_parser!(u64).range(..=31_536_000_000))]
    start_in_ms: u64,
    /// What leaders and relays are drawn from: a number or 64 hexadecimal digits [default: random]
    #[arg(long, value_name = "SEED", value_parser = parse_seed)]
    seed: Option<EpochSeed>,
    /// UDP port of the first validator; each of the others has the next one
    #[arg(long, value_name = "PORT", default_value_t = 8_000, value_parser = value_parser!(u16).range(1..))]
    base_port: u16,
    /// IP address of all validators
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Folder to write into, created if it is missing; nothing in it is overwritten
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

const AFTER_HELP: &str = "\
Examples:
  alpenglow genesis --validators 4 --out cluster
  alpenglow genesis --validators 3 --stakes 5,1,1 --schedule round-robin --seed 7 --out cluster
  alpenglow genesis --validators 5 --epoch 0:4=0 --epoch 2:4=1,0=0 --out cluster    4 takes the place of 0
  alpenglow genesis --validators 20 --code leopard16 --total-shreds 320 --datagram-bytes 1472 --out cluster";

impl GenesisArgs {
    /// Runs it.
    ///
    /// # Errors
    /// [`CliError`].
    pub(crate) fn run(self) -> Result<(), CliError> {
        let (validators, epochs) = self.validators()?;
        let parameters = self.parameters(epochs)?;
        let cluster = NewCluster::create(&self.out, &parameters, &validators).map_err(|error| match error {
            NewClusterError::Parameters(defect) => CliError::usage(defect),
            error => CliError::failed(error),
        })?;
        print(&self.summary(&cluster))
    }

    fn validators(&self) -> Result<(Vec<NewValidator>, EpochParameters), CliError> {
        let count = usize::from(self.validators);
        let stakes = self.stakes.stakes(count).map_err(|error| CliError::usage(format!("--stakes: {error}")))?;
        let (stakes, epochs) = self.epochs.parameters(stakes)?;
        let ports = self.base_port..=self.base_port.saturating_add(self.validators - 1);
        if ports.len() != count {
            let last = u32::from(self.base_port) + u32::from(self.validators) - 1;
            return Err(CliError::usage(format!(
                "--base-port: ports end at 65535, the last validator would have {last}"
            )));
        }
        let validators = stakes.into_iter().zip(ports).map(|(stake, port)| {
            let config = NewConfig::at(SocketAddr::new(self.host, port));
            NewValidator { stake, config }
        });
        Ok((validators.collect(), epochs))
    }

    fn parameters(&self, epochs: EpochParameters) -> Result<ClusterParameters, CliError> {
        let seed = match self.seed {
            Some(seed) => seed,
            None => random_seed()?,
        };
        Ok(ClusterParameters {
            schedule: self.schedule,
            seed,
            epochs,
            coding: self.coding.parameters()?,
            delta_block: Duration::from_millis(self.block_ms),
            delta_timeout: Duration::from_millis(self.timeout_ms.unwrap_or(3 * self.block_ms)),
            start_time: SystemTime::now() + Duration::from_millis(self.start_in_ms),
        })
    }

    fn summary(&self, cluster: &NewCluster) -> String {
        let (count, out) = (self.validators, self.out.display());
        let mut text = format!("cluster {} of {count} validators in {out}\n", hex(&cluster.id().0));
        let start_in = Duration::from_millis(self.start_in_ms);
        write!(text, "The first slot starts in {start_in:?}. Start the nodes:\n\n").expect("strings take any text");
        for index in (0..count).take(NODES_SHOWN) {
            let config = cluster.config(ValidatorIndex(index));
            writeln!(text, "  alpenglow node --config {}", config.display()).expect("strings take any text");
        }
        if usize::from(count) > NODES_SHOWN {
            text += "  ...\n";
        }
        text
    }
}

pub(super) fn random_seed() -> Result<EpochSeed, CliError> {
    let mut seed = [0; 32];
    match getrandom::fill(&mut seed) {
        Ok(()) => Ok(EpochSeed(seed)),
        Err(error) => Err(CliError::Failed(format!("no random seed from the operating system: {error}; give --seed"))),
    }
}
