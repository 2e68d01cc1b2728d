//! What a node keeps on disk.

pub(crate) mod block_log;
pub(crate) mod data_folder;
pub(crate) mod frames;
pub(crate) mod host;
pub(crate) mod kept_blocks;
pub(crate) mod vote_log;
