//! `ms mq export`, `import` and `top` with real nodes.

#![allow(clippy::unwrap_used)]

mod running;

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use running::cluster::{Cluster, of, text};
use serde_json::Value;

fn lines(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn groups_are_kept_and_messages_go_from_queue_to_queue() {
    let (cluster, other) = (Cluster::of(1), Cluster::of(1));
    let all = ["--backoff", "1s, 1m", "--max-leased", "5", "--rate", "100/1s", "--max-retries", "0"];
    cluster.ok(&[&["configure", "t"], &all[..]].concat());
    let settings = cluster.json(&["stats", "t"]);
    assert!(settings.is_empty(), "no queue yet");
    let ids: Vec<_> =
        ["a", "b", "c"].map(|body| cluster.ok(&["push", "t", body, "--group", "g"]).trim().to_owned()).to_vec();
    let row = cluster.json(&["stats", "t"]).remove(0);
    let settings = &row["settings"];
    assert_eq!((&settings["backoff_ms"], &settings["max_leased"]), (&serde_json::json!([1000, 60_000]), &5.into()));
    assert_eq!(settings["rate"], serde_json::json!({ "messages": 100, "per_ms": 1000 }));
    assert_eq!((&row["ready"], &row["held"]), (&1.into(), &2.into()));
    for (option, value) in [("--rate", "100"), ("--rate", "x/1s"), ("--backoff", "1s,,")] {
        assert_eq!(cluster.fails(&["configure", "t", option, value]).0, 2, "{option} {value}");
    }
    cluster.ok(&["configure", "t", "--backoff", "none", "--rate", "none"]);
    let settings = &cluster.json(&["stats", "t"])[0]["settings"];
    assert_eq!((&settings["backoff_ms"], &settings["rate"]), (&serde_json::json!([]), &Value::Null));
    assert_eq!(of(&cluster.json(&["get", "t", &ids[1]])[0], "group"), "g");

    let exported = cluster.ok(&["export", "t"]);
    assert!(lines(&exported).iter().all(|line| of(line, "group") == "g"), "{exported}");
    assert!(other.fed(&["import", "-"], exported.as_bytes()).status.success());
    let imported = other.json(&["stats", "t"]).remove(0);
    assert_eq!((&imported["ready"], &imported["held"]), (&1.into(), &2.into()), "one group still");

    let receipt = of(&cluster.pop("t"), "receipt").to_owned();
    cluster.ok(&["bury", &receipt, "--reason", "poison"]);
    assert!(of(&cluster.json(&["dead", "list", "t"])[0], "reason").ends_with("poison"));
    assert_eq!(cluster.fails(&["bury", &receipt]).0, 4);
    cluster.ok(&["declare", "t", "other"]);
    assert_eq!(cluster.ok(&["copy", "t", "--to", "other"]), "2\n");
    assert_eq!(cluster.ok(&["move", "t", "--to", "other", "--id", &ids[2]]), "1\n");
    assert_eq!(cluster.ok(&["move", "t", "--to", "other", "--dead"]), "1\n");
    assert_eq!(cluster.json(&["list", "t", "other"]).len(), 4);
    assert_eq!(cluster.fails(&["move", "t", "--to", "nowhere"]).0, 4);
}

#[test]
fn messages_pass_byte_for_byte() {
    let (cluster, other) = (Cluster::of(2), Cluster::of(1));
    let bytes: Vec<u8> = (0..=255).collect();
    cluster.ok(&["declare", "t", "red.*"]);
    for n in 0..30 {
        cluster.ok(&[
            "push",
            "t",
            &format!("job {n}\t\u{1f600}\u{1}"),
            "--route-key",
            "red.*",
            "--priority",
            &(n % 3).to_string(),
        ]);
    }
    let pushed =
        cluster.fed(&["push", "t", "-", "--route-key", "red.*", "--ttr", "7s", "-H", "a=1", "-H", "a=2"], &bytes);
    assert!(pushed.status.success());
    cluster.ok(&["push", "t", "later", "--route-key", "red.*", "--delay", "10m"]);
    let exported = cluster.ok(&["export", "t", "red.*"]);
    let rows = lines(&exported);
    let ids: Vec<_> = rows.iter().map(|row| of(row, "id").parse::<u64>().unwrap()).collect();
    assert!(ids.len() == 32 && ids.is_sorted(), "{ids:?}");
    // An export that was cut off goes on.
    let rest = cluster.ok(&["export", "t", "red.*", "--after", &ids[20].to_string()]);
    assert_eq!(rest, exported.lines().skip(21).map(|line| format!("{line}\n")).collect::<String>());

    other.ok(&["configure", "t", "--mode", "fuzzy"]);
    other.ok(&["declare", "t", "redder"]);
    let imported = other.fed(&["import", "-"], exported.as_bytes());
    assert_eq!(
        text(&imported.stdout),
        "32 imported, 0 left out because their time to live has ended\n",
        "{imported:?}"
    );
    let again = lines(&other.ok(&["export", "t", "red.*"]));
    let without_id = |row: &Value| {
        let mut row = row.clone();
        // Due at once is due at the push.
        let is_due = row["state"] == "ready";
        row.as_object_mut().unwrap().retain(|key, _| key != "id" && !(is_due && key == "due_ms"));
        row
    };
    assert_eq!(again.iter().map(without_id).collect::<Vec<_>>(), rows.iter().map(without_id).collect::<Vec<_>>());
    // The first queue alone is the one that was exported.
    assert_eq!(other.ok(&["export", "t", "redder"]), "");
}

#[test]
fn an_import_says_where_it_stopped_and_goes_on_there() {
    let cluster = Cluster::of(1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs");
    let path = path.to_str().unwrap();
    let all = |bad: &str| -> String {
        (1..=1300).map(|n| if n == 901 { format!("{bad}\n") } else { format!("{{\"body\":\"job {n}\"}}\n") }).collect()
    };
    for (bad, said) in [
        ("{\"body\":\"job 901\",\"colour\":1}", "it is no message: unknown field `colour`"),
        ("nonsense", "it is no message: "),
        ("{\"body_base64\":\"*\"}", "body_base64: "),
        ("{}", "it has neither body nor body_base64"),
        ("{\"body\":\"a\",\"body_base64\":\"YQ==\"}", "it has both body and body_base64"),
    ] {
        std::fs::write(path, all(bad)).unwrap();
        let stopped = cluster.fails(&["import", path, "--topic", "t"]);
        assert_eq!(stopped.0, 4, "{stopped:?}");
        let start = format!("ms: the import of {path} stopped at line 901 after 900 messages: {said}");
        assert!(stopped.1.starts_with(&start) && stopped.1.ends_with("; go on with --from-line 901"), "{stopped:?}");
        assert_eq!(cluster.counts("t"), [900, 0, 0, 0]);
        std::fs::write(path, all("{\"body\":\"job 901\"}")).unwrap();
        cluster.ok(&["import", path, "--topic", "t", "--from-line", "901"]);
        let bodies: Vec<_> =
            lines(&cluster.ok(&["export", "t"])).iter().map(|row| of(row, "body").to_owned()).collect();
        assert_eq!(bodies, (1..=1300).map(|n| format!("job {n}")).collect::<Vec<_>>());
        cluster.ok(&["purge", "t"]);
    }
    // Without a topic, and refused by the node.
    let stopped = cluster.fails(&["import", path]);
    assert!(stopped.0 == 4 && stopped.1.contains("it has no topic: name one with --topic"), "{stopped:?}");
    cluster.ok(&["configure", "small", "--max-length", "600"]);
    let stopped = cluster.fails(&["import", path, "--topic", "small"]);
    let done = cluster.counts("small")[0];
    let line = done + 1;
    let start =
        format!("ms: the import of {path} stopped at line {line} after {done} messages: queue \"default\" is full");
    assert!(stopped.0 == 4 && (101..=600).contains(&done) && stopped.1.starts_with(&start), "{done} {stopped:?}");
    let missing = cluster.fails(&["import", "/nowhere"]);
    assert_eq!(missing, (2, "ms: /nowhere: No such file or directory (os error 2)".to_owned()));

    // The same lines once more, with their ids as dedup keys.
    let exported = cluster.ok(&["export", "small"]);
    for _ in 0..2 {
        assert!(cluster.fed(&["import", "--topic", "once", "--dedup", "-"], exported.as_bytes()).status.success());
        assert_eq!(cluster.counts("once"), [done, 0, 0, 0]);
    }
}

#[test]
fn dead_letters_are_exported_apart_and_begin_anew() {
    let cluster = Cluster::of(1);
    cluster.ok(&["configure", "t", "--max-retries", "0"]);
    cluster.ok(&["push", "t", "dies"]);
    cluster.ok(&["nack", of(&cluster.pop("t"), "receipt"), "--reason", "no such customer"]);
    cluster.ok(&["push", "t", "lives"]);
    let (alive, dead) = (lines(&cluster.ok(&["export", "t"])), cluster.ok(&["export", "t", "--dead"]));
    assert_eq!((alive.len(), of(&alive[0], "body")), (1, "lives"));
    let letter = &lines(&dead)[0];
    assert_eq!(
        (of(letter, "body"), of(letter, "state"), of(letter, "reason")),
        ("dies", "dead", "delivered 1 times; the last time: no such customer")
    );
    assert!(cluster.fed(&["import", "--topic", "again", "-"], dead.as_bytes()).status.success());
    assert_eq!(cluster.counts("again"), [1, 0, 0, 0]);
    assert_eq!(cluster.counts("t"), [1, 0, 0, 1], "exporting takes nothing");
}

#[test]
fn top_shows_rates() {
    let cluster = Cluster::of(2);
    cluster.ok(&["declare", "idle", "default"]);
    let done = AtomicBool::new(false);
    let top = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                cluster.ok(&["push", "busy", "job"]);
            }
        });
        let top = cluster.json(&["top", "--once", "--interval", "2s"]);
        done.store(true, Ordering::Relaxed);
        top
    });
    assert_eq!(top.iter().map(|row| of(row, "topic")).collect::<Vec<_>>(), ["busy", "idle"]);
    assert!(top[0]["pushed_s"].as_f64().unwrap() > 0.0 && top[0]["ready"].as_u64().unwrap() > 0, "{top:?}");
    assert_eq!((&top[1]["pushed_s"], &top[1]["ready"]), (&0.0.into(), &0.into()));
    assert!(cluster.ok(&["top", "idle", "--once", "--interval", "100ms"]).starts_with("topic\tqueue\tready\t"));
    let piped = cluster.fails(&["top"]);
    assert_eq!(piped, (2, "ms: `top` draws on a terminal: elsewhere use `top --once`".to_owned()));
    assert_eq!(cluster.fails(&["top", "--once", "--interval", "1ms"]).0, 2);
}

#[test]
fn top_draws_a_screen_until_ctrl_c() {
    let cluster = Cluster::of(1);
    cluster.ok(&["push", "orders", "job"]);
    // A terminal of its own.
    let line = format!("exec {} mq top --interval 200ms", env!("CARGO_BIN_EXE_ms"));
    let mut script = Killed(
        Command::new("script")
            .args(["-qfec", &line, "/dev/null"])
            .env("MS_REGISTRY", &cluster.registry)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let (mut screen, mut out) = (String::new(), script.0.stdout.take().unwrap());
    while !screen.contains("orders") {
        let mut bytes = [0; 4096];
        let read = out.read(&mut bytes).unwrap();
        assert!(read > 0, "it ended: {screen:?}");
        screen.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(screen.contains("\u{1b}[?1049h") && screen.contains("1 nodes, 1 queues: 1 ready"), "{screen:?}");
    script.0.stdin.take().unwrap().write_all(b"\x03").unwrap();
    out.read_to_string(&mut screen).unwrap();
    assert!(screen.contains("\u{1b}[?25h\u{1b}[?1049l"), "{screen:?}");
    assert!(script.0.wait().unwrap().success());
}

/// A child that does not outlive a test that fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
