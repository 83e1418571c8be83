//! gmq's programs by their own command lines: `gnode`, `gregister`, `gclient` and the routes of gmq-web.
#![allow(clippy::unwrap_used)]

mod running;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use running::Running;
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with links to `ms`, under the names of gmq's programs.
struct Programs(TempDir);

impl Programs {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["gnode", "gregister", "gclient", "gmq-web"] {
            symlink(env!("CARGO_BIN_EXE_ms"), directory.path().join(name)).unwrap();
        }
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path().join(program));
        command.args(arguments).current_dir(self.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    fn start(&self, program: &str, arguments: &[&str]) -> Running {
        Running::run(&mut self.command(program, arguments))
    }

    fn client(&self, arguments: &[&str]) -> Output {
        self.command("gclient", arguments).output().unwrap()
    }

    /// Lines of a client that ends well.
    fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.client(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn nodes(register: &Running) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&register.get("/getNodes")).unwrap();
    answer["data"]["nodes"].as_array().cloned().unwrap_or_default()
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// A port that is free now.
fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_node_joins_a_register_that_starts_later_and_leaves_it() {
    let programs = Programs::new();
    let register = format!("127.0.0.1:{}", free());
    let arguments = ["-http_addr=127.0.0.1:0", "--tcp_addr", "127.0.0.1:0", "-node_id=7", "-node_weight=3"];
    let joins = format!("-register_addr=http://{register}");
    let node = programs.start("gnode", &[&arguments[..], &[&joins]].concat());
    let register = programs.start("gregister", &[&format!("-http_addr={register}")]);
    let listed = until("the node is listed", || nodes(&register).into_iter().next());
    assert_eq!(listed["tcp_addr"], node.address("gmq"));
    assert_eq!(listed["http_addr"], node.address("HTTP"));
    assert_eq!((&listed["id"], &listed["weight"]), (&json!(7), &json!(3)));
    assert!(programs.path().join("data/gnode").is_dir() && programs.path().join("gregister-data").is_dir());
    node.stop();
    assert!(nodes(&register).is_empty());
    register.stop();
}

#[test]
fn files_give_values_and_options_override_them() {
    let programs = Programs::new();
    let text = "[node]\nid = 9 # of 1 to 1023\nweight = 2\nmsgTTR = 45\nmsgMaxRetry = 7\ndataSavePath = data/nine\n\
        [http_server]\naddr = 127.0.0.1:0\nenableTls = false\n[tcp_server]\naddr = 127.0.0.1:0\n\
        [log]\ntarget_type = file\nfilename = nine.log\nlevel = 2\n[gregister]\naddr = http://127.0.0.1:1\n";
    programs.file("conf.ini", text);
    let node = programs.start("gnode", &["--config_file=conf.ini", "-msg_max_retry", "8"]);
    assert!(node.said.starts_with("node 9 is ready"), "{}", node.said);
    let address = format!("-node_addr={}", node.address("gmq"));
    assert_eq!(programs.lines(&[&address, "-cmd=declare", "-topic=t", "-bind_key=k"]), ["rtype:103, result:ok"]);
    let topic: Value = serde_json::from_str(&node.get("/v1/topics/t")).unwrap();
    let settings = &topic["settings"];
    for (key, value) in [("ttr_ms", json!(45_000)), ("max_retries", json!(8)), ("mode", json!("fuzzy"))] {
        assert_eq!(settings[key], value, "{topic}");
    }
    node.stop();
    let log = fs::read_to_string(programs.path().join("data/nine/nine.log")).unwrap();
    assert!(log.contains("the node is not listed: http://127.0.0.1:1"), "{log}");
    let register =
        programs.file("register.ini", "[http_server]\naddr = 127.0.0.1:0\n[log]\ntarget_type = console\nlevel = 1\n");
    programs.start("gregister", &["-config_file", register.to_str().unwrap()]).stop();
}

#[test]
fn what_is_wrong_is_named_by_its_key() {
    let programs = Programs::new();
    programs.file("bad.ini", "[node]\nid = one\n");
    for (program, arguments, error) in [
        ("gnode", &["-node_id=x"][..], "node_id: \"x\" is no number from 1 to 1023"),
        ("gnode", &["-config_file=bad.ini"], "node.id: \"one\" is no number"),
        ("gnode", &["-msg_ttr=61"], "msg_ttr: \"61\" is no number from 1 to 60"),
        ("gnode", &["-tcp=1"], "there is no option `-tcp`"),
        ("gregister", &["-config_file=none.ini"], "config_file: none.ini: No such file"),
        ("gclient", &["-push_num=many"], "push_num: \"many\" is no number from 0 up"),
        ("gclient", &["-cmd=fly"], "unknown 'fly' command"),
        ("gmq-web", &["-http_addr=0.0.0.0:0"], "http_addr: 0.0.0.0:0 can be reached by others"),
    ] {
        let output = programs.command(program, arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(error), "{program} {arguments:?}: {said}");
    }
    let beyond = programs.command("gnode", &["-tcp_addr=:9503", "-http_addr=127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8(beyond.stderr).unwrap();
    assert!(
        beyond.status.code() == Some(1) && said.contains("gmq-tcp: 0.0.0.0:9503 can be reached by others"),
        "{said}"
    );
    // Other options of gregister are not gmq's.
    for (program, arguments) in [
        ("gnode", &["-help"][..]),
        ("gregister", &["-help", "-http_addr=x"]),
        ("gclient", &["-h"]),
        ("gmq-web", &["--help"]),
    ] {
        let output = programs.command(program, arguments).output().unwrap();
        assert!(output.status.success() && output.stdout.starts_with(b"options:\n  -"), "{program}");
    }
}

#[test]
fn the_client_pushes_and_pops() {
    let programs = Programs::new();
    let node = programs
        .start("gnode", &["-http_addr=127.0.0.1:0", "-tcp_addr=127.0.0.1:0", "-register_addr=http://127.0.0.1:1"]);
    let address = format!("-node_addr=\"{}\"", node.address("gmq")).replace('"', "");
    let run = |arguments: &[&str]| programs.lines(&[&[&*address, "-topic=t"], arguments].concat());
    let pushed = run(&["-cmd=push", "-push_num=3", "-message=m"]);
    assert!(pushed.len() == 3 && pushed.iter().all(|line| line.starts_with("rtype:103, msg.id:")), "{pushed:?}");
    let pushed = run(&["-cmd=mpush", "-push_num", "1500"]);
    assert!(pushed.len() == 2 && pushed[0].starts_with("rtype:103, result:["), "{}", pushed.len());
    let popped = run(&["-cmd=pop", "-pop_num=2"]);
    assert!(popped.len() == 2 && popped[0].starts_with("rtype:101, result:{\"id\":\""), "{popped:?}");
    let id = popped[0].split('"').nth(3).unwrap();
    assert_eq!(run(&["-cmd=ack", &format!("-msg_id={id}")]), ["rtype:103, result:ok"]);
    let output = programs.client(&[&address, "-topic=t", "-cmd=ack", "-msg_id=1"]);
    assert_eq!(output.stdout, b"rtype:102, result:E_INVALID_ACK - msgId:1 is not exist.\n");
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(run(&["-cmd=set", "-auto_ack=1"]), ["rtype:103, result:ok"]);
    let mut looping = programs.command("gclient", &[&address, "-topic=t", "-cmd=pop_loop"]);
    let mut looping = looping.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(looping.stdout.take().unwrap()).lines();
    for _ in 0..1501 {
        assert!(lines.next().unwrap().unwrap().starts_with("recv msg:{\"id\":\""));
    }
    run(&["-cmd=push", "-push_num=1", "-message=late"]);
    assert!(lines.next().unwrap().unwrap().contains("\"body\":\"late\""));
    looping.kill().unwrap();
    looping.wait().unwrap();
    let mut subscribed = programs.command("gclient", &[&address, "-cmd=subscribe", "-channel=c"]);
    let mut subscribed = subscribed.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(subscribed.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "rtype:103, result:ok");
    assert_eq!(run(&["-cmd=publish", "-channel=c", "-message=some news"]), ["rtype:103, result:ok"]);
    assert_eq!(lines.next().unwrap().unwrap(), "rtype:104, result:some news");
    subscribed.kill().unwrap();
    subscribed.wait().unwrap();
    let gone = programs.client(&["-node_addr=127.0.0.1:1", "-cmd=push"]);
    assert_eq!(gone.status.code(), Some(5));
}

#[test]
fn the_client_takes_the_nodes_of_a_register() {
    let programs = Programs::new();
    let register = programs.start("gregister", &["-http_addr=127.0.0.1:0"]);
    let joins = format!("-register_addr=http://{}", register.address("HTTP"));
    let start = |number: &str| {
        let (id, data) = (format!("-node_id={number}"), format!("-data_save_path=data{number}"));
        programs.start("gnode", &["-http_addr=127.0.0.1:0", "-tcp_addr=127.0.0.1:0", &joins, &id, &data])
    };
    let running = [start("1"), start("2")];
    until("both are listed", || (nodes(&register).len() == 2).then_some(()));
    for cmd in ["push_by_avg", "push_by_rand", "push_by_weight"] {
        let pushed = programs.lines(&[&joins, "-topic=t", &format!("-cmd={cmd}"), "-push_num=20"]);
        assert_eq!(pushed.len(), 20, "{cmd}");
    }
    let count = |node: &Running| {
        let stat: Value = serde_json::from_str(&node.get("/getTopicStat?topic=t")).unwrap();
        stat["data"]["queue_msg_num"].as_u64().unwrap()
    };
    let counts = running.each_ref().map(count);
    assert!(counts.iter().sum::<u64>() == 60 && counts.iter().all(|count| *count >= 10), "{counts:?}");
}

/// Status and JSON of an answer.
fn ask(address: &str, method: &str, target: &str, form: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("{method} {target} HTTP/1.0\r\nContent-Length: {}\r\n", form.len());
    write!(stream, "{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn the_routes_of_gmq_web() {
    let programs = Programs::new();
    let register = programs.start("gregister", &["-http_addr=127.0.0.1:0"]);
    let registers = format!("-register_addr=http://{}", register.address("HTTP"));
    let node = programs.start("gnode", &["-http_addr=127.0.0.1:0", "-tcp_addr=127.0.0.1:0", &registers]);
    until("the node is listed", || (nodes(&register).len() == 1).then_some(()));
    let web = programs.start("gmq-web", &[&registers, "-http_addr=127.0.0.1:0"]);
    let (web, node, tcp) = (web.address("HTTP"), node.address("HTTP"), node.address("gmq"));
    let get = |target: &str| ask(&web, "GET", target, "");
    let post = |target: &str, form: &str| ask(&web, "POST", target, form);
    let wrong = |text: &str| (400, json!({ "code": 1, "data": null, "msg": text }));
    assert_eq!(get("/getNodes").1["data"]["nodes"][0]["tcp_addr"], tcp);
    assert_eq!(get(&format!("/declare?addr={node}&topic=t&bindKey=k")).1["code"], 0);
    let pushed = post("/push", &format!("addr={node}&topic=t&content=a%2Bb&delay=0&routeKey=k")).1;
    let id = pushed["data"]["msgId"].as_str().unwrap();
    assert_eq!(get(&format!("/getTopics?addr={node}")).1["data"][0]["queue_msg_num"], 1);
    let popped = get(&format!("/pop?addr={node}&topic=t&bindKey=k")).1;
    assert_eq!((popped["data"]["id"].as_str(), &popped["data"]["body"]), (Some(id), &json!("a+b")));
    assert_eq!(get(&format!("/ack?addr={node}&topic=t&bindKey=k&msgId={id}")).1["code"], 0);
    assert_eq!(get(&format!("/setIsAutoAck?addr={node}&topic=t")).1["code"], 0);
    assert_eq!(get(&format!("/getTopics?addr={node}")).1["data"][0]["is_auto_ack"], true);
    assert_eq!(get(&format!("/removeTopic?addr={node}&topic=t")).1["code"], 0);
    assert_eq!(post("/editNodeWeight", &format!("addr={tcp}&weight=9")).1["code"], 0);
    assert_eq!(get("/getNodes").1["data"]["nodes"][0]["weight"], 9);
    // What is missing, and what the register does not list.
    assert_eq!(get("/getTopics"), wrong("please select a node."));
    assert_eq!(get(&format!("/removeTopic?addr={node}")), wrong("topic is empty."));
    assert_eq!(post("/push", &format!("addr={node}&topic=t")), wrong("content is empty"));
    assert_eq!(post("/registerNode", "node_id=1"), wrong("tcp_add is empty"));
    let joins = "tcp_addr=h:1&http_addr=h:2&weight=1&node_id=2000";
    assert_eq!(post("/registerNode", joins), wrong("node_id must be between 1 and 1024."));
    let strange = TcpListener::bind("127.0.0.1:0").unwrap();
    let strange = strange.local_addr().unwrap().to_string();
    for target in ["/getTopics?addr=", "/pop?topic=t&addr=", "/unRegisterNode?addr="] {
        let text = format!("no node of this address is registered: {strange}");
        assert_eq!(get(&format!("{target}{strange}")), wrong(&text), "{target}");
    }
    assert_eq!(ask(&web, "HEAD", &format!("/exitTopic?addr={node}"), "").0, 404);
    let twin = format!("node_id=1&tcp_addr={tcp}&http_addr={node}&weight=1");
    assert_eq!(post("/registerNode", &twin).1["code"], 1, "it is there");
    assert_eq!(get(&format!("/unRegisterNode?addr={tcp}")).1["code"], 0);
}
