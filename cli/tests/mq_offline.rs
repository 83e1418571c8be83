//! `ms mq inspect`, `verify`, `backup` and `restore` with the directories of real nodes.

#![allow(clippy::unwrap_used)]

mod running;

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use running::{
    Running,
    cluster::{Cluster, of, text},
};
use serde_json::Value;

fn ms(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ms")).arg("mq").args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Everything that can be seen of a directory: names, times of the last change, and bytes.
fn seen(directory: &Path) -> Vec<(PathBuf, i64, i64, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let file = fs::metadata(&path).unwrap();
            let bytes = if file.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            (path, file.mtime_nsec(), file.ctime_nsec(), bytes)
        })
        .collect();
    files.sort();
    files
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// The directory of a node that had some messages and was stopped.
fn stopped() -> (tempfile::TempDir, PathBuf) {
    let mut cluster = Cluster::of(1);
    let lines: String = (0..500).map(|n| format!("job {n}\n")).collect();
    assert!(cluster.fed(&["push", "orders", "--lines", "-"], lines.as_bytes()).status.success());
    cluster.ok(&["push", "orders", "later", "--delay", "10m"]);
    cluster.ok(&["pop", "orders", "--ack"]);
    cluster.nodes.remove(0).stop();
    let data = cluster.directory.path().join("1");
    (cluster.directory, data)
}

#[test]
fn a_directory_is_looked_at_and_never_changed() {
    let (_directory, data) = stopped();
    let path = data.to_str().unwrap();
    let before = seen(&data);
    let (inspected, verified) = (ms(&["inspect", path, "--json"]), ms(&["verify", path, "--json"]));
    assert!(inspected.status.success() && verified.status.success(), "{inspected:?} {verified:?}");
    assert_eq!(seen(&data), before);
    let rows = objects(&inspected);
    let queue = rows.iter().find(|row| row["kind"] == "queue").unwrap();
    assert_eq!((of(queue, "topic"), of(queue, "queue")), ("orders", "default"));
    assert_eq!((&queue["ready"], &queue["delayed"], &queue["leased"]), (&499.into(), &1.into(), &0.into()));
    let segment = objects(&verified).into_iter().find(|row| row["kind"] == "segment").unwrap();
    assert_eq!((of(&segment, "file"), &segment["sealed"]), ("00000001.segment", &true.into()));
    assert_eq!(segment["messages"], 501);
    let table = text(&ms(&["inspect", path]).stdout);
    assert!(
        table.contains("\n\ntopic\tqueue\tready\t") && table.contains("\norders\tdefault\t499\t1\t0\t0\tfalse\t"),
        "{table}"
    );
}

#[test]
fn damage_is_named_with_file_and_offset() {
    let (directory, data) = stopped();
    let whole = objects(&ms(&["verify", data.to_str().unwrap(), "--json"]));
    let used = whole[0]["used"].as_u64().unwrap();
    let size = whole[0]["bytes"].as_u64().unwrap();
    // The superblock, both copies of the header, the first and the last batch, the footer, and its trailer.
    for (file, offset, named) in [
        ("store", 10, 0..1),
        ("00000001.segment", 20, 0..1),
        ("00000001.segment", 2048 + 20, 2048..2049),
        ("00000001.segment", 4096 + 40, 4096..4097),
        ("00000001.segment", used - 6, used - 200..used),
        ("00000001.segment", used + 10, used..used + 1),
        ("00000001.segment", size - 50, used..size),
    ] {
        let copy = directory.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        for name in ["store", "lock", "00000001.segment"] {
            fs::copy(data.join(name), copy.join(name)).unwrap();
        }
        flip(&copy.join(file), offset);
        let before = seen(&copy);
        let verified = ms(&["verify", copy.to_str().unwrap(), "--json"]);
        assert_eq!(seen(&copy), before);
        assert_eq!(verified.status.code(), Some(1), "{file} {offset}: {}", text(&verified.stderr));
        assert!(text(&verified.stderr).ends_with(": damaged in 1 places\n"), "{}", text(&verified.stderr));
        let found: Vec<_> = objects(&verified).into_iter().filter(|row| row["kind"] == "finding").collect();
        assert_eq!(found.len(), 1, "{file} {offset}: {found:?}");
        assert_eq!((of(&found[0], "file"), &found[0]["damage"]), (file, &true.into()));
        assert!(named.contains(&found[0]["offset"].as_u64().unwrap()), "{file} {offset}: {found:?}");
        // Recovery survives all of these, and a restore is not made of them unless it is asked for.
        let to = directory.path().join("to");
        let _ = fs::remove_dir_all(&to);
        let refused = ms(&["restore", copy.to_str().unwrap(), to.to_str().unwrap()]);
        assert!(refused.status.code() == Some(4) && !to.exists(), "{refused:?}");
        assert!(ms(&["restore", "--damaged", copy.to_str().unwrap(), to.to_str().unwrap()]).status.success());
    }
}

#[test]
fn a_torn_end_is_no_damage() {
    let (_directory, data) = stopped();
    let path = data.to_str().unwrap();
    let segment = data.join("00000001.segment");
    let used = objects(&ms(&["verify", path, "--json"]))[0]["used"].as_u64().unwrap();
    // As after a crash while the last batch was written: no footer, and half a batch.
    let file = fs::File::options().write(true).open(&segment).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(used - 3).unwrap();
    file.set_len(size).unwrap();
    let verified = ms(&["verify", path, "--json"]);
    assert!(verified.status.success(), "{verified:?}");
    let found = objects(&verified).into_iter().find(|row| row["kind"] == "finding").unwrap();
    assert!(found["damage"] == false && of(&found, "problem").starts_with("the last batch is torn"), "{found}");
}

#[test]
fn directories_that_cannot_be_read_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let fails = |arguments: &[&str], code, said: &str| {
        let output = ms(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    };
    fails(&["verify", &path("nowhere")], 1, "No such file or directory");
    fs::create_dir(path("empty")).unwrap();
    fails(&["inspect", &path("empty")], 4, "this is no queue's directory: the file `store` is missing");
    fails(&["restore", &path("empty"), &path("to")], 4, "the file `store` is missing");
    assert!(!Path::new(&path("to")).exists());
    // A later version of the format.
    let mut block = vec![0; 4096];
    block[..8].copy_from_slice(b"ms-mq\0\0\x03");
    block[2048..2056].copy_from_slice(b"ms-mq\0\0\x03");
    fs::create_dir(path("later")).unwrap();
    fs::write(format!("{}/store", path("later")), block).unwrap();
    fails(&["inspect", &path("later")], 4, "its format has version 3, and this program reads version 2");
    let later = Command::new(env!("CARGO_BIN_EXE_ms"))
        .args(["mq-node", "--data", &path("later"), "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(text(&later.stderr).contains("its format has version 3"), "{}", text(&later.stderr));
}

#[test]
fn a_running_node_is_backed_up_and_restored() {
    let mut cluster = Cluster::of(2);
    let mut ids: Vec<_> =
        (0..20).map(|n| cluster.ok(&["push", "orders", &format!("job {n}")]).trim().to_owned()).collect();
    let receipt = of(&cluster.pop("orders"), "receipt").to_owned();
    let rows = cluster.json(&["backup", "friday"]);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.iter().all(|row| row["backup"] == "backups/friday" && row["segments"] == 1), "{rows:?}");
    let again = cluster.fails(&["backup", "friday"]);
    assert!(again.0 == 4 && again.1.ends_with("no backup was made: there is one named friday"), "{again:?}");
    let bad = cluster.fails(&["backup", "../friday"]);
    assert!(bad.0 == 4 && bad.1.contains("the name of a backup has up to 100 letters"), "{bad:?}");
    cluster.ok(&["push", "orders", "too late"]);

    let data = cluster.directory.path().join("1");
    let running = ms(&["inspect", data.to_str().unwrap()]);
    assert_eq!(running.status.code(), Some(1));
    assert!(text(&running.stderr).contains("another process has this queue open"), "{}", text(&running.stderr));

    let mut restored = Vec::new();
    for number in ["1", "2"] {
        let backup = cluster.directory.path().join(number).join("backups/friday");
        let to = cluster.directory.path().join(format!("restored-{number}"));
        let [backup, to] = [&backup, &to].map(|path| path.to_str().unwrap().to_owned());
        assert!(ms(&["verify", &backup]).status.success());
        let said = ms(&["restore", &backup, &to]);
        assert_eq!(text(&said.stdout), format!("1 segments: start the node with --node-id {number} --data {to}\n"));
        let refused = ms(&["restore", &backup, &to]);
        assert_eq!(refused.status.code(), Some(4));
        assert_eq!(text(&refused.stderr), format!("ms: {to}: the directory is not empty: restore to a new one\n"));
        let ports = ["--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        restored.push(Running::start(&[&["mq-node", "--node-id", number, "--data", &to], &ports[..]].concat()));
    }
    cluster.nodes = restored;
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address("RPC")).collect();
    cluster.registry = format!("static://{}", addresses.join(","));
    let mut listed: Vec<_> = cluster.json(&["list", "orders"]).iter().map(|row| of(row, "id").to_owned()).collect();
    listed.sort();
    ids.sort();
    assert_eq!(listed, ids);
    let foreign = cluster.fails(&["ack", &receipt]);
    assert!(foreign.0 == 4 && foreign.1.starts_with("ms: this receipt is from node "), "{foreign:?}");
    for path in fs::read_dir(cluster.directory.path().join("restored-1")).unwrap().map(|entry| entry.unwrap().path()) {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
    }
}
