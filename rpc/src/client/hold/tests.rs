use std::sync::Arc;

use ms_register::{Memory, MsRegister, ServiceName};
use proptest::prelude::*;

use super::*;

/// A registry that tests write to, and the hold that follows it.
struct Followed {
    registry: Arc<Memory>,
    service: ServiceName,
    hold: Hold,
    start: Instant,
}

impl Followed {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            registry: Arc::default(),
            service: "goods".parse().unwrap(),
            hold: Hold::new(Duration::ZERO, &Default::default()),
            start,
        }
    }

    fn insert(&self, ports: &[u16]) {
        ports.iter().for_each(|port| self.registry.insert(&self.service, Instance::new("h", *port)));
    }

    fn remove(&self, ports: &[u16]) {
        ports.iter().for_each(|port| self.registry.remove(&self.service, &format!("h:{port}")));
    }

    fn at(&mut self, seconds: u64) -> Vec<u16> {
        let snapshot = self.registry.watch(&self.service).current();
        let now = self.start + Duration::from_secs(seconds);
        self.hold.apply(&snapshot, now);
        ports(&self.hold)
    }
}

fn ports(hold: &Hold) -> Vec<u16> {
    hold.instances().iter().map(Instance::port).collect()
}

#[test]
fn what_goes_one_by_one_is_believed() {
    let mut goods = Followed::new();
    // The watch stays open: a registry forgets what nobody follows.
    let _watch = goods.registry.watch(&goods.service);
    goods.insert(&[1, 2, 3]);
    assert_eq!(goods.at(0), [1, 2, 3]);
    goods.remove(&[1, 2]);
    assert_eq!(goods.at(1), [3]);
}

#[test]
fn a_list_that_was_kept_counts_until_the_registry_speaks() {
    let mut goods = Followed::new();
    goods.insert(&[1, 2]);
    let registry = goods.registry.clone();
    let watch = registry.watch(&goods.service);
    goods.registry.set_down(true);
    assert_eq!(watch.current().freshness(), Freshness::Stale);
    assert_eq!(goods.at(0), [1, 2], "stale, and all that is known");
    goods.registry.set_down(false);
    goods.remove(&[1]);
    assert_eq!(goods.at(1), [1, 2], "what has just come back is held");
    goods.insert(&[3]);
    goods.registry.set_down(true);
    assert_eq!(goods.at(2), [1, 2], "from now on a stale list says nothing new");
}

#[test]
fn an_empty_list_is_believed_after_the_period() {
    let mut goods = Followed::new();
    let _watch = goods.registry.watch(&goods.service);
    goods.insert(&[1, 2]);
    goods.at(0);
    goods.registry.wipe();
    assert_eq!(goods.at(1), [1, 2]);
    assert_eq!(goods.at(10), [1, 2]);
    assert_eq!(goods.hold.next_expiry(), Some(goods.start + Duration::from_secs(11)));
    assert!(goods.hold.expire(goods.start + Duration::from_secs(11)));
    assert!(ports(&goods.hold).is_empty());
}

#[test]
fn what_a_registry_has_forgotten_that_came_back_is_held() {
    let mut goods = Followed::new();
    let _watch = goods.registry.watch(&goods.service);
    goods.insert(&[1, 2, 3]);
    goods.at(0);
    goods.registry.set_down(true);
    assert_eq!(goods.at(1), [1, 2, 3]);
    goods.registry.set_down(false);
    // The follower sees only the end of it.
    goods.remove(&[1]);
    assert_eq!(goods.at(5), [1, 2, 3]);
    goods.remove(&[2]);
    assert_eq!(goods.at(6), [1, 2, 3], "the list shrinks step by step after a resync too");
    goods.insert(&[1]);
    assert_eq!(goods.at(7), [1, 2, 3]);
    assert_eq!(goods.at(16), [1, 3], "2 is gone for a period");
    goods.remove(&[3]);
    assert_eq!(goods.at(17), [1], "the return is over");
}

#[test]
fn who_shows_that_it_is_gone_is_let_go() {
    let mut goods = Followed::new();
    let _watch = goods.registry.watch(&goods.service);
    goods.insert(&[1, 2]);
    goods.at(0);
    assert!(!goods.hold.let_go("h:1"), "the registry lists it");
    goods.registry.wipe();
    goods.at(1);
    assert!(goods.hold.let_go("h:1"));
    assert_eq!(ports(&goods.hold), [2]);
}

#[derive(Clone, Debug)]
enum Event {
    List(Vec<u16>),
    Outage,
    LetGo(u16),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop::collection::btree_set(1..6u16, 0..5).prop_map(|ports| Event::List(ports.into_iter().collect())),
        1 => Just(Event::Outage),
        1 => (1..6u16).prop_map(Event::LetGo),
        3 => (0..12u64).prop_map(Event::Pass),
    ]
}

proptest! {
    /// Against what is promised, whatever the registry does.
    #[test]
    fn the_promises_hold(events in prop::collection::vec(event(), 1..60)) {
        let mut goods = Followed::new();
        let _watch = goods.registry.watch(&goods.service);
        let (mut now, mut last_seen, mut listed) = (0, [None::<u64>; 6], Vec::new());
        for event in events {
            let before = ports(&goods.hold);
            match event {
                Event::List(ports) => {
                    goods.remove(&(1..6).filter(|port| !ports.contains(port)).collect::<Vec<_>>());
                    goods.insert(&ports);
                    // Callers may see each step of it: here they see the end only.
                    listed = ports;
                    let called = goods.at(now);
                    if listed.is_empty() {
                        prop_assert_eq!(called, before, "an empty list takes nobody away");
                    }
                }
                Event::Outage => {
                    goods.registry.set_down(true);
                    prop_assert_eq!(goods.at(now), before, "a list that cannot be read stays");
                    goods.registry.set_down(false);
                    goods.at(now);
                }
                Event::LetGo(port) => {
                    goods.hold.let_go(&format!("h:{port}"));
                    prop_assert_eq!(ports(&goods.hold).contains(&port), listed.contains(&port));
                }
                Event::Pass(seconds) => {
                    now += seconds;
                    goods.hold.expire(goods.start + Duration::from_secs(now));
                }
            }
            listed.iter().for_each(|port| last_seen[usize::from(*port)] = Some(now));
            let called = ports(&goods.hold);
            for port in 1..6 {
                let gone = last_seen[usize::from(port)].is_none_or(|seen| now >= seen + 10);
                prop_assert!(!listed.contains(&port) || called.contains(&port), "who is listed is called");
                prop_assert!(!gone || !called.contains(&port), "{port} is called a period after it was listed");
            }
        }
    }
}
