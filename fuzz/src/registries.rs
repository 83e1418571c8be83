//! What users write to name a registry, and what others write into it.

use ms_register::{
    Instance, ServiceName,
    internals::{
        read_etcd, read_gregister, read_gregister_lead, read_gregister_place, read_nacos, read_zookeeper, shown_url,
        write_etcd, write_gregister, write_nacos, write_zookeeper,
    },
};

use crate::{memory::bounded, source::Source};

/// No message may show it.
const SECRET: &str = "Xk7vQ2";

/// A registry's URL: what messages show of it is a URL of the same registry, and holds no password.
pub fn registry_url(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(shown) = bounded(input, || shown_url(&text)) {
        assert_eq!(shown_url(&shown).ok(), Some(shown));
    }
    if !text.contains(SECRET) {
        let joint = if text.contains('?') { '&' } else { '?' };
        hides_the_secret(&format!("{text}{joint}password={SECRET}"));
        hides_the_secret(&format!("etcd://user:{SECRET}@{text}"));
    }
}

fn hides_the_secret(url: &str) {
    let said = match shown_url(url) {
        Ok(shown) => shown,
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!said.contains(SECRET), "{url}: {said}");
}

const DIRECTORY: &str = "ms-rpc/goods/";

/// A key in etcd and its value.
pub fn etcd_value(input: &[u8]) {
    let mut source = Source::new(input);
    let key = [DIRECTORY.as_bytes(), source.short()].concat();
    let read = |value: &[u8]| read_etcd(DIRECTORY, &key, value);
    if let Ok(Some(instance)) = bounded(input, || read(source.rest())) {
        assert_eq!(read(&write_etcd(&instance)), Ok(Some(instance.clone())));
        can_be_dialled(&instance);
    }
}

/// What a gregister node answers. What is sent to it is what it answers for an instance, but for the id.
pub fn gregister_answer(input: &[u8]) {
    let _ = bounded(input, || read_gregister_place(input));
    if let Ok(Some(master)) = bounded(input, || read_gregister_lead(input)) {
        can_be_dialled(&master.instance);
    }
    let Ok(instances) = bounded(input, || read_gregister(input)) else { return };
    for instance in instances {
        let written = String::from_utf8(write_gregister(&instance)).expect("JSON is text");
        let fields = written.strip_prefix('{').expect("an object");
        let answer =
            format!("{{\"store\":\"0a\",\"revision\":1,\"instances\":[{{\"id\":\"{}\",{fields}]}}", instance.id());
        assert_eq!(read_gregister(answer.as_bytes()), Ok(vec![instance.clone()]));
        can_be_dialled(&instance);
    }
}

/// The log of a gregister node, without its checksums: what a node writes in its place means the same.
pub fn gregister_log(input: &[u8]) {
    let rewritten =
        |log: &[u8]| ms_gregister::internals::rewritten(&log.split(|byte| *byte == b'\n').collect::<Vec<_>>());
    if let Some(log) = bounded(input, || rewritten(input)) {
        let log = log.strip_suffix(b"\n").expect("a log has a line");
        assert_eq!(rewritten(log).as_deref().and_then(|again| again.strip_suffix(b"\n")), Some(log));
    }
}

/// An instance as Nacos tells it.
pub fn nacos_value(input: &[u8]) {
    if let Ok(Some(instance)) = bounded(input, || read_nacos(input)) {
        let written = write_nacos(&instance).expect("what was read can be written");
        assert_eq!(read_nacos(&written), Ok(Some(instance)));
    }
}

/// The name of a node in ZooKeeper and its data, in one of the forms that it can have.
pub fn zookeeper_value(input: &[u8]) {
    let mut source = Source::new(input);
    let form = source.byte().into();
    let name = String::from_utf8_lossy(source.short()).into_owned();
    let read = |data: &[u8]| read_zookeeper(form, &name, data);
    let Ok(Some(instance)) = bounded(input, || read(source.rest())) else { return };
    can_be_dialled(&instance);
    let service = ServiceName::new("goods").expect("it is a name");
    // One form has no room for what another writer may have said.
    if let Ok(written) = write_zookeeper(form, &service, &instance) {
        assert_eq!(read(&written), Ok(Some(instance)));
    }
}

fn can_be_dialled(instance: &Instance) {
    let again = Instance::from_address(&instance.address()).expect("it came from an address");
    assert_eq!((again.host(), again.port()), (instance.host(), instance.port()));
}

pub(crate) mod seeds {
    fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    pub(crate) fn registry_url() -> Vec<Vec<u8>> {
        texts(&[
            "etcd://a:1,[::1]:2/team/rpc/?ttl=2.5&timeout=1&username=u&password=p%26q",
            "nacos://a:8848,b:8848?namespace=dev&group=shop&cluster=c1&timeout=1",
            "zookeeper://a:1,[::1]:2/services?session=5&timeout=1&layout=curator&payload=map&username=u&password=p",
            "gregister://[::1]:9595?ttl=30&timeout=1&token=t",
            "static://127.0.0.1:1,goods.local:2",
            "static://?goods=127.0.0.1:1,[::1]:2&users=h:3&password=h:4",
            "etcd://u:p@a:1",
            "127.0.0.1:2379",
        ])
    }

    pub(crate) fn etcd_value() -> Vec<Vec<u8>> {
        texts(&[
            "\x01a{\"Op\":0,\"Addr\":\"10.0.0.1:80\",\"Metadata\":{\"weight\":2.5,\"zone\":\"b\"}}",
            "\x01a{\"Op\":0,\"Addr\":\"[::1]:80\",\"Metadata\":{\"weight\":\"0\",\"n\":1,\"b\":true,\"deep\":{\"x\":[1]}}}",
            "\x01a{\"Addr\":\"h:1\",\"Metadata\":null}",
            "\x03a/b{\"Op\":1}",
        ])
    }

    pub(crate) fn gregister_answer() -> Vec<Vec<u8>> {
        texts(&[
            "{\"store\":\"00000000000000ab\",\"revision\":7,\"instances\":[{\"id\":\"10.0.0.1:80\",\"host\":\"10.0.0.1\",\
             \"port\":80,\"weight\":2.5,\"metadata\":{\"zone\":\"b\"}},{\"id\":\"a\",\"host\":\"::1\",\"port\":81,\"weight\":0.0}]}",
            "{\"store\":\"0\",\"revision\":0,\"instances\":[]}",
            "{\"store\":\"0\",\"revision\":7,\"elects\":true,\"waiting\":1,\"master\":{\"token\":9,\"candidate\":\"c\",\
             \"id\":\"a\",\"host\":\"::1\",\"port\":81,\"weight\":2.5,\"metadata\":{\"zone\":\"b\"}}}",
            "{\"store\":\"0\",\"revision\":7,\"elects\":true,\"ttl\":10.0,\"token\":9}",
        ])
    }

    pub(crate) fn gregister_log() -> Vec<Vec<u8>> {
        let record = "{\"id\":\"a\",\"host\":\"h\",\"port\":1,\"weight\":2.5,\"metadata\":{\"zone\":\"b\"}}";
        let seat = "\"service\":\"goods\",\"candidate\":\"c\"";
        let node = "{\"id\":2,\"http_addr\":\"\",\"tcp_addr\":\"h:1\",\"since\":7,\"weight\":1}";
        let begin = "{\"do\":\"store\",\"store\":77,\"revision\":3}\n";
        vec![
            format!(
                "{begin}{{\"do\":\"put\",\"revision\":4,\"service\":\"goods\",\"record\":{record},\"lease\":\"l\",\
                 \"ttl_ms\":10000,\"since\":7}}\n{{\"do\":\"join\",\"revision\":5,\"node\":{node}}}\n\
                 {{\"do\":\"remove\",\"revision\":6,\"service\":\"goods\",\"id\":\"a\"}}\n{{\"do\":\"leave\",\"revision\":7,\"id\":2}}"
            ),
            format!(
                "{begin}{{\"do\":\"terms\",\"token\":8}}\n{{\"do\":\"open\",\"revision\":4}}\n\
                 {{\"do\":\"stand\",\"revision\":5,{seat},\"record\":{record},\"ttl_ms\":3000}}\n\
                 {{\"do\":\"lead\",\"revision\":6,{seat},\"token\":9}}\n{{\"do\":\"withdraw\",\"revision\":7,{seat}}}"
            ),
        ]
        .into_iter()
        .map(String::into_bytes)
        .collect()
    }

    pub(crate) fn nacos_value() -> Vec<Vec<u8>> {
        texts(&[
            "{\"ip\":\"10.0.0.1\",\"port\":80,\"weight\":1.5,\"healthy\":true,\"enabled\":true,\"ephemeral\":true,\
             \"clusterName\":\"DEFAULT\",\"serviceName\":\"goods\",\"metadata\":{\"ms.id\":\"a\",\"zone\":\"b\"}}",
            "{\"instanceId\":null,\"ip\":\"::1\",\"port\":70000,\"weight\":0,\"healthy\":false,\"enabled\":true,\
             \"ephemeral\":true,\"metadata\":{}}",
        ])
    }

    pub(crate) fn zookeeper_value() -> Vec<Vec<u8>> {
        texts(&[
            "\x00\x0b10.0.0.1:80{\"name\":\"goods\",\"id\":\"a\",\"address\":\"10.0.0.1\",\"port\":80,\"sslPort\":null,\
             \"payload\":{\"@class\":\"a.B\",\"id\":\"a\",\"name\":\"goods\",\"metadata\":{\"weight\":\"2.5\",\"zone\":\"b\"}},\
             \"registrationTimeUTC\":1,\"serviceType\":\"DYNAMIC\",\"uriSpec\":null,\"enabled\":true}",
            "\x01\x01a{\"address\":\"::1\",\"port\":80,\"payload\":{\"weight\":2,\"zone\":\"b\",\"n\":1,\"deep\":{\"x\":[1]}}}",
            "\x02\x10normal0000000001{\"serverip\":\"127.0.0.1\",\"serverport\":50000,\"username\":\"\",\
             \"userpwd\":\"\",\"serveruniquecode\":\"uc\",\"weight\":1}",
            "\x02\x06master{}",
        ])
    }
}
