//! The doors of `ms`: certificates and tokens of its servers, and of the commands that call them.

#![allow(clippy::unwrap_used)]

mod running;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use running::Running;
use tempfile::TempDir;

/// A folder with certificates of an authority, and a file of tokens.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let made = ms(&["tls", "dev", folder.path("").to_str().unwrap(), "mq", "gregister", "lb", "ops", "order"]);
        assert!(made.status.success(), "{made:?}");
        fs::write(folder.path("tokens"), "ops a-secret\n").unwrap();
        fs::write(folder.path("token"), "a-secret\n").unwrap();
        fs::write(folder.path("other"), "another\n").unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Options of a server with this certificate.
    fn door(&self, name: &str) -> Vec<String> {
        let (cert, key) = (self.text(&format!("{name}.pem")), self.text(&format!("{name}.key")));
        ["--cert", &cert, "--key", &key].map(str::to_owned).into()
    }

    /// Options of a command that trusts the authority.
    fn trust(&self) -> Vec<String> {
        ["--ca", &self.text("ca.pem"), "--trust-domain", "dev"].map(str::to_owned).into()
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ms"));
    for variable in ["REGISTRY", "PROFILE", "CA", "CERT", "KEY", "TRUST_DOMAIN", "DNS_SUFFIX", "TOKEN_FILE"] {
        command.env_remove(format!("MS_{variable}"));
    }
    command.args(arguments).env_remove("RUST_LOG");
    command
}

fn ms(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Standard error of a command that fails.
fn refused(output: &Output, code: i32, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words) && !said.contains("a-secret"), "{said}");
}

fn node(data: &Path, options: &[String]) -> Running {
    let base = ["mq-node", "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    Running::run(command(&base).args(options))
}

/// Status and body of an answer, by curl.
fn curl(arguments: &[&str]) -> (String, String) {
    let output =
        Command::new("curl").args(["-sS", "--max-time", "20", "-w", "\n%{http_code}"]).args(arguments).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.to_owned(), format!("{body}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_queue_node_takes_tls_and_tokens_alone() {
    let folder = Folder::new();
    let options = [folder.door("mq"), vec!["--token-file".into(), folder.text("tokens")]].concat();
    let node = node(&folder.path("data"), &options);
    let registry = format!("static://{}", node.address("RPC"));
    let push = ["mq", "--registry", &registry, "push", "orders", "job"];
    let with = |options: &[Vec<String>]| command(&push).args(options.concat()).output().unwrap();
    let token = |file: &str| vec!["--token-file".to_owned(), folder.text(file)];

    let pushed = with(&[folder.trust(), token("token")]);
    assert!(pushed.status.success(), "{pushed:?}");
    refused(&with(&[folder.trust()]), 4, "the token is missing");
    refused(&with(&[folder.trust(), token("other")]), 4, "the token is missing, unknown");
    refused(&with(&[token("token")]), 5, "this server requires TLS");
    refused(&with(&[folder.trust(), token("nothing")]), 2, "token-file: ");
    refused(&with(&[vec!["--ca".into(), folder.text("ca.pem")]]), 2, "set `trust_domain`");
    refused(&with(&[vec!["--cert".into(), folder.text("ops.pem")]]), 2, "TLS needs --ca");
    let elsewhere = vec!["--identity".to_owned(), "mq=spiffe://dev/order".to_owned()];
    refused(&with(&[folder.trust(), token("token"), elsewhere]), 5, "spiffe://dev/order is expected");

    // The environment and a profile say the same.
    let environment = command(&["call", "mq", "stats", "null", "[]"])
        .envs([("MS_REGISTRY", &registry), ("MS_CA", &folder.text("ca.pem")), ("MS_TOKEN_FILE", &folder.text("token"))])
        .env("MS_TRUST_DOMAIN", "dev")
        .output();
    let environment = environment.unwrap();
    assert!(environment.status.success(), "{environment:?}");
    let profile = format!(
        "registry = {registry:?}\nca = \"ca.pem\"\ntoken-file = \"token\"\n[identity]\nmq = \"spiffe://dev/mq\"\n"
    );
    fs::write(folder.path("profile.toml"), profile).unwrap();
    for arguments in [&["health", "mq"][..], &["instances", "mq"], &["describe", "mq"], &["mq", "stats"]] {
        let done = command(arguments).args(["--profile", &folder.text("profile.toml")]).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }
    fs::write(folder.path("profile.toml"), "token = \"a-secret\"\n").unwrap();
    let broken = ms(&["mq", "stats", "--profile", &folder.text("profile.toml")]);
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
    refused(&ms(&["health", "mq"]), 2, "which registry?");

    let (ca, address) = (folder.text("ca.pem"), node.address("HTTP"));
    let url = format!("https://{address}/getAllTopicStat");
    let trusted = |more: &[&str]| curl(&[&["--cacert", &ca, &url], more].concat());
    assert_eq!(trusted(&[]).0, "401");
    assert_eq!(trusted(&["-H", "Authorization: Bearer a-secret"]).0, "200");
    let (status, body) = curl(&[&format!("http://{address}/healthz")]);
    assert!(status == "400" && body.contains("this server speaks TLS"), "{status} {body}");
    node.stop();
}

#[test]
fn a_node_that_joins_shows_its_certificate_and_token_to_its_peers() {
    let folder = Folder::new();
    let door = [
        folder.door("mq"),
        vec!["--client-ca".into(), folder.text("ca.pem"), "--token-file".into(), folder.text("tokens")],
    ]
    .concat();
    let first = node(&folder.path("first"), &door);
    let profile =
        "ca = \"ca.pem\"\ncert = \"mq.pem\"\nkey = \"mq.key\"\ntoken-file = \"token\"\ntrust-domain = \"dev\"\n";
    fs::write(folder.path("peers.toml"), profile).unwrap();
    let ask = |node: &Running, arguments: &[&str]| {
        let registry = format!("static://{}", node.address("RPC"));
        let asked = command(&["mq", "--registry", &registry, "--profile", &folder.text("peers.toml")]);
        let asked = { asked }.args(arguments).output().unwrap();
        assert!(asked.status.success(), "{arguments:?}: {asked:?}");
        String::from_utf8(asked.stdout).unwrap()
    };
    ask(&first, &["declare", "orders", "paid"]);
    let peers = format!("static://{}", first.address("RPC"));
    let second = |more: &[String]| {
        let own = ["--node-id", "2", "--registry", &peers].map(str::to_owned);
        node(&folder.path("second"), &[&door, &own[..], more].concat())
    };
    let knows = |node: &Running| ask(node, &["stats", "--json"]).contains("orders");
    // Without them it starts, and knows nothing.
    let blind = second(&[]);
    assert!(!knows(&blind));
    blind.stop();
    let joined = second(&["--peers".to_owned(), folder.text("peers.toml")]);
    assert!(knows(&joined));
    joined.stop();
    first.stop();
    fs::write(folder.path("peers.toml"), "registry = \"memory://\"\n").unwrap();
    let data = folder.text("third");
    let broken = ms(&["mq-node", "--data", &data, "--peers", &folder.text("peers.toml")]);
    let said = String::from_utf8_lossy(&broken.stderr);
    assert!(!broken.status.success() && said.contains("the registry is that of --registry"), "{said}");
}

#[test]
fn a_queue_node_that_asks_for_certificates_knows_strangers() {
    let folder = Folder::new();
    let options = [folder.door("mq"), vec!["--client-ca".into(), folder.text("ca.pem")]].concat();
    let node = node(&folder.path("data"), &options);
    let registry = format!("static://{}", node.address("RPC"));
    let stats =
        |options: Vec<String>| command(&["mq", "--registry", &registry, "stats"]).args(options).output().unwrap();
    let known = stats([folder.trust(), folder.door("ops")].concat());
    assert!(known.status.success(), "{known:?}");
    refused(&stats(folder.trust()), 5, "there was none, and it needs one");
    let strangers = Folder::new();
    refused(&stats([folder.trust(), strangers.door("ops")].concat()), 5, "refused our certificate");
    refused(&stats([strangers.trust(), folder.door("ops")].concat()), 5, "an authority that is not trusted here");
    let url = format!("https://{}/healthz", node.address("HTTP"));
    let (cert, key) = (folder.text("ops.pem"), folder.text("ops.key"));
    let ca = folder.text("ca.pem");
    assert_eq!(curl(&["--cacert", &ca, "--cert", &cert, "--key", &key, &url]).0, "200");
    assert_eq!(curl(&["--cacert", &ca, &url]).0, "000");
    node.stop();
}

#[cfg(feature = "gregister")]
#[test]
fn gregister_and_its_client_speak_tls() {
    let folder = Folder::new();
    let data = folder.text("registry");
    let options = [
        folder.door("gregister"),
        vec!["--client-ca".into(), folder.text("ca.pem"), "--token-file".into(), folder.text("tokens")],
    ];
    let gregister =
        Running::run(command(&["gregister", "--http", "127.0.0.1:0", "--data", &data]).args(options.concat()));
    assert!(gregister.said.contains("HTTPS on"), "{}", gregister.said);
    let address = gregister.address("HTTPS");
    let url = |more: &str| format!("gregister://{address}?tls=1&ca={}&token=a-secret{more}", folder.text("ca.pem"));
    let own = format!("&cert={}&key={}", folder.text("ops.pem"), folder.text("ops.key"));
    let named = url(&format!("{own}&server_name=spiffe://dev/gregister"));
    let node = node(&folder.path("data"), &["--registry".into(), named.clone()]);
    let listed = ms(&["instances", "mq", "--registry", &named]);
    assert!(listed.status.success(), "{listed:?}");
    let by_host = ms(&["instances", "mq", "--registry", &url(&own)]);
    assert!(by_host.status.success(), "{by_host:?}");
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&node.address("RPC")), "{listed:?}");
    for (registry, words) in [
        (url(&format!("{own}&server_name=registry.example")), "registry.example is expected"),
        (url(&format!("{own}&server_name=spiffe://dev/mq")), "spiffe://dev/mq is expected"),
        (url("&server_name=spiffe://dev/gregister"), "there was none, and it needs one"),
        (format!("gregister://{address}?token=a-secret"), "this server speaks TLS"),
    ] {
        let failed = ms(&["instances", "mq", "--registry", &registry]);
        let said = String::from_utf8_lossy(&failed.stderr);
        assert!(!failed.status.success() && said.contains(words) && !said.contains("a-secret"), "{registry}: {said}");
    }
    node.stop();
    gregister.stop();
}

#[test]
fn no_secret_is_logged_or_counted() {
    let folder = Folder::new();
    let (log, key) = (folder.path("log"), fs::read_to_string(folder.path("mq.key")).unwrap());
    let serve = [
        &["mq-node", "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", &folder.text("data")]
            .map(str::to_owned)[..],
        &folder.door("mq"),
        &["--token-file".to_owned(), folder.text("tokens")],
    ];
    let node = Running::logged(command(&[]).args(serve.concat()).env("RUST_LOG", "trace"), &log);
    let registry = format!("static://{}", node.address("RPC"));
    let mut said = String::new();
    for token in ["token", "other"] {
        let mut push = command(&["mq", "--registry", &registry, "push", "orders", "job"]);
        push.args(folder.trust()).args(["--token-file", &folder.text(token)]).env("RUST_LOG", "trace");
        said += &String::from_utf8_lossy(&push.output().unwrap().stderr);
    }
    let (ca, url) = (folder.text("ca.pem"), format!("https://{}", node.address("HTTP")));
    for header in ["Authorization: Bearer a-secret", "Authorization: Bearer another"] {
        let (_, metrics) = curl(&["--cacert", &ca, "-H", header, &format!("{url}/metrics?token=another")]);
        said += &metrics;
    }
    node.stop();
    let logged = fs::read_to_string(&log).unwrap();
    assert!(logged.contains("ms_rpc::audit") && said.contains("ms_rpc_denied_total"), "{logged}\n{said}");
    for secret in ["a-secret", "another", key.lines().nth(1).unwrap()] {
        assert!(!logged.contains(secret) && !said.contains(secret), "{secret} is shown:\n{logged}\n{said}");
    }
}

#[test]
fn an_open_door_to_a_network_is_asked_for_by_name() {
    let folder = Folder::new();
    let data = folder.text("data");
    let rpc = ["mq-node", "--rpc", "0.0.0.0:0", "--http", "127.0.0.1:0", "--data", &data];
    let http = ["mq-node", "--rpc", "127.0.0.1:0", "--http", "0.0.0.0:0", "--data", &data];
    let gregister = ["gregister", "--http", "0.0.0.0:0", "--data", &data, "--networks", "127.0.0.0/8"];
    for base in [&rpc[..], &http, &gregister] {
        refused(&ms(base), 1, "can be reached by others: give --cert and --key, or --token-file; or --insecure");
        for option in [vec!["--insecure".to_owned()], folder.door("mq"), vec!["--token".into(), "word".into()]] {
            Running::run(command(base).args(&option)).stop();
        }
    }
    for (options, words) in [
        (vec!["--cert", "nothing.pem", "--key", "nothing.key"], "nothing.pem cannot be read"),
        (vec!["--token-file", "nothing"], "the token file nothing cannot be read"),
    ] {
        refused(&command(&rpc).args(options).output().unwrap(), 1, words);
    }
}

#[test]
fn a_proxys_name_is_served_if_it_is_public() {
    let folder = Folder::new();
    let options = ["--public-name".to_owned(), "queue.example, other.example".to_owned()];
    let node = node(&folder.path("data"), &options);
    let url = format!("http://{}/getAllTopicStat", node.address("HTTP"));
    for (host, status) in [("queue.example", "200"), ("other.example:443", "200"), ("evil.example", "403")] {
        assert_eq!(curl(&["-H", &format!("Host: {host}"), &url]).0, status, "{host}");
    }
    node.stop();
}

/// Address of a back end that answers each request with its head.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (BufReader::new(stream.unwrap()), String::new());
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
            let answer =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{head}", head.len());
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

/// A load balancer with this certificate, before such a back end.
fn balancer(folder: &Folder, options: &[String]) -> Running {
    let settings = format!("registry = \"static://{}\"\n[[rule]]\nmatch = \".*\"\nservice = \"shop\"\n", echo());
    fs::write(folder.path("lb.toml"), settings).unwrap();
    let base = ["lb", "http", "--listen", "127.0.0.1:0", "--config", &folder.text("lb.toml")];
    Running::run(command(&base).args(folder.door("lb")).args(options))
}

#[test]
fn an_http_balancer_speaks_tls_alone() {
    let folder = Folder::new();
    let front = balancer(&folder, &[]);
    let (address, ca) = (front.address("HTTPS"), folder.text("ca.pem"));
    let url = format!("https://{address}/page");
    let (status, seen) = curl(&["--cacert", &ca, &url]);
    assert!(status == "200" && seen.starts_with("GET /page HTTP/1.1\r\n"), "{status} {seen}");
    for header in ["x-forwarded-proto: https\r\n", &format!("x-forwarded-host: {address}\r\n")] {
        assert!(seen.contains(header), "no {header:?}: {seen}");
    }
    // The certificate is this authority's.
    assert_eq!(curl(&["--cacert", &Folder::new().text("ca.pem"), &url]).0, "000");
    let (status, said) = curl(&[&format!("http://{address}/page")]);
    assert!(status == "400" && said.contains("this server speaks TLS: use https://"), "{status} {said}");
    front.stop();

    let front = balancer(&folder, &["--client-ca".to_owned(), ca.clone()]);
    let url = format!("https://{}/page", front.address("HTTPS"));
    let (cert, key) = (folder.text("ops.pem"), folder.text("ops.key"));
    assert_eq!(curl(&["--cacert", &ca, "--cert", &cert, "--key", &key, &url]).0, "200");
    assert_eq!(curl(&["--cacert", &ca, &url]).0, "000", "a client without a certificate");
    front.stop();
}

#[test]
#[ignore = "a minute: the files are compared once a minute"]
fn an_http_balancer_takes_a_new_certificate_without_a_restart() {
    let (folder, renewed) = (Folder::new(), Folder::new());
    let front = balancer(&folder, &[]);
    let url = format!("https://{}/page", front.address("HTTPS"));
    let (old, new) = (folder.text("ca.pem"), renewed.text("ca.pem"));
    assert_eq!((curl(&["--cacert", &old, &url]).0, curl(&["--cacert", &new, &url]).0), ("200".into(), "000".into()));
    for name in ["lb.pem", "lb.key"] {
        fs::copy(renewed.path(name), folder.path(name)).unwrap();
    }
    let patience = ["--retry", "90", "--retry-delay", "1", "--retry-max-time", "90", "--retry-all-errors"];
    let (status, said) = curl(&[&patience[..], &["--cacert", &new, &url]].concat());
    assert_eq!(status, "200", "the certificate of before is still in use: {said}");
    assert_eq!(curl(&["--cacert", &old, &url]).0, "000");
    front.stop();
}
