//! The contract of ms-register, on the registry in a SQLite file.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use ms_outside_registry::Sqlite;
use ms_register::{Instance, MsRegister, RegisterError, ServiceName};
use ms_register_conformance::{Fixture, Untidy};
use rusqlite::{Connection, params};
use tempfile::TempDir;

/// Another program with the file open.
struct File(Connection, TempDir);

const INSERT: &str = "REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?, 0, 9e9)";

impl Fixture for File {
    const SETTLES: Duration = Duration::from_secs(2);
    const RECOVERS: Duration = Duration::from_secs(8);
    const NOTICES: Duration = Duration::from_secs(3);

    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("registry");
        // The first client makes the table.
        Sqlite::connect(path.clone()).await.unwrap();
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        Self(connection, folder)
    }

    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError> {
        Ok(Arc::new(Sqlite::connect(self.1.path().join("registry")).await?))
    }

    async fn write(&self, service: &ServiceName, one: &Instance) {
        let metadata = serde_json::json!(one.metadata()).to_string();
        let row = params![service.as_str(), one.id(), one.host(), one.port(), one.weight(), metadata];
        self.0.execute(INSERT, row).unwrap();
    }

    async fn remove(&self, service: &ServiceName, one: &Instance) {
        self.0.execute("DELETE FROM instances WHERE service = ? AND id = ?", [service.as_str(), one.id()]).unwrap();
    }

    async fn down(&mut self) {
        self.0.execute("BEGIN EXCLUSIVE", []).unwrap();
    }

    async fn up(&mut self) {
        self.0.execute("COMMIT", []).unwrap();
    }

    async fn up_without_data(&mut self) {
        self.0.execute("DELETE FROM instances", []).unwrap();
        self.up().await;
    }
}

impl Untidy for File {
    async fn write_garbage(&self, service: &ServiceName) {
        self.0.execute(INSERT, params![service.as_str(), "garbage", "h", 80, 1.0, "not JSON"]).unwrap();
    }
}

ms_register_conformance::registry!(registry, File);
ms_register_conformance::untidy!(garbage, File);
