//! The chat in four processes: a gate, two back ends, and clients in Python.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

/// A process, and what it says. Dropping it kills it.
struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the program has ended");
        line.trim().to_owned()
    }

    /// A role of the example, once it is ready.
    fn role(folder: &Path, arguments: &[&str]) -> Self {
        // Cargo builds examples beside the tests: target/debug/deps/chat-.., target/debug/examples/chat.
        let program = std::env::current_exe().unwrap();
        let program = program.parent().unwrap().parent().unwrap().join("examples/chat");
        assert!(program.exists(), "{} is not built: cargo test -p ms-examples builds it", program.display());
        let mut command = Command::new(program);
        let conf = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        command.args(arguments).args(["--dinx", &conf("dinx.json"), "--route", &conf("route.json")]);
        let mut program = Self::start(&mut command);
        let line = program.line();
        assert!(line.contains(" is ready: "), "{arguments:?}: {line}");
        program
    }

    fn client(script: &str, port: u16) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gate/tests/peers").join(script);
        Self::start(Command::new("python3").arg(path).args(["127.0.0.1", &port.to_string()]))
    }

    fn send(&mut self, msg_id: u32, text: &str) {
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.input, "send {msg_id} {}", if hex.is_empty() { "-" } else { &hex }).unwrap();
    }

    fn hear(&mut self) -> (u32, Value) {
        let line = self.line();
        let words: Vec<_> = line.split(' ').collect();
        let ["frame", msg_id, hex] = words[..] else { panic!("no frame: {line}") };
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        let data = serde_json::from_slice(&bytes.collect::<Vec<_>>()).unwrap();
        (msg_id.parse().unwrap(), data)
    }
}

/// The sample's files, with free ports.
fn conf() -> (tempfile::TempDir, u16) {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let gate = (12_000..14_000).step_by(3).map(|port| port + (std::process::id() % 300) as u16 * 3);
    let gate = gate.into_iter().find(|port| (0..3).all(|above| free(port + above))).unwrap();
    let other = |from: u16| (from..from + 1_000).find(|port| free(*port)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("chat/conf");
    let text = fs::read_to_string(sample.join("dinx.json")).unwrap();
    let text = text.replace("10000", &gate.to_string()).replace("20000", &other(20_000).to_string());
    fs::write(folder.path().join("dinx.json"), text.replace("21000", &other(21_000).to_string())).unwrap();
    fs::copy(sample.join("route.json"), folder.path().join("route.json")).unwrap();
    (folder, gate)
}

#[test]
fn people_talk_over_tcp_and_web_socket_and_the_chat_outlives_a_back_end() {
    let (folder, port) = conf();
    let mut ims = ["2", "3"].map(|id| Some(Program::role(folder.path(), &["im", "--node-id", id])));
    let _gate = Program::role(folder.path(), &["gate"]);
    let mut ann = Program::client("tlv.py", port);
    let mut bob = Program::client("websocket.py", port + 1);
    for (client, name) in [(&mut ann, "ann"), (&mut bob, "bob")] {
        client.send(1, name);
        let (msg_id, answer) = client.hear();
        assert_eq!((msg_id, &answer["name"]), (1, &json!(name)), "{answer}");
    }
    ann.send(2, "hello");
    for client in [&mut ann, &mut bob] {
        let (msg_id, said) = client.hear();
        assert_eq!((msg_id, &said["from"], &said["text"]), (2, &json!("ann"), &json!("hello")));
    }
    // To one: handed on between the back ends.
    bob.send(3, &json!({"to": "ann", "text": "psst"}).to_string());
    assert_eq!(bob.hear().1["delivered"], "ann");
    assert_eq!(ann.hear().1["text"], "psst");
    ann.send(3, &json!({"to": "eve", "text": "?"}).to_string());
    assert_eq!(ann.hear().1["error"], "eve is not here");
    ann.send(9, "");
    let (msg_id, refusal) = ann.hear();
    assert_eq!((msg_id, &refusal["code"]), (0, &json!("not_found")), "{refusal}");
    // One back end is killed: messages that it may have taken are refused, and the others are answered.
    drop(ims[0].take());
    let mut heard = 0;
    for number in 0..20 {
        ann.send(2, &number.to_string());
        let (msg_id, said) = ann.hear();
        match msg_id {
            2 => {
                assert_eq!(said["by"], "im-2");
                heard += 1;
                assert_eq!(bob.hear().1["text"], number.to_string());
            }
            other => assert_eq!((other, &said["msg_id"]), (0, &json!(2)), "{said}"),
        }
    }
    assert!(heard >= 10, "{heard}");
    // Both: an error frame, and the gate answers on.
    drop(ims[1].take());
    ann.send(2, "is anybody there?");
    let (msg_id, refusal) = ann.hear();
    assert_eq!((msg_id, &refusal["msg_id"]), (0, &json!(2)), "{refusal}");
    ann.send(1, "anna");
    assert_eq!(ann.hear().1["name"], "anna");
}
