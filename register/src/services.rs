//! Following the names of all services.

use std::sync::Arc;

use crate::{
    ServiceName,
    observe::{Cell, Observation, Observer},
};

/// The names of all services at one moment.
pub type ServicesSnapshot = Observation<Arc<[ServiceName]>>;
/// Follows the names of all services; see [`MsRegister::watch_services`](crate::MsRegister::watch_services).
pub type ServicesWatch = Observer<Arc<[ServiceName]>>;
/// The writing side of a [`ServicesWatch`]: what [`Backend::follow_services`](crate::Backend::follow_services) fills.
pub type ServicesCell = Cell<Arc<[ServiceName]>>;

impl ServicesSnapshot {
    /// The names, sorted, each once.
    pub fn services(&self) -> &[ServiceName] {
        self.value()
    }
}

impl ServicesCell {
    /// Publishes a successful read: all names, in any order.
    pub fn refresh(&self, mut services: Vec<ServiceName>) {
        services.sort();
        services.dedup();
        self.replace(services.into());
    }
}
