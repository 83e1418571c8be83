//! Deliveries whose answer reached nobody.

use super::Node;
use crate::{Delivery, Receipt, store::File};

impl<F: File> Node<F> {
    /// Takes deliveries back that were never made: the messages are ready at once, and it does not count as a retry. What
    /// was delivered again meanwhile stays as it is.
    pub fn give_back(&self, receipts: &[Receipt]) {
        self.giving_back(receipts.iter().copied().filter(|receipt| self.own(receipt).is_ok()).collect())();
    }

    /// The same for later. It does not keep the node open.
    pub(crate) fn undo(&self, deliveries: &[Delivery]) -> impl FnOnce() + Send + Sync + use<F> {
        self.giving_back(deliveries.iter().filter_map(|delivery| delivery.receipt).collect())
    }

    fn giving_back(&self, receipts: Vec<Receipt>) -> impl FnOnce() + Send + Sync + use<F> {
        let shared = self.shared.clone();
        move || {
            let changed = shared.change(|state, now, batch| {
                receipts.iter().for_each(|receipt| state.undelivered(receipt.into(), now, batch));
                Ok(())
            });
            // An error: the node has ended, and the leases with it.
            if changed.is_ok() {
                receipts.iter().for_each(|receipt| shared.wake_number(receipt.queue));
            }
        }
    }
}
