use super::*;

fn words(line: &str) -> Vec<String> {
    line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A file with this text, and the option that names it.
fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let option = format!("-config_file={}", file.path().display());
    (file, option)
}

const SAMPLE: &str = "[node]
id = 7              # of 1 to 1023
weight = 3
msgTTR = 45
msgMaxRetry = 9
dataSavePath = data/seven
reportTcpaddr = node:9503
[http_server]
addr = 127.0.0.1:9604
certFile = server.pem
keyFile = server.key
enableTls = false
[tcp_server]
addr = :9603
weight = 1
enableTls = false
[log]
target_type = file,console
filename = gnode.log
level = 3
max_size = 50000000
rotate = true
[gregister]
addr = http://127.0.0.1:9695
";

#[test]
fn defaults_are_gmqs() {
    let expected = "mq-node --http=127.0.0.1:9504 --gmq-tcp=127.0.0.1:9503 --rpc=127.0.0.1:0 \
        --gmq-register=http://127.0.0.1:9595 --node-id=1 --weight=1 --new-topic-ttr=30s --new-topic-retries=5 \
        --new-topic-mode=fuzzy --data=data/gnode";
    assert_eq!(gnode(&[]).unwrap(), Translated { arguments: words(expected), log: Log::default() });
    let line = r#"-http_addr=127.0.0.1:9504 --tcp_addr 127.0.0.1:9503 -register_addr=http://127.0.0.1:9595 -node_id=1"#;
    assert_eq!(gnode(&words(line)).unwrap().arguments, words(expected));
    let gregistered = gregister(&words("-http_addr=127.0.0.1:9595")).unwrap();
    assert_eq!(gregistered.arguments, words("gregister --http=127.0.0.1:9595 --data=gregister-data"));
}

#[test]
fn a_file_gives_values_and_options_override_them() {
    let (_file, option) = file(SAMPLE);
    let translated = gnode(&[option.clone(), "-node_id=8".to_owned(), "-msg_ttr=0".to_owned()]).unwrap();
    let expected = "mq-node --http=127.0.0.1:9604 --gmq-tcp=0.0.0.0:9603 --rpc=127.0.0.1:0 \
        --gmq-register=http://127.0.0.1:9695 --gmq-report-tcp=node:9503 --node-id=8 --weight=3 --new-topic-ttr=30s \
        --new-topic-retries=9 --new-topic-mode=fuzzy --data=data/seven";
    assert_eq!(translated.arguments, words(expected));
    let log = LogFile { path: PathBuf::from("data/seven/gnode.log"), most: Some(50_000_000) };
    assert_eq!(translated.log, Log { level: Some("debug"), to_console: true, file: Some(log) });
    let etcd = gnode(&words("-etcd_endpoints=http://127.0.0.1:2379,h:2379 -insecure")).unwrap().arguments;
    assert!(etcd.contains(&"--gmq-etcd=etcd://127.0.0.1:2379,h:2379".to_owned()), "{etcd:?}");
    assert_eq!(etcd.last().map(String::as_str), Some("--insecure"));
}

#[test]
fn a_bad_value_is_named_by_its_key() {
    for (line, error) in [
        ("-node_id=x", "node_id: \"x\" is no number from 1 to 1023"),
        ("-node_id=2000", "node_id: \"2000\" is no number from 1 to 1023"),
        ("-msg_ttr=61", "msg_ttr: \"61\" is no number from 1 to 60"),
        ("-log_level=5", "log_level: \"5\" is no number from 0 to 4"),
        ("-config_file=/none", "config_file: /none: No such file"),
        ("-node=1", "there is no option `-node`"),
    ] {
        let found = gnode(&words(line)).unwrap_err();
        assert!(found.starts_with(error), "{found}");
    }
    for (text, error) in [
        ("[node]\nid = one", "node.id: \"one\" is no number from 1 to 1023"),
        ("[node]\nmsgTTR = 90", "node.msgTTR: \"90\" is no number from 1 to 60"),
        ("[log]\nlevel = 9", "log.level: \"9\" is no number from 0 to 4"),
        ("[log]\ntarget_type = syslog", "log.target_type: \"syslog\" is neither console nor file"),
        ("[log]\ntarget_type = file\nrotate = maybe", "log.rotate: \"maybe\" is neither true nor false"),
        ("[http_server]\nenableTls = true", "http_server.certFile: http_server.enableTls needs it"),
        (
            "[tcp_server]\nenableTls = 1\ncertFile = a\nkeyFile = b",
            "http_server.enableTls: the doors of a node have one",
        ),
        ("[nodes]\nid = 1", "there is no key nodes.id"),
        ("id 1", "line 1: `id 1` is neither"),
    ] {
        let (_file, option) = file(text);
        let found = gnode(&[option]).unwrap_err();
        assert!(found.contains(error), "{text}: {found}");
    }
}

#[test]
fn tls_of_both_doors_is_that_of_the_node() {
    let (_file, option) =
        file(&SAMPLE.replace("enableTls = false", "certFile = server.pem\nkeyFile = server.key\nenableTls = true"));
    let arguments = gnode(std::slice::from_ref(&option)).unwrap().arguments;
    assert!(arguments.ends_with(&words("--cert=server.pem --key=server.key")), "{arguments:?}");
    let arguments = gregister(&[option]).unwrap().arguments;
    assert!(arguments.ends_with(&words("--cert=server.pem --key=server.key")), "{arguments:?}");
}

#[test]
fn the_forms_of_gregister_are_told_apart() {
    for line in ["-http_addr=h:1", "--config_file conf.ini", "--config_file=conf.ini"] {
        assert!(is_gregister(&words(line)), "{line}");
    }
    for line in ["", "--http 127.0.0.1:1 --data x", "--config conf.toml", "--help"] {
        assert!(!is_gregister(&words(line)), "{line}");
    }
}
