//! Certificates that leave correct nodes: signed by enough stake, and only by those who voted so.

use std::collections::BTreeSet;

use alpenglow_control::certificate::{Certificate, Statement};
use alpenglow_control::vote::VotePayload;

use super::Oracle;

impl Oracle {
    /// A node that does not lie sent a certificate: made of votes, or received and checked.
    pub(super) fn certified(&mut self, node: usize, certificate: &Certificate) {
        self.happened.count("certificates_checked");
        let statement = certificate.statement;
        let (vote, fallback, fifths) = match statement {
            Statement::Fast(block) => (VotePayload::Notar(block), None, 4),
            Statement::Notarization(block) => (VotePayload::Notar(block), None, 3),
            Statement::NotarFallback(block) => (VotePayload::Notar(block), Some(VotePayload::NotarFallback(block)), 3),
            Statement::Skip(slot) => (VotePayload::Skip(slot), Some(VotePayload::SkipFallback(slot)), 3),
            Statement::Finalization(slot) => (VotePayload::Final(slot), None, 3),
        };
        let mut signers = BTreeSet::new();
        let parts = [(&certificate.signers, Some(vote)), (&certificate.fallback_signers, fallback)];
        for (listed, payload) in parts {
            for signer in listed.iter().map(|signer| signer.get()) {
                signers.insert(signer);
                if !payload.is_some_and(|payload| self.signed.contains(&(signer, payload))) {
                    self.violated(format!("node {node}: {statement:?} names node {signer}, which never voted so"));
                }
            }
        }
        let stakes = self.table.at(statement.slot());
        let signed: u64 = signers.iter().map(|signer| stakes[*signer]).sum();
        let total: u64 = stakes.iter().sum();
        if 5 * u128::from(signed) < fifths * u128::from(total) {
            self.violated(format!("node {node}: {statement:?} has votes of {signed} of {total}"));
        }
        self.views[node].certificates.insert(statement);
    }
}
