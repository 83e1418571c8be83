//! Nodes of a queue, and `ms mq` run against them.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use super::Running;

/// Nodes, and a shell's view of them.
pub(crate) struct Cluster {
    pub(crate) directory: TempDir,
    pub(crate) nodes: Vec<Running>,
    pub(crate) registry: String,
}

impl Cluster {
    pub(crate) fn of(count: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let start = |number: usize| {
            let (data, number) = (directory.path().join(number.to_string()), number.to_string());
            let data = data.to_str().unwrap();
            let ports = ["--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];
            Running::start(&[&["mq-node", "--node-id", &number, "--data", data], &ports[..]].concat())
        };
        let nodes: Vec<_> = (1..=count).map(start).collect();
        let addresses: Vec<_> = nodes.iter().map(|node| node.address("RPC")).collect();
        Self { registry: format!("static://{}", addresses.join(",")), nodes, directory }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ms"));
        command.arg("mq").args(arguments).env("MS_REGISTRY", &self.registry).env_remove("RUST_LOG");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Its output, when it goes well and says nothing else.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its exit code and its error, when it prints nothing.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        (output.status.code().unwrap(), text(&output.stderr).trim().to_owned())
    }

    /// Objects of its output with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let lines = self.ok(&[arguments, &["--json"]].concat());
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same with bytes as stdin.
    pub(crate) fn fed(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // An error means that it ended before it read all.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    pub(crate) fn pop(&self, topic: &str) -> Value {
        self.json(&["pop", topic, "--wait", "10s"]).remove(0)
    }

    /// Ready, delayed, leased and dead messages of the queue `default`.
    pub(crate) fn counts(&self, topic: &str) -> [u64; 4] {
        let rows = self.json(&["stats", topic]);
        let sum = |column: &str| {
            rows.iter().filter(|row| row["queue"] == "default").map(|row| row[column].as_u64().unwrap()).sum()
        };
        ["ready", "delayed", "leased", "dead"].map(sum)
    }

    pub(crate) fn until(&self, topic: &str, wanted: [u64; 4]) {
        let begin = Instant::now();
        while self.counts(topic) != wanted {
            assert!(begin.elapsed() < Duration::from_secs(30), "{topic} stays at {:?}", self.counts(topic));
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn of<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}
