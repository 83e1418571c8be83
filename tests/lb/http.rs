use std::collections::BTreeSet;

use ms_tests::{Program, QueueNode, request};
use serde_json::{Value, json};

use crate::{BALANCERS, MS, SERVICES, World, code, until};

/// Content of a file of go-micro-service's HTTP load balancer.
fn file(world: &World, algorithm: &str, rules: Value) -> Value {
    json!({
        "loadbalance-info": {
            "path-prefix": BALANCERS, "server-mode": "zookeeper", "server-name": "http-nginx",
            "nodedata": { "host": "127.0.0.1", "port": 30_000, "user-name": "", "user-pwd": "", "server-uniquecode": "own-code" },
            "weight": 2, "conns": world.conns(),
        },
        "service-reg": {
            "path-prefix": SERVICES, "server-mode": "zookeeper_http", "normal-node-algorithm": algorithm, "conns": world.conns(),
        },
        "router-rule": { "rules": rules },
    })
}

fn rule(pattern: &str, service: &str, is_master: bool) -> Value {
    json!({ "rule": pattern, "server-name": service, "is-master": is_master })
}

async fn balancer(world: &World) -> Program {
    world.ms(&["lb", "http", "-c", "http-load-balance.cfg", "--listen", "127.0.0.1:0"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_in_zookeeper_are_found_as_they_come_and_go() {
    let world = World::new().await;
    let rules = json!([rule("^/lead", "shop", true), rule(".*", "shop", false)]);
    world.write("http-load-balance.cfg", &file(&world, "roundrobin", rules));
    // The bases need not be there.
    let front = balancer(&world).await;
    let address = front.address();
    assert_eq!(request("GET", address, "/page").await.unwrap().status, 503);

    let lone = world.server("lone").await;
    assert!(lone.said().starts_with("master "), "{}", lone.said());
    let answer = until(address, "/page?a=1&a=%202", |answer| answer.status == 200).await;
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body, json!({ "code": "lone", "line": "GET /page?a=1&a=%202 HTTP/1.1" }), "a lone master is found");

    let (two, _three) = (world.server("two").await, world.server("three").await);
    assert!(two.said().starts_with("normal "), "{}", two.said());
    let mut seen = BTreeSet::new();
    until(address, "/page", |answer| {
        // Until both have been seen, and the master no more in ten in a row.
        seen.insert(code(answer));
        seen.is_superset(&BTreeSet::from(["two".to_owned(), "three".to_owned()]))
    })
    .await;
    for _ in 0..10 {
        let code = code(&request("GET", address, "/page").await.unwrap());
        assert!(code == "two" || code == "three", "normals answer where there are some, not {code}");
        let leader = self::code(&request("GET", address, "/lead").await.unwrap());
        assert_eq!(leader, "lone", "the master alone answers where a rule asks for it");
    }

    lone.kill().await.unwrap();
    // Both others contend.
    until(address, "/lead", |answer| answer.status == 200 && code(answer) != "lone").await;
    for _ in 0..20 {
        assert_eq!(request("GET", address, "/page").await.unwrap().status, 200, "of a killed server no error is seen");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_balancer_is_listed_in_their_form_and_leaves_when_it_stops() {
    let world = World::new().await;
    world.write("http-load-balance.cfg", &file(&world, "leastconnect", json!([rule(".*", "shop", false)])));
    let front = balancer(&world).await;
    assert!(front.said().starts_with("load balancer is ready: HTTP on 127.0.0.1:"), "{}", front.said());
    let found = world.found(BALANCERS, "http-nginx").await;
    let own = json!({
        "serverip": "127.0.0.1", "serverport": 30_000, "username": "", "userpwd": "", "serveruniquecode": "own-code", "weight": 2,
    });
    assert_eq!(found, json!({ "master": null, "normals": [own] }));
    assert!(front.stop().await.unwrap().success());
    let found = world.found(BALANCERS, "http-nginx").await;
    assert_eq!(found, json!({ "master": null, "normals": [] }), "it left before it ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_missing_is_written_and_one_that_is_wrong_is_refused() {
    let world = World::new().await;
    let arguments = ["lb", "http", "-c", "new.cfg", "--listen", "127.0.0.1:0"];
    // Their defaults name ZooKeeper on its usual port, which need not be there.
    let started = Program::start(&world.directory, MS, &arguments).await;
    let written = std::fs::read_to_string(world.directory.path().join("new.cfg")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["loadbalance-info"]["nodedata"]["server-uniquecode"].as_str().unwrap().len(), 36);
    let told = match &started {
        Ok(front) => front.log(),
        Err(error) => error.to_string(),
    };
    assert!(told.contains("new.cfg was missing: it is written with defaults"), "{told}");

    let mut wrong = file(&world, "roundrobin", json!([rule(".*", "shop", false)]));
    wrong["service-reg"]["algorithm"] = json!("random");
    world.write("wrong.cfg", &wrong);
    let error = Program::start(&world.directory, MS, &["lb", "http", "-c", "wrong.cfg"]).await.unwrap_err();
    assert!(error.to_string().contains("wrong.cfg: service-reg.algorithm: unknown field"), "{error}");
    let open = ["lb", "http", "-c", "http.cfg", "--listen", "0.0.0.0:0"];
    world.write("http.cfg", &file(&world, "roundrobin", json!([rule(".*", "shop", false)])));
    let error = Program::start(&world.directory, MS, &open).await.unwrap_err();
    assert!(error.to_string().contains("can be reached by others"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_in_toml_balance_over_any_registry() {
    let world = World::new().await;
    let (one, two) = (world.server("one").await, world.server("two").await);
    let settings = format!(
        "listen = '127.0.0.1:0'\nregistry = 'static://127.0.0.1:{},127.0.0.1:{}'\n\
         [register]\nregistry = '{}/fronts'\nservice = 'front'\n\
         [[rule]]\nmatch = '^/page'\nservice = 'any'\nbalancer = 'weighted-round-robin'\n",
        one.address(),
        two.address(),
        world.zookeeper.url(),
    );
    std::fs::write(world.directory.path().join("lb.toml"), settings).unwrap();
    let front = world.ms(&["lb", "http", "--config", "lb.toml", "--token", "secret"]).await;
    assert_eq!(request("GET", front.address(), "/page").await.unwrap().status, 401);
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(code(&request("GET", front.address(), "/page?token=secret").await.unwrap()));
    }
    codes.sort();
    assert_eq!(codes, ["one", "one", "two", "two"]);
    assert_eq!(request("GET", front.address(), "/other?token=secret").await.unwrap().status, 404);
    let registry = ms_register::connect(&format!("{}/fronts", world.zookeeper.url())).await.unwrap();
    let listed = registry.list(&"front".parse().unwrap()).await.unwrap();
    assert_eq!(listed[0].address(), front.address(), "where it listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_node_is_served_at_the_address_that_it_lists() {
    let world = World::new().await;
    let registry = format!("{}/nodes", world.zookeeper.url());
    let mut node = QueueNode::new(MS, &["--registry", &registry]).unwrap();
    node.start().await.unwrap();
    let settings = format!(
        "listen = '127.0.0.1:0'\nregistry = '{registry}'\n\
         [[rule]]\nmatch = '^/ping$'\nservice = 'mq'\naddress-from = 'mq.http'\n\
         [[rule]]\nmatch = '.*'\nservice = 'mq'\naddress-from = 'mq.grpc'\n"
    );
    std::fs::write(world.directory.path().join("lb.toml"), settings).unwrap();
    let front = world.ms(&["lb", "http", "--config", "lb.toml"]).await;
    let answer = request("GET", front.address(), "/ping").await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "OK"));
    let answer = request("GET", front.address(), "/other").await.unwrap();
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.body.contains("lists no `mq.grpc`"), "{answer:?}");
    node.kill().await.unwrap();
    until(front.address(), "/ping", |answer| answer.status == 502 || answer.status == 503).await;
}
