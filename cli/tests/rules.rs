//! Rules of a queue node, at every door.

#![allow(clippy::unwrap_used)]

mod running;

use std::{
    process::{Command, Output},
    str,
};

use running::Running;
use tempfile::TempDir;

/// A node with rules for the holders of certificates, and their folder.
struct Ruled {
    folder: TempDir,
    node: Running,
}

impl Ruled {
    fn start(rules: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let made = Command::new(env!("CARGO_BIN_EXE_ms"))
            .args(["tls", "dev", folder.path().to_str().unwrap(), "mq", "ops", "order", "shipping"])
            .output();
        assert!(made.unwrap().status.success());
        let mut command = Command::new(env!("CARGO_BIN_EXE_ms"));
        command.args(["mq-node", "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--gmq-tcp", "127.0.0.1:0"]);
        command.args([
            "--data",
            &at("data"),
            "--cert",
            &at("mq.pem"),
            "--key",
            &at("mq.key"),
            "--client-ca",
            &at("ca.pem"),
        ]);
        let node = Running::run(command.args(rules));
        Self { folder, node }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// `ms mq` as this caller.
    fn mq(&self, who: &str, arguments: &[&str]) -> Output {
        let registry = format!("static://{}", self.node.address("RPC"));
        let (cert, key) = (self.at(&format!("{who}.pem")), self.at(&format!("{who}.key")));
        Command::new(env!("CARGO_BIN_EXE_ms"))
            .args(["mq", "--registry", &registry, "--ca", &self.at("ca.pem"), "--trust-domain", "dev"])
            .args(["--cert", &cert, "--key", &key])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn may(&self, who: &str, arguments: &[&str]) -> String {
        let done = self.mq(who, arguments);
        assert!(done.status.success(), "{who} {arguments:?}: {}", str::from_utf8(&done.stderr).unwrap());
        String::from_utf8(done.stdout).unwrap()
    }

    fn may_not(&self, who: &str, arguments: &[&str], words: &str) {
        let done = self.mq(who, arguments);
        let said = str::from_utf8(&done.stderr).unwrap();
        assert!(done.status.code() == Some(4) && said.contains(words), "{who} {arguments:?}: {:?} {said}", done.status);
    }

    /// Status and body of a request over HTTP as this caller.
    fn http(&self, who: &str, method: &str, path: &str, body: &str) -> (String, String) {
        let (cert, key) = (self.at(&format!("{who}.pem")), self.at(&format!("{who}.key")));
        let done = Command::new("curl")
            .args(["-sS", "--max-time", "20", "-w", "\n%{http_code}", "--cacert", &self.at("ca.pem")])
            .args(["--cert", &cert, "--key", &key, "-X", method, "-H", "Content-Type: application/json", "-d", body])
            .arg(format!("https://{}{path}", self.node.address("HTTP")))
            .output();
        let said = String::from_utf8(done.unwrap().stdout).unwrap();
        let (body, status) = said.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }

    /// Answers of commands of gmq's text protocol, each with its body behind a tab if it has one, as this caller.
    fn gmq(&self, who: &str, commands: &[&str]) -> Vec<String> {
        let script = "import socket, ssl, struct, sys
address, ca, cert, key, *commands = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.check_hostname = False
context.load_cert_chain(cert, key)
host, port = address.split(':')
connection = context.wrap_socket(socket.create_connection((host, int(port)), timeout=30))
answers = connection.makefile('rb')
for command in commands:
    line, *body = command.encode().split(b'\\t')
    connection.sendall(line + b'\\n' + b''.join(struct.pack('>I', len(one)) + one for one in body))
    kind, length = struct.unpack('>HI', answers.read(6))
    print(kind, answers.read(length).decode())";
        let (cert, key) = (self.at(&format!("{who}.pem")), self.at(&format!("{who}.key")));
        let done = Command::new("/usr/bin/python3")
            .args(["-c", script, &self.node.address("gmq"), &self.at("ca.pem"), &cert, &key])
            .args(commands)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", str::from_utf8(&done.stderr).unwrap());
        str::from_utf8(&done.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

const RULES: [&str; 8] = [
    "--allow",
    "spiffe://dev/order push/orders",
    "--allow",
    "spiffe://dev/shipping take/ord*",
    "--allow",
    "spiffe://dev/ops *",
    "--deny",
    "* push/ms.calls",
];

#[test]
fn each_caller_may_do_what_the_rules_let_it_at_every_door() {
    let node = Ruled::start(&RULES);
    node.may_not("order", &["declare", "orders", "default"], "change/orders is not allowed to spiffe://dev/order");
    node.may("ops", &["declare", "orders", "default"]);
    node.may("ops", &["declare", "others", "default"]);

    node.may("order", &["push", "orders", "by RPC"]);
    node.may_not("order", &["push", "others", "no"], "push/others is not allowed to spiffe://dev/order");
    node.may_not("order", &["pop", "orders"], "take/orders is not allowed to spiffe://dev/order");
    node.may_not("order", &["stats"], "look/* is not allowed to spiffe://dev/order");
    node.may_not("shipping", &["push", "orders", "no"], "push/orders is not allowed");
    assert_eq!(node.may("shipping", &["pop", "orders", "--ack"]), "by RPC");
    node.may_not("ops", &["push", "ms.calls", "no"], "push/ms.calls is not allowed to spiffe://dev/ops");

    // Whoever comes by a receipt cannot use it.
    node.may("order", &["push", "orders", "held"]);
    let popped = node.may("shipping", &["pop", "orders", "--json"]);
    let receipt = popped.split_once("\"receipt\":\"").unwrap().1.split('"').next().unwrap();
    node.may_not("order", &["ack", receipt], "take/orders is not allowed to spiffe://dev/order");
    node.may("shipping", &["ack", receipt]);

    let (status, body) = node.http("order", "POST", "/v1/topics/orders/messages", r#"{"body":"by HTTP"}"#);
    assert_eq!(status, "201", "{body}");
    let (status, body) = node.http("order", "POST", "/v1/topics/orders/queues/default/pop", "{}");
    assert!(status == "403" && body.contains(r#""code":"denied""#) && body.contains("take/orders"), "{status} {body}");
    let (status, body) = node.http("order", "GET", "/pop?topic=orders&bindKey=default", "");
    assert!(status == "200" && body.contains("take/orders is not allowed"), "{status} {body}");
    let (status, body) = node.http("shipping", "GET", "/pop?topic=orders&bindKey=default", "");
    assert!(status == "200" && body.contains("by HTTP"), "{status} {body}");

    let said = node.gmq("order", &["pub orders default 0\tby gmq", "pop orders default", "subscribe orders"]);
    assert!(said[0].starts_with("103 "), "{said:?}");
    assert_eq!(said[1], "102 E_INVALID_POP - take/orders is not allowed to spiffe://dev/order");
    assert_eq!(said[2], "102 E_INVALID_SUBSCRIBE - take/orders is not allowed to spiffe://dev/order");
    let said = node.gmq("shipping", &["pop orders default", "subscribe orders", "publish orders\tx"]);
    assert!(said[0].starts_with("101 ") && said[0].contains("by gmq"), "{said:?}");
    assert_eq!(said[1..], ["103 ok", "102 E_INVALID_PUBLISH - push/orders is not allowed to spiffe://dev/shipping"]);
    node.node.stop();
}

#[test]
fn rules_that_would_allow_nothing_stop_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let start = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ms"));
        command.args(["mq-node", "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]).args(arguments);
        command.current_dir(directory.path()).output().unwrap()
    };
    let token = ["--token", "a-secret"];
    for (rule, words) in [
        ("order", r#"allow: "order" is no rule: write a principal, a space, and what"#),
        ("order push orders", "is no rule"),
        ("order pop/orders", "the rule `order pop/orders`: `pop` is unknown: write push, take, look, change or *"),
        ("order push/o*s", "`o*s` is no pattern"),
    ] {
        let output = start(&[&token[..], &["--allow", rule]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(words), "{rule}: {said}");
    }
    let output = start(&["--deny", "order push/orders"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(r#"deny: callers have no names, so "order" is nobody: give --token-file, or --client-ca"#),
        "{said}"
    );
}
