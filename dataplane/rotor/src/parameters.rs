//! Coding parameters of a cluster, fixed in its genesis file.

/// Bytes of a datagram that are not shred data, besides the Merkle path: datagram header 32, shred header 16, signature
/// 64.
pub const SHRED_OVERHEAD_BYTES: usize = 32 + 16 + 64;
/// Most shreds of a slice (Gamma), with any code. Sets of shreds, of tree nodes and of places in a buffer have room for
/// as many.
pub const TOTAL_SHREDS_MAX: usize = 512;
/// Most data shreds of a slice (gamma), with any code.
pub const DATA_SHREDS_MAX: usize = 255;
/// Most nodes of a shred's Merkle path.
pub const PATH_NODES_MAX: usize = path_nodes(TOTAL_SHREDS_MAX);
/// The default datagram limit: what the IPv6 minimum MTU leaves for UDP payload.
pub const DATAGRAM_BYTES_DEFAULT: usize = 1_232;

/// Shreds that are cut without a given length are as long as fits in units of this: whole blocks of the hash and of the
/// codes.
const SHRED_BYTES_UNIT: usize = 64;

/// An erasure code. The shreds of one mean nothing to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Code {
    /// The systematic Reed-Solomon code over GF(2^8) that is in common use for shreds, by kernels of our own.
    #[default]
    Rs8,
    /// The Reed-Solomon code over GF(2^16) of the reed-solomon-simd crate, for wide codes.
    Leopard16,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 2] = [Self::Rs8, Self::Leopard16];

    /// Name in files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs8 => "rs8",
            Self::Leopard16 => "leopard16",
        }
    }

    /// Most shreds of a slice (Gamma) with this code.
    #[must_use]
    pub const fn total_shreds_max(self) -> usize {
        match self {
            // The points of the field, less one, as in the field's other implementations.
            Self::Rs8 => 255,
            Self::Leopard16 => TOTAL_SHREDS_MAX,
        }
    }
}

/// How slices are cut into shreds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodingParameters {
    code: Code,
    data_shreds: usize,
    total_shreds: usize,
    shred_bytes: usize,
    datagram_bytes: usize,
}

/// Why coding parameters are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// gamma and Gamma do not form a code.
    #[error(
        "{data_shreds} data shreds of {total_shreds} in all: there must be 1 to {DATA_SHREDS_MAX} data shreds and more shreds in all"
    )]
    Shreds {
        /// gamma
        data_shreds: usize,
        /// Gamma
        total_shreds: usize,
    },
    /// The code cannot make so many.
    #[error("{total_shreds} shreds: the code {} makes at most {}{}", code.name(), code.total_shreds_max(), wider(*code, *total_shreds))]
    TooManyShreds {
        /// The code.
        code: Code,
        /// Gamma
        total_shreds: usize,
    },
    /// No shred fits.
    #[error(
        "no shred fits a datagram of {datagram_bytes} bytes: {overhead_bytes} bytes are headers, signature and the path in a tree of {total_shreds} shreds; choose longer datagrams"
    )]
    DatagramBytes {
        /// The cluster's datagram limit.
        datagram_bytes: usize,
        /// Bytes of a datagram that are no data.
        overhead_bytes: usize,
        /// Gamma
        total_shreds: usize,
    },
    /// A full shred does not fit its datagram, or has no usable length.
    #[error(
        "shreds of {shred_bytes} bytes: must be even and between {SHRED_BYTES_UNIT} and {most}, so that a shred fits a datagram of {datagram_bytes} bytes"
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
        code: Code,
        data_shreds: usize,
        total_shreds: usize,
        shred_bytes: usize,
        datagram_bytes: usize,
    ) -> Result<Self, ParameterError> {
        let most = Self::shred_bytes_max(code, data_shreds, total_shreds, datagram_bytes)?;
        if shred_bytes < SHRED_BYTES_UNIT || !shred_bytes.is_multiple_of(2) || shred_bytes > most {
            return Err(ParameterError::ShredBytes { shred_bytes, most, datagram_bytes });
        }
        Ok(Self { code, data_shreds, total_shreds, shred_bytes, datagram_bytes })
    }

    /// With the longest shreds, in units of 64 bytes, that fit a datagram.
    ///
    /// # Errors
    /// [`ParameterError`] says which value does not fit.
    pub fn fitting(
        code: Code,
        data_shreds: usize,
        total_shreds: usize,
        datagram_bytes: usize,
    ) -> Result<Self, ParameterError> {
        let most = Self::shred_bytes_max(code, data_shreds, total_shreds, datagram_bytes)?;
        Self::new(code, data_shreds, total_shreds, most - most % SHRED_BYTES_UNIT, datagram_bytes)
    }

    fn shred_bytes_max(
        code: Code,
        data_shreds: usize,
        total_shreds: usize,
        datagram_bytes: usize,
    ) -> Result<usize, ParameterError> {
        if total_shreds > code.total_shreds_max() {
            return Err(ParameterError::TooManyShreds { code, total_shreds });
        }
        if data_shreds >= total_shreds || !(1..=DATA_SHREDS_MAX).contains(&data_shreds) {
            return Err(ParameterError::Shreds { data_shreds, total_shreds });
        }
        let overhead_bytes = SHRED_OVERHEAD_BYTES + 32 * path_nodes(total_shreds);
        match datagram_bytes.checked_sub(overhead_bytes) {
            Some(most) if most >= SHRED_BYTES_UNIT => Ok(most),
            _ => Err(ParameterError::DatagramBytes { datagram_bytes, overhead_bytes, total_shreds }),
        }
    }

    /// What the shreds beyond the data are computed with.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
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

/// What to do about too many shreds for `code`.
const fn wider(code: Code, total_shreds: usize) -> &'static str {
    match code {
        Code::Rs8 if total_shreds <= TOTAL_SHREDS_MAX => "; leopard16 makes that many",
        _ => "",
    }
}

const fn path_nodes(total_shreds: usize) -> usize {
    total_shreds.next_power_of_two().trailing_zeros() as usize
}

impl Default for CodingParameters {
    /// 32 of 64 shreds of 896 bytes in datagrams of 1,232, by rs8.
    fn default() -> Self {
        Self {
            code: Code::Rs8,
            data_shreds: 32,
            total_shreds: 64,
            shred_bytes: 896,
            datagram_bytes: DATAGRAM_BYTES_DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_accepted_by_its_own_check() {
        assert_eq!(CodingParameters::new(Code::Rs8, 32, 64, 896, 1_232), Ok(CodingParameters::default()));
        assert_eq!(CodingParameters::fitting(Code::Rs8, 32, 64, 1_232), Ok(CodingParameters::default()));
        assert_eq!(CodingParameters::default().path_nodes(), 6);
        assert_eq!(PATH_NODES_MAX, 9);
    }

    #[test]
    fn shreds_are_as_long_as_fits() {
        for (code, data, total, datagram_bytes, path_nodes, shred_bytes) in [
            (Code::Rs8, 16, 32, 1_232, 5, 960),
            (Code::Rs8, 32, 64, 1_472, 6, 1_152),
            (Code::Rs8, 32, 64, 8_972, 6, 8_640),
            (Code::Rs8, 32, 96, 1_232, 7, 896),
            (Code::Leopard16, 32, 320, 1_232, 9, 832),
            (Code::Leopard16, 32, 320, 8_972, 9, 8_512),
            (Code::Leopard16, 255, 512, 1_232, 9, 832),
        ] {
            let parameters = CodingParameters::fitting(code, data, total, datagram_bytes).unwrap();
            assert_eq!(
                (parameters.path_nodes(), parameters.shred_bytes()),
                (path_nodes, shred_bytes),
                "{parameters:?}"
            );
            let room = datagram_bytes - SHRED_OVERHEAD_BYTES - 32 * path_nodes;
            assert!((shred_bytes..shred_bytes + SHRED_BYTES_UNIT).contains(&room));
            assert!(CodingParameters::new(code, data, total, room & !1, datagram_bytes).is_ok());
            assert!(CodingParameters::new(code, data, total, (room & !1) + 2, datagram_bytes).is_err());
        }
    }

    #[test]
    fn what_forms_no_code_is_refused_with_what_would() {
        let refused = |code, data, total, shred_bytes, datagram_bytes| {
            CodingParameters::new(code, data, total, shred_bytes, datagram_bytes).unwrap_err().to_string()
        };
        for (code, data, total, said) in [
            (Code::Rs8, 0, 64, "0 data shreds of 64 in all: there must be 1 to 255 data shreds and more shreds in all"),
            (Code::Rs8, 64, 64, "64 data shreds of 64 in all"),
            (Code::Rs8, 1, 0, "1 data shreds of 0 in all"),
            (Code::Leopard16, 256, 512, "256 data shreds of 512 in all"),
            (Code::Rs8, 32, 256, "256 shreds: the code rs8 makes at most 255; leopard16 makes that many"),
            (Code::Rs8, 32, usize::MAX, "shreds: the code rs8 makes at most 255"),
            (Code::Leopard16, 32, 513, "513 shreds: the code leopard16 makes at most 512"),
        ] {
            let error = refused(code, data, total, 896, 1_232);
            assert!(error.contains(said), "{error}");
        }
        assert!(!refused(Code::Rs8, 32, 513, 896, 1_232).contains("leopard16"));
        let odd = "must be even and between 64 and 928, so that a shred fits a datagram of 1232 bytes";
        for shred_bytes in [0, 62, 897, 930, 1_024, usize::MAX] {
            assert!(refused(Code::Rs8, 32, 64, shred_bytes, 1_232).contains(odd), "{shred_bytes}");
        }
        let error = refused(Code::Leopard16, 32, 320, 64, 463);
        assert!(error.contains("no shred fits a datagram of 463 bytes: 400 bytes are headers"), "{error}");
        assert!(CodingParameters::fitting(Code::Leopard16, 32, 320, 464).is_ok());
    }
}
