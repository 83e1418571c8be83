//! `ms mq inspect`, `verify` and `restore`: directories that no node has open. `backup` of a running node.

use std::path::PathBuf;

use clap::Args;
use ms_mq::{MqClient, OpenError, RestoreError, Survey};
use serde_json::{Map, Value};

use super::look::queue_row;
use crate::{
    exit::Failure,
    output::{Output, row},
};

#[derive(Args, Debug)]
pub(crate) struct DirectoryArgs {
    /// Directory of a node that is stopped, or a backup.
    directory: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    /// Name of the backup: letters, digits, `.`, `-` and `_`.
    name: String,
}

#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// The backup: a directory that `ms mq backup` made, or a copy of it.
    backup: PathBuf,
    /// Directory for the node; it is made. A directory that is not empty is refused.
    directory: PathBuf,
    /// Restores what can be read of a damaged backup.
    #[arg(long)]
    damaged: bool,
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(_) => Self::Other(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Shows what a node would find that starts now.
pub(super) fn inspect(args: &DirectoryArgs, output: &Output) -> Result<(), Failure> {
    let survey = survey(args, Survey::inspect)?;
    let store = row! {
        "store": format!("{:x}", survey.store),
        "node": survey.node.get(),
        "segments": survey.segments.len(),
        "spares": survey.spares.len(),
        "set_aside": survey.set_aside.len(),
        "damaged": survey.is_damaged(),
    };
    output.section("store", &["store", "node", "segments", "spares", "set_aside", "damaged"], &[store])?;
    segments(&survey, output)?;
    let queues: Vec<_> = survey
        .topics
        .iter()
        .flat_map(|topic| topic.queues.iter().map(|queue| queue_row(survey.node.get().into(), topic, queue)))
        .collect();
    let columns = ["topic", "queue", "ready", "delayed", "leased", "dead", "paused", "oldest_ms"];
    output.section("queue", &columns, &queues)?;
    findings(&survey, output)
}

/// Reads every byte that counts; fails if any is damaged.
pub(super) fn verify(args: &DirectoryArgs, output: &Output) -> Result<(), Failure> {
    let survey = survey(args, Survey::verify)?;
    segments(&survey, output)?;
    findings(&survey, output)?;
    let damage = survey.findings.iter().filter(|finding| finding.is_damage).count();
    if damage == 0 {
        return Ok(());
    }
    Err(Failure::Other(format!("{}: damaged in {damage} places", args.directory.display())))
}

fn survey(args: &DirectoryArgs, of: fn(&std::path::Path) -> Result<Survey, OpenError>) -> Result<Survey, Failure> {
    of(&args.directory).map_err(|error| Failure::from(error).about(args.directory.display()))
}

fn segments(survey: &Survey, output: &Output) -> Result<(), Failure> {
    let rows: Vec<_> = survey
        .segments
        .iter()
        .map(|segment| {
            row! {
                "file": segment.file.as_str(),
                "bytes": segment.bytes,
                "used": segment.used,
                "sealed": segment.sealed,
                "records": segment.records,
                "messages": segment.messages,
                "last_sequence": segment.last_sequence,
                "time_ms": segment.time_ms,
            }
        })
        .collect();
    let columns = ["file", "bytes", "used", "sealed", "records", "messages", "last_sequence", "time_ms"];
    output.section("segment", &columns, &rows)
}

fn findings(survey: &Survey, output: &Output) -> Result<(), Failure> {
    let rows: Vec<Map<String, Value>> = survey
        .findings
        .iter()
        .map(|finding| {
            let ids = |ids: &Vec<_>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
            row! {
                "file": finding.file.as_str(),
                "offset": finding.offset,
                "damage": finding.is_damage,
                "problem": finding.problem.as_str(),
                "lost": finding.lost.as_ref().map(ids),
            }
        })
        .collect();
    output.section("finding", &["file", "offset", "damage", "problem"], &rows)
}

/// Makes a backup on every node; the first node that fails is the result.
pub(super) async fn backup(client: &MqClient, args: &BackupArgs, output: &Output) -> Result<(), Failure> {
    let (mut rows, mut failed) = (Vec::new(), None);
    for (node, made) in client.backup(&args.name).await? {
        match made {
            Ok(segments) => rows.push(row! {
                "node": node.id(),
                "backup": format!("backups/{}", args.name),
                "segments": segments,
            }),
            Err(error) => failed = failed.or_else(|| Some(Failure::from(error).about(node.id()))),
        }
    }
    if !rows.is_empty() {
        output.rows(&["node", "backup", "segments"], &rows)?;
    }
    failed.map_or(Ok(()), Err)
}

/// Checks a backup, and copies it.
pub(super) fn restore(args: &RestoreArgs, output: &Output) -> Result<(), Failure> {
    let survey = survey(&DirectoryArgs { directory: args.backup.clone() }, Survey::verify)?;
    if survey.is_damaged() && !args.damaged {
        let text = "is damaged, as `ms mq verify` shows; `--damaged` restores what can be read";
        return Err(Failure::Refused(format!("{} {text}", args.backup.display())));
    }
    let segments = ms_mq::restore(&args.backup, &args.directory).map_err(|error| match error {
        RestoreError::NotEmpty(_) => Failure::Refused(error.to_string()),
        _ => Failure::Other(error.to_string()),
    })?;
    let (node, directory) = (survey.node, args.directory.display());
    let text = format!("{segments} segments: start the node with --node-id {node} --data {directory}");
    output.line(&text, &row! { "node": node.get(), "segments": segments, "directory": directory.to_string() })
}
