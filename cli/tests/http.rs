//! Who may ask the nodes over HTTP, and how many at a time.
#![allow(clippy::unwrap_used)]

mod running;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use running::Running;

/// A node of each kind, with such a limit of open files.
fn start(kind: &str, directory: &str, limit: &str) -> Running {
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"ulimit {limit}; exec "$0" "$@""#), env!("CARGO_BIN_EXE_ms"), kind]);
    if kind == "mq-node" {
        command.args(["--rpc", "127.0.0.1:0"]);
    }
    Running::run(command.args(["--http", "127.0.0.1:0", "--data", directory]))
}

const KINDS: [(&str, &str); 2] = [("gregister", "/getNodes"), ("mq-node", "/getAllTopicStat")];

/// The status. It must come before connections without requests are closed.
fn ask(node: &Running, target: &str, headers: &str) -> u16 {
    let mut stream = TcpStream::connect(node.address("HTTP")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn web_pages_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, target) in KINDS {
        let data = directory.path().join(kind);
        let node = start(kind, data.to_str().unwrap(), "-n 1024");
        for (headers, status) in [
            ("Host: localhost\r\n", 200),
            ("Host: 127.0.0.1\r\nUser-Agent: curl/8.5.0\r\n", 200),
            ("Host: evil.example\r\n", 403),
            ("Host: localhost\r\nOrigin: http://evil.example\r\n", 403),
            ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ] {
            assert_eq!(ask(&node, target, headers), status, "{kind} {headers}");
        }
        node.stop();
    }
}

#[test]
fn probes_and_metrics_are_served() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, _) in KINDS {
        let node = start(kind, directory.path().join(kind).to_str().unwrap(), "-n 1024");
        assert_eq!(node.ask("GET", "/healthz", ""), (200, "ok\n".to_owned()), "{kind}");
        assert_eq!(node.ask("GET", "/readyz", ""), (200, "ready\n".to_owned()), "{kind}");
        assert_eq!(node.ask("GET", "/metrics", "").0, 200, "{kind}");
        for target in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(node.ask("HEAD", target, ""), (200, String::new()), "{kind} {target}");
            assert_eq!(node.ask("POST", target, "").0, 405, "{kind} {target}");
        }
        assert_eq!(ask(&node, "/metrics", "Host: evil.example\r\n"), 403, "{kind}");
        assert_eq!(ask(&node, "/healthz", "Host: probe.example\r\n"), 200, "{kind}");
        node.stop();
    }
}

#[test]
fn metrics_tell_how_queues_stand_and_calls_go() {
    let directory = tempfile::tempdir().unwrap();
    let node = start("mq-node", directory.path().join("data").to_str().unwrap(), "-n 1024");
    let registry = format!("static://{}", node.address("RPC"));
    for _ in 0..3 {
        let push = ["mq", "--registry", &registry, "push", "t", "job"];
        assert!(Command::new(env!("CARGO_BIN_EXE_ms")).args(push).output().unwrap().status.success());
    }
    let wanted = [
        r#"ms_mq_messages{topic="t",queue="default",state="ready"} 3"#,
        r#"ms_mq_pushes_total{topic="t",queue="default"} 3"#,
        r#"ms_mq_sync_seconds_bucket{le="5"}"#,
        "ms_mq_disk_full 0",
        r#"ms_rpc_calls_total{side="server",service="mq",method="push",code="ok"} 3"#,
    ];
    let begin = Instant::now();
    loop {
        let metrics = node.get("/metrics");
        match wanted.iter().find(|line| !metrics.contains(**line)) {
            None => break,
            Some(missing) => assert!(begin.elapsed() < Duration::from_secs(20), "no {missing} in:\n{metrics}"),
        }
    }
    node.stop();
}

/// Clients that still send do not see an answer.
#[test]
fn bodies_that_nobody_reads_do_not_cost_the_answer() {
    let directory = tempfile::tempdir().unwrap();
    let body = vec![b'x'; 20 << 20];
    for (kind, target, line, begins_to_read) in [
        ("gregister", "POST /nowhere", "HTTP/1.1 404", false),
        ("gregister", "PUT /v1/services/goods/a", "HTTP/1.1 413", true),
        ("mq-node", "POST /getAllTopicStat", "HTTP/1.1 200", false),
        ("mq-node", "POST /push", "HTTP/1.1 200", true),
    ] {
        let node = start(kind, directory.path().join(kind).to_str().unwrap(), "-n 1024");
        let begin = |expect: &str| {
            let mut stream = TcpStream::connect(node.address("HTTP")).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let length = body.len();
            write!(stream, "{target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{expect}\r\n").unwrap();
            stream
        };
        let begins_with_line = |stream: &mut TcpStream| {
            let mut answer = vec![0; line.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), line, "{kind} {target}");
        };
        let mut stream = begin("");
        stream.write_all(&body).unwrap();
        begins_with_line(&mut stream);
        // It is not asked for what nobody reads.
        if !begins_to_read {
            begins_with_line(&mut begin("Expect: 100-continue\r\n"));
        }
        node.stop();
    }
}

/// More would leave it none for its own files.
#[test]
fn connections_are_bounded_by_the_files_that_it_may_open() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, target) in KINDS {
        let data = directory.path().join(kind);
        let node = start(kind, data.to_str().unwrap(), "-n 96");
        let mut held: Vec<_> = (0..32).map(|_| TcpStream::connect(node.address("HTTP")).unwrap()).collect();
        let mut next = TcpStream::connect(node.address("HTTP")).unwrap();
        write!(next, "GET {target} HTTP/1.0\r\n\r\n").unwrap();
        next.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let waits = next.read(&mut [0]).unwrap_err();
        assert!(matches!(waits.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}: {waits}");
        next.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        held.pop();
        let mut answer = String::new();
        next.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200"), "{kind}: {answer}");
        node.stop();
    }
}

#[test]
fn a_limit_that_may_be_raised_is_raised() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, target) in KINDS {
        let data = directory.path().join(kind);
        let node = start(kind, data.to_str().unwrap(), "-Sn 96");
        let _held: Vec<_> = (0..64).map(|_| TcpStream::connect(node.address("HTTP")).unwrap()).collect();
        assert_eq!(ask(&node, target, "Host: localhost\r\n"), 200, "{kind}");
        node.stop();
    }
}

/// Off loopback a node of the queue asks for a token, as a registry does.
#[test]
fn a_queue_that_others_can_reach_asks_for_a_token() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let public = ["mq-node", "--rpc", "127.0.0.1:0", "--http", "0.0.0.0:0", "--data", data];
    let refused = Command::new(env!("CARGO_BIN_EXE_ms")).args(public).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("0.0.0.0:0 can be reached by others: give --cert and --key"),
        "{said}"
    );
    let node = Running::run(Command::new(env!("CARGO_BIN_EXE_ms")).args(public).args(["--token", "a word"]));
    let port = node.address("HTTP").replace("0.0.0.0:", "");
    let ask = |target: &str, headers: &str| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: a.name\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(ask("/exitTopic?topic=t", ""), 401);
    assert_eq!(ask("/exitTopic?topic=t", "Authorization: Bearer another\r\n"), 401);
    assert_eq!(ask("/getAllTopicStat", "Authorization: Bearer a word\r\n"), 200);
    node.stop();
}

#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    for (kind, target) in KINDS {
        let data = directory.path().join(kind);
        let node = start(kind, data.to_str().unwrap(), "-n 1024");
        assert_eq!(ask(&node, target, "Host: localhost\r\n"), 200);
        let files: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() > 1, "{kind}: {files:?}");
        for file in files {
            assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o600, "{}", file.display());
        }
        node.stop();
    }
}
