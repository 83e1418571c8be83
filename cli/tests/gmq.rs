//! A node with the TCP port of gmq, asked by scripts that know gmq alone, and by all other doors.
#![allow(clippy::unwrap_used)]

mod running;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use ms_msgo::MsgoClient;
use ms_rpc::Code;
use running::Running;
use serde_json::{Value, json};
use tempfile::TempDir;

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/peers/gmq");

struct GmqNode {
    node: Running,
    _directory: TempDir,
}

impl GmqNode {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let ports = ["--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--gmq-tcp", "127.0.0.1:0", "--data"];
        let node = Running::start(&[&["mq-node"], &ports[..], &[data.to_str().unwrap()], arguments].concat());
        Self { node, _directory: directory }
    }

    /// Runs a script of another program against the port.
    fn meets(&self, script: &str) {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(format!("{PEERS}/{script}.py")).arg(self.node.address("gmq")).arg(self.node.address("HTTP"));
        let run = command.env("PYTHONDONTWRITEBYTECODE", "1").output();
        let run = run.unwrap_or_else(|error| panic!("{command:?} does not run: {error}"));
        let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(run.status.success() && said[0].ends_with("done\n"), "{script}: {}{}", said[0], said[1]);
        assert_eq!(self.node.get("/ping"), "OK", "{script}");
    }

    fn text(&self) -> Text {
        let stream = TcpStream::connect(self.node.address("gmq")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Text(stream)
    }

    fn http(&self, target: &str) -> Value {
        serde_json::from_str(&self.node.get(target)).unwrap()
    }

    /// Objects that `ms mq` prints.
    fn rpc(&self, arguments: &[&str]) -> Result<Value, String> {
        let registry = format!("static://{}", self.node.address("RPC"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_ms"));
        command.args(["mq", "--registry", &registry, "--json"]).args(arguments).stdin(Stdio::null());
        let output = command.env_remove("RUST_LOG").output().unwrap();
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap_or_default()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }
}

struct Text(TcpStream);

impl Text {
    fn ask(&mut self, line: &str, body: Option<&str>) -> (u16, String) {
        let mut request = format!("{line}\n").into_bytes();
        if let Some(body) = body {
            request.extend((body.len() as u32).to_be_bytes());
            request.extend(body.as_bytes());
        }
        self.0.write_all(&request).unwrap();
        let mut head = [0; 6];
        self.0.read_exact(&mut head).unwrap();
        let mut data = vec![0; u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize];
        self.0.read_exact(&mut data).unwrap();
        (u16::from_be_bytes([head[0], head[1]]), String::from_utf8(data).unwrap())
    }
}

#[test]
fn the_text_protocol_is_gmqs() {
    GmqNode::start(&[]).meets("text");
}

#[test]
fn the_older_variant_is_gmqs() {
    GmqNode::start(&[]).meets("older");
}

#[test]
fn the_binary_protocol_is_gmqs() {
    GmqNode::start(&[]).meets("v111");
}

#[test]
fn abuse_is_survived() {
    GmqNode::start(&[]).meets("abuse");
}

/// Pushes a body by one of the doors; returns the id.
type Push<'a> = dyn Fn(&mut Text, &str) -> String + 'a;

/// Pushed by each door, popped by each other, with the same id in the same words.
#[test]
fn a_message_goes_in_by_any_door_and_out_by_any_other() {
    let node = GmqNode::start(&[]);
    let mut text = node.text();
    let doors: [(&str, &Push); 3] = [
        ("gmq", &|text, body| text.ask("pub t 0", Some(body)).1),
        ("HTTP", &|_, body| {
            let data = form_urlencoded(&json!({ "topic": "t", "body": body }).to_string());
            let (_, answer) = node.node.ask("POST", "/push", &format!("data={data}"));
            let answer: Value = serde_json::from_str(&answer).unwrap();
            answer["data"]["msgId"].as_str().unwrap().to_owned()
        }),
        ("RPC", &|_, body| node.rpc(&["push", "t", body]).unwrap()["id"].as_str().unwrap().to_owned()),
    ];
    for (from, push) in doors {
        let id = push(&mut text, from);
        let (kind, popped) = text.ask("pop t", None);
        let popped: Value = serde_json::from_str(&popped).unwrap();
        assert_eq!((kind, popped), (101, json!({ "id": id, "body": from, "retry_count": 0 })));
        assert_eq!(text.ask(&format!("ack {id} t default"), None), (103, "ok".to_owned()));
        let id = push(&mut text, from);
        let popped = node.http("/pop?topic=t");
        assert_eq!((popped["data"]["id"].as_str(), popped["data"]["body"].as_str()), (Some(&*id), Some(from)));
        assert_eq!(node.http(&format!("/ack?topic=t&msgId={id}"))["code"], 0);
        let id = push(&mut text, from);
        let popped = node.rpc(&["pop", "t", "--ack"]).unwrap();
        assert_eq!((popped["id"].as_str(), popped["body"].as_str()), (Some(&*id), Some(from)), "{popped}");
    }
}

fn form_urlencoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// One limit, in the words of each door.
#[test]
fn a_limit_of_the_node_holds_at_every_door() {
    let node = GmqNode::start(&["--limit", "3", "--msgo"]);
    let mut text = node.text();
    assert_eq!(text.ask("queue t default", None), (103, "ok".to_owned()));
    let text_of = "the node is full: it takes 3 pushes and pops in a second: try again later";
    // A full bucket is filled again while the doors are asked.
    let refused = |what: &str, mut ask: Box<dyn FnMut() -> Option<String> + '_>| {
        let found = (0..1000).find_map(|_| ask());
        assert!(found.as_ref().is_some_and(|found| found.contains(text_of)), "{what}: {found:?}");
        found.unwrap()
    };
    let by_text =
        refused("text", Box::new(|| Some(text.ask("pub t 0", Some("m"))).filter(|it| it.0 == 102).map(|it| it.1)));
    assert_eq!(by_text, format!("E_INVALID_PUSH - {text_of}"));
    refused(
        "HTTP",
        Box::new(|| {
            let answer = node.http("/push?data=%7B%22topic%22:%22t%22,%22body%22:%22m%22%7D");
            (answer["code"] == 1).then(|| answer["msg"].as_str().unwrap().to_owned())
        }),
    );
    let lines = (0..100).map(|number| number.to_string()).collect::<Vec<_>>().join("\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    let lines = format!("@{}", file.path().display());
    refused("RPC", Box::new(|| node.rpc(&["push", "t", "--lines", &lines]).err()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let version_1 = MsgoClient::to(node.node.address("RPC")).channel();
    let push = json!([ms_mq::Push::new("t", b"m".to_vec())]);
    let by_version_1 = || runtime.block_on(version_1.call("mq", "push", &push)).err();
    refused(
        "version 1",
        Box::new(|| {
            let status = by_version_1()?;
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            Some(status.message().to_owned())
        }),
    );
}

#[test]
fn a_port_without_tokens_is_no_way_around_them() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, refusal) in [
        (&["--gmq-tcp", "127.0.0.1:0", "--token", "secret"][..], "gmq-tcp: its protocols have no token"),
        (&["--gmq-tcp", "0.0.0.0:0"][..], "gmq-tcp: 0.0.0.0:0 can be reached by others"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ms"));
        command.args(["mq-node", "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]).args(arguments);
        let output = command.current_dir(directory.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(refusal), "{arguments:?}: {said}");
    }
    let node = GmqNode::start(&["--token", "secret", "--insecure"]);
    assert_eq!(node.text().ask("queue t k", None), (103, "ok".to_owned()));
    node.node.stop();
}

#[test]
fn the_port_speaks_tls() {
    let node_directory = tempfile::tempdir().unwrap();
    let at = |name: &str| node_directory.path().join(name).to_str().unwrap().to_owned();
    let made = Command::new(env!("CARGO_BIN_EXE_ms")).args(["tls", "dev", &at("tls"), "mq"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (cert, key) = (at("tls/mq.pem"), at("tls/mq.key"));
    let node = GmqNode::start(&["--cert", &cert, "--key", &key]);
    let script = "import socket, ssl, sys
c = ssl.create_default_context(cafile=sys.argv[2]); c.check_hostname = False
host, port = sys.argv[1].split(':')
s = c.wrap_socket(socket.create_connection((host, int(port)), timeout=30))
s.sendall(b'queue t k\\n')
print(s.recv(100))";
    let ca = at("tls/ca.pem");
    let output =
        Command::new("/usr/bin/python3").args(["-c", script, &node.node.address("gmq"), &ca]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(r"\x00g\x00\x00\x00\x02ok"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let mut plain = TcpStream::connect(node.node.address("gmq")).unwrap();
    plain.write_all(b"queue t k\n").unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    let words = b"E_TLS - this port speaks TLS alone";
    assert_eq!(answer, [&[0, 102, 0, 0, 0, words.len() as u8], &words[..]].concat());
}
