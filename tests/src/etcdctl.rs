use std::process::Output;

use tokio::process::Command;

use crate::{Failure, Server};

impl Server {
    /// Runs etcd's own client on this server, and returns what it prints.
    ///
    /// # Errors
    /// It is not installed, or ends with an error.
    pub async fn etcdctl(&self, arguments: &[&str]) -> Result<String, Failure> {
        let run = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.address()])
            .args(arguments)
            .output()
            .await;
        let Output { status, stdout, stderr } =
            run.map_err(|error| format!("`etcdctl` does not run ({error}): run scripts/registries install"))?;
        if !status.success() {
            return Err(format!("etcdctl {arguments:?}: {}", String::from_utf8_lossy(&stderr)).into());
        }
        Ok(String::from_utf8(stdout)?)
    }
}
