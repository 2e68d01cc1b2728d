//! What a node keeps on disk.

pub(crate) mod frames;
