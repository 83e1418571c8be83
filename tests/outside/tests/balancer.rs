//! A balancer of a program's own: written, used by a proxy, and broken in every way.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ms_register::{Memory, MsRegister};
use ms_rpc::{
    Balance, Balancing, CallOptions, Candidates, ClientProxy, Code, Outcome, PickContext, RunningServer, Server,
};
use tokio::sync::Barrier;

/// Sends calls of a key to one instance of the best tier that is there, and the others to the least busy one of all.
#[derive(Debug)]
struct BestTier {
    /// Indices of the candidates of the best tier.
    best: Vec<usize>,
}

impl BestTier {
    fn new(candidates: &Candidates) -> Self {
        let tier = |index: &usize| candidates[*index].instance().metadata().get("tier").cloned().unwrap_or_default();
        let most = (0..candidates.len()).map(|index| tier(&index)).max();
        Self { best: (0..candidates.len()).filter(|index| Some(tier(index)) == most).collect() }
    }
}

impl Balance for BestTier {
    fn pick(&self, candidates: &Candidates, call: &PickContext<'_>) -> usize {
        match call.key_hash() {
            Some(hash) => self.best[hash as usize % self.best.len()],
            None => {
                let cost = |index: &usize| {
                    let candidate = &candidates[*index];
                    (candidate.in_flight(), candidate.load_estimate(call))
                };
                (0..candidates.len()).min_by_key(cost).unwrap_or_default()
            }
        }
    }
}

#[ms_rpc::service(name = "names")]
trait Names {
    async fn name(&self) -> String;
    async fn slow(&self) -> String;
}

/// Answers with its name; a slow call ends when three of them are there, at whichever servers.
struct Named(String, Arc<Barrier>);

impl Names for Named {
    async fn name(&self) -> String {
        self.0.clone()
    }

    async fn slow(&self) -> String {
        self.1.wait().await;
        self.0.clone()
    }
}

/// Servers of these tiers, each named by its tier and number.
async fn servers(registry: &Arc<Memory>, tiers: &[&str]) -> Vec<RunningServer> {
    let (mut servers, together) = (Vec::new(), Arc::new(Barrier::new(3)));
    for (number, tier) in tiers.iter().enumerate() {
        let server = Server::bind("127.0.0.1:0").await.unwrap().register_with(registry.clone()).metadata("tier", *tier);
        let named = NamesServer::new(Named(format!("{tier}{number}"), together.clone()));
        servers.push(server.serve(named).start().await.unwrap());
    }
    servers
}

/// A proxy with a connection to each of so many instances.
async fn connected(registry: &Arc<Memory>, instances: usize, balancing: Balancing) -> ClientProxy {
    let proxy = ClientProxy::builder(registry.clone()).balancer(balancing).build().unwrap();
    let answers = proxy.broadcast("names", "name", &serde_json::json!([])).await.unwrap();
    assert_eq!(answers.iter().filter(|(_, answer)| answer.is_ok()).count(), instances, "{answers:?}");
    proxy
}

#[tokio::test]
async fn a_balancer_of_the_programs_own_sees_metadata_keys_and_loads() {
    let registry = Arc::new(Memory::new());
    let mut servers = servers(&registry, &["gold", "silver", "gold"]).await;
    let names = NamesClient::new(connected(&registry, 3, Balancing::custom("best-tier", BestTier::new)).await);
    let mut owners = BTreeMap::<String, usize>::new();
    for key in 0..200 {
        let names = names.with(CallOptions::new().key(key.to_string()));
        let owner = names.name().await.unwrap();
        assert_eq!(names.name().await.unwrap(), owner, "a key has one owner");
        *owners.entry(owner).or_default() += 1;
    }
    let spread: Vec<_> = owners.values().copied().collect();
    assert!(owners.keys().all(|name| name.starts_with('s')) && spread == [200], "{owners:?}");

    // Three calls at once: each sees those before it in flight.
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let names = names.clone();
            tokio::spawn(async move { names.slow().await.unwrap() })
        })
        .collect();
    let mut answered = Vec::new();
    for call in calls {
        answered.push(call.await.unwrap());
    }
    answered.sort();
    assert_eq!(answered, ["gold0", "gold2", "silver1"]);

    // Made anew for the rest: without silver, gold is the best.
    servers.remove(1).shutdown().await;
    let owner = names.with(CallOptions::new().key("7")).name().await.unwrap();
    assert!(owner.starts_with("gold"), "{owner}");
}

/// Picks the first candidate, and breaks on demand.
#[derive(Debug)]
struct Moody {
    index: usize,
    panics: Arc<AtomicBool>,
}

impl Balance for Moody {
    fn pick(&self, _: &Candidates, _: &PickContext<'_>) -> usize {
        assert!(!self.panics.load(Ordering::SeqCst), "on demand");
        self.index
    }
}

#[tokio::test]
async fn a_broken_balancer_is_named_and_other_calls_go_on() {
    let registry = Arc::new(Memory::new());
    let _servers = servers(&registry, &["gold", "gold", "gold"]).await;
    let panics = Arc::new(AtomicBool::new(false));
    let moody = |index| {
        let panics = panics.clone();
        Balancing::custom("moody", move |_: &Candidates| Moody { index, panics: panics.clone() })
    };
    let error = |names: NamesClient| async move {
        let status = tokio::time::timeout(Duration::from_secs(5), names.name()).await.unwrap().unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Internal, Outcome::NotSent));
        status.message().to_owned()
    };
    let wrong = connected(&registry, 3, moody(3)).await;
    let message = error(NamesClient::new(&wrong)).await;
    assert_eq!(message, "balancer `moody` returned index 3 of 3 candidates: use 0 to 2");
    let id = wrong.instances("names").unwrap()[1].id().to_owned();
    let direct = NamesClient::new(wrong.with(CallOptions::new().instance(id)));
    assert!(direct.name().await.unwrap().starts_with("gold"), "a call that needs no balancer goes on");

    let names = NamesClient::new(connected(&registry, 3, moody(0)).await);
    panics.store(true, Ordering::SeqCst);
    assert_eq!(error(names.clone()).await, "balancer `moody` panicked during a pick");
    panics.store(false, Ordering::SeqCst);
    assert!(names.name().await.unwrap().starts_with("gold"), "it recovers with its balancer");

    let hasty = Balancing::custom("hasty", |_: &Candidates| -> Moody { panic!("at its making") });
    let message = error(NamesClient::new(connected(&registry, 3, hasty).await)).await;
    assert!(message.starts_with("balancer `hasty` panicked when it was made"), "{message}");
    assert_eq!(registry.list(&"names".parse().unwrap()).await.unwrap().len(), 3);
}
