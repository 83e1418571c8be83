//! Each verb of `ms mq` against a node in a process of its own.

#![allow(clippy::unwrap_used)]

mod running;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use running::{
    Running,
    cluster::{Cluster, of, text},
};

#[test]
fn bodies_pass_byte_for_byte() {
    let cluster = Cluster::of(1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("body");
    let file = format!("@{}", path.display());
    let bytes: Vec<u8> = (0..=255).chain([b'\t', b'\n', 0, 0xff]).collect();
    fs::write(&path, &bytes).unwrap();
    for (arguments, stdin, body) in [
        (&["push", "t", "this is a job"][..], &b""[..], &b"this is a job"[..]),
        (&["push", "t", "-"], &bytes, &bytes),
        (&["push", "t", &file], b"", &bytes),
        (&["push", "t", "-5 degrees"], b"", b"-5 degrees"),
        (&["push", "t", "-H", "a=b", "--", "--delay"], b"", b"--delay"),
        (&["push", "t", "--literal", "-"], b"unread", b"-"),
        (&["push", "t", "--literal", "@nowhere"], b"", b"@nowhere"),
        (&["push", "t", "a\tb\nc"], b"", b"a\tb\nc"),
    ] {
        let pushed = cluster.fed(arguments, stdin);
        assert!(pushed.status.success(), "{arguments:?}: {}", text(&pushed.stderr));
        let id: u64 = text(&pushed.stdout).trim().parse().unwrap();
        let got = cluster.run(&["get", "t", &id.to_string()]);
        assert_eq!(got.stdout, body, "{arguments:?}");
        let popped = cluster.run(&["pop", "t"]);
        assert_eq!(popped.stdout, body, "{arguments:?}");
        // The receipt is for a script as well.
        let said = text(&popped.stderr);
        let words: Vec<_> = said.split_whitespace().collect();
        let id = id.to_string();
        let ["receipt", receipt, "of", "message", of, "retries", "0"] = words[..] else { panic!("{said}") };
        assert_eq!(of, format!("{id},"));
        cluster.ok(&["ack", receipt]);
    }
    cluster.fed(&["push", "t", "-"], &bytes);
    let popped = cluster.pop("t");
    assert!(popped.get("body").is_none());
    assert!(of(&popped, "body_base64").starts_with("AAECAwQFBgcICQ"), "{popped}");
}

#[test]
fn a_push_carries_what_it_is_given() {
    let cluster = Cluster::of(1);
    cluster.ok(&["declare", "t", "red"]);
    cluster.ok(&["declare", "t", "red"]);
    let all = ["-H", "trace=1=2", "--header", "empty=", "--route-key", "red", "--priority", "3", "--ttr", "5s"];
    let pushed = cluster.json(&[&["push", "t", "job", "--durability", "written"], &all[..]].concat());
    let popped = cluster.json(&["pop", "t", "red"]).remove(0);
    assert_eq!(popped["id"], pushed[0]["id"]);
    assert_eq!(
        (of(&popped, "body"), popped["lease_ms"].as_u64(), popped["retries"].as_u64()),
        ("job", Some(5000), Some(0))
    );
    assert_eq!((of(&popped["headers"], "trace"), of(&popped["headers"], "empty")), ("1=2", ""));
    let first = cluster.ok(&["push", "t", "once", "--dedup", "k"]);
    assert_eq!(cluster.ok(&["push", "t", "once", "--dedup", "k"]), first);
    cluster.ok(&["push", "t", "later", "--delay", "10m"]);
    assert_eq!(cluster.counts("t"), [1, 1, 0, 0]);
    let due = cluster.ok(&["push", "t", "past", "--due", "2020-01-01T00:00:00Z", "--ttl", "1h"]);
    let due = cluster.json(&["get", "t", due.trim()]).remove(0);
    assert!(due["state"] == "ready" && due["expires_ms"].as_u64().unwrap() > due["due_ms"].as_u64().unwrap(), "{due}");
    let far = cluster.fails(&["push", "t", "far", "--due", "2999-01-01T00:00:00Z"]);
    assert!(far.0 == 4 && far.1.contains("366 days"), "{far:?}");
    cluster.ok(&["configure", "t", "--max-dead", "10", "--dead-age", "1d", "--ttl", "1h"]);
    let settings = &cluster.json(&["stats", "t"])[0]["settings"];
    assert_eq!(
        (&settings["max_dead"], &settings["dead_age_ms"], &settings["ttl_ms"]),
        (&10.into(), &86_400_000.into(), &3_600_000.into())
    );
}

#[test]
fn lines_are_messages() {
    let cluster = Cluster::of(1);
    let lines: String = (0..1234).map(|n| format!("job {n}\n")).collect();
    let pushed = cluster.fed(&["push", "t", "--lines", "-"], format!("\n{lines}\nlast").as_bytes());
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    assert_eq!(text(&pushed.stdout).lines().count(), 1235);
    assert_eq!(cluster.counts("t"), [1235, 0, 0, 0]);
    let popped = cluster.ok(&["pop", "t", "--max", "1000", "--lines", "--ack"]);
    assert_eq!(popped, lines.lines().take(1000).map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(cluster.ok(&["pop", "t", "--max", "1000", "--lines", "--ack"]).lines().last(), Some("last"));
    assert_eq!(cluster.counts("t"), [0, 0, 0, 0]);

    let mut long = b"short\n".to_vec();
    long.extend(vec![b'x'; (1 << 20) + 1]);
    let refused = cluster.fed(&["push", "t", "--lines", "-"], &long);
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).contains("line 2 of stdin has more than 1048576 bytes"), "{}", text(&refused.stderr));
    let refused = cluster.fed(&["push", "t", "-"], &long);
    assert!(text(&refused.stderr).contains("stdin has more than 1048576 bytes"), "{}", text(&refused.stderr));

    // Lines are pushed as they come, not at the end.
    let mut push =
        cluster.command(&["push", "live", "--lines", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = push.stdin.take().unwrap();
    writeln!(stdin, "now").unwrap();
    let begin = Instant::now();
    while cluster.run(&["pop", "live", "--wait", "1s", "--ack"]).stdout != b"now" {
        assert!(begin.elapsed() < Duration::from_secs(20), "nothing comes before the end of stdin");
    }
    drop(stdin);
    assert!(push.wait().unwrap().success());
}

#[test]
fn deliveries_are_settled() {
    let cluster = Cluster::of(1);
    for n in 0..4 {
        cluster.ok(&["push", "t", &format!("job {n}")]);
    }
    let receipts: Vec<_> = (0..4).map(|_| of(&cluster.pop("t"), "receipt").to_owned()).collect();
    cluster.ok(&["touch", &receipts[0], "--lease", "10m"]);
    cluster.ok(&["touch", &receipts[0]]);
    cluster.ok(&["ack", &receipts[0], &receipts[1]]);
    let late = cluster.fails(&["ack", &receipts[0]]);
    assert!(late.0 == 4 && late.1.ends_with("is not leased under this receipt any more"), "{late:?}");
    assert_eq!(cluster.fails(&["touch", &receipts[1]]).0, 4);
    cluster.ok(&["nack", &receipts[2], "--delay", "10m", "--reason", "no"]);
    cluster.ok(&["return", &receipts[3]]);
    assert_eq!(cluster.counts("t"), [1, 1, 0, 0]);
    assert_eq!(cluster.pop("t")["retries"], 0);
    let other = receipts[0].replacen("1-", "2-", 1);
    let other = cluster.fails(&["ack", &other]);
    assert!(other.0 == 4 && other.1.starts_with("ms: this receipt is from node 2, store "), "{other:?}");
    let nonsense = cluster.fails(&["ack", "nonsense"]);
    assert!(nonsense.0 == 2 && nonsense.1.contains("this is no receipt"), "{nonsense:?}");
}

#[test]
fn queues_are_looked_at_and_operated() {
    let cluster = Cluster::of(1);
    cluster.ok(&["configure", "t", "--max-retries", "0", "--ttr", "1m", "--max-length", "100", "--mode", "exact"]);
    assert_eq!(cluster.fails(&["configure", "t"]).0, 2);
    let first = cluster.ok(&["push", "t", "a\tb"]).trim().to_owned();
    let second = cluster.ok(&["push", "t", "second", "--priority", "9"]).trim().to_owned();
    assert_eq!(
        cluster.ok(&["peek", "t", "--max", "5"]),
        format!("id\tretries\tpriority\tbody\n{second}\t0\t9\tsecond\n{first}\t0\t0\ta\\tb\n")
    );
    let listed = cluster.json(&["list", "t"]);
    assert_eq!(listed.iter().map(|row| of(row, "id")).collect::<Vec<_>>(), [&first, &second]);
    assert_eq!((of(&listed[0], "state"), listed[0].get("body")), ("ready", None));
    let node = cluster.nodes[0].address("RPC");
    let header = "node\ttopic\tqueue\tready\tdelayed\theld\tleased\tdead\tpushed\tpopped\tacked\tfailed\tdied\toldest_ms\tpaused\n";
    let stats = cluster.ok(&["stats", "t"]);
    let row: Vec<_> = stats.strip_prefix(header).unwrap().trim_end().split('\t').collect();
    assert_eq!(row[..13], [&node, "t", "default", "2", "0", "0", "0", "0", "2", "0", "0", "0", "0"]);
    assert!(row[13].parse::<u64>().unwrap() < 600_000 && row[14] == "false", "{row:?}");
    assert_eq!(cluster.ok(&["stats"]).lines().count(), 2);
    assert_eq!(cluster.json(&["stats", "t"])[0]["settings"]["ttr_ms"], 60_000);

    cluster.ok(&["pause", "t"]);
    assert_eq!(cluster.fails(&["pop", "t"]), (3, "ms: no message".to_owned()));
    assert!(cluster.ok(&["stats", "t"]).ends_with("true\n"));
    cluster.ok(&["resume", "t"]);
    assert_eq!(of(&cluster.json(&["get", "t", &first])[0], "body"), "a\tb");
    cluster.ok(&["prioritize", "t", &first, "200"]);
    assert!(cluster.ok(&["peek", "t"]).ends_with(&format!("{first}\t0\t200\ta\\tb\n")));
    cluster.ok(&["reschedule", "t", &first, "--delay", "10m"]);
    assert_eq!(cluster.counts("t"), [1, 1, 0, 0]);
    cluster.ok(&["reschedule", "t", &first, "--due", "2020-01-01T00:00:00Z"]);
    assert_eq!(cluster.counts("t"), [2, 0, 0, 0]);
    assert_eq!(cluster.fails(&["reschedule", "t", "7", "--delay", "1s"]).0, 4);
    assert_eq!(cluster.fails(&["reschedule", "t", &first]).0, 2);
    assert_eq!(cluster.fails(&["prioritize", "t", &first, "256"]).0, 2);
    cluster.ok(&["cancel", "t", &second]);
    assert_eq!(cluster.fails(&["get", "t", &second]).0, 4);
    assert_eq!(cluster.ok(&["purge", "t"]), "1\n");
    assert_eq!(cluster.fails(&["peek", "t"]), (3, "ms: no message is ready".to_owned()));
    cluster.ok(&["declare", "t", "other"]);
    cluster.ok(&["delete", "t", "other"]);
    assert_eq!(cluster.fails(&["pop", "t", "other"]).0, 4);
    cluster.ok(&["delete", "t"]);
    assert_eq!(cluster.fails(&["stats", "t"]), (4, "ms: topic is not exist".to_owned()));
    let bench = cluster.ok(&["bench", "--count", "200", "--concurrency", "8", "--size", "64"]);
    let lines: Vec<_> = bench.lines().collect();
    assert!(lines[0].starts_with("200 pushed in ") && lines[1].starts_with("200 popped and acked in "), "{bench}");
}

#[test]
fn dead_letters_are_listed_redriven_and_dropped() {
    let cluster = Cluster::of(2);
    cluster.ok(&["configure", "t", "--max-retries", "0"]);
    let mut ids: Vec<_> = (0..6).map(|_| cluster.ok(&["push", "t", "job"]).trim().to_owned()).collect();
    for _ in &ids {
        cluster.ok(&["nack", of(&cluster.pop("t"), "receipt"), "--reason", "it\nbroke"]);
    }
    ids.sort();
    let letters = cluster.json(&["dead", "list", "t"]);
    let mut listed: Vec<_> = letters.iter().map(|letter| of(letter, "id").to_owned()).collect();
    listed.sort();
    assert_eq!(listed, ids);
    assert!(of(&letters[0], "reason").ends_with("it\nbroke"), "{letters:?}");
    assert!(cluster.ok(&["dead", "list", "t"]).lines().skip(1).all(|line| line.ends_with("it\\nbroke")));
    assert_eq!(cluster.counts("t"), [0, 0, 0, 6], "looking takes nothing");

    assert_eq!(cluster.ok(&["dead", "redrive", "t", "--id", &ids[0], "--id", &ids[5]]), "2\n");
    assert_eq!(cluster.fails(&["dead", "redrive", "t", "--id", &ids[0]]).0, 4);
    // A message that is alive is not dropped.
    let alive = cluster.fails(&["dead", "drop", "t", "--id", &ids[0]]);
    assert!(alive.0 == 4 && alive.1.ends_with("is ready, and no dead letter"), "{alive:?}");
    assert_eq!(cluster.ok(&["dead", "drop", "t", "--id", &ids[1]]), "1\n");
    assert_eq!(cluster.counts("t"), [2, 0, 0, 3]);
    assert_eq!(cluster.ok(&["dead", "redrive", "t", "--all"]), "3\n");
    assert_eq!(cluster.counts("t"), [5, 0, 0, 0]);
    cluster.ok(&["nack", of(&cluster.pop("t"), "receipt")]);
    assert_eq!(cluster.json(&["dead", "drop", "t", "--all"])[0]["dropped"], 1);
    assert_eq!(cluster.counts("t"), [4, 0, 0, 0]);
    for verb in ["redrive", "drop"] {
        assert_eq!(cluster.fails(&["dead", verb, "t"]).0, 2, "neither ids nor all");
    }
}

/// A consumer in the background; one that hangs ends with code 124.
fn consume(cluster: &Cluster, arguments: &[&str]) -> Child {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "60", env!("CARGO_BIN_EXE_ms"), "mq", "consume"]).args(arguments);
    command.env("MS_REGISTRY", &cluster.registry).env_remove("RUST_LOG").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_command_is_run_for_each_message() {
    let cluster = Cluster::of(2);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    // The topic is made by the first push.
    let script = format!(
        r#"body=$(cat; echo .); [ "$MS_MQ_RETRIES" = 0 ] && [ "$body" = "bad." ] && exit 3; \
           echo "$MS_MQ_TOPIC $MS_MQ_QUEUE $MS_MQ_RETRIES $MS_MQ_HEADERS $body" >> {}"#,
        out.display()
    );
    let arguments = ["t", "--concurrency", "3", "--backoff", "10ms", "--count", "8", "--", "sh", "-c", &script];
    let consumer = consume(&cluster, &arguments);
    for n in 0..7 {
        cluster.ok(&["push", "t", &format!("job {n}"), "-H", "k=v"]);
    }
    cluster.ok(&["push", "t", "bad"]);
    let ended = consumer.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert_eq!(cluster.counts("t"), [0, 0, 0, 0]);
    let mut lines: Vec<_> = fs::read_to_string(&out).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    let wanted =
        (0..7).map(|n| format!(r#"t default 0 {{"k":"v"}} job {n}."#)).chain(["t default 1 {} bad.".to_owned()]);
    assert_eq!(lines, wanted.collect::<Vec<_>>());
}

#[test]
fn commands_that_fail_leave_dead_letters_with_their_status() {
    let cluster = Cluster::of(1);
    // A command that is not there takes nothing.
    cluster.ok(&["push", "kept", "job"]);
    for program in ["/nowhere/handle", "no-such-program", "/etc/passwd"] {
        let missing = cluster.fails(&["consume", "kept", "--", program]);
        assert_eq!(missing, (2, format!("ms: {program}: there is no such program")));
    }
    assert_eq!(cluster.json(&["list", "kept"])[0]["retries"], 0);
    cluster.ok(&["configure", "t", "--max-retries", "1", "--ttr", "300ms"]);
    cluster.ok(&["push", "t", "poison"]);
    let consumer = consume(&cluster, &["t", "--backoff", "10ms", "--", "sh", "-c", "exit 7"]);
    cluster.until("t", [0, 0, 0, 1]);
    let letters = cluster.json(&["dead", "list", "t"]);
    assert!(of(&letters[0], "reason").ends_with("sh ended with exit status: 7"), "{letters:?}");
    let (begin, mut ended) = (Instant::now(), consumer);
    kill(Pid::from_raw(ended.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(ended.wait().unwrap().success());
    assert!(begin.elapsed() < Duration::from_secs(10));

    // One that takes several leases runs once, and is killed with its message given back when the consumer must end.
    cluster.ok(&["push", "t", "long"]);
    let arguments = ["t", "--count", "1", "--", "sleep", "2"];
    let ended = consume(&cluster, &arguments).wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert_eq!(cluster.counts("t"), [0, 0, 0, 1], "the letter of before, and nothing else");

    cluster.ok(&["push", "t", "longer"]);
    let mut consumer = consume(&cluster, &["t", "--stop-within", "100ms", "--", "sleep", "600"]);
    cluster.until("t", [0, 0, 1, 1]);
    kill(Pid::from_raw(consumer.id().cast_signed()), Signal::SIGHUP).unwrap();
    assert!(consumer.wait().unwrap().success());
    assert_eq!(cluster.counts("t"), [1, 0, 0, 1]);
    // A program that is there and cannot be started.
    let broken = cluster.directory.path().join("broken");
    fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let mut consumer = consume(&cluster, &["t", "--", broken.to_str().unwrap()]);
    cluster.until("t", [0, 0, 0, 2]);
    assert!(cluster.ok(&["dead", "list", "t"]).contains("/broken: No such file"));
    kill(Pid::from_raw(consumer.id().cast_signed()), Signal::SIGINT).unwrap();
    assert!(consumer.wait().unwrap().success());
}

#[test]
fn exit_codes_tell_what_happened() {
    let mut cluster = Cluster::of(1);
    cluster.ok(&["declare", "t", "default"]);
    assert_eq!(cluster.fails(&["pop", "t"]), (3, "ms: no message".to_owned()));
    assert_eq!(cluster.fails(&["pop", "t", "--wait", "10ms"]).0, 3);
    assert_eq!(cluster.fails(&["pop", "t", "--json"]).0, 3);
    for (arguments, said) in [
        (&["push", "t", "--dely=5s"][..], "--dely=5s is no option of `push`"),
        (&["push", "t", "@/no/such/file"], "/no/such/file: No such file"),
        (&["push", "t", "x", "-H", "novalue"], "a header is KEY=VALUE"),
        (&["push", "t", "x", "--delay", "10"], "time unit needed"),
        (&["push", "t", "x", "--delay", "10 parsecs"], "10m"),
        (&["push", "t", "x", "--priority", "256"], "256"),
        (&["push", "t", "x", "--ttr", "1000000d"], "--ttr"),
        (&["push", "t", "--lines", "--dedup", "k", "-"], "cannot be used with"),
        (&["pop", "t", "--max", "2"], "--max: several bodies need --json or --lines"),
        (&["pop", "t", "--max", "0"], "1..=1000"),
        (&["consume", "t"], "COMMAND"),
        (&["get", "t", "x"], "invalid digit"),
        (&["stats", "--registry", "zoo://x"], "scheme `zoo` is unknown"),
        (&["stats", "--registry", "static://"], "names no host"),
        (&["nonsense"], "nonsense"),
    ] {
        let (code, error) = cluster.fails(arguments);
        assert!(code == 2 && error.contains(said), "{arguments:?}: {code} {error}");
    }
    for (arguments, said) in [
        (&["pop", "nope"][..], "topic is not exist"),
        (&["pop", "t", "zzz"], "bindKey:zzz can't match queue"),
        (&["push", "t", "x", "--route-key", "zzz"], "bindKey:zzz can't match queue"),
        (&["push", "", "x"], "topic is empty"),
        (&["push", "t", ""], "data is empty"),
        (&["push", "t", "x", "--delay", "400d"], "day"),
        (&["declare", "a/b", "q"], "topic \"a/b\": "),
        (&["bench", "--count", "1", "--topic", "a/b"], "a/b"),
    ] {
        let (code, error) = cluster.fails(arguments);
        assert!(code == 4 && error.contains(said), "{arguments:?}: {code} {error}");
    }
    cluster.nodes.remove(0).stop();
    for arguments in [&["push", "t", "x"][..], &["pop", "t"], &["consume", "t", "--", "true"], &["stats"]] {
        let (code, error) = cluster.fails(arguments);
        assert!(code == 5 && error.starts_with("ms: unavailable: "), "{arguments:?}: {code} {error}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let cluster = Cluster::of(1);
    for n in 0..30 {
        cluster.ok(&["declare", "t", &format!("{n}{}", "q".repeat(200))]);
    }
    let ms = format!("{} mq", env!("CARGO_BIN_EXE_ms"));
    for (line, said) in [
        (format!("{ms} stats | head -1"), "node\ttopic"),
        (format!("{ms} --help | head -1"), "Pushes"),
        (format!("yes job | head -5000 | {ms} push t --lines - | head -1"), ""),
    ] {
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", &line]).env("MS_REGISTRY", &cluster.registry).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{line}");
        assert!(text(&output.stdout).starts_with(said), "{line}: {}", text(&output.stdout));
        assert_eq!(text(&output.stdout).lines().count(), 1, "{line}");
    }
    // A message that was not read is there for the next one.
    cluster.ok(&["declare", "u", "default"]);
    cluster.ok(&["push", "u", &"x".repeat(100_000)]);
    let line = format!("{ms} pop u --ack | true");
    assert!(Command::new("sh").args(["-c", &line]).env("MS_REGISTRY", &cluster.registry).status().unwrap().success());
    cluster.until("u", [1, 0, 0, 0]);
    assert_eq!(cluster.pop("u")["retries"], 0);
}

#[test]
fn help_shows_an_example_for_each_verb() {
    let cluster = Cluster::of(0);
    let output = Command::new(env!("CARGO_BIN_EXE_ms")).args(["mq", "--help"]).output().unwrap();
    let help = text(&output.stdout);
    assert!(
        help.contains("Exit codes: 0 done, 2 wrong arguments, 3 no message, 4 a node refused, 5 no node"),
        "{help}"
    );
    let commands = |help: &str| -> Vec<String> {
        let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        verbs
            .filter_map(|line| line.split_whitespace().next())
            .filter(|verb| *verb != "help")
            .map(str::to_owned)
            .collect()
    };
    let verbs = commands(&help);
    assert_eq!(verbs.len(), 32, "{verbs:?}");
    for verb in &verbs {
        let help = cluster.ok(&[verb, "--help"]);
        let sub = commands(&help);
        if sub.is_empty() {
            assert!(help.contains("Example") && help.contains(&format!("ms mq {verb} ")), "{verb}: {help}");
        }
        for word in sub {
            let help = cluster.ok(&[verb, &word, "--help"]);
            assert!(
                help.contains("Example") && help.contains(&format!("ms mq {verb} {word} ")),
                "{verb} {word}: {help}"
            );
        }
    }
}

#[test]
fn the_back_ends_of_this_build_are_listed_and_others_are_not_promised() {
    let ms = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_ms")).args(arguments).output().unwrap();
    let version = text(&ms(&["--version"]).stdout);
    let listed = version.lines().nth(1).unwrap().strip_prefix("registry back ends: ").unwrap();
    let all = [
        ("memory", true),
        ("static", true),
        ("dns", cfg!(feature = "dns")),
        ("etcd", cfg!(feature = "etcd")),
        ("file", cfg!(feature = "file")),
        ("gregister", cfg!(feature = "gregister")),
        ("nacos", cfg!(feature = "nacos")),
        ("zookeeper", cfg!(feature = "zookeeper")),
    ];
    let compiled: Vec<_> = all.iter().filter(|(_, is_in)| *is_in).map(|(name, _)| *name).collect();
    assert_eq!(listed, compiled.join(", "));
    for (name, is_in) in all {
        for verb in [&["mq", "stats"][..], &["mq-node"], &["gregister"]] {
            let help = text(&ms(&[verb, &["--help"]].concat()).stdout);
            assert_eq!(help.contains(&format!("{name}://")), is_in, "{verb:?}: {help}");
        }
        if !is_in {
            let refused = ms(&["mq", "stats", "--registry", &format!("{name}://127.0.0.1:1")]);
            let said = text(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2));
            assert!(said.contains("`ms --version` lists") && said.contains(&format!("--features {name}")), "{said}");
        }
    }
}

#[test]
fn a_receipt_finds_its_node_in_a_list_without_numbers() {
    let cluster = Cluster::of(2);
    cluster.ok(&["declare", "t", "default"]);
    let pushed: Vec<_> = (0..2).map(|_| cluster.json(&["push", "t", "job"]).remove(0)).collect();
    for _ in &pushed {
        let popped = cluster.pop("t");
        cluster.ok(&["touch", of(&popped, "receipt")]);
        cluster.ok(&["ack", of(&popped, "receipt")]);
    }
    assert_eq!(cluster.counts("t"), [0, 0, 0, 0]);
}

#[test]
fn a_hang_up_ends_a_server_unless_it_is_ignored() {
    for kind in ["mq-node", "gregister"] {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let start = |shell: &str| {
            let rpc = if kind == "mq-node" { "--rpc 127.0.0.1:0" } else { "" };
            let ms = env!("CARGO_BIN_EXE_ms");
            let line = format!("{shell} exec {ms} {kind} --http 127.0.0.1:0 {rpc} --data {}", data.display());
            // A signal that was ignored at the start stays so: a run of tests may ignore it.
            Running::run(Command::new("env").args(["--default-signal=HUP", "sh", "-c", &line]))
        };
        assert_eq!(start("").end_by(Signal::SIGHUP), Some(0), "{kind}");
        let node = start("trap '' HUP;");
        kill(Pid::from_raw(node.id().cast_signed()), Signal::SIGHUP).unwrap();
        let alive = if kind == "mq-node" { "/ping" } else { "/getNodes" };
        for _ in 0..20 {
            assert_eq!(node.ask("GET", alive, "").0, 200, "{kind}");
        }
        node.stop();
    }
}
