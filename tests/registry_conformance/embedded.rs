//! The back ends that need no server.

use std::{sync::Arc, time::Duration};

use ms_register::{Freshness, Instance, Memory, MsRegister, RegisterError, RegistrationState, ServiceName};

use ms_register_conformance::{Fixture, ids, service};

pub(crate) struct MemoryFixture(Arc<Memory>);

impl Fixture for MemoryFixture {
    const SETTLES: Duration = Duration::from_secs(1);
    const RECOVERS: Duration = Duration::from_secs(6);
    const NOTICES: Duration = Duration::from_secs(1);

    async fn start() -> Self {
        Self(Arc::new(Memory::new()))
    }

    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError> {
        Ok(self.0.clone())
    }

    async fn write(&self, service: &ServiceName, instance: &Instance) {
        self.0.insert(service, instance.clone());
    }

    async fn remove(&self, service: &ServiceName, instance: &Instance) {
        self.0.remove(service, instance.id());
    }

    async fn down(&mut self) {
        self.0.set_down(true);
    }

    async fn up(&mut self) {
        self.0.set_down(false);
    }

    async fn up_without_data(&mut self) {
        self.0.wipe();
        self.0.set_down(false);
    }
}

/// A list given by hand: the part of the contract that speaks of reading.
#[tokio::test]
async fn a_static_list_is_what_was_given() {
    let registry = ms_register::connect("static://10.0.0.2:80,10.0.0.1:80").await.unwrap();
    let goods = service("goods");
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["10.0.0.1:80", "10.0.0.2:80"]);
    let watch = registry.watch(&goods);
    assert_eq!(ids(watch.current().instances()), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(watch.current().freshness(), Freshness::Live);

    let registration = registry.register(&goods, Instance::new("10.0.0.3", 80)).await.unwrap();
    assert_eq!(*registration.state().borrow(), RegistrationState::Listed);
    assert_eq!(registry.list(&goods).await.unwrap().len(), 2, "nothing is published");
    registration.deregister(Duration::from_secs(1)).await.unwrap();
    assert!(registry.register(&goods, Instance::new("0.0.0.0", 80)).await.is_err());
    registry.close(Duration::from_secs(1)).await.unwrap();
}
