//! Requests of several steps, on one session.

use zookeeper_client::{Client, CreateMode, CreateOptions, Error, MultiWriteError, MultiWriteResult};

use super::link::Link;

/// One node and what is in it.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) data: Vec<u8>,
    /// Changes with every write.
    pub(super) written: i64,
    /// The session that it ends with; 0: it stays.
    pub(super) owner: i64,
}

/// All children of `directory` with their data, sorted by name, none where there is no such node. It includes whatever any
/// client was told is written.
pub(super) async fn children(client: &Client, directory: &str) -> Result<Vec<Node>, Error> {
    // Asked for in this order, and so answered. A server may lag behind the others; this makes it catch up.
    let (caught_up, names) = (client.sync(directory), client.list_children(directory));
    caught_up.await?;
    let mut names = match names.await {
        Err(Error::NoNode) => return Ok(Vec::new()),
        names => names?,
    };
    names.sort();
    // Each is sent when it is made, so they wait together.
    let reads: Vec<_> = names.iter().map(|name| client.get_data(&format!("{directory}/{name}"))).collect();
    let mut nodes = Vec::with_capacity(names.len());
    for (name, read) in names.into_iter().zip(reads) {
        match read.await {
            Ok((data, stat)) => {
                nodes.push(Node { name, data, written: stat.mzxid, owner: stat.ephemeral_owner });
            }
            // It went away in between.
            Err(Error::NoNode) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(nodes)
}

/// One child of `directory`, if it is there.
pub(super) async fn child(client: &Client, directory: &str, name: &str) -> Result<Option<Node>, Error> {
    match client.get_data(&format!("{directory}/{name}")).await {
        Ok((data, stat)) => {
            Ok(Some(Node { name: name.to_owned(), data, written: stat.mzxid, owner: stat.ephemeral_owner }))
        }
        Err(Error::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The session that this node ends with, if it is there; 0: it stays.
pub(super) async fn owner(client: &Client, path: &str) -> Result<Option<i64>, Error> {
    Ok(client.check_stat(path).await?.map(|stat| stat.ephemeral_owner))
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
