//! A queue's directory looked at from outside, while no node has it open. Nothing in it is changed.

use std::path::Path;

use crate::{
    Finding, NodeId, OpenError, SegmentSurvey, TopicStats,
    batch::Batch,
    clock::{Clock, SteadyClock, System},
    log::{Depth, LogSurvey, survey},
    state::{Limits, State},
    store::ReadOnly,
};

/// Content of a queue's directory, or of a backup.
///
/// ```no_run
/// let survey = ms_mq::Survey::verify(std::path::Path::new("mq-data"))?;
/// assert!(!survey.is_damaged(), "{:?}", survey.findings);
/// # Ok::<_, ms_mq::OpenError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// Id of the store.
    pub store: u128,
    /// Number of the node that it belongs to.
    pub node: NodeId,
    /// Segments, the oldest first.
    pub segments: Vec<SegmentSurvey>,
    /// Names of files that are reserved and not used.
    pub spares: Vec<String>,
    /// Names of damaged segments that a node has put aside.
    pub set_aside: Vec<String>,
    /// Everything that is not as it should be, in the order of the log.
    pub findings: Vec<Finding>,
    /// Topics and queues, as a node would have them that starts now.
    pub topics: Vec<TopicStats>,
}

/// Queues of one page of statistics.
const PAGE: usize = 1000;

impl Survey {
    /// Reads what a node reads when it starts: of sealed segments the footers. Reads the disk: not for a runtime's thread.
    ///
    /// # Errors
    /// A node has the directory open; it is none of a queue, or of another version; or it cannot be read.
    pub fn inspect(directory: &Path) -> Result<Self, OpenError> {
        Self::of(directory, Depth::Recovery)
    }

    /// Reads every batch of every segment, and compares the footers with them.
    ///
    /// # Errors
    /// As for [`inspect`](Self::inspect).
    pub fn verify(directory: &Path) -> Result<Self, OpenError> {
        Self::of(directory, Depth::Everything)
    }

    /// Returns true if durable bytes are wrong, missing or unreadable.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.is_damage)
    }

    fn of(directory: &Path, depth: Depth) -> Result<Self, OpenError> {
        let limits = Limits {
            live: u64::MAX,
            dead: u64::MAX,
            dedup: usize::MAX,
            topics: usize::MAX,
            queues: usize::MAX,
            configuration: u64::MAX,
        };
        // The number does not matter: nothing is given an id.
        let mut state = State::new(NodeId::MIN, limits);
        let found = survey(&mut ReadOnly::open(directory)?, depth, &mut |record, place| state.apply(record, place, 0))?;
        let LogSurvey { store, node, segments, spares, set_aside, findings, time } = found;
        let now = SteadyClock::after(time, System::new()).now();
        let mut changes = Batch::default();
        while !state.advance_all(now, &mut changes) {
            changes.clear();
        }
        let (mut topics, mut after) = (Vec::<TopicStats>::new(), None);
        // Without a topic no page is an error.
        while let Ok((page, next)) = state.page(None, after.as_ref(), PAGE) {
            for found in state.stats(&page, now) {
                match topics.last_mut() {
                    Some(last) if last.topic == found.topic => last.queues.extend(found.queues),
                    _ => topics.push(found),
                }
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        Ok(Self { store, node, segments, spares, set_aside, findings, topics })
    }
}
