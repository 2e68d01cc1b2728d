//! Where this process runs: which machine, and since which of its starts.

use std::fs;

use alpenglow_control::vote_record::Host;
use sha2::{Digest, Sha256};

/// The machine and its boot. What cannot be found out is said, and the boot is then one that never was: nothing is
/// trusted for having been written since then.
///
/// # Errors
/// When the operating system gives neither the boot's number nor a random one.
pub(crate) fn host() -> Result<Host, getrandom::Error> {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    if machine.trim().is_empty() {
        tracing::warn!(
            "/etc/machine-id is empty or missing: a data folder that is moved to another machine after a clean stop will not be noticed"
        );
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().and_then(|text| parse_boot(&text));
    let boot = match boot {
        Some(boot) => boot,
        None => {
            tracing::warn!(
                "no boot id in /proc: every start that follows no clean stop will be taken for one after a power loss"
            );
            let mut random = [0; 16];
            getrandom::fill(&mut random)?;
            random
        }
    };
    Ok(Host { machine: hashed(machine.trim()), boot })
}

/// The number of a machine is not to be shown to others as it is.
fn hashed(machine: &str) -> [u8; 16] {
    let hash = Sha256::new_with_prefix("alpenglow machine").chain_update(machine).finalize();
    *hash.first_chunk().expect("SHA-256 has 32 bytes")
}

/// 32 hexadecimal digits with hyphens between.
fn parse_boot(text: &str) -> Option<[u8; 16]> {
    let digits = text.trim().replace('-', "");
    let is_hexadecimal = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hexadecimal.then(|| u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_read_and_nothing_else() {
        let id = parse_boot("19db07e3-38c7-47db-bde4-8956257d57ba\n").unwrap();
        assert_eq!((id[0], id[15]), (0x19, 0xba));
        for wrong in ["", "19db07e3", "+9db07e3-38c7-47db-bde4-8956257d57ba", "éédb07e3-38c7-47db-bde4-8956257d57ba"]
        {
            assert_eq!(parse_boot(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn this_host_stays_the_same() {
        assert_eq!(host().unwrap(), host().unwrap());
    }
}
