//! Every certificate of the largest validator set is one datagram that no path of the internet cuts up.

use alpenglow_control::bls::SignatureBytes;
use alpenglow_control::certificate::{Certificate, Signers, Statement};
use alpenglow_control::message::encode_certificate;
use alpenglow_dataplane::datagram::HEADER_BYTES;
use alpenglow_rotor::parameters::DATAGRAM_BYTES_DEFAULT;
use alpenglow_rotor::types::{BlockId, Hash, Slot, VALIDATORS_MAX, ValidatorIndex};

const _: () = assert!(DATAGRAM_BYTES_DEFAULT <= 1_232, "every IPv6 path carries that much");

#[test]
fn certificates_of_all_kinds_with_both_bitmaps_full_fit_a_datagram() {
    let everybody = || Signers::of(VALIDATORS_MAX, (0..VALIDATORS_MAX).map(|at| ValidatorIndex(at as u16)));
    let block = BlockId { slot: Slot(u64::MAX), hash: Hash([0xff; 32]) };
    for statement in [
        Statement::Fast(block),
        Statement::Notarization(block),
        Statement::NotarFallback(block),
        Statement::Skip(block.slot),
        Statement::Finalization(block.slot),
    ] {
        let certificate = Certificate {
            statement,
            signers: everybody(),
            fallback_signers: everybody(),
            signature: SignatureBytes([0xff; 96]),
        };
        let bytes = HEADER_BYTES + encode_certificate(&certificate).len();
        assert!(bytes <= DATAGRAM_BYTES_DEFAULT, "{statement:?}: {bytes} bytes");
    }
}
