//! Channels: a message goes to the subscribers of that moment, and is kept nowhere. A subscriber that does not read is
//! dropped at a bound, so that publishers never wait.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::limits::{CHANNELS, UNREAD_BYTES, UNREAD_MESSAGES};

/// All channels of a port, by name; those without subscribers are not there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Channels(Arc<Mutex<HashMap<String, Vec<Arc<Outbox>>>>>);

impl Channels {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Outbox>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A subscriber without channels, and what is published to it.
    pub(crate) fn subscriber(&self) -> (Subscriber, Inbox) {
        let (messages, inbox) = mpsc::channel(UNREAD_MESSAGES);
        let outbox = Arc::new(Outbox { messages, bytes: AtomicUsize::new(0), overflown: Notify::new() });
        let inbox = Inbox { messages: inbox, outbox: outbox.clone() };
        (Subscriber { channels: self.clone(), outbox, names: Arc::default() }, inbox)
    }

    /// Hands a message to all subscribers; returns how many there are.
    pub(crate) fn publish(&self, channel: &str, message: &Bytes) -> usize {
        let mut all = self.lock();
        let Some(subscribers) = all.get_mut(channel) else { return 0 };
        subscribers.retain(|subscriber| subscriber.offer(message));
        let count = subscribers.len();
        if count == 0 {
            all.remove(channel);
        }
        count
    }
}

/// Messages on their way to one subscriber.
#[derive(Debug)]
struct Outbox {
    messages: mpsc::Sender<Bytes>,
    bytes: AtomicUsize,
    /// More than the bound was waiting.
    overflown: Notify,
}

impl Outbox {
    /// Returns false if the subscriber is dropped.
    fn offer(&self, message: &Bytes) -> bool {
        let bytes = self.bytes.fetch_add(message.len(), Ordering::Relaxed);
        if bytes <= UNREAD_BYTES && self.messages.try_send(message.clone()).is_ok() {
            return true;
        }
        self.overflown.notify_one();
        false
    }
}

/// Subscriptions of one connection. Dropping the last clone ends them.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    channels: Channels,
    outbox: Arc<Outbox>,
    names: Arc<Mutex<Vec<String>>>,
}

impl Subscriber {
    /// Subscribes to one channel more; to one that it has already, it changes nothing. Returns false beyond the bound.
    pub(crate) fn subscribe(&self, channel: &str) -> bool {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.iter().any(|name| name == channel) {
            return true;
        }
        if names.len() >= CHANNELS {
            return false;
        }
        names.push(channel.to_owned());
        self.channels.lock().entry(channel.to_owned()).or_default().push(self.outbox.clone());
        true
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if Arc::strong_count(&self.names) > 1 {
            return;
        }
        let names = std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner));
        let mut all = self.channels.lock();
        for name in names {
            let Some(subscribers) = all.get_mut(&name) else { continue };
            subscribers.retain(|outbox| !Arc::ptr_eq(outbox, &self.outbox));
            if subscribers.is_empty() {
                all.remove(&name);
            }
        }
    }
}

/// Messages of the channels of one connection.
#[derive(Debug)]
pub(crate) struct Inbox {
    messages: mpsc::Receiver<Bytes>,
    outbox: Arc<Outbox>,
}

impl Inbox {
    /// The next messages, at least one and not many.
    pub(crate) async fn next(&mut self) -> Vec<Bytes> {
        let mut messages = Vec::new();
        self.messages.recv_many(&mut messages, 64).await;
        messages
    }

    /// Makes room for more, after these messages have been written.
    pub(crate) fn written(&self, messages: &[Bytes]) {
        let bytes = messages.iter().map(Bytes::len).sum();
        self.outbox.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Ends when more waits than may.
    pub(crate) fn overflown(&self) -> impl Future<Output = ()> + Send + 'static {
        let outbox = self.outbox.clone();
        async move { outbox.overflown.notified().await }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn messages_reach_subscribers() {
        let channels = Channels::default();
        let message = Bytes::from_static(b"m");
        assert_eq!(channels.publish("c", &message), 0);
        let (first, mut inbox) = channels.subscriber();
        let (second, mut other) = channels.subscriber();
        assert!(first.subscribe("c") && first.subscribe("c") && second.subscribe("c"));
        assert_eq!(channels.publish("c", &message), 2);
        assert_eq!(channels.publish("d", &message), 0);
        assert_eq!(inbox.next().now_or_never().unwrap(), vec![message.clone()], "once");
        assert_eq!(other.next().now_or_never().unwrap(), vec![message.clone()]);
        let clone = first.clone();
        drop(first);
        assert_eq!(channels.publish("c", &message), 2);
        drop(clone);
        assert_eq!(channels.publish("c", &message), 1);
        drop(second);
        assert!(channels.lock().is_empty());
    }

    #[test]
    fn a_subscriber_that_does_not_read_is_dropped_at_either_bound() {
        for (size, most) in [(1, UNREAD_MESSAGES), (1 << 20, 5)] {
            let channels = Channels::default();
            let message = Bytes::from(vec![0; size]);
            let (stalled, inbox) = channels.subscriber();
            let (reads, mut read) = channels.subscriber();
            assert!(stalled.subscribe("c") && reads.subscribe("c"));
            for _ in 0..most {
                assert_eq!(channels.publish("c", &message), 2, "{size}");
                let messages = read.next().now_or_never().unwrap();
                read.written(&messages);
            }
            assert!(inbox.overflown().now_or_never().is_none());
            assert_eq!(channels.publish("c", &message), 1, "{size}");
            assert!(inbox.overflown().now_or_never().is_some());
        }
    }

    #[test]
    fn channels_of_one_subscriber_are_bounded() {
        let channels = Channels::default();
        let (subscriber, _inbox) = channels.subscriber();
        assert!((0..CHANNELS).all(|number| subscriber.subscribe(&number.to_string())));
        assert!(!subscriber.subscribe("one more") && subscriber.subscribe("0"));
    }
}
