//! Coding parameters of a cluster, fixed in its genesis file.

/// Bytes of a datagram that are not shred data, besides the Merkle path: datagram header 32, shred header 16, signature 64.
pub const SHRED_OVERHEAD_BYTES: usize = 32 + 16 + 64;
/// Most shreds of a slice (Gamma), with any code. Sets of shreds, of tree nodes and of places in a buffer have room for as many.
pub const TOTAL_SHREDS_MAX: usize = 512;
/// Most data shreds of a slice (gamma).
pub const DATA_SHREDS_MAX: usize = 255;
/// Most nodes of a shred's Merkle path.
pub const PATH_NODES_MAX: usize = path_nodes(TOTAL_SHREDS_MAX);
/// The default datagram limit: what the IPv6 minimum MTU leaves for UDP payload.
pub const DATAGRAM_BYTES_DEFAULT: usize = 1_232;

/// How slices are cut into shreds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodingParameters {
    data_shreds: usize,
    total_shreds: usize,
    shred_bytes: usize,
    datagram_bytes: usize,
}

/// Why coding parameters are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// gamma and Gamma do not form a code.
    #[error("need 1 <= gamma < Gamma <= 255, found gamma {data_shreds} and Gamma {total_shreds}")]
    Shreds {
        /// gamma
        data_shreds: usize,
        /// Gamma
        total_shreds: usize,
    },
    /// A full shred does not fit its datagram, or has no usable length.
    #[error(
        "shred_bytes must be even and between 64 and {most} so that a shred fits a datagram of {datagram_bytes} bytes, found {shred_bytes}"
    )]
    ShredBytes {
        /// Value found.
        shred_bytes: usize,
        /// Largest that fits.
        most: usize,
        /// The cluster's datagram limit.
        datagram_bytes: usize,
    },
}

impl CodingParameters {
    /// Checks that `data_shreds` (gamma) and `total_shreds` (Gamma) form a code and that a full shred fits a datagram.
    ///
    /// # Errors
    /// [`ParameterError`] says which value does not fit.
    pub fn new(
        data_shreds: usize,
        total_shreds: usize,
        shred_bytes: usize,
        datagram_bytes: usize,
    ) -> Result<Self, ParameterError> {
        if data_shreds == 0 || data_shreds >= total_shreds || total_shreds > 255 {
            return Err(ParameterError::Shreds { data_shreds, total_shreds });
        }
        let parameters = Self { data_shreds, total_shreds, shred_bytes, datagram_bytes };
        let most = datagram_bytes.saturating_sub(SHRED_OVERHEAD_BYTES + 32 * parameters.path_nodes());
        if shred_bytes < 64 || !shred_bytes.is_multiple_of(2) || shred_bytes > most {
            return Err(ParameterError::ShredBytes { shred_bytes, most, datagram_bytes });
        }
        Ok(parameters)
    }

    /// gamma: shreds that suffice to rebuild a slice.
    #[must_use]
    pub const fn data_shreds(&self) -> usize {
        self.data_shreds
    }

    /// Gamma: shreds of a slice.
    #[must_use]
    pub const fn total_shreds(&self) -> usize {
        self.total_shreds
    }

    /// Most data bytes in one shred.
    #[must_use]
    pub const fn shred_bytes(&self) -> usize {
        self.shred_bytes
    }

    /// Most bytes in one datagram.
    #[must_use]
    pub const fn datagram_bytes(&self) -> usize {
        self.datagram_bytes
    }

    /// Nodes of a shred's Merkle path: the depth of a tree over Gamma leaves, padded to a power of two.
    #[must_use]
    pub const fn path_nodes(&self) -> usize {
        path_nodes(self.total_shreds)
    }

    /// Most bytes of an application payload in one slice: what gamma full shreds hold, less the slice frame.
    #[must_use]
    pub const fn slice_payload_bytes(&self) -> usize {
        self.data_shreds * self.shred_bytes - crate::slice::FRAME_BYTES
    }
}

const fn path_nodes(total_shreds: usize) -> usize {
    total_shreds.next_power_of_two().trailing_zeros() as usize
}

impl Default for CodingParameters {
    /// 32 of 64 shreds of 896 bytes in datagrams of 1,232.
    fn default() -> Self {
        Self { data_shreds: 32, total_shreds: 64, shred_bytes: 896, datagram_bytes: DATAGRAM_BYTES_DEFAULT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_accepted_by_its_own_check() {
        assert_eq!(CodingParameters::new(32, 64, 896, 1_232), Ok(CodingParameters::default()));
        assert_eq!(CodingParameters::default().path_nodes(), 6);
    }

    #[test]
    fn a_shred_that_does_not_fit_is_refused_with_the_limit() {
        let error = CodingParameters::new(32, 64, 1_024, 1_232).unwrap_err();
        assert!(error.to_string().contains("between 64 and 928"), "{error}");
    }
}
