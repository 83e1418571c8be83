use zookeeper_client::{Client, Error, MultiWriteError};

use crate::{Failure, Server};

impl Server {
    /// Deletes all children of a node of this ZooKeeper in one step, and the node itself if `node_too`.
    ///
    /// # Errors
    /// What ZooKeeper says.
    pub async fn delete_children(&self, node: &str, node_too: bool) -> Result<(), Failure> {
        let client = Client::connect(&self.address()).await?;
        loop {
            let mut writer = client.new_multi_writer();
            for child in client.list_children(node).await? {
                writer.add_delete(&format!("{node}/{child}"), None)?;
            }
            if node_too {
                writer.add_delete(node, None)?;
            }
            match writer.commit().await {
                Ok(_) => return Ok(()),
                // Somebody else wrote in between.
                Err(MultiWriteError::OperationFailed { source: Error::NoNode | Error::NotEmpty, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
