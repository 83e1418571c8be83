use ms_tests::{Program, request, request_with};
use serde_json::{Value, json};

use crate::{BALANCERS, SERVICES, World};

async fn answer(method: &str, address: &str, path: &str, body: &str) -> Value {
    let answer = request_with(method, address, path, body).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// Body of `/server/init`, with what their own example leaves empty.
fn init(world: &World, service: Value) -> String {
    let balancers = json!({
        "path-prefix": BALANCERS, "server-mode": "zookeeper", "normal-node-algorithm": "roundrobin",
        "mqtt-loadbalance-servername": "http-nginx", "conns": world.conns(),
    });
    json!({ "dispersed-info": { "http-loadbalance-info": balancers, "service-info": service } }).to_string()
}

/// A program that only asks for load balancers: Go writes its zero values.
fn client(world: &World) -> String {
    let nothing = json!({
        "path-prefix": "", "server-mode": "", "server-name": "cgws", "server-version": "1.0", "server-uniquecode": "", "weight": 0,
        "host": "", "port": 0, "username": "", "userpwd": "", "service-discovery-conns": null,
    });
    init(world, nothing)
}

fn service(world: &World) -> String {
    let service = json!({
        "path-prefix": SERVICES, "server-mode": "zookeeper", "server-name": "ress", "server-version": "1.0",
        "server-uniquecode": "service-code", "weight": 3, "host": "localhost", "port": 20_100, "username": "", "userpwd": "",
        "service-discovery-conns": world.conns(),
    });
    init(world, service)
}

async fn sidecar(world: &World) -> Program {
    world.ms(&["lb", "sidecar", "--listen", "127.0.0.1:0"]).await
}

fn error(number: u16, text: &str) -> Value {
    json!({ "error": number, "error-string": text })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_registers_itself_and_finds_a_load_balancer_over_plain_http() {
    let world = World::new().await;
    let sidecar = sidecar(&world).await;
    let address = sidecar.address();
    let ok = error(0, "ok");

    assert_eq!(answer("POST", address, "/server/init", &service(&world)).await, ok);
    assert_eq!(answer("POST", address, "/service/register", "").await, ok);
    assert_eq!(answer("POST", address, "/service/register", "").await, ok, "again");
    let listed = json!({
        "serverip": "localhost", "serverport": 20_100, "username": "", "userpwd": "", "serveruniquecode": "service-code", "weight": 3,
    });
    let found = json!({ "master": null, "normals": [listed] });
    assert_eq!(world.found(SERVICES, "ress").await, found);

    // A client that begins at the same sidecar takes nothing away.
    assert_eq!(answer("POST", address, "/server/init", &client(&world)).await, ok);
    assert_eq!(world.found(SERVICES, "ress").await, found);
    let none = json!({ "host": "", "port": 0, "user-name": "", "user-pwd": "", "server-uniquecode": "" });
    let nobody = json!({ "load-balance-info": none, "error": 111, "error-string": "get loadbalance error" });
    assert_eq!(answer("GET", address, "/connect/loadbalance", "").await, nobody);

    let balancer = world.peer("http", BALANCERS, &["http-nginx", "balancer-code", "1"]).await;
    let port: u16 = balancer.address().parse().unwrap();
    let named = json!({ "host": "127.0.0.1", "port": port, "user-name": "", "user-pwd": "", "server-uniquecode": "balancer-code" });
    let named = json!({ "load-balance-info": named, "error": 0, "error-string": "ok" });
    crate::until(address, "/connect/loadbalance", |answer| {
        serde_json::from_str::<Value>(&answer.body).unwrap()["error"] == 0
    })
    .await;
    assert_eq!(answer("GET", address, "/connect/loadbalance", "").await, named);

    assert!(sidecar.stop().await.unwrap().success());
    assert_eq!(world.found(SERVICES, "ress").await, json!({ "master": null, "normals": [] }), "it left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_their_numbers() {
    let world = World::new().await;
    let sidecar = sidecar(&world).await;
    let address = sidecar.address();
    let none = json!({ "host": "", "port": 0, "user-name": "", "user-pwd": "", "server-uniquecode": "" });
    let unnamed = |number: u16, text: &str| json!({ "load-balance-info": none, "error": number, "error-string": text });

    assert_eq!(answer("GET", address, "/connect/loadbalance", "").await, unnamed(110, "please send start first"));
    assert_eq!(answer("POST", address, "/service/register", "").await, error(120, "please send start first"));
    for bad in ["", "{", "[]", "{\"dispersed-info\": 1}", &client(&world).replace("roundrobin", "fastest")] {
        let refused = answer("POST", address, "/server/init", bad).await;
        assert_eq!(refused, error(101, "decode start request error"), "{bad}");
    }
    assert_eq!(answer("GET", address, "/connect/loadbalance", "").await["error"], 110, "a bad request begins nothing");
    assert_eq!(answer("GET", address, "/server/init", "").await, error(102, "method not allow"));
    assert_eq!(answer("POST", address, "/connect/loadbalance", "").await, unnamed(112, "method not allow"));
    assert_eq!(answer("GET", address, "/service/register", "").await, error(122, "method not allow"));
    assert_eq!(answer("POST", address, "/server/init", &client(&world)).await, error(0, "ok"));
    assert_eq!(answer("POST", address, "/service/register", "").await, error(121, "register service error"));
    assert_eq!(request("GET", address, "/other").await.unwrap().status, 404);
    let written = std::fs::read_to_string(sidecar.folder().join("http-loadbalance-client.cfg")).unwrap();
    assert!(written.contains("\"StartRule\": {\n\t\t\"url\": \"/server/init\""), "{written}");
}
