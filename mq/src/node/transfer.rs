//! Moves and copies of messages between queues of the node.

use super::{Node, inner::Need, operations::STEP_BYTES, writer::stage};
use crate::{Durability, MessageId, MqError, QueueName, Which, state::Way, store::File};

impl<F: File> Node<F> {
    /// Moves or copies messages in steps; returns their number.
    pub(super) async fn transfer(
        &self,
        from: &QueueName,
        to: &QueueName,
        mut which: Which,
        is_copy: bool,
    ) -> Result<u64, MqError> {
        let way = Way { from: self.present(from).await?, to: self.present(to).await?, is_copy };
        if way.from == way.to {
            return Err(MqError::Invalid(format!("queue {:?} of topic {:?} is source and target", to.queue, to.topic)));
        }
        if let Which::Ids(ids) = &mut which {
            ids.sort_unstable();
            ids.dedup();
        }
        let (mut sum, mut after) = (0, Some(MessageId(0)));
        while let Some(last) = after {
            let chosen;
            (chosen, after) = self.shared.lock().state.choose(way.from, &which, last, STEP_BYTES as u64);
            if chosen.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            let shared = self.shared.clone();
            let reading = tokio::task::spawn_blocking(move || {
                let read = |(id, place)| shared.read_one(way.from, id, place).transpose();
                chosen.into_iter().filter_map(read).collect::<Result<Vec<_>, _>>()
            });
            let messages = reading.await.map_err(|_| MqError::Closed)??;
            let begun = self.begin_push(Need::Push, Durability::Synced, |state, now, group| {
                // The queue may be gone by now.
                if state.queue(way.to).is_none() {
                    return Err(MqError::NoQueue(to.queue.clone()));
                }
                let (moved, refusal) = state.transfer(way, &which, messages, now, &mut group.batch);
                let count = moved.len() as u64;
                stage(group, Durability::Synced).pushes.extend(moved);
                Ok((count, refusal))
            });
            let ((count, refusal), durable) = begun.await?;
            if let Some(durable) = durable {
                durable.await?;
            }
            self.shared.wake_bounded(std::iter::once(way.from));
            sum += count;
            match refusal {
                Some(refusal) if sum == 0 => return Err(refusal),
                Some(_) => break,
                None => {}
            }
        }
        Ok(sum)
    }
}
