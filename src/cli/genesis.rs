//! `alpenglow genesis`: makes the files of a new cluster.

use std::collections::BTreeMap;
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
use crate::config::{CorePolicy, NewConfig, PollPolicy};
use crate::encoding::hex;
use crate::epoch_stakes::EpochParameters;
use crate::genesis::{ClusterParameters, DELTA_BLOCK_MS_MAX, DELTA_TIMEOUT_MS_MAX, ScheduleName, parse_seed};
use crate::new_cluster::{NewCluster, NewClusterError, NewValidator};
use crate::stakes::StakeDistribution;

/// Configs shown as examples of how to start a node.
const NODES_SHOWN: usize = 5;

/// Makes the files of a new cluster: what its validators agree on, their keys and their configs.
///
/// Writes into a folder: genesis.json, of which every validator needs an exact copy (its SHA-256 is the cluster's id),
/// and for each validator a folder node-0, node-1, ... with identity.json, bls.json (both secret, readable by you only)
/// and node.toml, in which every key is explained. A node needs genesis.json and its own folder beside it, and nothing
/// else: on its host, or all on this one.
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
    /// UDP port of the first validator on each address; each of the others there has the next one
    #[arg(long, value_name = "PORT", default_value_t = 8_000, value_parser = value_parser!(u16).range(1..))]
    base_port: u16,
    /// IP address of all validators, or one for each, as in 10.0.0.1,10.0.0.2. Where several share one, their threads
    /// are not pinned and wait in the kernel, since none has the cores for itself
    #[arg(long, value_name = "IP,...", value_delimiter = ',', default_value = "127.0.0.1")]
    host: Vec<IpAddr>,
    /// Folder to write into, created if it is missing; nothing in it is overwritten
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

const AFTER_HELP: &str = "\
Examples:
  alpenglow genesis --validators 4 --out cluster
  alpenglow genesis --validators 3 --host 10.0.0.1,10.0.0.2,10.0.0.3 --out cluster    each on a host of its own
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
        let addresses = self.addresses()?;
        let validators = stakes.into_iter().zip(&addresses).map(|(stake, &address)| {
            let mut config = NewConfig::at(address);
            if addresses.iter().filter(|other| other.ip() == address.ip()).count() > 1 {
                (config.cores, config.poll) = (CorePolicy::Unpinned, PollPolicy::Wait);
            }
            NewValidator { stake, config }
        });
        Ok((validators.collect(), epochs))
    }

    /// Where the validators receive.
    fn addresses(&self) -> Result<Vec<SocketAddr>, CliError> {
        let (count, given) = (usize::from(self.validators), self.host.len());
        if given != 1 && given != count {
            return Err(CliError::usage(format!(
                "--host: {given} addresses are given for {count} validators; give one for all, or one for each"
            )));
        }
        if let Some(host) = self.host.iter().find(|host| host.is_unspecified()) {
            return Err(CliError::usage(format!(
                "--host: nothing can be sent to {host}; give the address of an interface"
            )));
        }
        if self.host.iter().any(|host| host.is_ipv4() != self.host[0].is_ipv4()) {
            return Err(CliError::usage("--host: IPv4 and IPv6 cannot reach each other; use one address family"));
        }
        let mut taken: BTreeMap<IpAddr, u32> = BTreeMap::new();
        let addresses = self.host.iter().cycle().take(count).map(|&host| {
            let port = taken.entry(host).or_insert(self.base_port.into());
            let address = u16::try_from(*port).map(|port| SocketAddr::new(host, port));
            *port += 1;
            address
        });
        let addresses: Result<_, _> = addresses.collect();
        addresses.map_err(|_| {
            let last = u32::from(self.base_port) + u32::from(self.validators) - 1;
            CliError::usage(format!("--base-port: ports end at 65535, the last validator would have {last}"))
        })
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
        let is_spread = self.host.iter().any(|host| *host != self.host[0]);
        let mut text = format!("cluster {} of {count} validators in {out}\n", hex(&cluster.id().0));
        let start_in = Duration::from_millis(self.start_in_ms);
        write!(text, "The first slot starts in {start_in:?}, or when the nodes do. ").expect("strings take any text");
        text += if is_spread {
            "Copy genesis.json and its folder, and no other, to the host of each node, and start it:\n\n"
        } else {
            "Start the nodes:\n\n"
        };
        for (index, host) in (0..count).zip(self.host.iter().cycle()).take(NODES_SHOWN) {
            let config = cluster.config(ValidatorIndex(index));
            let at = if is_spread { format!("{host}: ") } else { String::new() };
            writeln!(text, "  {at}alpenglow node --config {}", config.display()).expect("strings take any text");
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
