//! Files of go-micro-service's programs, verbatim.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use ms_lb::{
    Choice, KeySource,
    original::{Found, HttpFile, MqttFile, SidecarFile, read_or_write},
};
use ms_rpc::Balancer;

fn sample(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name)).unwrap()
}

/// Reads this text as a file of the HTTP load balancer.
fn read(text: &str) -> Result<HttpFile, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http-load-balance.cfg");
    fs::write(&path, text).unwrap();
    let found = read_or_write(&path, HttpFile::defaults).map_err(|error| {
        let text = error.to_string();
        assert!(text.contains("http-load-balance.cfg: "), "the error names the file: {text}");
        text
    })?;
    Ok(found.content())
}

#[test]
fn a_file_is_read_verbatim() {
    let file = read(&sample("http-load-balance.cfg")).unwrap();
    assert_eq!(
        file.loadbalance_info.url("loadbalance-info").unwrap(),
        "zookeeper://localhost:2182/micro-service?layout=master-normal"
    );
    let own = file.loadbalance_info.instance("loadbalance-info").unwrap();
    assert_eq!((own.id(), own.address().as_str(), own.weight()), ("3f1c2a64-own-code", "localhost:30000", 1.0));
    assert_eq!(
        file.services_url().unwrap(),
        "zookeeper://zk-1:2181,[::1]:2182/shop/services?layout=master-normal",
        "all servers of ZooKeeper"
    );
    let rules = file.rules().unwrap();
    let choices: Vec<_> = rules.iter().map(|rule| (rule.service.as_str(), &rule.choice)).collect();
    let balanced = Choice::Balanced(Balancer::IpHash.into(), KeySource::Client);
    assert_eq!(choices, [("users", &Choice::Master), ("shop", &balanced)]);
    assert!(rules[0].matches("/app/login?next=/") && !rules[0].matches("/logout"));
}

#[test]
fn each_algorithm_has_its_balancer() {
    for (name, balancer, key) in [
        ("roundrobin", Balancer::RoundRobin, KeySource::None),
        ("weightroundrobin", Balancer::WeightedRoundRobin, KeySource::None),
        ("random", Balancer::Random, KeySource::None),
        ("weightrandom", Balancer::WeightedRandom, KeySource::None),
        ("iphash", Balancer::IpHash, KeySource::Client),
        ("urlhash", Balancer::KeyHash, KeySource::Url),
        ("urhlash", Balancer::KeyHash, KeySource::Url),
        ("leastconnect", Balancer::LeastConnections, KeySource::None),
    ] {
        let file = read(&sample("http-load-balance.cfg").replace("iphash", name)).unwrap();
        assert_eq!(file.rules().unwrap()[1].choice, Choice::Balanced(balancer.into(), key), "{name}");
    }
}

#[test]
fn what_cannot_work_is_an_error_that_names_the_key() {
    for (from, to, reason) in [
        ("\"weight\": 1", "\"wieght\": 1", "loadbalance-info.wieght: unknown field `wieght`"),
        (
            "\"is-master\": true",
            "\"is-master\": \"yes\"",
            "router-rule.rules[0].is-master: invalid type: string \"yes\"",
        ),
        ("\"port\": 30000", "\"port\": 300000", "loadbalance-info.nodedata.port: invalid value"),
        ("\"server-port\": 2182", "\"server-port\": -1", "conns[0].server-port: invalid value"),
        ("iphash", "fastest", "service-reg.normal-node-algorithm: \"fastest\" is none of roundrobin, "),
        ("zookeeper_http", "etcd", "service-reg.server-mode: \"etcd\" is none of zookeeper, "),
        ("\"server-name\": \"shop\"", "\"name\": \"shop\"", "router-rule.rules[1].name: unknown field"),
        ("\"router-rule\"", "\"rules\"", "unknown field `rules`"),
    ] {
        let text = sample("http-load-balance.cfg");
        assert!(text.contains(from), "{from}");
        let error = read(&text.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    assert!(read("{").unwrap_err().contains("EOF"), "text that ends early");
    assert!(read(&(sample("http-load-balance.cfg") + "x")).unwrap_err().contains("trailing"));
    for (from, to, reason) in [
        ("/login", "/login(", "router-rule.rules[0]: the pattern \"/login(\" is no regular expression"),
        ("\"shop\"", "\"shop/1\"", "router-rule.rules[1]: "),
    ] {
        let error = read(&sample("http-load-balance.cfg").replacen(from, to, 1)).unwrap().rules().unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    for (from, to, reason) in [
        ("shop/services", "", "service-reg.path-prefix: \"\" is no path"),
        ("zk-1", "zk 1", "service-reg.conns[0]: \"zk 1\" and 2181 are no address"),
    ] {
        let error = read(&sample("http-load-balance.cfg").replacen(from, to, 1)).unwrap().services_url().unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_missing_file_is_written_with_a_new_code_and_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http-load-balance.cfg");
    let Found::Written(written) = read_or_write(&path, HttpFile::defaults).unwrap() else { panic!("it was missing") };
    let code = written.loadbalance_info.nodedata.server_uniquecode.clone();
    assert_eq!(code.len(), 36, "{code}");
    assert_ne!(HttpFile::defaults().loadbalance_info.nodedata.server_uniquecode, code);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\n\t\"loadbalance-info\": {\n\t\t\"path-prefix\": \"micro-service\","), "{text}");
    assert_eq!(read_or_write(&path, HttpFile::defaults).unwrap(), Found::Read(written));

    let path = directory.path().join("mqtt-load-balance.cfg");
    let Found::Written(written) = read_or_write(&path, MqttFile::defaults).unwrap() else { panic!("it was missing") };
    assert_eq!(read_or_write(&path, MqttFile::defaults).unwrap(), Found::Read(written));
    let path = directory.path().join("no-folder/client.cfg");
    let error = read_or_write(&path, SidecarFile::defaults).unwrap_err().to_string();
    assert!(error.contains("no-folder/client.cfg: No such file"), "{error}");
}

#[test]
fn the_files_of_the_other_programs_are_read_verbatim() {
    let file: MqttFile = serde_json::from_str(&sample("mqtt-load-balance.cfg")).unwrap();
    assert_eq!(file.broker_reg.nodedata.server_uniquecode, "67f3-own-code");
    assert_eq!((file.recvbroker_info.nets[0].host.as_str(), file.recvbroker_info.nets[0].port), ("localhost", 51883));
    assert_eq!(file.services_url().unwrap(), "zookeeper://localhost:2182/taobao-service?layout=master-normal-broker");
    assert!(file.rules().unwrap()[0].matches("1.0/cfgs/x/"));
    let file: SidecarFile = serde_json::from_str(&sample("http-loadbalance-client.cfg")).unwrap();
    assert_eq!(file, SidecarFile::defaults());
    file.check().unwrap();
    let twice = sample("http-loadbalance-client.cfg").replace("/service/register", "/server/init");
    let error = serde_json::from_str::<SidecarFile>(&twice).unwrap().check().unwrap_err().to_string();
    assert!(error.contains("register-service-proto.url: /server/init is taken"), "{error}");
}
