//! `ms gregister --backend ..`: every registry is shown in the old form, and stays as it is.

use std::{process::Stdio, time::Duration};

use ms_register::Instance;
use ms_tests::request_with;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use ms_register_conformance::{Fixture, service, within};

/// Dropping it kills the process.
struct Mirror {
    _process: Child,
    address: String,
}

impl Mirror {
    async fn of(url: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ms-in-tests"));
        command.args(["gregister", "--http", "127.0.0.1:0", "--service", "goods", "--backend", url]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).await.unwrap();
        let address = said.trim().strip_prefix(&format!("gregister shows {url} is ready: HTTP on ")).unwrap();
        Self { _process: process, address: address.to_owned() }
    }

    async fn ask(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        let answer = request_with(method, &self.address, target, body).await.unwrap();
        (answer.status, answer.body)
    }

    async fn nodes(&self) -> String {
        let (status, body) = self.ask("GET", "/getNodes", "").await;
        assert_eq!(status, 200, "{body}");
        body
    }
}

async fn it_is_shown_in_the_old_form_read_only<F: Fixture>(mut fixture: F) {
    let registry = fixture.connect().await.unwrap();
    let goods = service("goods");
    let light = Instance::new("10.0.0.1", 80).with_weight(0.25);
    let queue = Instance::new("10.0.0.2", 80).with_weight(3.0);
    let queue = queue.with_metadata("mq.node", "1").with_metadata("mq.http", "10.0.0.2:81");
    fixture.write(&goods, &light).await;
    fixture.write(&service("orders"), &Instance::new("10.0.0.3", 80)).await;
    let mirror = Mirror::of(registry.url()).await;
    let node = |id: u8, http: &str, tcp: &str, weight: u8| {
        format!(
            r#"{{"id":{id},"http_addr":"{http}","http_tls":false,"tcp_addr":"{tcp}","tcp_tls":false,"join_time":"","weight":{weight}}}"#
        )
    };
    let shown = |nodes: &[String]| format!(r#"{{"code":0,"data":{{"nodes":[{}]}},"msg":"success"}}"#, nodes.join(","));
    assert_eq!(mirror.nodes().await, shown(&[node(1, "", "10.0.0.1:80", 1)]));
    // Whoever has a number keeps it.
    fixture.write(&goods, &queue).await;
    let both = shown(&[node(1, "10.0.0.2:81", "10.0.0.2:80", 3), node(2, "", "10.0.0.1:80", 1)]);
    assert_eq!(mirror.nodes().await, both);

    let before = registry.list(&goods).await.unwrap();
    for (method, target) in [
        ("GET", "/register?node_id=3&weight=1&tcp_addr=127.0.0.1:80"),
        ("GET", "/unregister?tcp_addr=10.0.0.1:80"),
        ("POST", "/editWeight?tcp_addr=10.0.0.1:80&weight=9"),
    ] {
        let reason = format!("this shows `goods` in {}, read-only", registry.url());
        let refused = format!(r#"{{"code":1,"data":null,"msg":"{reason}"}}"#);
        assert_eq!(mirror.ask(method, target, "").await, (200, refused), "{target}");
    }
    for (method, target, body) in [
        ("PUT", "/v1/services/goods/a", r#"{"host":"10.0.0.9","port":80}"#),
        ("POST", "/v1/services/goods/10.0.0.1:80/renew", ""),
        ("DELETE", "/v1/services/goods/10.0.0.1:80", ""),
        ("GET", "/v1/services/goods", ""),
    ] {
        let (status, said) = mirror.ask(method, target, body).await;
        assert!(status == 405 && said.contains("read-only") && said.contains("/getNodes"), "{target}: {status} {said}");
    }
    assert_eq!(registry.list(&goods).await.unwrap(), before);
    // A client that takes it for a registry is told so.
    let client = ms_register::connect(&format!("gregister://{}", mirror.address)).await.unwrap_err();
    assert!(client.to_string().contains("read-only"), "{client}");

    fixture.down().await;
    let failed = mirror.nodes().await;
    assert!(failed.starts_with(r#"{"code":1,"data":null,"msg":""#) && failed.contains(registry.url()), "{failed}");
    fixture.up().await;
    within(F::RECOVERS, "the list", async { while mirror.nodes().await.contains(r#""code":1"#) {} }).await;
    // A lease may end in between, for one of the two at first.
    let fresh = Mirror::of(registry.url()).await;
    let same = async { while fresh.nodes().await != mirror.nodes().await {} };
    within(F::RECOVERS, "the same list from both", same).await;
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ms-in-tests"));
    command.args(["gregister", "--http", "127.0.0.1:0", "--backend", "etcd://127.0.0.1:1?timeout=0.5"]);
    let output = within(Duration::from_secs(10), "the end", command.output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("backend: ") && said.contains("etcd://127.0.0.1:1"), "{said}");
}

macro_rules! shown {
    ($test:ident, $fixture:ty) => {
        #[tokio::test]
        async fn $test() {
            it_is_shown_in_the_old_form_read_only(<$fixture as Fixture>::start().await).await;
        }
    };
}

shown!(etcd_in_gregister, crate::etcd::EtcdFixture);
shown!(gregister_in_gregister, crate::gregister::GregisterFixture);
shown!(nacos_in_gregister, crate::nacos::NacosFixture);
shown!(zookeeper_in_gregister, crate::zookeeper::ZookeeperFixture);
