//! Operations on a topic or a queue of all nodes.

use std::future::Future;

use ms_register::Instance;
use ms_rpc::CallError;

use super::{MqClient, QueueError};
use crate::{Extensions, MessageId, MessageInfo, MqError, MqNodeClient as Stub, QueueName, Settings, Which};

/// Entries of one page of a node's list.
const PAGE: u32 = 200;

impl MqClient {
    /// Declares a queue on every node, and its topic if need be. A queue that exists stays as it is.
    ///
    /// # Errors
    /// The first error, if a node refuses or cannot be reached; the other nodes have the queue.
    pub async fn declare(&self, topic: &str, queue: &str) -> Result<(), QueueError> {
        let declare = |node: Stub| async move {
            match node.declare(topic.to_owned(), queue.to_owned(), Extensions::default()).await {
                Ok(_) | Err(CallError::Service(MqError::QueueExists(_))) => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.nodes.everywhere(declare).await?.into_iter().try_for_each(|(_, result)| result)
    }

    /// Changes the settings of a topic on every node, and makes the topic if need be.
    ///
    /// # Errors
    /// As for [`declare`](Self::declare).
    pub async fn configure(&self, topic: &str, settings: &Settings) -> Result<(), QueueError> {
        let configure = |node: Stub| async move { node.configure(topic.to_owned(), settings.clone()).await };
        self.nodes.everywhere(configure).await?.into_iter().try_for_each(|(_, result)| result.map(drop))
    }

    /// Stops, or resumes, the delivery of a queue's messages on every node that has the queue.
    ///
    /// # Errors
    /// No node has the queue; or of the first node that refuses or cannot be reached.
    pub async fn pause(&self, topic: &str, queue: &str, paused: bool) -> Result<(), QueueError> {
        let pause = |node: Stub| async move {
            node.pause(topic.to_owned(), queue.to_owned(), paused, Extensions::default()).await.map(drop)
        };
        self.where_it_is(pause).await.map(drop)
    }

    /// Drops the ready, delayed and leased messages of a queue on every node that has it; returns their number.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub async fn purge(&self, topic: &str, queue: &str) -> Result<u64, QueueError> {
        let purge = |node: Stub| async move {
            Ok(node.purge(topic.to_owned(), queue.to_owned(), Extensions::default()).await?.value)
        };
        Ok(self.where_it_is(purge).await?.into_iter().map(|(_, count)| count).sum())
    }

    /// Drops the dead letters of a queue that are not leased on every node that has it; returns their number.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub async fn purge_dead(&self, topic: &str, queue: &str) -> Result<u64, QueueError> {
        let purge = |node: Stub| async move {
            Ok(node.purge_dead(topic.to_owned(), queue.to_owned(), Extensions::default()).await?.value)
        };
        Ok(self.where_it_is(purge).await?.into_iter().map(|(_, count)| count).sum())
    }

    /// Deletes a queue, or without a queue the topic, with all messages and dead letters, on every node that has it.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub async fn delete(&self, topic: &str, queue: Option<&str>) -> Result<(), QueueError> {
        let delete = |node: Stub| async move {
            node.delete(topic.to_owned(), queue.map(str::to_owned), Extensions::default()).await.map(drop)
        };
        self.where_it_is(delete).await.map(drop)
    }

    /// Messages that each node would deliver next, at most `most` of each, with their bodies. They stay where they are.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub async fn peek(
        &self,
        topic: &str,
        queue: &str,
        most: u32,
    ) -> Result<Vec<(Instance, Vec<MessageInfo>)>, QueueError> {
        let peek = |node: Stub| async move {
            Ok(node.peek(topic.to_owned(), queue.to_owned(), most, Extensions::default()).await?.value)
        };
        self.where_it_is(peek).await
    }

    /// Messages of a queue by id, without bodies, at most `most` of each node; of `dead` letters, those alone.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub async fn list(
        &self,
        topic: &str,
        queue: &str,
        most: usize,
        dead: bool,
    ) -> Result<Vec<(Instance, Vec<MessageInfo>)>, QueueError> {
        let list = |node: Stub| async move {
            let (mut found, mut after) = (Vec::new(), MessageId(0));
            while found.len() < most {
                let page = PAGE.min(u32::try_from(most - found.len()).unwrap_or(PAGE));
                let (topic, queue) = (topic.to_owned(), queue.to_owned());
                let listed = node.list(topic, queue, after, page, dead, Extensions::default()).await?.value;
                let Some(last) = listed.last() else { break };
                after = last.id;
                let is_last = listed.len() < page as usize;
                found.extend(listed);
                if is_last {
                    break;
                }
            }
            Ok(found)
        };
        self.where_it_is(list).await
    }

    /// The messages of a queue with ids above `after` on all nodes, by id and without bodies; of `dead` letters, those alone. A
    /// page: ask again after its last id; an empty page is the last.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub async fn page(
        &self,
        topic: &str,
        queue: &str,
        after: MessageId,
        dead: bool,
    ) -> Result<Vec<MessageInfo>, QueueError> {
        let list = |node: Stub| async move {
            let (topic, queue) = (topic.to_owned(), queue.to_owned());
            Ok(node.list(topic, queue, after, PAGE, dead, Extensions::default()).await?.value)
        };
        let lists: Vec<_> = self.where_it_is(list).await?.into_iter().map(|(_, list)| list).collect();
        // Beyond the end of a full list its node may have messages that are not listed yet.
        let ends = lists.iter().filter(|list| list.len() >= PAGE as usize).filter_map(|list| list.last());
        let end = ends.map(|last| last.id).min().unwrap_or(MessageId(u64::MAX));
        let mut page: Vec<_> = lists.into_iter().flatten().filter(|message| message.id <= end).collect();
        page.sort_by_key(|message| message.id);
        Ok(page)
    }

    /// One message, with its body.
    ///
    /// # Errors
    /// [`MqError::NoMessage`], or of the call.
    pub async fn get(&self, topic: &str, queue: &str, id: MessageId) -> Result<MessageInfo, QueueError> {
        let get = |node: Stub| async move {
            Ok(node.get(topic.to_owned(), queue.to_owned(), id, Extensions::default()).await?.value)
        };
        self.nodes.at_number(id.node(), get, |result| result.as_ref().is_err_and(is_elsewhere)).await
    }

    /// Removes a message from a queue, whatever its state: ready, delayed, leased or dead.
    ///
    /// # Errors
    /// [`MqError::NoMessage`], or of the call.
    pub async fn cancel(&self, topic: &str, queue: &str, id: MessageId) -> Result<(), QueueError> {
        let cancel = |node: Stub| async move {
            node.cancel(topic.to_owned(), queue.to_owned(), id, Extensions::default()).await.map(drop)
        };
        self.nodes.at_number(id.node(), cancel, |result| result.as_ref().is_err_and(is_elsewhere)).await
    }

    /// Makes a message that is ready or delayed due at this time, in milliseconds since 1970 and within 366 days; in the past: at
    /// once.
    ///
    /// # Errors
    /// [`MqError::NoMessage`], or of the call.
    pub async fn reschedule(&self, topic: &str, queue: &str, id: MessageId, due_ms: u64) -> Result<(), QueueError> {
        let reschedule = |node: Stub| async move {
            node.reschedule(topic.to_owned(), queue.to_owned(), id, due_ms, Extensions::default()).await.map(drop)
        };
        self.nodes.at_number(id.node(), reschedule, |result| result.as_ref().is_err_and(is_elsewhere)).await
    }

    /// Gives a message another priority.
    ///
    /// # Errors
    /// [`MqError::NoMessage`], or of the call.
    pub async fn reprioritize(&self, topic: &str, queue: &str, id: MessageId, priority: u8) -> Result<(), QueueError> {
        let reprioritize = |node: Stub| async move {
            node.reprioritize(topic.to_owned(), queue.to_owned(), id, priority, Extensions::default()).await.map(drop)
        };
        self.nodes.at_number(id.node(), reprioritize, |result| result.as_ref().is_err_and(is_elsewhere)).await
    }

    /// Makes dead letters ready again, their retries at 0; without ids, all of them. Returns their number.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub async fn redrive(&self, topic: &str, queue: &str, ids: Option<&[MessageId]>) -> Result<u64, QueueError> {
        let redrive = |node: Stub| async move {
            let (topic, queue) = (topic.to_owned(), queue.to_owned());
            Ok(node.redrive(topic, queue, ids.map(<[_]>::to_vec), Extensions::default()).await?.value)
        };
        Ok(self.where_it_is(redrive).await?.into_iter().map(|(_, count)| count).sum())
    }

    /// Moves messages to another queue, on each node that has both queues; see [`Change::Move`](crate::Change::Move). With
    /// [`Which::Dead`] dead letters are redriven to that queue. Returns the number of messages.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause); [`MqError::Full`] if the other queue is full and nothing was moved. The messages of
    /// other nodes may have been moved.
    pub async fn move_messages(&self, from: &QueueName, to: &QueueName, which: &Which) -> Result<u64, QueueError> {
        self.transfer(from, to, which, false).await
    }

    /// Copies messages to another queue, on each node that has both queues; see [`Change::Copy`](crate::Change::Copy).
    ///
    /// # Errors
    /// As for [`move_messages`](Self::move_messages).
    pub async fn copy_messages(&self, from: &QueueName, to: &QueueName, which: &Which) -> Result<u64, QueueError> {
        self.transfer(from, to, which, true).await
    }

    async fn transfer(&self, from: &QueueName, to: &QueueName, which: &Which, copy: bool) -> Result<u64, QueueError> {
        let transfer = |node: Stub| async move {
            let answer = node.transfer(from.clone(), to.clone(), which.clone(), copy, Extensions::default());
            Ok(answer.await?.value)
        };
        Ok(self.where_it_is(transfer).await?.into_iter().map(|(_, count)| count).sum())
    }

    /// Makes a backup on every node, as `backups/{name}` in its directory; returns the number of segments of each node, or its
    /// error. See [`Change::Backup`](crate::Change::Backup).
    ///
    /// # Errors
    /// No node is listed.
    pub async fn backup(&self, name: &str) -> Result<Vec<(Instance, Result<u64, QueueError>)>, QueueError> {
        let backup = |node: Stub| async move { Ok(node.backup(name.to_owned(), Extensions::default()).await?.value) };
        self.nodes.everywhere(backup).await
    }

    /// Calls every node; leaves out those that do not have the topic or the queue, unless none has it.
    async fn where_it_is<T, F>(&self, call: impl Fn(Stub) -> F + Send + Sync) -> Result<Vec<(Instance, T)>, QueueError>
    where
        T: Send,
        F: Future<Output = Result<T, QueueError>> + Send,
    {
        let (mut found, mut missing) = (Vec::new(), None);
        for (node, result) in self.nodes.everywhere(call).await? {
            match result {
                Ok(value) => found.push((node, value)),
                Err(error) if is_elsewhere(&error) => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        match missing {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }
}

/// Returns true if another node may have what this one does not.
fn is_elsewhere(error: &QueueError) -> bool {
    matches!(error, CallError::Service(MqError::NoTopic(_) | MqError::NoQueue(_) | MqError::NoMessage(_)))
}
