//! Certificates that wait for a check.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use alpenglow_rotor::types::{Slot, ValidatorIndex};

use super::Dropped;
use crate::certificate::{Statement, UnverifiedCertificate};

/// Certificates of one sender that may wait: some slots' worth, as a standstill makes peers send them.
pub(super) const CERTIFICATES_PER_SENDER_MAX: usize = 64;
/// Certificates that may wait in all.
const CERTIFICATES_MAX: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct WaitingCertificates {
    waiting: BTreeMap<(Statement, ValidatorIndex), UnverifiedCertificate>,
    /// How many each sender has waiting; nobody with none.
    of_sender: BTreeMap<ValidatorIndex, usize>,
}

impl WaitingCertificates {
    /// Lets a certificate wait. Of one sender's with the same statement the first stays.
    pub(super) fn insert(&mut self, certificate: UnverifiedCertificate, sender: ValidatorIndex) -> Result<(), Dropped> {
        let from_sender = self.of_sender.get(&sender).copied().unwrap_or(0);
        if self.waiting.len() >= CERTIFICATES_MAX || from_sender >= CERTIFICATES_PER_SENDER_MAX {
            return Err("certificate_too_many");
        }
        if let Entry::Vacant(place) = self.waiting.entry((certificate.0.statement, sender)) {
            place.insert(certificate);
            self.of_sender.insert(sender, from_sender + 1);
        }
        Ok(())
    }

    /// Takes out the first one whose statement is `wanted`.
    pub(super) fn take(
        &mut self,
        wanted: impl Fn(&Statement) -> bool,
    ) -> Option<(UnverifiedCertificate, ValidatorIndex)> {
        let &(statement, sender) = self.waiting.keys().find(|(statement, _)| wanted(statement))?;
        let certificate = self.waiting.remove(&(statement, sender))?;
        self.left(sender);
        Some((certificate, sender))
    }

    /// Forgets those of slots before `open`.
    pub(super) fn close(&mut self, open: Slot) {
        self.keep(|(statement, _)| statement.slot() >= open);
    }

    /// Forgets those that `sender` has sent.
    pub(super) fn forget(&mut self, sender: ValidatorIndex) {
        if self.of_sender.contains_key(&sender) {
            self.keep(|(_, other)| *other != sender);
        }
    }

    fn keep(&mut self, kept: impl Fn(&(Statement, ValidatorIndex)) -> bool) {
        for (_, sender) in self.waiting.extract_if(.., |key, _| !kept(key)).map(|(key, _)| key).collect::<Vec<_>>() {
            self.left(sender);
        }
    }

    fn left(&mut self, sender: ValidatorIndex) {
        let count = self.of_sender.get_mut(&sender).expect("what waits is counted");
        *count -= 1;
        if *count == 0 {
            self.of_sender.remove(&sender);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.of_sender.values().sum::<usize>(), self.waiting.len());
        self.waiting.len()
    }
}
