//! How a node stands, through the `metrics` facade: nothing, as long as the program installs no recorder. The engine only
//! counts; what it has counted is handed on now and then.
//!
//! Names are documented in docs/metrics.md.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use metrics::{Counter, Gauge, counter, gauge};

use super::{
    Node,
    inner::{Need, Shared},
};
use crate::{
    message::Millis,
    queue::{Counts, Queue},
    record::QueueNumber,
    store::File,
};

/// Queues that are looked at under one hold of the lock.
const AT_ONCE: usize = 500;

/// Reports a node's queues through the facade `metrics`. It does not keep the node open.
pub struct Meter<F: File = std::fs::File> {
    shared: Arc<Shared<F>>,
    queues: HashMap<QueueNumber, Handles>,
    written: Counter,
    lost: Counter,
    disk_full: Gauge,
}

impl<F: File> Meter<F> {
    /// For the recorder that is installed now.
    pub fn new(node: &Node<F>) -> Self {
        Self {
            shared: node.shared.clone(),
            queues: HashMap::new(),
            written: counter!("ms_mq_written_bytes_total"),
            lost: counter!("ms_mq_lost_messages_total"),
            disk_full: gauge!("ms_mq_disk_full"),
        }
    }

    /// Reports once; such as before each time that the recorder is read. False: the node is closed.
    pub fn record(&mut self) -> bool {
        let mut found = Vec::with_capacity(self.queues.len());
        let mut from = 0;
        // Some at a time, so that nobody waits for long.
        loop {
            let mut inner = self.shared.lock();
            if inner.check_open().is_err() {
                return false;
            }
            let numbers: Vec<_> = inner.state.queues_from(from).take(AT_ONCE).map(|(number, ..)| number).collect();
            let Some(last) = numbers.last() else {
                self.written.absolute(inner.written + inner.prepared);
                self.lost.absolute(inner.lost.len() as u64);
                let is_full = inner.check_space(Need::Push, self.shared.segment_bytes).is_err();
                self.disk_full.set(f64::from(u8::from(is_full)));
                break;
            };
            for number in &numbers {
                inner.advance(*number, &*self.shared.clock);
            }
            for (number, topic, queue) in inner.state.queues_from(from).take_while(|(number, ..)| number <= last) {
                self.queues.entry(number).or_insert_with(|| Handles::new(topic, &queue.bind_key));
                found.push((number, Counted::of(queue, self.shared.clock.now())));
            }
            from = last + 1;
            self.shared.unlock_and_wake(inner);
        }
        for (number, counted) in &found {
            if let Some(handles) = self.queues.get(number) {
                handles.set(counted);
            }
        }
        if self.queues.len() > found.len() {
            // Both are sorted by number.
            self.queues.retain(|number, handles| {
                let there = found.binary_search_by_key(number, |(number, _)| *number).is_ok();
                if !there {
                    handles.stand(&Counts::default());
                    handles.oldest.set(0.0);
                }
                there
            });
        }
        true
    }

    /// Reports every so often until the node is closed. Needs a tokio runtime with time.
    pub async fn run(mut self, every: Duration) {
        // A pause of nothing would be no pause.
        let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            if !self.record() {
                return;
            }
        }
    }
}

impl<F: File> fmt::Debug for Meter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("node", &self.shared.node).field("queues", &self.queues.len()).finish()
    }
}

/// Counts of one queue.
struct Counted {
    counts: Counts,
    pushed: u64,
    popped: u64,
    acked: u64,
    failed: u64,
    died: u64,
    dropped: u64,
    /// The age of the oldest message.
    oldest: Duration,
}

impl Counted {
    fn of(queue: &Queue, now: Millis) -> Self {
        let Queue { pushed, popped, acked, failed, died, dropped, .. } = *queue;
        let oldest = queue.oldest().map_or(0, |id| now.saturating_sub(id.time()));
        let oldest = Duration::from_millis(oldest);
        Self { counts: queue.counts(), pushed, popped, acked, failed, died, dropped, oldest }
    }
}

/// Where it is told.
struct Handles {
    ready: Gauge,
    delayed: Gauge,
    held: Gauge,
    leased: Gauge,
    dead: Gauge,
    pushed: Counter,
    popped: Counter,
    acked: Counter,
    failed: Counter,
    died: Counter,
    dropped: Counter,
    oldest: Gauge,
}

impl Handles {
    fn new(topic: &str, queue: &str) -> Self {
        let state = |state: &'static str| gauge!("ms_mq_messages", "topic" => topic.to_owned(), "queue" => queue.to_owned(), "state" => state);
        let count = |name: &'static str| counter!(name, "topic" => topic.to_owned(), "queue" => queue.to_owned());
        Self {
            ready: state("ready"),
            delayed: state("delayed"),
            held: state("held"),
            leased: state("leased"),
            dead: state("dead"),
            pushed: count("ms_mq_pushes_total"),
            popped: count("ms_mq_deliveries_total"),
            acked: count("ms_mq_acks_total"),
            failed: count("ms_mq_failed_deliveries_total"),
            died: count("ms_mq_dead_letters_total"),
            dropped: count("ms_mq_dropped_dead_letters_total"),
            oldest: gauge!("ms_mq_oldest_message_seconds", "topic" => topic.to_owned(), "queue" => queue.to_owned()),
        }
    }

    fn set(&self, counted: &Counted) {
        self.stand(&counted.counts);
        self.pushed.absolute(counted.pushed);
        self.popped.absolute(counted.popped);
        self.acked.absolute(counted.acked);
        self.failed.absolute(counted.failed);
        self.died.absolute(counted.died);
        self.dropped.absolute(counted.dropped);
        self.oldest.set(counted.oldest.as_secs_f64());
    }

    fn stand(&self, counts: &Counts) {
        self.ready.set(counts.ready as f64);
        self.delayed.set(counts.delayed as f64);
        self.held.set(counts.held as f64);
        self.leased.set(counts.leased as f64);
        self.dead.set(counts.dead as f64);
    }
}
