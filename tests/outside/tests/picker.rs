//! A TCP proxy that picks its back ends by a `Picker`, and what a picker promises.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ms_register::{Instance, Memory, ServiceName};
use ms_rpc::{Balancer, Balancing, Candidates, Code, EjectionConfig, NoInstance, Outcome, Picker};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{sleep, timeout},
};

fn service() -> ServiceName {
    "echo".parse().unwrap()
}

fn listed(registry: &Memory, ports: &[u16]) -> Vec<Instance> {
    let instances: Vec<_> = ports.iter().map(|port| Instance::new("127.0.0.1", *port)).collect();
    instances.iter().for_each(|instance| registry.insert(&service(), instance.clone()));
    instances
}

/// Answers one line a connection with its own address and that line.
async fn echo_server() -> (SocketAddr, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (read, mut write) = stream.split();
            let mut line = String::new();
            let _ = BufReader::new(read).read_line(&mut line).await;
            let _ = write.write_all(format!("{address} {line}").as_bytes()).await;
        }
    });
    (address, serving.abort_handle())
}

/// One request to one back end.
async fn forward(address: &str, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

/// Serves clients: a line in, the back end's answer out, or an empty one if that failed.
async fn proxy(picker: Picker) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = String::new();
            let (read, mut write) = client.split();
            let _ = BufReader::new(read).read_line(&mut request).await;
            let (pick, began) = (picker.pick(None, &[]).unwrap(), Instant::now());
            let answer = forward(&pick.address(), &request).await;
            pick.finish(if answer.is_ok() { Outcome::Answered } else { Outcome::Unknown }, began.elapsed());
            let _ = write.write_all(answer.unwrap_or_default().as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_of_bytes_leaves_a_dead_back_end_alone() {
    let registry = Arc::new(Memory::new());
    let (first, dies) = echo_server().await;
    let (second, _) = echo_server().await;
    let (third, _) = echo_server().await;
    listed(&registry, &[first.port(), second.port(), third.port()]);
    let picker = Picker::new(registry, "echo", Balancer::RoundRobin).unwrap();
    picker.wait_ready(Duration::from_secs(5)).await.unwrap();
    let address = proxy(picker).await.to_string();
    let mut answered = HashSet::new();
    for _ in 0..9 {
        let answer = forward(&address, "hello\n").await.unwrap();
        answered.insert(answer.strip_suffix(" hello\n").unwrap().to_owned());
    }
    assert_eq!(answered.len(), 3);

    dies.abort();
    let mut failed = 0;
    while failed < 5 {
        failed += usize::from(forward(&address, "hello\n").await.is_err());
    }
    for _ in 0..100 {
        let answer = forward(&address, "hello\n").await.unwrap();
        assert!(!answer.starts_with(&first.to_string()), "it is ejected");
    }
}

#[tokio::test]
async fn a_pick_counts_until_it_ends() {
    let registry = Arc::new(Memory::new());
    listed(&registry, &[1, 2]);
    let picker = Picker::new(registry, "echo", Balancer::LeastConnections).unwrap();
    picker.wait_ready(Duration::from_secs(5)).await.unwrap();
    let first = picker.pick(None, &[]).unwrap();
    let second = picker.pick(None, &[]).unwrap();
    assert_ne!(first.id(), second.id(), "the other one is less busy");
    let ended = first.id().to_owned();
    first.finish(Outcome::Answered, Duration::from_millis(1));
    assert_eq!(picker.pick(None, &[]).unwrap().id(), ended);
    assert_eq!(picker.pick(None, &[]).unwrap().id(), ended, "a dropped one counts no more");
    assert_eq!(picker.pick(None, &[&ended]).unwrap().id(), second.id(), "a busy one is better than one that failed");
    let both = [ended.as_str(), second.id()];
    assert_eq!(picker.pick(None, &both).unwrap().id(), ended, "there is no other");
}

/// Ports of 20 picks of a picker whose first instance, port 1, ended its calls like this, and whose second answered in 10 ms.
async fn picked_after(outcome: Outcome, took: Duration) -> HashSet<u16> {
    let registry = Arc::new(Memory::new());
    let [first, second] = listed(&registry, &[1, 2]).try_into().unwrap();
    let picker = Picker::new(registry, "echo", Balancer::P2c).unwrap();
    picker.wait_ready(Duration::from_secs(5)).await.unwrap();
    for _ in 0..4 {
        picker.pick(None, &[second.id()]).unwrap().finish(outcome, took);
        picker.pick(None, &[first.id()]).unwrap().finish(Outcome::Answered, Duration::from_millis(10));
    }
    (0..20).map(|_| picker.pick(None, &[]).unwrap().port()).collect()
}

#[tokio::test]
async fn a_slow_or_refusing_instance_gets_fewer_calls() {
    assert_eq!(picked_after(Outcome::Answered, Duration::from_millis(1)).await, HashSet::from([1]));
    assert_eq!(picked_after(Outcome::Answered, Duration::from_millis(100)).await, HashSet::from([2]));
    // At no time a refusal counts as a fast answer.
    for outcome in [Outcome::Refused, Outcome::NotSent] {
        assert_eq!(picked_after(outcome, Duration::ZERO).await, HashSet::from([2]), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ejection_ends_and_the_next_lasts_twice_as_long() {
    let registry = Arc::new(Memory::new());
    let [bad, good] = listed(&registry, &[1, 2]).try_into().unwrap();
    let picker = Picker::new(registry, "echo", Balancer::RoundRobin).unwrap();
    picker.wait_ready(Duration::from_secs(5)).await.unwrap();
    let is_picked = || (0..2).any(|_| picker.pick(None, &[]).unwrap().id() == bad.id());
    for seconds in [5, 10, 20, 40, 60, 60] {
        (0..5).for_each(|_| picker.pick(None, &[good.id()]).unwrap().finish(Outcome::Unknown, Duration::ZERO));
        sleep(Duration::from_millis(seconds * 1000 - 100)).await;
        assert!(!is_picked(), "for {seconds} s");
        sleep(Duration::from_millis(200)).await;
        assert!(is_picked(), "after {seconds} s");
    }
}

#[tokio::test]
async fn only_silence_ejects_and_never_the_last() {
    let registry = Arc::new(Memory::new());
    let [bad, good] = listed(&registry, &[1, 2]).try_into().unwrap();
    let mut ejection = EjectionConfig::default();
    ejection.consecutive_failures = 3;
    let picker = Picker::with_ejection(registry, "echo", Balancer::RoundRobin, ejection).unwrap();
    picker.wait_ready(Duration::from_secs(5)).await.unwrap();
    let report = |instance: &Instance, other: &Instance, outcome: Outcome| {
        let pick = picker.pick(None, &[other.id()]).unwrap();
        if pick.id() == instance.id() {
            pick.finish(outcome, Duration::from_millis(1));
        }
    };
    let picked = || (0..10).map(|_| picker.pick(None, &[]).unwrap().id().to_owned()).collect::<HashSet<_>>();
    for outcome in [Outcome::Unknown, Outcome::NotSent, Outcome::Refused, Outcome::Unknown, Outcome::Unknown] {
        report(&bad, &good, outcome);
    }
    report(&bad, &good, Outcome::Answered);
    drop(picker.pick(None, &[good.id()]).unwrap());
    assert_eq!(picked().len(), 2, "no three in a row");
    (0..3).for_each(|_| report(&bad, &good, Outcome::NotSent));
    assert_eq!(picked(), HashSet::from([good.id().to_owned()]));
    (0..30).for_each(|_| report(&good, &bad, Outcome::Unknown));
    assert_eq!(picked(), HashSet::from([good.id().to_owned()]), "the last one stays");
}

#[tokio::test]
async fn what_is_not_connected_is_not_picked() {
    let registry = Arc::new(Memory::new());
    let picker = Picker::new(registry.clone(), "echo", Balancer::RoundRobin).unwrap();
    let status = picker.wait_ready(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(status.no_instance(), Some(NoInstance::NoneListed), "{status}");
    let [first, second] = listed(&registry, &[1, 2]).try_into().unwrap();
    let both_are_there = async {
        while picker.instances().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), both_are_there).await.unwrap();
    picker.set_connected(first.id(), false);
    assert!((0..10).all(|_| picker.pick(None, &[]).unwrap().id() == second.id()));
    picker.set_connected(second.id(), false);
    let status = picker.pick(None, &[]).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotSent), "{status}");
    assert!(picker.wait_ready(Duration::from_millis(10)).await.unwrap_err().message().contains("none of the 2"));
    let again = tokio::spawn({
        let picker = picker.clone();
        async move { picker.wait_ready(Duration::from_secs(5)).await }
    });
    tokio::task::yield_now().await;
    picker.set_connected(first.id(), true);
    again.await.unwrap().unwrap();
    assert_eq!(picker.pick(None, &[]).unwrap().id(), first.id());

    // A removal that is held ends with the connection.
    registry.set_down(true);
    registry.set_down(false);
    registry.remove(&service(), first.id());
    registry.insert(&service(), second.clone().with_metadata("seen", "yes"));
    let seen = async {
        while !picker.instances().iter().any(|instance| instance.metadata().contains_key("seen")) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), seen).await.unwrap();
    assert_eq!(picker.instances().len(), 2, "the registry has just come back, and is not believed");
    picker.set_connected(first.id(), false);
    assert_eq!(picker.instances().len(), 1);
}

#[tokio::test]
async fn keys_zones_and_broken_balancers_are_as_in_a_proxy() {
    let registry = Arc::new(Memory::new());
    let instances: Vec<_> = (1..=9).map(|port| Instance::new("127.0.0.1", port)).collect();
    for (number, instance) in instances.iter().enumerate() {
        let zone = if number < 3 { "eu-1" } else { "us-1" };
        registry.insert(&service(), instance.clone().with_metadata("zone", zone));
    }
    let near = Picker::new(registry.clone(), "echo", Balancer::ConsistentHash.near("eu-1")).unwrap();
    near.wait_ready(Duration::from_secs(5)).await.unwrap();
    let owner = |key: u32| near.pick(Some(&key.to_be_bytes()), &[]).unwrap().id().to_owned();
    let owners: Vec<_> = (0..200).map(owner).collect();
    assert_eq!(owners.iter().collect::<HashSet<_>>().len(), 3, "those of the zone");
    near.set_connected(&owners[0], false);
    for (key, before) in (0..).zip(&owners) {
        assert!(before == &owners[0] || *before == owner(key), "only the keys of the lost one move");
    }
    let broken = Balancing::custom("broken", |_: &Candidates| -> Nothing { panic!("at its making") });
    let broken = Picker::new(registry.clone(), "echo", broken).unwrap();
    broken.wait_ready(Duration::from_secs(5)).await.unwrap();
    let status = broken.pick(None, &[]).unwrap_err();
    assert!(status.code() == Code::Internal && status.message().contains("`broken`"), "{status}");
    let mut ejection = EjectionConfig::default();
    ejection.consecutive_failures = 0;
    let wrong = Picker::with_ejection(registry, "echo", Balancer::P2c, ejection).unwrap_err();
    assert_eq!(wrong.message(), "`ejection.consecutive_failures` is 0: use at least 1");
}

#[test]
fn lists_are_followed_on_when_the_runtime_of_a_picker_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let registry = Arc::new(Memory::new());
    listed(&registry, &[1]);
    let first = runtime();
    let picker = first.block_on(async {
        let picker = Picker::new(registry.clone(), "echo", Balancer::P2c).unwrap();
        picker.wait_ready(Duration::from_secs(5)).await.unwrap();
        picker
    });
    drop(first);
    listed(&registry, &[2]);
    runtime().block_on(async {
        let all_listed = async {
            while picker.instances().len() != 2 {
                let _pick = picker.pick(None, &[]).unwrap();
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), all_listed).await.expect("the next pick follows the registry");
    });
}

#[derive(Debug)]
struct Nothing;

impl ms_rpc::Balance for Nothing {
    fn pick(&self, _: &Candidates, _: &ms_rpc::PickContext<'_>) -> usize {
        0
    }
}
