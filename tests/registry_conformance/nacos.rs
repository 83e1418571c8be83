//! Nacos, and what only Nacos can suffer.

use std::{sync::Arc, time::Duration};

use ms_register::{Instance, MsRegister, RegisterError, ServiceName};
use ms_tests::{Data, Server, request};
use serde_json::{Value, json};

use ms_register_conformance::{Fixture, Untidy, ids, service, within};

pub(crate) struct NacosFixture(Server);

impl NacosFixture {
    /// Calls Nacos's own HTTP interface.
    async fn http(&self, method: &str, path: &str, parameters: &[(&str, &str)]) -> String {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let target = format!("/nacos/v1/ns/{path}?{query}");
        let answer = request(method, &self.0.address(), &target).await.unwrap();
        assert_eq!(answer.status, 200, "{method} {target}: {}", answer.body);
        answer.body
    }
}

impl Fixture for NacosFixture {
    /// A change is pushed after about a second; one whose push is lost is read after five.
    const SETTLES: Duration = Duration::from_secs(8);
    const RECOVERS: Duration = Duration::from_secs(20);
    /// The next read, and its timeout.
    const NOTICES: Duration = Duration::from_secs(12);

    async fn start() -> Self {
        Self(Server::nacos().await.unwrap())
    }

    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError> {
        ms_register::connect(&self.0.url()).await
    }

    async fn write(&self, service: &ServiceName, instance: &Instance) {
        let (port, weight) = (instance.port().to_string(), instance.weight().to_string());
        let metadata = json!(instance.metadata()).to_string();
        let parameters =
            [("serviceName", service.as_str()), ("ip", instance.host()), ("port", &port), ("weight", &weight)];
        self.http("POST", "instance", &[&parameters[..], &[("metadata", &metadata)]].concat()).await;
    }

    async fn remove(&self, service: &ServiceName, instance: &Instance) {
        let port = instance.port().to_string();
        let parameters = [("serviceName", service.as_str()), ("ip", instance.host()), ("port", &port)];
        self.http("DELETE", "instance", &parameters).await;
    }

    async fn down(&mut self) {
        self.0.kill();
    }

    async fn up(&mut self) {
        self.0.start(Data::Kept).await.unwrap();
    }

    async fn up_without_data(&mut self) {
        self.0.start(Data::Wiped).await.unwrap();
    }
}

impl Untidy for NacosFixture {
    async fn write_garbage(&self, service: &ServiceName) {
        self.http("POST", "instance", &[("serviceName", service.as_str()), ("ip", "10.0.0.9"), ("port", "70000")])
            .await;
    }
}

#[tokio::test]
async fn the_stored_form_is_an_instance_of_nacos() {
    let nacos = NacosFixture::start().await;
    let url = format!("{}?namespace=dev&group=shop&cluster=c1", nacos.0.url());
    let registry = ms_register::connect(&url).await.unwrap();
    assert_eq!(registry.scope(), Some("nacos/dev/shop"));
    let instance = Instance::new("10.0.0.1", 80).with_id("goods-1").with_weight(2.5).with_metadata("zone", "b");
    let registration = registry.register(&service("goods"), instance).await.unwrap();
    let list = [("serviceName", "goods"), ("namespaceId", "dev"), ("groupName", "shop")];
    let found: Value = serde_json::from_str(&nacos.http("GET", "instance/list", &list).await).unwrap();
    let host = &found["hosts"][0];
    assert_eq!((&host["ip"], &host["port"], &host["weight"]), (&json!("10.0.0.1"), &json!(80), &json!(2.5)));
    assert_eq!((&host["clusterName"], &host["ephemeral"]), (&json!("c1"), &json!(true)));
    assert_eq!(host["metadata"], json!({"zone": "b", "ms.id": "goods-1"}));

    assert!(nacos.connect().await.unwrap().list(&service("goods")).await.unwrap().is_empty(), "other namespaces");
    registration.deregister(Duration::from_secs(3)).await.unwrap();
    let found: Value = serde_json::from_str(&nacos.http("GET", "instance/list", &list).await).unwrap();
    assert_eq!(found["hosts"], json!([]));
}

#[tokio::test]
async fn what_is_out_of_service_is_not_listed() {
    let nacos = NacosFixture::start().await;
    let registry = nacos.connect().await.unwrap();
    let (goods, up) = (service("goods"), Instance::new("10.0.0.1", 80));
    nacos.write(&goods, &up).await;
    let disabled = [("serviceName", "goods"), ("ip", "10.0.0.2"), ("port", "80"), ("enabled", "false")];
    nacos.http("POST", "instance", &disabled).await;
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn an_instance_removed_by_hand_is_written_again() {
    let nacos = NacosFixture::start().await;
    let registry = nacos.connect().await.unwrap();
    let (goods, instance) = (service("goods"), Instance::new("10.0.0.1", 80));
    let registration = registry.register(&goods, instance.clone()).await.unwrap();
    nacos.remove(&goods, &instance).await;
    let mut watch = registry.watch(&goods);
    let listed = watch.wait_for(|s| s.instances().len() == 1);
    within(NacosFixture::RECOVERS, "the instance", listed).await.unwrap();
    registration.deregister(Duration::from_secs(3)).await.unwrap();
}

#[tokio::test]
async fn a_registration_given_up_during_a_pause_leaves_nothing_behind() {
    let nacos = NacosFixture::start().await;
    let url = format!("{}?timeout=0.5", nacos.0.url());
    let registry = ms_register::connect(&url).await.unwrap();
    let goods = service("goods");
    nacos.0.freeze().unwrap();
    let late = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap_err();
    assert!(matches!(late, RegisterError::Timeout { .. }), "{late}");
    let error = registry.list(&goods).await.unwrap_err();
    assert!(matches!(error, RegisterError::Timeout { .. }), "{error}");
    let refused = ms_register::connect(&url).await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains(registry.url()), "{refused}");
    nacos.0.thaw().unwrap();
    // It waits for the write that came too late, and for its end.
    registry.close(NacosFixture::RECOVERS).await.unwrap();
    let other = nacos.connect().await.unwrap();
    assert!(other.list(&goods).await.unwrap().is_empty());
}
