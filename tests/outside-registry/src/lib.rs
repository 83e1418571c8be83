//! A registry in a SQLite file, for services of one machine: what a back end looks like that is written outside of ms-register.

use std::{path::PathBuf, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use async_trait::async_trait;
use ms_register::{
    About, Backend, Found, Instance, LeaseKeeper, RegisterError, Registry, ServiceName, Skipped, SnapshotCell,
};
use rusqlite::{Connection, Row, params};
use tokio::time::sleep;

/// A registry client over one file.
pub type Sqlite = Registry<SqliteBackend>;

/// The back end of [`Sqlite`].
#[derive(Clone, Debug)]
pub struct SqliteBackend {
    about: About,
    path: Arc<PathBuf>,
    connection: Arc<Mutex<Option<Connection>>>,
}

const TTL: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long a statement waits for a lock of another process.
const BUSY: Duration = Duration::from_millis(500);
/// Period of reads of a watch: SQLite notifies nobody.
const POLL: Duration = Duration::from_millis(100);

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS instances (service TEXT, id TEXT, host TEXT, port INTEGER, weight REAL, \
                      metadata TEXT, lease INTEGER, expires REAL, PRIMARY KEY (service, id))";
const WRITE: &str = "REPLACE INTO instances VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, unixepoch('subsec') + ?8)";
const RENEW: &str = "UPDATE instances SET expires = unixepoch('subsec') + ?2 WHERE lease = ?1";
const REMOVE: &str = "DELETE FROM instances WHERE lease = ?1";
const LIST: &str = "SELECT id, host, port, weight, metadata FROM instances \
                    WHERE service = ?1 AND expires > unixepoch('subsec')";
const SERVICES: &str = "SELECT DISTINCT service FROM instances WHERE expires > unixepoch('subsec')";

impl SqliteBackend {
    /// Runs statements off the runtime's threads, within the timeout.
    async fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, RegisterError> {
        let (path, connection) = (self.path.clone(), self.connection.clone());
        let work = move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            if connection.is_none() {
                let opened = Connection::open(&*path)?;
                opened.busy_timeout(BUSY)?;
                opened.execute(SCHEMA, [])?;
                *connection = Some(opened);
            }
            connection.as_ref().map_or(Err(rusqlite::Error::InvalidQuery), ask)
        };
        let asking = async {
            let asked = tokio::task::spawn_blocking(work).await.map_err(|error| self.about.unreachable(error))?;
            asked.map_err(|error| self.about.unreachable(error))
        };
        self.about.within(TIMEOUT, operation, asking).await
    }
}

#[async_trait]
impl Backend for SqliteBackend {
    type Config = PathBuf;

    fn new(path: PathBuf) -> Result<Self, RegisterError> {
        let about = About::new(format!("sqlite://{}", path.display())).with_scope("sqlite");
        let about = about.with_expiry(TTL).with_propagation(2 * POLL);
        Ok(Self { about, path: Arc::new(path), connection: Arc::default() })
    }

    fn about(&self) -> &About {
        &self.about
    }

    async fn connect(&self) -> Result<(), RegisterError> {
        self.services().await.map(drop)
    }

    fn lease(&self, service: &ServiceName, instance: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        let (service, instance) = (service.clone(), instance.clone());
        Some(Box::new(SqliteKeeper { backend: self.clone(), service, instance, lease: fastrand::i64(..) }))
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        let service = service.to_string();
        let read = move |connection: &Connection| connection.prepare(LIST)?.query_map([&service], found)?.collect();
        self.ask("list the instances", read).await
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        loop {
            cell.refresh(self.list(service).await?);
            sleep(POLL).await;
        }
    }

    fn names_services(&self) -> bool {
        true
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        let read = |connection: &Connection| {
            let names: rusqlite::Result<Vec<String>> =
                connection.prepare(SERVICES)?.query_map([], |row| row.get(0))?.collect();
            names
        };
        let names = self.ask("list the services", read).await?;
        Ok(names.iter().filter_map(|name| ServiceName::new(name).ok()).collect())
    }
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let id: String = row.get(0)?;
    let text: String = row.get(4)?;
    let metadata: std::collections::BTreeMap<String, String> = match serde_json::from_str(&text) {
        Ok(metadata) => metadata,
        Err(error) => return Ok(Err(Skipped::new(id, format!("its metadata does not parse: {error}")))),
    };
    let instance = Instance::new(row.get::<_, String>(1)?, row.get(2)?).with_id(id).with_weight(row.get(3)?);
    Ok(Ok(metadata.into_iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value))))
}

struct SqliteKeeper {
    backend: SqliteBackend,
    service: ServiceName,
    instance: Instance,
    lease: i64,
}

#[async_trait]
impl LeaseKeeper for SqliteKeeper {
    async fn acquire(&mut self) -> Result<(), RegisterError> {
        let (service, instance, lease) = (self.service.to_string(), self.instance.clone(), self.lease);
        let metadata = serde_json::json!(instance.metadata()).to_string();
        let write = move |connection: &Connection| {
            let (id, host, port, weight) = (instance.id(), instance.host(), instance.port(), instance.weight());
            let row = params![service, id, host, port, weight, metadata, lease, TTL.as_secs_f64()];
            connection.execute(WRITE, row)
        };
        self.backend.ask("write the instance", write).await.map(drop)
    }

    fn update(&mut self, instance: &Instance) -> Result<(), RegisterError> {
        self.instance = instance.clone();
        Ok(())
    }

    async fn held(&mut self) -> String {
        let lease = self.lease;
        loop {
            sleep(TTL / 3).await;
            let renew = move |connection: &Connection| connection.execute(RENEW, params![lease, TTL.as_secs_f64()]);
            // An error says nothing about the row.
            if let Ok(0) = self.backend.ask("renew the lease", renew).await {
                return "its row was removed".to_owned();
            }
        }
    }

    async fn release(&mut self) -> Result<(), RegisterError> {
        let lease = self.lease;
        let remove = move |connection: &Connection| connection.execute(REMOVE, [lease]);
        self.backend.ask("remove the instance", remove).await.map(drop)
    }
}
