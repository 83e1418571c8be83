//! The command `ms` as a user runs it.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

fn ms(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ms"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .env_remove("MS_REGISTRY")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It must fail, and say all of this on stderr, and nothing on stdout.
fn refused(arguments: &[&str], said: &[&str]) {
    let output = ms(arguments);
    let errors = text(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} went well: {}", text(&output.stdout));
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    for said in said {
        assert!(errors.contains(said), "{arguments:?} does not say {said:?}: {errors}");
    }
}

/// A node in a process of its own; dropping it kills it.
struct Node {
    process: Child,
    id: String,
    rpc: String,
    http: String,
    directory: Option<TempDir>,
}

impl Node {
    /// On free ports, with a directory of its own.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let data = data.to_str().unwrap();
        let mut node = Self::with(&["--data", data, "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        node.directory = Some(directory);
        node
    }

    /// With these arguments; it is ready when this returns.
    fn with(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ms"));
        command.arg("mq-node").args(arguments).env_remove("MS_REGISTRY").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<_> = line.trim().split(' ').collect();
        let ["node", id, "is", "ready:", "RPC", "on", rpc, "HTTP", "on", http] = words[..] else {
            panic!("{arguments:?}: it said {line:?}")
        };
        let (id, rpc, http) = (id.to_owned(), rpc.trim_end_matches(',').to_owned(), http.to_owned());
        Self { process, id, rpc, http, directory: None }
    }

    fn mq(&self, arguments: &[&str]) -> Output {
        let registry = format!("static://{}", self.rpc);
        ms(&[&["mq", "--registry", &registry], arguments].concat())
    }

    /// What it prints, when it goes well.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.mq(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        text(&output.stdout)
    }

    /// Why it fails.
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.mq(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
        text(&output.stderr).trim().to_owned()
    }

    /// Its exit code after SIGTERM.
    fn stop(&mut self) -> Option<i32> {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.process.wait().unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write(directory: &Path, file: &str) -> String {
    let path = directory.join("node.toml");
    fs::write(&path, file).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn flags_beat_the_file_and_the_file_beats_the_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let (from_file, from_flag) = (directory.path().join("file"), directory.path().join("flag"));
    let file = format!(
        "data = {from_file:?}\nnode-id = 7\nrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nweight = 2.5\n\
         registry = \"memory://\"\nmax-live-messages = 1\n"
    );
    let config = write(directory.path(), &file);
    let mut node = Node::with(&["--config", &config]);
    assert_eq!(node.id, "7");
    assert!(from_file.join("store").exists());
    node.said(&["push", "t", "one"]);
    assert!(node.error(&["push", "t", "two"]).contains("the node is full: it keeps at most 1 messages"));
    assert_eq!(node.stop(), Some(0));

    let data = from_flag.to_str().unwrap();
    let mut node = Node::with(&["--config", &config, "--node-id", "1023", "--data", data, "--max-live-messages", "9"]);
    assert_eq!(node.id, "1023");
    assert!(from_flag.join("store").exists());
    node.said(&["push", "t", "one"]);
    node.said(&["push", "t", "two"]);
    assert_eq!(node.stop(), Some(0));

    // Without either: node 1.
    let mut node = Node::start();
    assert_eq!(node.id, "1");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_bad_value_names_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data = data.to_str().unwrap();
    let flags: [(&[&str], &str); 11] = [
        (&["--nodes", "1,x"], "nodes: \"1,x\" is no list of numbers from 1 to 1023, such as 1,2,3"),
        (&["--nodes", "2,3"], "nodes: 2,3 leaves out 1, the number of this node"),
        (&["--node-id", "0"], "node-id: 0 is not one of 1 to 1023"),
        (&["--node-id", "1024"], "node-id: 1024 is not one of 1 to 1023"),
        (&["--node-id", "70000"], "--node-id"),
        (&["--weight", "heavy"], "--weight"),
        (&["--weight", "-1"], "weight: -1 is no number from 0 up"),
        (&["--weight", "NaN"], "weight: NaN is no number from 0 up"),
        (&["--registry", "zoo://x"], "registry: registry URL scheme `zoo` is unknown"),
        (&["--http", "here"], "--http"),
        (&["--config", "/nowhere.toml"], "config: /nowhere.toml: No such file"),
    ];
    for (flags, said) in flags {
        refused(&[&["mq-node", "--data", data], flags].concat(), &[said]);
    }
    let files = [
        ("node-id = 0", "node-id: 0 is not one of 1 to 1023"),
        ("node-id = 1024", "node-id: 1024 is not one of 1 to 1023"),
        ("node-id = \"one\"", "node-id = \"one\""),
        ("node-id = 70000", "node-id = 70000"),
        ("weight = \"much\"", "weight = \"much\""),
        ("weight = -0.5", "weight: -0.5 is no number from 0 up"),
        ("http = \"here\"", "http = \"here\""),
        ("nodeid = 3", "unknown field `nodeid`"),
        ("registry = \"zoo://x\"", "registry: registry URL scheme `zoo` is unknown"),
        ("this is no TOML", "node.toml"),
    ];
    for (file, said) in files {
        let config = write(directory.path(), file);
        refused(&["mq-node", "--data", data, "--config", &config], &[said]);
    }
    assert!(!Path::new(data).exists(), "a directory was made for a node that cannot start");
    refused(&["mq-node", "--data", data, "--rpc", "here"], &["rpc: cannot listen on here"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    refused(&["mq-node", "--data", data, "--rpc", &port], &["rpc: cannot listen on", &port]);
    refused(&["mq-node", "--data", data, "--rpc", "127.0.0.1:0", "--http", &port], &["http: ", &port]);
    let file = directory.path().join("node.toml");
    refused(&["mq-node", "--data", file.to_str().unwrap()], &["data: ", "node.toml"]);
}

#[test]
fn a_directory_is_one_process_and_one_number() {
    let mut node = Node::start();
    let data = node.directory.as_ref().unwrap().path().join("data");
    let arguments = ["mq-node", "--data", data.to_str().unwrap(), "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    refused(&arguments, &["data: ", "another process has this queue open"]);
    // The first one is not harmed.
    node.said(&["push", "t", "still here"]);
    assert_eq!(node.stop(), Some(0));
    refused(&[&arguments[..], &["--node-id", "2"]].concat(), &["data: ", "node 1"]);
}

#[test]
fn curl_lines_work_as_they_stand() {
    let node = Node::start();
    let curl = |line: &str| {
        let line = line.replace("127.0.0.1:9504", &node.http);
        let output = Command::new("sh").args(["-c", &line]).output().expect("sh");
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let push = r#"curl -s http://127.0.0.1:9504/push -d 'data={"body":"this is a job","topic":"game_1","delay":0}'"#;
    let pushed = curl(push);
    let id: String = pushed.chars().filter(char::is_ascii_digit).skip(1).collect();
    assert_eq!(pushed, format!(r#"{{"code":0,"data":{{"msgId":"{id}"}},"msg":"success"}}"#));
    let popped = curl("curl -s 'http://127.0.0.1:9504/pop?topic=game_1&bindKey=default'");
    let message = format!(r#"{{"body":"this is a job","id":"{id}","retry_count":0}}"#);
    assert_eq!(popped, format!(r#"{{"code":0,"data":{message},"msg":"success"}}"#));
    let ack = format!("curl -s 'http://127.0.0.1:9504/ack?msgId={id}&topic=game_1&bindKey=default'");
    assert_eq!(curl(&ack), r#"{"code":0,"data":null,"msg":"ok"}"#);
    assert_eq!(curl(&ack), format!(r#"{{"code":1,"data":null,"msg":"msgId:{id} is not exist."}}"#));
    let declare = "curl -s 'http://127.0.0.1:9504/declareQueue?topic=game_1&bindKey=homework'";
    assert_eq!(curl(declare), r#"{"code":0,"data":null,"msg":"ok"}"#);
    assert_eq!(curl(declare), r#"{"code":1,"data":null,"msg":"bindKey homework has exist."}"#);
    assert_eq!(curl("curl -s http://127.0.0.1:9504/ping"), "OK");
    assert_eq!(curl("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9504/nothing"), "404");
}

#[test]
fn certificates_for_development_fit_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("certificates");
    let dev = |services: &[&str]| ms(&[&["tls", "dev", path.to_str().unwrap()], services].concat());
    let made = dev(&["goods", "order"]);
    assert!(made.status.success() && made.stdout.is_empty(), "{made:?}");
    for service in ["goods", "order"] {
        let file = |end: &str| path.join(format!("{service}.{end}"));
        ms_rpc::tls::Tls::mutual(path.join("ca.pem"), file("pem"), file("key")).trust_domain("dev").build().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file("key")).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    // Nothing is written over, and no name leads out of the folder.
    let again = dev(&["goods"]);
    assert!(!again.status.success() && text(&again.stderr).contains("ca.pem"), "{again:?}");
    let outside = ms(&["tls", "dev", folder.path().join("other").to_str().unwrap(), "../goods"]);
    assert_eq!(outside.status.code(), Some(2), "{outside:?}");
}
