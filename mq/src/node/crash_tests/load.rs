//! Crashes under every operation: fan-out, dedup, groups, priorities, dead letters, redrives, moves, copies, purges.

use super::*;
use crate::{MessageInfo, Mode, Which};

const QUEUES: [&str; 3] = ["a", "b", "c"];
const ROUTES: [(&str, &[usize]); 4] = [("^a$", &[0]), ("^b$", &[1]), ("^c$", &[2]), ("^[ab]$", &[0, 1])];

/// A message in a queue.
type At = (usize, MessageId);

/// Promises about the messages of all queues.
#[derive(Debug, Default)]
struct Ledger {
    there: BTreeMap<At, String>,
    gone: BTreeSet<At>,
    /// Ends that nobody confirmed.
    unknown: BTreeSet<At>,
    /// Messages on their way from one queue to the other: in exactly one of them.
    either: BTreeMap<MessageId, (usize, usize)>,
    /// Bodies of all pushes, with the route; nobody may have heard of their ids.
    tried: BTreeMap<String, usize>,
    /// Dedup keys with their bodies and ids. `None`: nobody was told the id.
    keys: BTreeMap<String, (String, Option<MessageId>)>,
    /// Bodies that were copied, or may have been.
    copied: BTreeSet<String>,
    pushes: u64,
    /// Operations done, by name.
    done: BTreeMap<&'static str, u64>,
}

fn name(queue: usize) -> QueueName {
    QueueName::new("t", QUEUES[queue])
}

async fn listed(node: &Node<FaultyFile>, queue: usize) -> Result<Vec<MessageInfo>, MqError> {
    let (mut all, mut after) = (Vec::new(), MessageId(0));
    loop {
        let page = node.look(Look::List { queue: name(queue), after, most: 1000, dead: false }).await?.messages();
        let Some(last) = page.last() else { return Ok(all) };
        after = last.id;
        all.extend(page);
    }
}

async fn body(node: &Node<FaultyFile>, queue: usize, id: MessageId) -> String {
    let found = node.look(Look::Get(name(queue), id)).await.unwrap().messages().remove(0);
    String::from_utf8(found.body.unwrap().to_vec()).unwrap()
}

impl Ledger {
    /// Operations until the power goes: then an operation fails.
    async fn work(
        &mut self,
        node: &Node<FaultyFile>,
        clock: &Manual,
        random: &mut fastrand::Rng,
    ) -> Result<(), MqError> {
        let settings = Settings {
            mode: Some(Mode::Fuzzy),
            max_retries: Some(1),
            dedup_window_ms: Some(24 * 3600 * 1000),
            ..Settings::default()
        };
        node.change(Change::Configure("t".to_owned(), settings)).await?;
        for queue in 0..QUEUES.len() {
            match node.change(Change::Declare(name(queue))).await {
                Ok(_) | Err(MqError::QueueExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for _ in 0..60 {
            clock.advance(random.u64(..5000));
            let queue = random.usize(..QUEUES.len());
            let other = (queue + random.usize(1..QUEUES.len())) % QUEUES.len();
            let operation = match random.u8(..20) {
                0..6 => self.push(node, random).await.map(|()| "push"),
                6..12 => self.pop(node, queue, random).await.map(|()| "pop"),
                12 => node.change(Change::Redrive(name(queue), None)).await.map(|_| "redrive"),
                13 => self.remove(node, queue, random.bool()).await.map(|()| "purge"),
                14..17 => self.transfer(node, queue, other, random.u8(..3)).await.map(|()| "move"),
                17 => self.copy(node, queue, other).await.map(|()| "copy"),
                18 => self.reprioritize(node, queue, random).await.map(|()| "priority"),
                _ => {
                    clock.advance(40_000);
                    Ok("time")
                }
            };
            *self.done.entry(operation?).or_default() += 1;
        }
        Ok(())
    }

    async fn push(&mut self, node: &Node<FaultyFile>, random: &mut fastrand::Rng) -> Result<(), MqError> {
        let again = random.bool().then(|| random.choice(self.keys.keys()).cloned()).flatten();
        let (text, key) = match again {
            Some(key) => (self.keys[&key].0.clone(), Some(key)),
            None => {
                self.pushes += 1;
                let text = format!("{} {}", self.pushes, "x".repeat(random.usize(..600)));
                let key = (random.u8(..4) == 0).then(|| format!("key {}", self.pushes));
                self.tried.insert(text.clone(), random.usize(..ROUTES.len()));
                key.iter().for_each(|key| drop(self.keys.insert(key.clone(), (text.clone(), None))));
                (text, key)
            }
        };
        let (route, queues) = ROUTES[self.tried[&text]];
        let mut push =
            Push { priority: random.u8(..3), dedup: key.clone(), ..Push::new("t", text.clone().into_bytes()) };
        if random.u8(..3) == 0 {
            push = push.with_group(format!("g{}", random.u8(..2)));
        }
        let id = node.push(push.to(route)).await?;
        let known = key.and_then(|key| self.keys.insert(key, (text.clone(), Some(id)))).and_then(|(_, id)| id);
        match known {
            Some(known) => assert_eq!(id, known, "a dedup key was forgotten"),
            // The first push may be the one that nobody heard of, and its message may be gone since.
            None if self.there.keys().chain(&self.gone).chain(&self.unknown).any(|(_, other)| *other == id) => {}
            None => queues.iter().for_each(|queue| drop(self.there.insert((*queue, id), text.clone()))),
        }
        Ok(())
    }

    async fn pop(&mut self, node: &Node<FaultyFile>, queue: usize, random: &mut fastrand::Rng) -> Result<(), MqError> {
        let before = listed(node, queue).await?;
        let wish = Pop { max_messages: 3, ..Pop::new("t", QUEUES[queue]) };
        let popped = if random.u8(..4) == 0 { node.pop_dead(&wish).await? } else { node.pop(&wish).await? };
        for delivery in popped {
            let at = (queue, delivery.id);
            assert!(!self.gone.contains(&at), "{at:?} was removed and came again");
            assert_eq!(self.there.get(&at).map(String::as_bytes), Some(&delivery.body[..]), "another body of {at:?}");
            let info = before.iter().find(|info| info.id == delivery.id).unwrap();
            if info.group.is_some() && delivery.reason().is_none() {
                let first = |other: &&MessageInfo| other.group == info.group && other.state != "dead";
                assert_eq!(before.iter().find(first).map(|other| other.id), Some(delivery.id), "the order of a group");
            }
            let end = match random.u8(..8) {
                0..3 => End::Ack,
                3 => End::Bury("hopeless".to_owned()),
                4 => End::Begin,
                5 => End::Return,
                6 => End::nack(Duration::ZERO, "no"),
                _ => continue,
            };
            let body = (end == End::Ack).then(|| self.there.remove(&at)).flatten();
            self.unknown.extend(body.as_ref().map(|_| at));
            node.end(&delivery.receipt.unwrap(), &end).await?;
            if body.is_some() {
                self.unknown.remove(&at);
                self.gone.insert(at);
            }
        }
        Ok(())
    }

    /// Purges a queue: its dead letters, or the others.
    async fn remove(&mut self, node: &Node<FaultyFile>, queue: usize, dead: bool) -> Result<(), MqError> {
        let now = listed(node, queue).await?;
        // A dead letter that is leased stays.
        let leased = now.iter().filter(|info| info.state == "dead").count();
        let hit: Vec<_> =
            now.iter().filter(|info| (info.state == "dead") == dead).map(|info| (queue, info.id)).collect();
        let change = if dead { Change::PurgeDead(name(queue)) } else { Change::Purge(name(queue)) };
        hit.iter().for_each(|at| drop(self.there.remove(at)));
        self.unknown.extend(&hit);
        let count = node.change(change).await?;
        assert!(count as usize <= hit.len() + leased);
        self.settle(node, queue, &hit).await
    }

    /// Finds out which of these are gone; all of them are durable.
    async fn settle(&mut self, node: &Node<FaultyFile>, queue: usize, hit: &[At]) -> Result<(), MqError> {
        let left: BTreeSet<_> = listed(node, queue).await?.into_iter().map(|info| info.id).collect();
        for at in hit {
            if left.contains(&at.1) {
                self.there.insert(*at, body(node, queue, at.1).await);
            } else {
                self.gone.insert(*at);
            }
            self.unknown.remove(at);
        }
        Ok(())
    }

    async fn transfer(&mut self, node: &Node<FaultyFile>, from: usize, to: usize, kind: u8) -> Result<(), MqError> {
        let ids = |infos: Vec<MessageInfo>| infos.into_iter().map(|info| info.id).collect::<BTreeSet<_>>();
        let (source, target) = (ids(listed(node, from).await?), ids(listed(node, to).await?));
        let which = match kind {
            0 => Which::Waiting,
            1 => Which::Dead,
            _ => Which::Ids(source.iter().copied().take(3).collect()),
        };
        let moving: Vec<_> = source.difference(&target).copied().collect();
        let mut bodies = BTreeMap::new();
        for id in &moving {
            bodies.insert(*id, self.there.remove(&(from, *id)).unwrap());
            self.gone.remove(&(to, *id));
            self.either.insert(*id, (from, to));
        }
        let count = node.change(Change::Move(name(from), name(to), which)).await?;
        let (left, come) = (ids(listed(node, from).await?), ids(listed(node, to).await?));
        assert_eq!(come.len() - target.len(), count as usize);
        for (id, body) in bodies {
            assert!(left.contains(&id) != come.contains(&id), "{id} is in both queues, or in none");
            self.there.insert((if left.contains(&id) { from } else { to }, id), body);
            self.either.remove(&id);
        }
        Ok(())
    }

    async fn copy(&mut self, node: &Node<FaultyFile>, from: usize, to: usize) -> Result<(), MqError> {
        let some: Vec<_> = listed(node, from).await?.into_iter().map(|info| info.id).take(2).collect();
        self.copied.extend(some.iter().map(|id| self.there[&(from, *id)].clone()));
        let before = listed(node, to).await?.len();
        let count = node.change(Change::Copy(name(from), name(to), Which::Ids(some))).await? as usize;
        let after = listed(node, to).await?;
        assert_eq!(after.len(), before + count);
        for info in &after[before..] {
            let body = body(node, to, info.id).await;
            assert!(self.tried.contains_key(&body));
            self.there.insert((to, info.id), body);
        }
        Ok(())
    }

    async fn reprioritize(
        &mut self,
        node: &Node<FaultyFile>,
        queue: usize,
        random: &mut fastrand::Rng,
    ) -> Result<(), MqError> {
        let all = listed(node, queue).await?;
        let Some(info) = random.choice(&all) else { return Ok(()) };
        node.change(Change::Reprioritize(name(queue), info.id, random.u8(..5))).await.map(drop)
    }

    /// Compares what is there with what was promised, and goes on from there.
    async fn check(&mut self, node: &Node<FaultyFile>) {
        assert!(node.damage().0.is_empty(), "a crash is no damage: {:?}", node.damage());
        let mut found: BTreeMap<At, String> = BTreeMap::new();
        for queue in 0..QUEUES.len() {
            let infos = match listed(node, queue).await {
                Ok(infos) => infos,
                Err(MqError::NoTopic(_) | MqError::NoQueue(_)) => continue,
                Err(error) => panic!("{error}"),
            };
            for info in infos {
                found.insert((queue, info.id), body(node, queue, info.id).await);
            }
        }
        for (at, body) in &self.there {
            assert_eq!(found.get(at), Some(body), "{at:?} was confirmed");
        }
        for at in &self.gone {
            assert!(!found.contains_key(at), "{at:?} was removed and is there again");
        }
        let moving = std::mem::take(&mut self.either);
        for (id, (one, two)) in &moving {
            let both = [*one, *two].map(|queue| found.contains_key(&(queue, *id)));
            assert!(both[0] != both[1], "{id} is in both queues, or in none: {both:?}");
        }
        for ((queue, id), body) in found.iter().filter(|(at, _)| !self.there.contains_key(at)) {
            let route = self.tried.get(body).unwrap_or_else(|| panic!("{body} was never pushed"));
            // A push that no caller was told of puts its message into all its queues.
            let (_, queues) = ROUTES[*route];
            let is_new =
                !moving.contains_key(id) && self.there.keys().chain(&self.unknown).all(|(_, other)| other != id);
            let is_first = self.gone.iter().all(|(_, other)| other != id) && queues.contains(queue);
            let is_moved = self.unknown.contains(&(*queue, *id));
            if is_new && is_first && !is_moved && queues.len() > 1 {
                let other = queues.iter().find(|other| *other != queue).unwrap();
                let copied = self.copied.contains(body);
                assert!(found.contains_key(&(*other, *id)) || copied, "half of a fan-out: {body}");
            }
        }
        self.unknown.clear();
        self.there = found;
    }
}

fn cycles_of_all(seed: u64, count: u64) -> BTreeMap<&'static str, u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut random = fastrand::Rng::with_seed(seed);
        let (disk, clock) = (Faulty::default(), manual());
        let mut ledger = Ledger::default();
        for _ in 0..count {
            disk.fail_after(random.u64(..250));
            if let Ok(node) = open(&disk, &clock) {
                ledger.check(&node).await;
                let _ = ledger.work(&node, &clock, &mut random).await;
            }
            disk.crash(&mut random);
            let node = open(&disk, &clock).unwrap();
            ledger.check(&node).await;
            // Fewer messages, for speed.
            let old = ledger.there.len().saturating_sub(60);
            for at in ledger.there.keys().copied().take(old).collect::<Vec<_>>() {
                node.change(Change::Cancel(name(at.0), at.1)).await.unwrap();
                ledger.there.remove(&at);
                ledger.gone.insert(at);
            }
        }
        ledger.done
    })
}

#[test]
fn every_operation_survives_any_crash() {
    let mut done = BTreeMap::new();
    for seed in 0..4 {
        for (operation, count) in cycles_of_all(seed, 60) {
            *done.entry(operation).or_insert(0) += count;
        }
    }
    assert_eq!(done.len(), 8, "each was done: {done:?}");
    assert!(done.values().all(|count| *count > 50), "{done:?}");
}

/// 10,000 crashes: `cargo test --release -p ms-mq -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn every_operation_survives_10_000_crashes() {
    for seed in 100..140 {
        cycles_of_all(seed, 250);
    }
}
