//! The block log at a node's start.

use std::path::Path;
use std::sync::Arc;

use alpenglow_control::block_log::ChainTip;
use alpenglow_control::certificate::UnverifiedCertificate;
use alpenglow_control::checker::{CheckJob, CheckVerdict, Checker};
use alpenglow_rotor::types::ValidatorIndex;

use super::block_log::{self, BlockLog, BlockLogError, Limits, LogParameters};
use crate::genesis::Genesis;

impl LogParameters {
    /// Those of a cluster.
    pub(crate) fn of_cluster(genesis: &Genesis) -> Self {
        Self { cluster: genesis.cluster, coding: genesis.coding, validators: genesis.validators.len() }
    }
}

/// Opens the block log in a data folder, and says what was found.
///
/// # Errors
/// [`BlockLogError`].
pub(crate) fn open(data: &Path, genesis: &Genesis, limits: Limits) -> Result<BlockLog, BlockLogError> {
    let (log, opened) = BlockLog::open(&block_log::folder(data), LogParameters::of_cluster(genesis), limits)?;
    if opened.torn_bytes > 0 {
        tracing::info!(bytes = opened.torn_bytes, "a crash left the end of the block log incomplete: it was cut off");
    }
    if opened.corrupt > 0 {
        tracing::error!(places = opened.corrupt, "the block log is corrupt: what is lost is fetched from others");
    }
    if opened.recovered > 0 {
        tracing::info!(blocks = opened.recovered, "blocks that were written for votes are in the block log now");
    }
    Ok(log)
}

/// Where the chain in the log ends: its highest block whose certificates hold.
pub(crate) fn tip(log: &mut BlockLog, genesis: &Genesis) -> Option<ChainTip> {
    let mut checker = Checker::new(genesis.cluster, Arc::clone(&genesis.voting_keys), Arc::clone(&genesis.stakes));
    let tip = log.tip(|tip| is_proven(tip, genesis, &mut checker))?;
    tracing::info!(block = %tip.block.id, "goes on after the last block of the block log");
    Some(tip)
}

fn is_proven(tip: &ChainTip, genesis: &Genesis, checker: &mut Checker) -> bool {
    let mut holds = |certificate: &UnverifiedCertificate| {
        let job = CheckJob::certificate(certificate.clone(), ValidatorIndex(0));
        matches!(checker.check(job), CheckVerdict::Certificate { .. })
    };
    let certificates = tip.certificates.iter().map(|certificate| UnverifiedCertificate((**certificate).clone()));
    tip.is_final(&genesis.stakes) && certificates.into_iter().all(|certificate| holds(&certificate))
}
