//! Commands whose arguments fill a file.

pub(crate) mod scale;
