//! Promises while the registry is away, and after it comes back.

use std::time::{Duration, Instant as Clock};

use ms_register::{Freshness, Instance, RegisterError, RegistrationState};

use crate::{Fixture, ids, service, within};

const DEADLINE: Duration = Duration::from_secs(10);

/// A registry that is away is a transient error that names it, within the timeout.
pub async fn a_registry_that_is_down_is_an_error<F: Fixture>(mut fixture: F) {
    let registry = fixture.connect().await.unwrap();
    let goods = service("goods");
    let _kept = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    fixture.down().await;
    let begin = Clock::now();
    let error = registry.list(&goods).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains(registry.url()), "{error}");
    let error = registry.register(&goods, Instance::new("10.0.0.2", 80)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    match fixture.connect().await {
        Err(error @ (RegisterError::Unreachable { .. } | RegisterError::Timeout { .. })) => {
            assert!(error.to_string().contains(registry.url()), "{error}");
        }
        Err(error) => panic!("{error}"),
        Ok(same) => assert_eq!(same.url(), "memory://", "connected to what is down"),
    }
    assert!(begin.elapsed() < DEADLINE, "three answers, each within its timeout of 3 s: {:?}", begin.elapsed());
}

/// A watch keeps the last list, marked as stale, over an outage.
pub async fn a_watch_keeps_its_list_over_an_outage<F: Fixture>(mut fixture: F) {
    let registry = fixture.connect().await.unwrap();
    let goods = service("goods");
    let kept = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let mut watch = registry.watch(&goods);
    let live = watch.wait_for(|s| s.freshness() == Freshness::Live && s.instances().len() == 1);
    within(F::SETTLES, "the instance", live).await.unwrap();

    fixture.down().await;
    let stale = watch.wait_for(|s| s.freshness() == Freshness::Stale);
    let stale = within(F::NOTICES, "the outage", stale).await.unwrap();
    assert_eq!(ids(stale.instances()), ["10.0.0.1:80"]);
    assert!(stale.state(Clock::now()).to_string().contains("unreadable"));

    fixture.up().await;
    let live = watch.wait_for(|s| s.freshness() == Freshness::Live && s.instances().len() == 1);
    within(F::RECOVERS, "the list again", live).await.unwrap();
    kept.deregister(F::RECOVERS).await.unwrap();
    assert!(registry.list(&goods).await.unwrap().is_empty());
}

/// After the loss of all data every instance is written again.
pub async fn all_come_back_after_the_loss_of_all_data<F: Fixture>(mut fixture: F) {
    let registry = fixture.connect().await.unwrap();
    let (goods, orders) = (service("goods"), service("orders"));
    let kept = [
        registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap(),
        registry.register(&goods, Instance::new("10.0.0.2", 80).with_weight(3.0)).await.unwrap(),
        registry.register(&orders, Instance::new("10.0.0.1", 80)).await.unwrap(),
    ];
    fixture.down().await;
    fixture.up_without_data().await;
    let begin = Clock::now();
    let mut watches = [registry.watch(&goods), registry.watch(&orders)];
    let all_back = async {
        watches[0].wait_for(|s| s.instances().len() == 2).await.unwrap();
        watches[1].wait_for(|s| s.instances().len() == 1).await.unwrap();
        for registration in &kept {
            registration.state().wait_for(|state| *state == RegistrationState::Listed).await.unwrap();
        }
    };
    within(F::RECOVERS, "all instances again", all_back).await;
    println!("all instances were back {:?} after the start", begin.elapsed());
    assert_eq!(registry.list(&goods).await.unwrap()[1].weight(), 3.0);
    registry.close(DEADLINE).await.unwrap();
}
