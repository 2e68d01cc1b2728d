//! `sim --topology mainnet`.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use alpenglow_tools::simulator::mainnet;
use alpenglow_tools::simulator::scale::{Leader, Study};
use clap::{Args, ValueEnum};

use crate::Output;

/// Validators unless told otherwise: some more than mainnet has.
const VALIDATORS: u16 = 1_500;

/// Whole control cores spread over the world
#[derive(Args)]
#[command(next_help_heading = "Latency by stake (--topology)")]
pub(crate) struct Scale {
    /// How long blocks take to be final with up to 2,000 real control cores in virtual time, placed as this network's
    /// are. Delays are great-circle distances times what routes add, within a place 0.3 ms; a slice is there with the
    /// 32nd of its 64 shreds, each by way of the relay drawn for it; nothing is lost, and by default sending and
    /// computing take no time, as in the white paper's simulation
    #[arg(long, value_enum, conflicts_with_all = ["scenario", "seeds", "keep", "whole", "seconds", "trace"])]
    pub(crate) topology: Option<Topology>,
    /// Slots measured [default: 25]
    #[arg(long, requires = "topology", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    slots: Option<u64>,
    /// `random`: drawn by stake for each window; or a place, as Zurich
    #[arg(long, requires = "topology", value_name = "random|METRO", value_parser = leader)]
    leader: Option<Leader>,
    /// Everything random follows from it [default: 1]
    #[arg(long, requires = "topology")]
    seed: Option<u64>,
    /// Stake in Europe, instead of some 75%: below 60% every quorum needs votes from overseas
    #[arg(long, requires = "topology", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
    europe_percent: Option<u8>,
    /// Rate at which each validator sends [default: no limit]
    #[arg(long, requires = "topology", value_name = "MBIT")]
    egress_mbit: Option<NonZero<u32>>,
    /// Time that each check of signatures takes, of a batch of votes or a certificate; 1500 is about what it takes
    /// [default: 0]
    #[arg(long, requires = "topology", value_name = "MICROSECONDS")]
    check_us: Option<u32>,
    /// Bytes of transactions in each block, in transactions of 1,000 bytes [default: 16000]
    #[arg(long, requires = "topology", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(..=2_000_000))]
    block_bytes: Option<u32>,
    /// Write latencies by stage and percent of stake to this file
    #[arg(long, requires = "topology", value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write a picture of them to this file
    #[arg(long, requires = "topology", value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Where validators are.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Topology {
    /// Solana mainnet around epoch 860, in rounded figures
    Mainnet,
}

fn leader(text: &str) -> Result<Leader, String> {
    if text == "random" {
        return Ok(Leader::Random);
    }
    let metros = mainnet::metros();
    let names = || metros.metros.iter().map(|metro| metro.name.as_str()).collect::<Vec<_>>().join(", ");
    metros.position(text).map(Leader::Metro).ok_or_else(|| format!("one of random, {}", names()))
}

impl Scale {
    /// Whether all validators decided all slots, and alike.
    pub(crate) fn run(self, validators: Option<u16>, output: Output) -> Result<bool, Box<dyn Error>> {
        let validators = usize::from(validators.unwrap_or(VALIDATORS));
        let leader = self.leader.unwrap_or(Leader::Random);
        let mut study = Study::new(validators, self.slots.unwrap_or(25), leader, self.seed.unwrap_or(1));
        study.europe_percent = self.europe_percent;
        study.egress_mbit = self.egress_mbit;
        study.check = Duration::from_micros(u64::from(self.check_us.unwrap_or(0)));
        if let Some(bytes) = self.block_bytes {
            study.block_bytes = bytes as usize;
        }
        let report = study.run();
        if let Some(file) = &self.csv {
            fs::write(file, report.csv())?;
        }
        if let Some(file) = &self.svg {
            fs::write(file, report.svg())?;
        }
        let mut out = io::stdout().lock();
        match output {
            Output::Table => write!(out, "{}", report.text())?,
            Output::Json => {
                serde_json::to_writer(&mut out, &report)?;
                writeln!(out)?;
            }
        }
        Ok(report.passed())
    }
}
