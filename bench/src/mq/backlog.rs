//! Many messages that nobody pops: what they take in memory, and how long a restart takes.

use std::{fs, process::Command, time::Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use ms_mq::{Durability, Push};

use super::{
    broker::{Broker, Home},
    ms::Ms,
};
use crate::peer::Failure;

/// What was seen of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    pub(crate) messages: u64,
    /// Resident memory of the node with all of them, in bytes.
    pub(crate) resident: u64,
    /// All files of its directory, in bytes that are reserved on the disk.
    pub(crate) disk: u64,
    /// From the start of the process, after a SIGKILL of the one before, until it serves; in seconds.
    pub(crate) restart: f64,
    /// What the disk was to read, was not in memory.
    pub(crate) cold: bool,
    pub(crate) resident_after: u64,
}

/// Messages of `body` bytes.
pub(crate) async fn measure(home: &Home, messages: u64, body: usize) -> Result<Backlog, Failure> {
    const BATCH: u64 = 1000;
    let node = Ms::start(home).await?;
    let body = Bytes::from(vec![b'x'; body]);
    let push = || Push { durability: Durability::Written, ..Push::new("backlog", body.clone()) };
    for _ in 0..messages / (BATCH * 4) {
        let batches = (0..4).map(|_| node.client().push_batch((0..BATCH).map(|_| push()).collect()));
        try_join_all(batches).await?;
    }
    let resident = node.resident()?;
    let disk =
        fs::read_dir(&home.directory)?.map(|entry| Ok(entry?.metadata()?.len())).sum::<std::io::Result<u64>>()?;
    node.stop().await;
    let cold = drop_page_cache();
    let begin = Instant::now();
    let node = Ms::open(home).await?;
    let restart = begin.elapsed().as_secs_f64();
    let resident_after = node.resident()?;
    let stats = node.client().stats(Some("backlog")).await?;
    let ready = stats.first().and_then(|(_, topics)| Some(topics.first()?.queues.first()?.ready));
    node.stop().await;
    if ready != Some(messages) {
        return Err(format!("{ready:?} of {messages} messages are there after the restart").into());
    }
    Ok(Backlog { messages, resident, disk, restart, cold, resident_after })
}

/// False if it may not.
fn drop_page_cache() -> bool {
    let synced = Command::new("sync").status().is_ok_and(|status| status.success());
    synced && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
