//! Flags for how slices are cut into shreds, named as the fields of the genesis file.

use alpenglow_rotor::parameters::{CodingParameters, DATAGRAM_BYTES_DEFAULT};
use clap::{Args, value_parser};

use super::CliError;
use crate::genesis::{CodeName, DATAGRAM_BYTES_MAX, check_slices};

/// How slices are cut into shreds.
#[derive(Clone, Debug, Args)]
pub(super) struct CodingArgs {
    /// Erasure code
    #[arg(long, value_enum, default_value_t)]
    code: CodeName,
    /// Shreds that suffice to rebuild a slice (gamma), 1 to 255
    #[arg(long, value_name = "N", default_value_t = 32)]
    data_shreds: u16,
    /// Shreds of a slice (Gamma): more than data shreds, and up to 255 with rs8, 512 with leopard16
    #[arg(long, value_name = "N", default_value_t = 64)]
    total_shreds: u16,
    /// Most bytes of data in one shred, even [default: what fits a datagram, in units of 64]
    #[arg(long, value_name = "BYTES")]
    shred_bytes: Option<u16>,
    /// Longest datagram, never fragmented: 1232 passes every IPv6 network, 1472 Ethernet, 8972 jumbo frames
    #[arg(long, value_name = "BYTES", default_value_t = DATAGRAM_BYTES_DEFAULT as u16)]
    #[arg(value_parser = value_parser!(u16).range(DATAGRAM_BYTES_DEFAULT as i64..=DATAGRAM_BYTES_MAX as i64))]
    datagram_bytes: u16,
}

impl CodingArgs {
    /// The parameters, if they fit each other.
    pub(super) fn parameters(&self) -> Result<CodingParameters, CliError> {
        let [data_shreds, total_shreds, datagram_bytes] =
            [self.data_shreds, self.total_shreds, self.datagram_bytes].map(usize::from);
        let parameters = match self.shred_bytes.map(usize::from) {
            Some(bytes) => CodingParameters::new(self.code.into(), data_shreds, total_shreds, bytes, datagram_bytes),
            None => CodingParameters::fitting(self.code.into(), data_shreds, total_shreds, datagram_bytes),
        };
        let parameters = parameters.map_err(|error| {
            CliError::usage(format!(
                "{error} (--code, --data-shreds, --total-shreds, --shred-bytes and --datagram-bytes must fit each other)"
            ))
        })?;
        check_slices(&parameters).map_err(CliError::usage)?;
        Ok(parameters)
    }
}
