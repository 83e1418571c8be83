//! The built-in service `ms.health`: whether a server takes calls, for load balancers, orchestrators and people.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use serde::{Deserialize, Serialize};

use crate::Service;

/// How far a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HealthState {
    /// The server listens, and is not registered yet.
    Starting,
    /// The server takes calls.
    Serving,
    /// The server shuts down: it deregisters, and finishes the calls in flight.
    Draining,
}

/// One service's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// The name it is served under.
    pub name: String,
    /// Its state.
    pub state: HealthState,
}

/// The methods of `ms.health`. They answer under any load.
#[ms_rpc::service(name = "ms.health")]
pub trait Health {
    /// Every service of this server, by name.
    #[idempotent]
    async fn services(&self) -> Vec<ServiceHealth>;

    /// The service of this name; none if it is not served here.
    #[idempotent]
    async fn service(&self, name: String) -> Option<HealthState>;
}

/// The state of a server, shared by those parts that change it and those that report it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life(Arc<AtomicU8>);

impl Life {
    pub(crate) fn set(&self, state: HealthState) {
        self.0.store(state as u8, Ordering::Release);
    }

    pub(crate) fn get(&self) -> HealthState {
        match self.0.load(Ordering::Acquire) {
            0 => HealthState::Starting,
            1 => HealthState::Serving,
            _ => HealthState::Draining,
        }
    }
}

/// `ms.health` for services of these names.
pub(crate) fn service(mut names: Vec<String>, life: Life) -> (String, Arc<dyn Service>) {
    names.sort_unstable();
    let service = HealthServer::new(Known { names, life });
    (service.descriptor().name.to_owned(), Arc::new(service))
}

struct Known {
    names: Vec<String>,
    life: Life,
}

impl Health for Known {
    async fn services(&self) -> Vec<ServiceHealth> {
        let state = self.life.get();
        self.names.iter().map(|name| ServiceHealth { name: name.clone(), state }).collect()
    }

    async fn service(&self, name: String) -> Option<HealthState> {
        self.names.contains(&name).then(|| self.life.get())
    }
}
