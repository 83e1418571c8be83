//! Promises while the registry is up.

use std::{sync::Arc, time::Duration};

use ms_register::{Freshness, Instance, MsRegister, RegisterError, RegistrationState, Snapshot, SnapshotWatch};

use crate::{Fixture, Untidy, Warnings, ids, service, within};

const DEADLINE: Duration = Duration::from_secs(10);

async fn connect<F: Fixture>(fixture: &F) -> Arc<dyn MsRegister> {
    fixture.connect().await.unwrap()
}

async fn sees<F: Fixture>(watch: &mut SnapshotWatch, what: &str, wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    within(F::SETTLES, what, watch.wait_for(wanted)).await.unwrap()
}

/// An unknown service is an empty list, and a watch of it becomes live.
pub async fn an_unknown_service_is_an_empty_list<F: Fixture>(fixture: F) {
    let registry = connect(&fixture).await;
    assert!(registry.list(&service("nobody")).await.unwrap().is_empty());
    let mut watch = registry.watch(&service("nobody"));
    let snapshot = sees::<F>(&mut watch, "the first read", |s| s.freshness() == Freshness::Live).await;
    assert!(snapshot.instances().is_empty());
}

/// Names, ids, weights and metadata of every legal form are read as they were written.
pub async fn an_instance_survives_the_round_trip<F: Fixture>(fixture: F) {
    let (registry, other) = (connect(&fixture).await, connect(&fixture).await);
    for name in ["goods", "goods:v2", "A.b_c-D:9"] {
        let goods = service(name);
        for instance in [
            Instance::new("10.0.0.1", 80),
            Instance::new("goods.local", 65535).with_id("goods-1:a_b.c").with_weight(2.5),
            Instance::new("10.0.0.2", 81).with_metadata("zone", "b").with_metadata("note", "ä \"1\" {x}=&"),
            Instance::new("::1", 82).with_weight(0.25),
        ] {
            let registration = registry.register(&goods, instance.clone()).await.unwrap();
            assert_eq!(*registration.state().borrow(), RegistrationState::Listed);
            assert_eq!(registration.instance(), instance);
            assert_eq!(other.list(&goods).await.unwrap(), [instance]);
            let state = registration.state();
            registration.deregister(DEADLINE).await.unwrap();
            assert_eq!(*state.borrow(), RegistrationState::Deregistered);
            assert!(other.list(&goods).await.unwrap().is_empty());
        }
    }
}

/// Writes and removals by other programs reach lists at once, and watches within [`Fixture::SETTLES`].
pub async fn a_watch_follows_what_strangers_do<F: Fixture>(fixture: F) {
    let registry = connect(&fixture).await;
    let goods = service("goods");
    let instance = Instance::new("10.0.0.1", 80).with_weight(2.0).with_metadata("zone", "b");
    let mut watch = registry.watch(&goods);
    sees::<F>(&mut watch, "the first read", |s| s.freshness() == Freshness::Live).await;

    fixture.write(&goods, &instance).await;
    assert_eq!(registry.list(&goods).await.unwrap(), std::slice::from_ref(&instance));
    sees::<F>(&mut watch, "the new instance", |s| s.instances() == [instance.clone()]).await;

    let heavier = instance.clone().with_weight(7.0);
    fixture.write(&goods, &heavier).await;
    sees::<F>(&mut watch, "the new weight", |s| s.instances() == [heavier.clone()]).await;

    fixture.remove(&goods, &heavier).await;
    let gone = sees::<F>(&mut watch, "the end of it", |s| s.instances().is_empty()).await;
    assert_eq!(gone.freshness(), Freshness::Live);
    assert!(registry.list(&goods).await.unwrap().is_empty());
}

/// Registrations, and a second one of the same id with another weight, reach all watches.
pub async fn a_watch_follows_what_owners_do<F: Fixture>(fixture: F) {
    let (registry, other) = (connect(&fixture).await, connect(&fixture).await);
    let goods = service("goods");
    let mut watches = [other.watch(&goods), other.watch(&goods), registry.watch(&goods)];
    let light = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    for watch in &mut watches {
        sees::<F>(watch, "the new instance", |s| ids(s.instances()) == ["10.0.0.1:80"]).await;
    }
    light.deregister(DEADLINE).await.unwrap();
    let heavy = Instance::new("10.0.0.1", 80).with_weight(5.0);
    let registration = registry.register(&goods, heavy.clone()).await.unwrap();
    for watch in &mut watches {
        sees::<F>(watch, "the new weight", |s| s.instances() == [heavy.clone()]).await;
    }
    registration.deregister(DEADLINE).await.unwrap();
    for watch in &mut watches {
        sees::<F>(watch, "the end of it", |s| s.instances().is_empty()).await;
    }
}

/// Dropping a registration takes the instance off the registry.
pub async fn a_dropped_registration_vanishes<F: Fixture>(fixture: F) {
    let (registry, other) = (connect(&fixture).await, connect(&fixture).await);
    let goods = service("goods");
    let mut watch = other.watch(&goods);
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let mut state = registration.state();
    sees::<F>(&mut watch, "the new instance", |s| s.instances().len() == 1).await;
    drop(registration);
    let ended = state.wait_for(|state| *state == RegistrationState::Deregistered);
    within(DEADLINE, "the confirmation", ended).await.unwrap();
    assert!(other.list(&goods).await.unwrap().is_empty());
    sees::<F>(&mut watch, "the end of it", |s| s.instances().is_empty()).await;
}

/// An id is refused while it is registered, and is free again after its end.
pub async fn an_id_is_held_once<F: Fixture>(fixture: F) {
    let registry = connect(&fixture).await;
    let goods = service("goods");
    let light = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let heavy = Instance::new("10.0.0.1", 80).with_weight(5.0);
    let error = registry.register(&goods, heavy.clone()).await.unwrap_err();
    assert!(matches!(error, RegisterError::InvalidInstance { .. }), "{error}");
    assert!(error.to_string().contains("deregister that first"), "{error}");
    assert_eq!(registry.list(&goods).await.unwrap()[0].weight(), 1.0);
    let elsewhere = registry.register(&service("orders"), heavy.clone()).await.unwrap();

    // The end of the dropped one must not take the new one with it.
    drop(light);
    let registration = registry.register(&goods, heavy.clone()).await.unwrap();
    assert_eq!(registry.list(&goods).await.unwrap(), [heavy]);
    assert_eq!(*registration.state().borrow(), RegistrationState::Listed);
    registration.deregister(DEADLINE).await.unwrap();
    elsewhere.deregister(DEADLINE).await.unwrap();
}

/// The end of one instance leaves the others of the same client listed.
pub async fn instances_of_one_process_are_apart<F: Fixture>(fixture: F) {
    let (registry, other) = (connect(&fixture).await, connect(&fixture).await);
    let goods = service("goods");
    let (first, second, third) = tokio::join!(
        registry.register(&goods, Instance::new("10.0.0.1", 80)),
        registry.register(&goods, Instance::new("10.0.0.2", 80)),
        registry.register(&goods, Instance::new("10.0.0.3", 80)),
    );
    assert_eq!(ids(&other.list(&goods).await.unwrap()), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    second.unwrap().deregister(DEADLINE).await.unwrap();
    assert_eq!(ids(&other.list(&goods).await.unwrap()), ["10.0.0.1:80", "10.0.0.3:80"]);
    let again = registry.register(&goods, Instance::new("10.0.0.4", 80)).await.unwrap();
    assert_eq!(ids(&other.list(&goods).await.unwrap()), ["10.0.0.1:80", "10.0.0.3:80", "10.0.0.4:80"]);
    first.unwrap().deregister(DEADLINE).await.unwrap();
    again.deregister(DEADLINE).await.unwrap();
    third.unwrap().deregister(DEADLINE).await.unwrap();
    assert!(other.list(&goods).await.unwrap().is_empty());
}

/// Services whose names begin alike do not mix.
pub async fn services_are_apart<F: Fixture>(fixture: F) {
    let registry = connect(&fixture).await;
    let names = ["goods", "goods.v2", "goods:v2", "good"].map(service);
    let mut watches = names.clone().map(|name| registry.watch(&name));
    let mut registrations = Vec::new();
    for (name, port) in names.iter().zip(80..) {
        registrations.push(registry.register(name, Instance::new("10.0.0.1", port)).await.unwrap());
    }
    for ((name, watch), port) in names.iter().zip(&mut watches).zip(80..) {
        let alone = format!("10.0.0.1:{port}");
        assert_eq!(ids(&registry.list(name).await.unwrap()), [&alone]);
        sees::<F>(watch, "the one instance", |s| ids(s.instances()) == [&alone]).await;
    }
    registry.close(DEADLINE).await.unwrap();
}

/// All services with an instance are named, sorted, and those without are not.
pub async fn services_are_named<F: Fixture>(fixture: F) {
    let (registry, other) = (connect(&fixture).await, connect(&fixture).await);
    assert!(other.services().await.unwrap().is_empty());
    let goods = registry.register(&service("goods"), Instance::new("10.0.0.1", 80)).await.unwrap();
    let orders = registry.register(&service("orders.v2"), Instance::new("10.0.0.1", 80)).await.unwrap();
    let again = registry.register(&service("goods"), Instance::new("10.0.0.2", 80)).await.unwrap();
    let named = || async { within(F::SETTLES, "the names", other.services()).await.unwrap() };
    assert_eq!(named().await, [service("goods"), service("orders.v2")]);
    goods.deregister(DEADLINE).await.unwrap();
    assert_eq!(named().await, [service("goods"), service("orders.v2")]);
    again.deregister(DEADLINE).await.unwrap();
    orders.deregister(DEADLINE).await.unwrap();
    for name in named().await {
        assert!(other.list(&name).await.unwrap().is_empty(), "{name}");
    }
}

/// A watch of the names shows services as they come, goes stale in an outage, and comes back.
pub async fn names_of_services_are_followed<F: Fixture>(mut fixture: F) {
    // Registries without watches of names are read every few seconds.
    let settles = F::SETTLES.max(Duration::from_secs(8));
    let (registry, other) = (connect(&fixture).await, connect(&fixture).await);
    let mut watch = other.watch_services().unwrap();
    let live = watch.wait_for(|s| s.freshness() == Freshness::Live);
    assert!(within(settles, "the first read", live).await.unwrap().services().is_empty());
    let mut kept = Vec::new();
    let names = [service("orders.v2"), service("goods")];
    for (count, name) in (1..).zip(&names) {
        kept.push(registry.register(name, Instance::new("10.0.0.1", 80)).await.unwrap());
        kept.push(registry.register(name, Instance::new("10.0.0.2", 80)).await.unwrap());
        let listed = within(settles, "the name", watch.wait_for(|s| s.services().len() == count)).await.unwrap();
        assert!(listed.services().contains(name) && listed.services().is_sorted(), "{listed:?}");
    }
    fixture.down().await;
    let stale = watch.wait_for(|s| s.freshness() == Freshness::Stale);
    let stale = within(settles + F::NOTICES, "the outage", stale).await.unwrap();
    assert_eq!((stale.services().len(), stale.problem().is_some()), (2, true));
    fixture.up().await;
    let live = watch.wait_for(|s| s.freshness() == Freshness::Live && s.services().len() == 2);
    within(settles + F::RECOVERS, "the return", live).await.unwrap();
    registry.close(DEADLINE).await.unwrap();
    other.close(DEADLINE).await.unwrap();
    within(DEADLINE, "the end of the watch", async { while watch.changed().await.is_ok() {} }).await;
}

/// Other weights of a registration reach lists at once and watches soon, and no watcher ever misses the instance.
pub async fn an_update_leaves_no_gap<F: Fixture>(fixture: F) {
    let (registry, other) = (connect(&fixture).await, connect(&fixture).await);
    let (goods, instance) = (service("goods"), Instance::new("10.0.0.1", 80));
    let registration = registry.register(&goods, instance.clone()).await.unwrap();
    let mut watch = other.watch(&goods);
    sees::<F>(&mut watch, "the instance", |s| s.instances().len() == 1).await;
    for weight in 2..6 {
        let heavier = instance.clone().with_weight(weight.into());
        registration.update(heavier.clone(), DEADLINE).await.unwrap();
        assert_eq!(
            (registration.instance(), other.list(&goods).await.unwrap()),
            (heavier.clone(), vec![heavier.clone()])
        );
        let seen = async {
            while watch.changed().await.unwrap().instances() != [heavier.clone()] {
                assert_eq!(watch.current().instances().len(), 1, "{:?}", watch.current());
            }
        };
        within(F::SETTLES, "the new weight", seen).await;
    }
    for other in [instance.clone().with_id("other"), Instance::new("10.0.0.1", 81).with_id(instance.id())] {
        let refused = registration.update(other, DEADLINE).await.unwrap_err();
        assert!(matches!(refused, RegisterError::InvalidInstance { .. }), "{refused}");
    }
    assert_eq!(*registration.state().borrow(), RegistrationState::Listed);
    registration.deregister(DEADLINE).await.unwrap();
    assert!(other.list(&goods).await.unwrap().is_empty());
}

/// An update replaces metadata as a whole, and what is written again after a loss is the updated instance.
pub async fn an_update_survives_a_loss<F: Fixture>(mut fixture: F) {
    let registry = connect(&fixture).await;
    let (goods, instance) = (service("goods"), Instance::new("10.0.0.1", 80));
    let registration = registry.register(&goods, instance.clone().with_metadata("zone", "a")).await.unwrap();
    let updated = instance.with_weight(2.5).with_metadata("rack", "7");
    registration.update(updated.clone(), DEADLINE).await.unwrap();
    assert_eq!(registry.list(&goods).await.unwrap(), std::slice::from_ref(&updated));
    fixture.down().await;
    fixture.up_without_data().await;
    let mut watch = registry.watch(&goods);
    let back = watch.wait_for(|s| s.freshness() == Freshness::Live && s.instances() == [updated.clone()]);
    within(F::RECOVERS + F::SETTLES, "the updated instance", back).await.unwrap();
    registration.deregister(DEADLINE).await.unwrap();
}

/// `close` deregisters everything, ends the watches, and refuses later requests.
pub async fn close_deregisters_everything<F: Fixture>(fixture: F) {
    let (registry, other) = (connect(&fixture).await, connect(&fixture).await);
    let (goods, orders) = (service("goods"), service("orders"));
    let mut watch = registry.watch(&goods);
    let kept = [
        registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap(),
        registry.register(&goods, Instance::new("10.0.0.2", 80)).await.unwrap(),
        registry.register(&orders, Instance::new("10.0.0.1", 81)).await.unwrap(),
    ];
    drop(registry.register(&orders, Instance::new("10.0.0.2", 81)).await.unwrap());
    registry.close(DEADLINE).await.unwrap();
    for registration in &kept {
        assert_eq!(*registration.state().borrow(), RegistrationState::Deregistered);
    }
    // `memory://` has no second client to look with: it is closed as a whole.
    if !matches!(other.list(&goods).await, Err(RegisterError::Closed { .. })) {
        assert!(other.list(&goods).await.unwrap().is_empty());
        assert!(other.list(&orders).await.unwrap().is_empty());
    }
    within(DEADLINE, "the end of the watch", async { while watch.changed().await.is_ok() {} }).await;
    let late = registry.register(&goods, Instance::new("10.0.0.3", 80)).await;
    assert!(matches!(late, Err(RegisterError::Closed { .. })), "{late:?}");
    assert!(matches!(registry.list(&goods).await, Err(RegisterError::Closed { .. })));
    assert!(registry.watch(&goods).changed().await.is_err());
    registry.close(DEADLINE).await.unwrap();
}

/// Instances that peers could not dial are refused before they are written.
pub async fn what_peers_cannot_dial_is_refused<F: Fixture>(fixture: F) {
    let registry = connect(&fixture).await;
    let goods = service("goods");
    for bad in [
        Instance::new("0.0.0.0", 80),
        Instance::new("10.0.0.1", 0),
        Instance::new("10.0.0.1", 80).with_id("../goods"),
        Instance::new("10.0.0.1", 80).with_weight(0.0),
    ] {
        let refused = registry.register(&goods, bad).await;
        assert!(matches!(refused, Err(RegisterError::InvalidInstance { .. })), "{refused:?}");
    }
    assert!(registry.list(&goods).await.unwrap().is_empty());
}

/// An entry that is no instance, or at `0.0.0.0`, costs one warning however often it is written, and hides no other entry.
pub async fn garbage_is_skipped_with_one_warning<F: Untidy>(fixture: F) {
    let warnings = Warnings::capture();
    let registry = connect(&fixture).await;
    let goods = service("goods");
    fixture.write_garbage(&goods).await;
    let dead = Instance::new("0.0.0.0", 9);
    fixture.write(&goods, &dead).await;
    let good = Instance::new("10.0.0.1", 80);
    let registration = registry.register(&goods, good.clone()).await.unwrap();
    let mut watch = registry.watch(&goods);
    sees::<F>(&mut watch, "the good instance", |s| s.instances() == [good.clone()]).await;
    for _ in 0..3 {
        assert_eq!(registry.list(&goods).await.unwrap(), std::slice::from_ref(&good));
        // Other programs write their entries again every second.
        fixture.write_garbage(&goods).await;
        fixture.write(&goods, &dead).await;
    }
    let seen = warnings.with("no instance");
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().all(|text| text.contains("goods")), "{seen:?}");
    assert!(seen.iter().any(|text| text.contains("nobody can dial 0.0.0.0:9")), "{seen:?}");
    fixture.remove(&goods, &dead).await;
    registration.deregister(DEADLINE).await.unwrap();
}
