//! Promises of every registry with elections.

use std::time::Duration;

use ms_register::{Instance, Master, MasterWatch, RegisterError};

use crate::{
    Fixture,
    candidates::{DEADLINE, campaign, elected, election, instance},
    service, within,
};

async fn sees<F: Fixture>(watch: &mut MasterWatch, what: &str, port: Option<u16>) -> Option<Master> {
    let found = watch.wait_for(|seen| {
        seen.freshness() == ms_register::Freshness::Live && seen.master().map(|master| master.instance.port()) == port
    });
    within(F::SETTLES, what, found).await.unwrap().master().cloned()
}

fn is_nobody(found: Result<Master, RegisterError>) -> bool {
    matches!(found, Err(RegisterError::NoMaster { service, .. }) if service == "goods")
}

/// One leads at a time, tokens grow, and watches see every master.
pub async fn a_second_candidate_waits_until_the_first_resigns<F: Fixture>(fixture: F) {
    let (first, second, observer) = (election(&fixture).await, election(&fixture).await, election(&fixture).await);
    let goods = service("goods");
    let mut watch = observer.observe(&goods);
    assert!(is_nobody(observer.master(&goods).await));
    sees::<F>(&mut watch, "that nobody leads", None).await;

    let mut last = 0;
    let mut leader = elected(&first, 1).await;
    for port in 2..6 {
        assert!(leader.is_leader() && leader.token() > last, "{leader:?} after {last}");
        last = leader.token();
        assert_eq!(observer.master(&goods).await.unwrap(), *leader.master());
        let seen = sees::<F>(&mut watch, "the master", Some(port - 1)).await;
        assert_eq!(seen.as_ref(), Some(leader.master()));

        let refused = second.campaign(&goods, instance(99), Duration::from_millis(300)).await;
        assert!(matches!(refused, Err(RegisterError::Timeout { .. })), "{refused:?}");
        let waiting = campaign(&second, port);
        assert!(leader.is_leader());
        leader.resign(DEADLINE).await.unwrap();
        leader = within(DEADLINE, "the next master", waiting).await.unwrap();
    }
    assert!(leader.token() > last);
    leader.resign(DEADLINE).await.unwrap();
    sees::<F>(&mut watch, "the end of it", None).await;
    assert!(is_nobody(observer.master(&goods).await));
}

/// A campaign whose future is dropped is never elected.
pub async fn a_cancelled_campaign_leaves_nothing_behind<F: Fixture>(fixture: F) {
    let (first, second) = (election(&fixture).await, election(&fixture).await);
    let goods = service("goods");
    let leader = elected(&first, 1).await;
    let cancelled = campaign(&second, 2);
    let third = campaign(&second, 3);
    within(DEADLINE, "the candidates", fixture.contend(3)).await;
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    leader.resign(DEADLINE).await.unwrap();
    let leader = within(DEADLINE, "the third", third).await.unwrap();
    assert_eq!(second.master(&goods).await.unwrap(), *leader.master());
    leader.resign(DEADLINE).await.unwrap();
    assert!(is_nobody(first.master(&goods).await), "who is gone is not elected");
}

/// Dropping a leadership, or closing the client, resigns it.
pub async fn a_dropped_leadership_is_resigned<F: Fixture>(fixture: F) {
    let registry = fixture.connect().await.unwrap();
    let election = registry.election().unwrap();
    let mut watch = election.observe(&service("goods"));
    let leader = elected(&election, 1).await;
    sees::<F>(&mut watch, "the master", Some(1)).await;
    drop(leader);
    sees::<F>(&mut watch, "the end of it", None).await;

    let leader = elected(&election, 2).await;
    let waiting = campaign(&election, 3);
    registry.close(DEADLINE).await.unwrap();
    assert!(!leader.is_leader());
    within(Duration::from_secs(1), "the end of the term", leader.lost()).await;
    assert!(waiting.await.is_err(), "a campaign ends with its registry client");
    let closed = election.campaign(&service("goods"), instance(4), DEADLINE).await;
    assert!(matches!(closed, Err(RegisterError::Closed { .. })), "{closed:?}");
    assert!(matches!(election.master(&service("goods")).await, Err(RegisterError::Closed { .. })));
    within(DEADLINE, "the end of the watch", async { while watch.changed().await.is_ok() {} }).await;
}

/// Elections of services whose names begin alike do not mix, and candidates are not listed.
pub async fn services_have_their_own_masters<F: Fixture>(fixture: F) {
    let registry = fixture.connect().await.unwrap();
    let election = registry.election().unwrap();
    let mut leaders = Vec::new();
    for (name, port) in ["goods", "goods.v2", "good"].into_iter().zip(1..) {
        leaders.push(election.campaign(&service(name), instance(port), DEADLINE).await.unwrap());
    }
    for (name, leader) in ["goods", "goods.v2", "good"].into_iter().zip(&leaders) {
        assert_eq!(election.master(&service(name)).await.unwrap(), *leader.master());
        assert!(leader.is_leader());
        assert!(registry.list(&service(name)).await.unwrap().is_empty(), "a candidate is not registered");
    }
    let bad = election.campaign(&service("goods"), Instance::new("0.0.0.0", 1), DEADLINE).await;
    assert!(matches!(bad, Err(RegisterError::InvalidInstance { .. })), "{bad:?}");
}

/// While the registry is away nobody is elected, and the campaign goes on.
pub async fn a_registry_that_is_down_elects_nobody<F: Fixture>(mut fixture: F) {
    let election = election(&fixture).await;
    let goods = service("goods");
    fixture.down().await;
    let campaign = election.campaign(&goods, instance(1), Duration::from_secs(1));
    let error = within(Duration::from_secs(2), "the deadline", campaign).await.unwrap_err();
    assert!(matches!(error, RegisterError::Unreachable { .. } | RegisterError::Timeout { .. }), "{error}");
    let error = within(DEADLINE, "the error", election.master(&goods)).await.unwrap_err();
    assert!(matches!(error, RegisterError::Unreachable { .. } | RegisterError::Timeout { .. }), "{error}");
    let waiting = self::campaign(&election, 2);
    fixture.up().await;
    let leader = within(DEADLINE, "the campaign that went on", waiting).await.unwrap();
    assert_eq!(election.master(&goods).await.unwrap(), *leader.master());
}

/// After the loss of all data a term ends before the next one begins.
pub async fn the_loss_of_all_data_ends_a_term<F: Fixture>(mut fixture: F) {
    let election = election(&fixture).await;
    let leader = elected(&election, 1).await;
    fixture.down().await;
    fixture.up_without_data().await;
    within(DEADLINE, "the end of the term", leader.lost()).await;
    assert!(!leader.is_leader());
    let next = elected(&election, 2).await;
    assert!(next.is_leader() && !leader.is_leader());
    assert_eq!(election.master(&service("goods")).await.unwrap(), *next.master());
}
