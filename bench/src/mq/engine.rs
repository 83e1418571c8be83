//! The engine alone, in this process: durable pushes from so many tasks, without any network.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ms_mq::{Engine as _, Look, Node, NodeConfig, NodeId, Push};
use tokio::task::JoinSet;

use crate::peer::Failure;

/// What was seen of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Engine {
    /// Messages per second that are synced.
    pub(crate) rate: f64,
    /// Bytes written to the log for each byte of a body.
    pub(crate) amplification: f64,
}

/// Durable pushes of `outstanding` tasks, each of which waits for its own.
pub(crate) fn push(directory: &Path, outstanding: usize, body: usize, length: Duration) -> Result<Engine, Failure> {
    let directory = tempfile::tempdir_in(directory)?;
    let node = Node::open(directory.path(), &NodeConfig::new(NodeId::new(1).ok_or("no node id")?))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = Bytes::from(vec![b'x'; body]);
    let pushed = |until: Duration| -> Result<f64, Failure> {
        let begin = Instant::now();
        let count: u64 = runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..outstanding {
                let (node, body) = (node.clone(), body.clone());
                tasks.spawn(async move {
                    let mut count = 0_u64;
                    while begin.elapsed() < until {
                        node.push(Push::new("bench", body.clone())).await?;
                        count += 1;
                    }
                    Ok::<_, ms_mq::MqError>(count)
                });
            }
            tasks.join_all().await.into_iter().sum::<Result<_, _>>()
        })?;
        Ok(count as f64 / begin.elapsed().as_secs_f64())
    };
    pushed(length / 4)?;
    let on_disk = || node.written() + node.prepared();
    let taken = || -> Result<u64, Failure> {
        let look = Look::Stats { topic: Some("bench".to_owned()), after: None };
        let (topics, _) = runtime.block_on(node.look(look))?.topics();
        Ok(topics.iter().flat_map(|topic| &topic.queues).map(|queue| queue.pushed).sum())
    };
    let (before, already) = (on_disk(), taken()?);
    let rate = pushed(length)?;
    let bodies = (taken()? - already) * body.len() as u64;
    let amplification = (on_disk() - before) as f64 / bodies as f64;
    node.close();
    Ok(Engine { rate, amplification })
}
