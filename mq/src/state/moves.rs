//! Messages that are moved or copied to other queues.

use super::{
    STEP, State,
    push::{Pending, Queues},
};
use crate::{
    MqError, Which,
    batch::{Batch, Place},
    message::{MessageId, Millis},
    queue::{Queue, Standing},
    record::{CopyState, MessageRecord, QueueNumber, Record},
};

/// Way of messages from one queue to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) from: QueueNumber,
    pub(crate) to: QueueNumber,
    /// The messages stay where they are too.
    pub(crate) is_copy: bool,
}

/// Returns true if the message can be moved: it is there, and not leased.
fn is_free(queue: &Queue, which: &Which, id: MessageId) -> bool {
    match queue.standing(id) {
        Some(Standing::Ready | Standing::Delayed | Standing::Held) => !matches!(which, Which::Dead),
        Some(Standing::Dead(_)) => !matches!(which, Which::Waiting) && queue.is_free_letter(id),
        Some(Standing::Leased(_)) | None => false,
    }
}

impl State {
    /// The next messages of a queue with ids above `after` that are to be moved, in the order of their ids: one step of them,
    /// with at most so many bytes, unless the first alone has more. Also the id to go on after, if more may follow.
    pub(crate) fn choose(
        &self,
        from: QueueNumber,
        which: &Which,
        after: MessageId,
        bytes: u64,
    ) -> (Vec<(MessageId, Place)>, Option<MessageId>) {
        let Some(queue) = self.queues.get(&from) else { return (Vec::new(), None) };
        let ids: Box<dyn Iterator<Item = MessageId>> = match which {
            Which::Waiting => Box::new(queue.ids_after(after)),
            Which::Dead => Box::new(queue.dead_after(after)),
            Which::Ids(ids) => Box::new(ids.iter().copied().filter(|id| *id > after)),
        };
        let (mut chosen, mut left, mut last) = (Vec::new(), bytes, after);
        for (looked, id) in ids.enumerate() {
            if let Some(live) = queue.get(id).filter(|_| is_free(queue, which, id)) {
                let length = live.place.length.into();
                if !chosen.is_empty() && length > left {
                    return (chosen, Some(last));
                }
                left = left.saturating_sub(length);
                chosen.push((id, live.place));
            }
            last = id;
            if looked + 1 == STEP {
                return (chosen, Some(last));
            }
        }
        (chosen, None)
    }

    /// Moves messages, which were chosen and read. Returns what becomes visible with the batch, and why it stopped before the
    /// end.
    pub(crate) fn transfer(
        &mut self,
        way: Way,
        which: &Which,
        messages: Vec<MessageRecord>,
        now: Millis,
        batch: &mut Batch,
    ) -> (Vec<Pending>, Option<MqError>) {
        let mut moved = Vec::with_capacity(messages.len());
        for message in messages {
            match self.transfer_one(way, which, message, now, batch) {
                Ok(pending) => moved.extend(pending),
                Err(refusal) => return (moved, Some(refusal)),
            }
        }
        (moved, None)
    }

    fn transfer_one(
        &mut self,
        Way { from, to, is_copy }: Way,
        which: &Which,
        mut message: MessageRecord,
        now: Millis,
        batch: &mut Batch,
    ) -> Result<Option<Pending>, MqError> {
        let before = message.id;
        // Much may have happened since it was chosen.
        let Some(source) = self.queues.get(&from).filter(|queue| is_free(queue, which, before)) else {
            return Ok(None);
        };
        let Some(target) = self.queues.get(&to) else { return Ok(None) };
        if !is_copy && target.get(before).is_some() {
            return Ok(None);
        }
        let Some(live) = source.get(before).copied() else { return Ok(None) };
        let is_dead = source.dead_reason(before).is_some();
        let (due, retries) = if is_dead { (now, 0) } else { (live.due, live.retries) };
        message.end = source.end(before).filter(|_| !is_dead);
        message.group = source.group(before).map(str::to_owned);
        (message.topic, message.priority, message.ttr) = (target.topic, live.priority, live.ttr);
        self.check_length(to, 1, now, batch)?;
        if is_copy {
            self.check_live(1)?;
            message.id = self.ids.next(now);
        }
        message.copies = vec![(to, CopyState { due, retries, dead: None })];
        let place = batch.add_message(&message);
        if !is_copy {
            batch.add(&Record::Gone { queue: from, id: before });
            // Until the batch is durable, the bytes at the previous place are the only ones.
            self.needed.retain(live.place.segment);
            self.apply_gone(from, before);
        }
        if let Some(target) = self.queues.get_mut(&to) {
            target.pending += 1;
        }
        self.pending += 1;
        self.last_push += 1;
        self.is_bounded |= message.group.is_some();
        let MessageRecord { id, end, priority, ttr, group, .. } = message;
        Ok(Some(Pending {
            id,
            place,
            queues: Queues::from_slice(&[to]),
            number: self.last_push,
            due,
            retries,
            end,
            priority,
            ttr,
            group,
            dedup: None,
            retained: (!is_copy).then_some(live.place.segment),
        }))
    }
}
