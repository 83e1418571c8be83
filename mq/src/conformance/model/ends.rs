//! Ends of leases in the model.

use super::{At, Message, Model, Rules};
use crate::{MqError, Receipt, message::Millis};

impl Model {
    fn leased(&mut self, receipt: &Receipt) -> Result<(&mut Message, Rules), MqError> {
        self.messages().find(|(message, _)| message.receipt() == Some(receipt)).ok_or(MqError::NotLeased(receipt.id.0))
    }

    pub(in crate::conformance) fn ack(&mut self, receipt: &Receipt) -> Result<(), MqError> {
        self.leased(receipt)?;
        for topic in self.topics.values_mut() {
            for queue in topic.queues.values_mut() {
                queue.messages.retain(|message| message.receipt() != Some(receipt));
            }
        }
        Ok(())
    }

    pub(in crate::conformance) fn nack(&mut self, receipt: &Receipt, delay: Millis) -> Result<(), MqError> {
        let now = self.now;
        let (message, rules) = self.leased(receipt)?;
        if message.is_dead() {
            message.at = At::Dead;
        } else {
            message.failed(now, delay, &rules, now);
        }
        Ok(())
    }

    pub(in crate::conformance) fn give_back(&mut self, receipt: &Receipt) -> Result<(), MqError> {
        let now = self.now;
        let (message, _) = self.leased(receipt)?;
        let was_dead = message.is_dead();
        for topic in self.topics.values_mut() {
            for queue in topic.queues.values_mut() {
                let Some(at) = queue.messages.iter().position(|m| m.receipt() == Some(receipt)) else { continue };
                queue.messages[at].at = if was_dead { At::Dead } else { At::Waiting };
                queue.messages[at].outlive(now);
                if !was_dead {
                    queue.spend(topic.rate, -1, now);
                }
            }
        }
        Ok(())
    }

    /// A start begins with the full number of deliveries.
    pub(in crate::conformance) fn restarted(&mut self) {
        self.topics.values_mut().flat_map(|topic| topic.queues.values_mut()).for_each(|queue| queue.spent = 0);
    }

    pub(in crate::conformance) fn bury(&mut self, receipt: &Receipt) -> Result<(), MqError> {
        let now = self.now;
        let (message, rules) = self.leased(receipt)?;
        if message.is_dead() {
            message.at = At::Dead;
        } else {
            message.failed(now, 0, &Rules { max_retries: 0, ..rules }, now);
        }
        Ok(())
    }

    pub(in crate::conformance) fn begin(&mut self, receipt: &Receipt) -> Result<(), MqError> {
        if let At::Leased { is_begun, .. } = &mut self.leased(receipt)?.0.at {
            *is_begun = true;
        }
        Ok(())
    }

    pub(in crate::conformance) fn touch(&mut self, receipt: &Receipt, ttr: Option<Millis>) -> Result<(), MqError> {
        let now = self.now;
        let (message, rules) = self.leased(receipt)?;
        let usual = message.ttr.map_or(rules.ttr, Millis::from);
        if let At::Leased { expires, .. } | At::DeadLeased { expires, .. } = &mut message.at {
            *expires = now + ttr.unwrap_or(usual);
        }
        Ok(())
    }
}
