//! `ms gregister` on a disk that is full, or fails: nothing confirmed is lost, and it goes on as soon as it can.
#![allow(clippy::unwrap_used)]

mod running;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use running::Running;
use tempfile::TempDir;

/// A small file system of its own, until this is dropped.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(directory.path()).output();
        let mount = mount.unwrap_or_else(|error| panic!("this test needs the program `mount`: {error}"));
        assert!(
            mount.status.success(),
            "this test mounts a small tmpfs: run it as root, or under `unshare --user --map-root-user --mount`. {}",
            String::from_utf8_lossy(&mount.stderr)
        );
        Self(directory)
    }

    /// Something else takes all of it.
    fn fill(&self) {
        let error = fs::write(self.0.path().join("else"), vec![7; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        fs::remove_file(self.0.path().join("else")).unwrap();
    }

    fn data(&self) -> String {
        self.0.path().join("registry").to_str().unwrap().to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.path().display());
    }
}

fn start(data: &str) -> Running {
    Running::start(&["gregister", "--http", "127.0.0.1:0", "--data", data])
}

fn put(node: &Running, port: usize) -> (u16, String) {
    let body = format!(r#"{{"host":"10.0.0.1","port":{port},"ttl":3600,"lease":"l"}}"#);
    node.ask("PUT", &format!("/v1/services/goods/{port}"), &body)
}

fn listed(node: &Running) -> Vec<String> {
    let body = node.get("/v1/services/goods");
    body.split(r#"{"id":""#).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// Registers until that is refused, which must say why; returns how many are listed, by ports from 1 on.
fn fill(node: &Running, from: usize, why: &str) -> usize {
    for port in from.. {
        let (status, body) = put(node, port);
        if status != 200 {
            assert_eq!(status, 503, "{body}");
            assert!(body.contains("the disk of the node cannot be written") && body.contains(why), "{body}");
            return port - 1;
        }
        // The room that is left in the last block.
        assert!(port < from + 1_000, "the disk does not become full");
    }
    unreachable!()
}

fn ports(most: usize) -> Vec<String> {
    let mut ports: Vec<_> = (1..=most).map(|port| port.to_string()).collect();
    ports.sort();
    ports
}

/// At once, or a moment later: to write all anew is tried again after a second.
fn resumes(node: &Running, port: usize) {
    let begin = Instant::now();
    while put(node, port).0 != 200 {
        assert!(begin.elapsed() < Duration::from_secs(10), "it does not take changes again");
    }
}

#[test]
fn a_full_disk_takes_no_changes_and_loses_none_until_there_is_room() {
    let disk = Disk::new();
    let node = start(&disk.data());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let joined = listener.local_addr().unwrap();
    assert!(node.get(&format!("/register?node_id=1&weight=1&tcp_addr={joined}")).contains("success"));
    disk.fill();
    let most = fill(&node, 1, "No space left on device");
    assert!(most > 0);
    let mut weight = 1;
    let refused = loop {
        let answer = node.get(&format!("/editWeight?tcp_addr={joined}&weight={}", weight + 1));
        if !answer.contains("success") {
            break answer;
        }
        weight += 1;
    };
    assert!(refused.contains(r#""code":1"#) && refused.contains("No space left on device"), "{refused}");

    // What is there is served, and stays: a renewal needs no room.
    let revision = node.get("/v1/services");
    let is_served = |node: &Running| {
        assert_eq!(listed(node), ports(most));
        assert!(node.get("/getNodes").contains(&format!(r#""weight":{weight}}}"#)));
        assert_eq!(node.ask("POST", "/v1/services/goods/1/renew?lease=l", "").0, 200);
        assert_eq!(node.get("/v1/services"), revision);
    };
    is_served(&node);
    drop(node);
    // It was killed, and starts on the full disk.
    let node = start(&disk.data());
    is_served(&node);
    assert!(fill(&node, most + 1, "No space left on device") >= most);

    let most = listed(&node).len();
    disk.make_room();
    resumes(&node, most + 1);
    drop(node);
    let node = start(&disk.data());
    assert_eq!(listed(&node), ports(most + 1));
    node.stop();
}

/// The system takes a refusal to write to files for a disk that fails.
#[test]
fn a_disk_that_fails_for_a_while_stops_changes_for_so_long() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("registry");
    let mut command = Command::new("sh");
    // Else it would be killed.
    command.args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#, env!("CARGO_BIN_EXE_ms")]);
    let node = Running::run(command.args(["gregister", "--http", "127.0.0.1:0", "--data"]).arg(&data));
    let limit = |bytes: &str| {
        let mut limited = Command::new("prlimit");
        limited.args(["--pid", &node.id().to_string(), &format!("--fsize={bytes}:")]);
        assert!(limited.status().unwrap().success());
    };
    for round in 0..3 {
        resumes(&node, 2 * round + 1);
        resumes(&node, 2 * round + 2);
        limit("0");
        assert_eq!(fill(&node, 2 * round + 3, "File too large"), 2 * round + 2);
        assert_eq!(listed(&node), ports(2 * round + 2));
        assert_eq!(node.ask("POST", "/v1/services/goods/1/renew?lease=l", "").0, 200);
        limit("unlimited");
    }
    resumes(&node, 7);
    drop(node);
    let node = start(data.to_str().unwrap());
    assert_eq!(listed(&node), ports(7));
    node.stop();
}

#[test]
fn a_disk_that_is_full_at_first_is_named() {
    let disk = Disk::new();
    disk.fill();
    let output = Command::new(env!("CARGO_BIN_EXE_ms")).args(["gregister", "--data", &disk.data()]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = format!("data: {}: No space left on device", disk.data());
    assert!(!output.status.success() && errors.contains(&said), "{errors}");
    disk.make_room();
    let node = start(&disk.data());
    assert_eq!(put(&node, 1).0, 200);
    assert!(Path::new(&disk.data()).join("changes").exists());
}
