//! Candidates of tests.

use std::{sync::Arc, time::Duration};

use ms_register::{Election, Instance, Leadership};
use tokio::task::JoinHandle;

use crate::{Fixture, service};

/// Time limit of one step.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Instance of a candidate.
pub fn instance(port: u16) -> Instance {
    Instance::new("10.0.0.1", port)
}

/// The elections of a fixture.
pub async fn election<F: Fixture>(fixture: &F) -> Arc<dyn Election> {
    fixture.connect().await.unwrap().election().unwrap()
}

/// Leader of the service `goods`.
pub async fn elected(election: &Arc<dyn Election>, port: u16) -> Leadership {
    election.campaign(&service("goods"), instance(port), DEADLINE).await.unwrap()
}

/// Campaign in a task of its own.
pub fn campaign(election: &Arc<dyn Election>, port: u16) -> JoinHandle<Leadership> {
    let election = election.clone();
    tokio::spawn(async move { elected(&election, port).await })
}
