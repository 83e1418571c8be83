//! Messages that a consumer holds: popped ahead, in a handler, or about to be settled; and their leases. Pure: time is an
//! argument.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{ConsumerOptions, Stopped};
use crate::{Delivery, MessageId, Receipt};

/// A message that waited longer for a handler was popped too early: fewer are popped ahead.
const EARLY: Duration = Duration::from_millis(100);
/// A message that waited longer for a handler is given back.
const STALE: Duration = Duration::from_secs(1);
/// Assumed lease where the node does not tell it.
const UNKNOWN_LEASE: Duration = Duration::from_secs(30);
/// Pauses between two tries to renew a lease.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Messages of one pop.
const LARGEST_POP: usize = 1000;

#[derive(Debug)]
pub(super) struct Held {
    concurrency: usize,
    most: usize,
    most_bytes: usize,
    /// Messages in handlers and popped ahead of them, `concurrency` to `most`. Doubles when a pop brings all that it asked
    /// for to idle slots, and handlers are fast; halves when messages wait for slots.
    window: usize,
    shrunk: Option<Instant>,
    /// Time that the last handler took.
    took: Option<Duration>,
    count: usize,
    bytes: usize,
    running: usize,
    /// Popped ahead, the oldest first.
    ready: VecDeque<Ready>,
    leases: HashMap<Receipt, Lease>,
    /// More messages may come.
    is_fetching: bool,
    stopped: Stopped,
}

#[derive(Debug)]
struct Ready {
    since: Instant,
    delivery: Delivery,
}

#[derive(Debug)]
struct Lease {
    length: Duration,
    ends: Instant,
    renew: Instant,
    renewing: bool,
    bytes: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Ready,
    /// Dropping the sender cancels the handler.
    Running(#[expect(dead_code, reason = "dropped to cancel")] oneshot::Sender<()>),
    Lost,
    Ended,
}

/// A message for a handler.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) delivery: Delivery,
    pub(super) bytes: usize,
    /// Ends when the lease is lost; none without a lease.
    pub(super) lost: Option<oneshot::Receiver<()>>,
}

/// Next step of the dispatcher.
#[derive(Debug)]
pub(super) enum Next {
    Start(Box<Started>),
    /// All slots are busy, or no message is there.
    Wait,
    /// No handler runs and none will.
    Done,
}

/// Lease to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    pub(super) receipt: Receipt,
    pub(super) length: Duration,
}

/// Leases that need attention.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) renewals: Vec<Renewal>,
    pub(super) lost: Vec<MessageId>,
    /// Time of the next change.
    pub(super) next: Option<Instant>,
}

impl Held {
    pub(super) fn new(options: &ConsumerOptions) -> Self {
        let concurrency = options.concurrency.max(1);
        Self {
            concurrency,
            most: options.prefetch.max(concurrency),
            most_bytes: options.prefetch_bytes,
            window: concurrency,
            shrunk: None,
            took: None,
            count: 0,
            bytes: 0,
            running: 0,
            ready: VecDeque::new(),
            leases: HashMap::new(),
            is_fetching: true,
            stopped: Stopped::default(),
        }
    }

    /// Messages and bytes that one of `nodes` fetchers may pop; `None` while there is no room. Each fetcher has one pop under
    /// way, so half of the bytes are for what is held and half for what is asked for.
    pub(super) fn room(&mut self, nodes: usize) -> Option<(u32, u32)> {
        let nodes = nodes.max(1);
        let is_idle = self.ready.is_empty() && self.running < self.concurrency;
        let ahead = self.window.saturating_sub(self.ready.len() + self.running);
        let room = ahead.min(self.most.saturating_sub(self.count));
        // Many small pops cost more than few large ones.
        if room == 0 || (room < self.window / 4 && !is_idle) || self.bytes > self.most_bytes / 2 {
            return None;
        }
        let messages = room.div_ceil(nodes).min(LARGEST_POP);
        let bytes = (self.most_bytes / 2 / nodes).max(1);
        Some((messages as u32, u32::try_from(bytes).unwrap_or(u32::MAX)))
    }

    /// Takes in the messages of a pop that asked for so many.
    pub(super) fn add(&mut self, deliveries: Vec<Delivery>, asked: u32, now: Instant) {
        let is_idle = self.ready.is_empty() && self.running < self.concurrency;
        if is_idle && deliveries.len() >= asked as usize && self.took.is_some_and(|took| took < EARLY) {
            self.window = (self.window * 2).min(self.most);
        }
        for delivery in deliveries {
            let bytes = size(&delivery);
            self.count += 1;
            self.bytes += bytes;
            if let Some(receipt) = delivery.receipt {
                let length = delivery.lease().unwrap_or(UNKNOWN_LEASE);
                let renew = if delivery.lease().is_some() { now + length / 2 } else { now };
                let lease = Lease { length, ends: now + length, renew, renewing: false, bytes, stage: Stage::Ready };
                self.leases.insert(receipt, lease);
            } else {
                // Messages that are acknowledged already are lost if this process ends: hold no more than the handlers take.
                self.most = self.concurrency;
                self.window = self.concurrency;
            }
            self.ready.push_back(Ready { since: now, delivery });
        }
    }

    /// The next message for a handler.
    pub(super) fn start(&mut self, now: Instant) -> Next {
        if self.running >= self.concurrency {
            return Next::Wait;
        }
        let Some(Ready { since, delivery }) = self.ready.pop_front() else {
            return if self.is_fetching || self.running > 0 { Next::Wait } else { Next::Done };
        };
        let is_early = now.saturating_duration_since(since) > EARLY;
        if is_early && self.shrunk.is_none_or(|at| now.saturating_duration_since(at) > EARLY) {
            self.window = (self.window / 2).max(self.concurrency);
            self.shrunk = Some(now);
        }
        self.running += 1;
        let mut lost = None;
        if let Some(lease) = delivery.receipt.and_then(|receipt| self.leases.get_mut(&receipt)) {
            let (sender, receiver) = oneshot::channel();
            lease.stage = Stage::Running(sender);
            lost = Some(receiver);
        }
        Next::Start(Box::new(Started { bytes: size(&delivery), delivery, lost }))
    }

    /// A handler has ended. Its message stays held until it is settled; without a lease, or with a lost lease, it is over.
    /// Returns true if it is to be settled.
    pub(super) fn ended(&mut self, receipt: Option<Receipt>, bytes: usize, took: Duration) -> bool {
        self.running -= 1;
        self.took = Some(took);
        let Some(receipt) = receipt else {
            self.release(bytes);
            return false;
        };
        let Some(lease) = self.leases.get_mut(&receipt) else { return false };
        if matches!(lease.stage, Stage::Lost) {
            self.settled(&receipt);
            return false;
        }
        lease.stage = Stage::Ended;
        true
    }

    /// The message is acknowledged, nacked or given back, or its lease is over.
    pub(super) fn settled(&mut self, receipt: &Receipt) {
        if let Some(lease) = self.leases.remove(receipt) {
            self.release(lease.bytes);
        }
    }

    /// Counts a handler that was cancelled because the consumer stops.
    pub(super) fn cut_off(&mut self) {
        self.stopped.cut_off += 1;
    }

    /// Takes the messages back that no handler has begun, because the consumer stops. Those without a lease cannot be given
    /// back: they stay.
    pub(super) fn take_ready(&mut self) -> Vec<Receipt> {
        let receipts: Vec<_> = self.ready.iter().filter_map(|ready| ready.delivery.receipt).collect();
        self.ready.retain(|ready| ready.delivery.receipt.is_none());
        receipts.iter().for_each(|receipt| self.end(receipt));
        self.stopped.given_back += receipts.len();
        receipts
    }

    /// Takes back the message that has waited for a handler too long: another consumer may be idle.
    pub(super) fn take_stale(&mut self, now: Instant) -> Option<Receipt> {
        let oldest = self.ready.front()?;
        let receipt = oldest.delivery.receipt?;
        if now.saturating_duration_since(oldest.since) < STALE {
            return None;
        }
        self.ready.pop_front();
        self.end(&receipt);
        Some(receipt)
    }

    fn end(&mut self, receipt: &Receipt) {
        if let Some(lease) = self.leases.get_mut(receipt) {
            lease.stage = Stage::Ended;
        }
    }

    /// No more messages come.
    pub(super) fn fetch_ended(&mut self) {
        self.is_fetching = false;
    }

    pub(super) fn stopped(&self) -> Stopped {
        Stopped { unsettled: self.leases.len(), ..self.stopped }
    }

    /// Leases that are to be renewed by now, and those that have ended; these are over, and their handlers are cancelled.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        let mut over = Vec::new();
        for (receipt, lease) in &mut self.leases {
            let is_over = lease.ends <= now;
            match lease.stage {
                Stage::Lost => continue,
                // The settler notices.
                Stage::Ended if is_over => continue,
                Stage::Ready | Stage::Running(_) if is_over => {
                    over.push(*receipt);
                    continue;
                }
                _ => {}
            }
            let mut next = lease.ends;
            if !lease.renewing && lease.renew <= now {
                lease.renewing = true;
                due.renewals.push(Renewal { receipt: *receipt, length: lease.length });
            } else if !lease.renewing {
                next = next.min(lease.renew);
            }
            due.next = Some(due.next.map_or(next, |known| known.min(next)));
        }
        due.lost = over.iter().filter_map(|receipt| self.lost(receipt)).collect();
        if let Some(oldest) = self.ready.front() {
            let stale = oldest.since + STALE;
            due.next = due.next.map(|next| if stale > now { next.min(stale) } else { next });
        }
        due
    }

    /// The node renewed the lease at some time after `asked`.
    pub(super) fn renewed(&mut self, renewal: &Renewal, asked: Instant) {
        if let Some(lease) = self.leases.get_mut(&renewal.receipt) {
            lease.renewing = false;
            lease.ends = asked + lease.length;
            lease.renew = asked + lease.length / 2;
        }
    }

    /// The node could not be asked: it is tried again until the lease ends.
    pub(super) fn not_renewed(&mut self, renewal: &Renewal, now: Instant) {
        if let Some(lease) = self.leases.get_mut(&renewal.receipt) {
            lease.renewing = false;
            lease.renew = now + (lease.length / 16).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        }
    }

    /// The lease is lost: its handler is cancelled. Returns the message, unless it is handled already.
    pub(super) fn lost(&mut self, receipt: &Receipt) -> Option<MessageId> {
        let lease = self.leases.get_mut(receipt)?;
        match lease.stage {
            Stage::Running(_) => lease.stage = Stage::Lost,
            Stage::Ready => {
                self.ready.retain(|ready| ready.delivery.receipt.as_ref() != Some(receipt));
                self.settled(receipt);
            }
            Stage::Lost | Stage::Ended => return None,
        }
        Some(receipt.id())
    }

    /// Returns true while the node has no reason to deliver the message again.
    pub(super) fn is_leased(&self, receipt: &Receipt, now: Instant) -> bool {
        self.leases.get(receipt).is_some_and(|lease| lease.ends > now)
    }

    /// Time for one call about these messages: several fit into the shortest of their leases.
    pub(super) fn patience(&self, receipts: &[Receipt]) -> Duration {
        let lengths = receipts.iter().filter_map(|receipt| self.leases.get(receipt)).map(|lease| lease.length);
        patience(lengths.min().unwrap_or(UNKNOWN_LEASE))
    }

    fn release(&mut self, bytes: usize) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Time for one call about a message under a lease of this length.
pub(super) fn patience(lease: Duration) -> Duration {
    (lease / 4).clamp(Duration::from_millis(100), Duration::from_secs(5))
}

#[cfg(test)]
mod tests;

/// Bytes that a message takes.
fn size(delivery: &Delivery) -> usize {
    delivery.body.len() + delivery.headers.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
}
