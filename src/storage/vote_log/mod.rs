//! The vote record's files; what they are for and what they allow is told in [`alpenglow_control::vote_record`].
//!
//! - `vote.log`: entries in frames ([`super::frames`]), of which the first one is the node's identity. Appended to by
//!   the control thread, without sync, before what an entry is about leaves ([`recorder`]).
//! - `reservation`: the durable part ([`reservation`]).
//!
//! A thread, the [`keeper`], does everything that may wait for a disk: it renews the reservation, syncs the log beside
//! that, and writes the shorter log that takes the place of one that has grown. A thread serves both engines alike, and
//! a disk that hangs holds up nothing but it: on control's executor its fsync would share a ring with what control
//! waits for.

mod disk;
mod file;
pub(crate) mod fuzzing;
mod keeper;
mod opening;
mod recorder;
mod reservation;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use alpenglow_rotor::types::ClusterId;

pub(crate) use self::file::{FORMAT, path};
pub(crate) use self::keeper::Keeper;
pub(crate) use self::opening::{Opened, initialize, open};
pub(crate) use self::recorder::{Recorder, start};

/// Whose files they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The cluster that votes are for.
    pub(crate) cluster: ClusterId,
    /// The node's identity, as in the genesis file.
    pub(crate) identity: [u8; 32],
}

/// Why a node's votes cannot be remembered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VoteLogError {
    /// The file system refuses.
    #[error("cannot use {path}: {source}; a node that cannot remember its votes does not vote")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A later version of this program wrote it.
    #[error(
        "{path} has format version {found}, this program knows up to version {known}: run the program that wrote it, or a later one"
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// In the file.
        found: u32,
        /// Known.
        known: u32,
    },
    /// Another cluster's.
    #[error(
        "{path} is of another cluster: the genesis file was changed, or `data` names the wrong folder; a node needs a data folder of its own in each cluster"
    )]
    OtherCluster {
        /// Which file.
        path: PathBuf,
    },
    /// Another node's.
    #[error("{path} is of another identity: set `data` to this node's own folder; two nodes must never share one")]
    OtherIdentity {
        /// Which file.
        path: PathBuf,
    },
    /// There is something to remember already.
    #[error(
        "{0} is there already: this node has been made ready, and making it ready again would make it forget its votes"
    )]
    Exists(PathBuf),
    /// A thread or what it works with cannot be had.
    #[error("cannot start the thread that renews the reservation: {0}")]
    Thread(io::Error),
}

impl Owner {
    fn check(&self, cluster: ClusterId, identity: [u8; 32], path: &Path) -> Result<(), VoteLogError> {
        if cluster != self.cluster {
            return Err(VoteLogError::OtherCluster { path: path.to_owned() });
        }
        if identity != self.identity {
            return Err(VoteLogError::OtherIdentity { path: path.to_owned() });
        }
        Ok(())
    }
}
