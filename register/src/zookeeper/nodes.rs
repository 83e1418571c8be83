//! Requests of several steps, on one session.

use tracing::debug;
use zookeeper_client::{Client, CreateMode, CreateOptions, Error, MultiWriteError, MultiWriteResult, Stat};

use super::{link::Link, queue::Queued};

/// One node and what is in it.
pub(super) struct Node {
    pub(super) name: String,
    /// `None`: others keep it from us.
    pub(super) data: Option<Vec<u8>>,
    /// The session that it ends with; 0: it stays.
    pub(super) owner: i64,
}

impl Node {
    /// `None`: there is no such node.
    fn read(name: &str, answer: Result<(Vec<u8>, Stat), Error>) -> Result<Option<Self>, Error> {
        let name = name.to_owned();
        match answer {
            Ok((data, stat)) => Ok(Some(Self { name, data: Some(data), owner: stat.ephemeral_owner })),
            // One node that cannot be read is no reason to list none.
            Err(Error::NoAuth) => Ok(Some(Self { name, data: None, owner: 0 })),
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Nodes that are read at once, each by a request of its own.
pub(super) const TOGETHER: usize = 1_000;

/// The names of all children of `directory`, sorted, none where there is no such node. It includes whatever any client was told is
/// written.
pub(super) async fn names(client: &Client, directory: &str) -> Result<Vec<String>, Error> {
    // Asked for in this order, and so answered. A server may lag behind the others; this makes it catch up.
    let (caught_up, names) = (client.sync(directory), client.list_children(directory));
    caught_up.await?;
    let mut names = match names.await {
        Err(Error::NoNode) => return Ok(Vec::new()),
        names => names?,
    };
    names.sort();
    Ok(names)
}

/// Nodes of these children of `directory` with their data, in their order.
pub(super) async fn read(client: &Client, directory: &str, names: &[String]) -> Result<Vec<Node>, Error> {
    // Each is sent when it is made, so they wait together.
    let reads: Vec<_> = names.iter().map(|name| client.get_data(&format!("{directory}/{name}"))).collect();
    let mut nodes = Vec::with_capacity(names.len());
    for (name, read) in names.iter().zip(reads) {
        // One that is gone went in between.
        nodes.extend(Node::read(name, read.await)?);
    }
    Ok(nodes)
}

/// All children of `directory` with their data, sorted by name.
pub(super) async fn children(client: &Client, directory: &str) -> Result<Vec<Node>, Error> {
    let names = names(client, directory).await?;
    let mut nodes = Vec::with_capacity(names.len());
    for some in names.chunks(TOGETHER) {
        nodes.extend(read(client, directory, some).await?);
    }
    Ok(nodes)
}

/// One child of `directory`, if it is there.
pub(super) async fn child(client: &Client, directory: &str, name: &str) -> Result<Option<Node>, Error> {
    Node::read(name, client.get_data(&format!("{directory}/{name}")).await)
}

/// The session that this node ends with, if it is there; 0: it stays.
pub(super) async fn owner(client: &Client, path: &str) -> Result<Option<i64>, Error> {
    Ok(client.check_stat(path).await?.map(|stat| stat.ephemeral_owner))
}

/// The first of these nodes of a queue that ends with a session. One that ends with none is nobody's: nobody would ever follow it.
pub(super) async fn first_owned<'a>(
    client: &Client,
    directory: &str,
    queued: impl Iterator<Item = Queued<'a>>,
) -> Result<Option<Queued<'a>>, Error> {
    for one in queued {
        let path = format!("{directory}/{}", one.name);
        match owner(client, &path).await? {
            Some(0) => debug!("{path} ends with no session: it is no candidate"),
            Some(_) => return Ok(Some(one)),
            None => {}
        }
    }
    Ok(None)
}

/// Deletes it; one that is gone is deleted.
pub(super) async fn delete(client: &Client, path: &str) -> Result<(), Error> {
    match client.delete(path, None).await {
        Err(Error::NoNode) => Ok(()),
        deleted => deleted,
    }
}

/// Makes a node, and its parents where they are missing, in place of `old` ones: watchers never see a time without. Says what
/// it is called. `NodeExists` and `NoNode` mean that somebody else was at work in between.
pub(super) async fn replace(
    link: &Link,
    client: &Client,
    old: &[String],
    path: &str,
    data: &[u8],
    mode: CreateMode,
) -> Result<String, Error> {
    let options = link.options(mode);
    match in_place_of(client, old, path, data, &options).await {
        // The parents: others make such as vanish when they are empty.
        Err(Error::NoNode) => {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            let base = parent.rsplit_once('/').map_or("", |(base, _)| base);
            if !base.is_empty() {
                client.mkdir(base, &link.open_options(CreateMode::Persistent)).await?;
            }
            client.mkdir(parent, &link.options(CreateMode::Persistent)).await?;
            in_place_of(client, old, path, data, &options).await
        }
        made => made,
    }
}

async fn in_place_of(
    client: &Client,
    old: &[String],
    path: &str,
    data: &[u8],
    options: &CreateOptions<'_>,
) -> Result<String, Error> {
    let mut writer = client.new_multi_writer();
    for old in old {
        writer.add_delete(old, None)?;
    }
    writer.add_create(path, data, options)?;
    let results = writer.commit().await.map_err(|error| match error {
        MultiWriteError::RequestFailed { source } | MultiWriteError::OperationFailed { source, .. } => source,
    })?;
    match results.into_iter().next_back() {
        Some(MultiWriteResult::Create { path, .. }) => Ok(path),
        _ => Err(Error::UnexpectedError("a node was made and has no name".to_owned())),
    }
}
