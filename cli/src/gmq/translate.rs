//! `gnode` and `gregister` of gmq: their command lines and files, as those of `ms mq-node` and `ms gregister`.

use std::{fs, path::PathBuf};

use super::{
    flags::{self, Known, Values},
    ini::Ini,
};
use crate::log::{Log, LogFile};

/// Arguments of `ms`, and where it logs.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Translated {
    pub(crate) arguments: Vec<String>,
    pub(crate) log: Log,
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// The smallest size of a log that is put aside, in bytes.
const SMALLEST_LOG: u64 = 5_000_000;

pub(super) const GNODE: &[Known] = &[
    ("http_addr", "where HTTP is served (127.0.0.1:9504)"),
    ("tcp_addr", "where gmq's TCP protocols are served (127.0.0.1:9503)"),
    ("rpc_addr", "where RPC is served (127.0.0.1, any free port)"),
    ("report_http_addr", "HTTP address that the register is told (http_addr)"),
    ("report_tcp_addr", "TCP address that the register is told (tcp_addr)"),
    ("register_addr", "registers, separated by commas (http://127.0.0.1:9595)"),
    ("etcd_endpoints", "members of etcd, separated by commas, where the node is written too"),
    ("node_id", "1 to 1023 (1)"),
    ("node_weight", "share of pushes (1)"),
    ("msg_ttr", "seconds that a delivery may take, at most 60 (30)"),
    ("msg_max_retry", "deliveries that may follow a failed one (5)"),
    ("data_save_path", "directory of the messages (data/gnode)"),
    ("log_level", "0 errors, 1 warnings, 2 information, 3 debugging, 4 all (2)"),
    ("config_file", "an ini file, over whose values these options go"),
    ("insecure", "addresses that are not of loopback need no TLS"),
];

pub(super) const GREGISTER: &[Known] = &[
    ("http_addr", "where HTTP is served (127.0.0.1:9595)"),
    ("data_save_path", "directory of what is registered (gregister-data)"),
    ("networks", "networks that may be dialled to probe nodes (loopback)"),
    ("log_level", "0 errors, 1 warnings, 2 information, 3 debugging, 4 all (2)"),
    ("config_file", "an ini file, over whose values these options go"),
    ("insecure", "an address that is not of loopback needs no TLS"),
];

/// Keys of files of both programs.
const KEYS: &[&str] = &[
    "node.id",
    "node.weight",
    "node.msgTTR",
    "node.msgMaxRetry",
    "node.dataSavePath",
    "node.reportTcpaddr",
    "node.reportHttpaddr",
    "http_server.addr",
    "http_server.certFile",
    "http_server.keyFile",
    "http_server.enableTls",
    "tcp_server.addr",
    "tcp_server.weight",
    "tcp_server.certFile",
    "tcp_server.keyFile",
    "tcp_server.enableTls",
    "log.target_type",
    "log.filename",
    "log.level",
    "log.max_size",
    "log.rotate",
    "gregister.addr",
    "etcd.endpoints",
];

/// Values of the command line, and of the file that it names.
struct Given {
    flags: Values,
    ini: Ini,
}

impl Given {
    fn read(arguments: &[String], known: &[Known]) -> Result<Self, String> {
        let flags = flags::parse(arguments, known, &["insecure"])?;
        let ini = match flags.get("config_file").filter(|file| !file.is_empty()) {
            None => Ini::default(),
            Some(file) => {
                let text = fs::read_to_string(file).map_err(|error| format!("config_file: {file}: {error}"))?;
                let ini = Ini::parse(&text).map_err(|error| format!("config_file: {file}: {error}"))?;
                if let Some(key) = ini.unknown(KEYS) {
                    return Err(format!("config_file: {file}: there is no key {key}"));
                }
                ini
            }
        };
        Ok(Self { flags, ini })
    }

    /// The value of an option, or else of a key of the file; an empty value is none.
    fn text(&self, flag: &str, key: &str) -> Option<&str> {
        self.flags.get(flag).map(String::as_str).filter(|value| !value.is_empty()).or_else(|| self.ini.get(key))
    }

    /// The same for a number within these bounds; 0 is none, as in gmq, unless it is within.
    fn number(&self, flag: &str, key: &str, least: u64, most: u64) -> Result<Option<u64>, String> {
        let Some(text) = self.text(flag, key) else { return Ok(None) };
        let name = if self.flags.get(flag).is_some_and(|value| !value.is_empty()) { flag } else { key };
        match text.parse() {
            Ok(0) if least > 0 => Ok(None),
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(format!("{name}: {text:?} is no number from {least} to {most}")),
        }
    }

    fn truth(&self, key: &str) -> Result<bool, String> {
        match self.ini.get(key) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(format!("{key}: {other:?} is neither true nor false")),
        }
    }

    fn is_set(&self, flag: &str) -> bool {
        self.flags.get(flag).is_some_and(|value| value == "true" || value == "1")
    }

    /// Certificate and key of a server, if it speaks TLS.
    fn tls(&self, server: &str) -> Result<Option<(String, String)>, String> {
        if !self.truth(&format!("{server}.enableTls"))? {
            return Ok(None);
        }
        let file = |key: &str| {
            let key = format!("{server}.{key}");
            self.ini.get(&key).map(str::to_owned).ok_or_else(|| format!("{key}: {server}.enableTls needs it"))
        };
        Ok(Some((file("certFile")?, file("keyFile")?)))
    }

    fn log(&self, directory: &str) -> Result<Log, String> {
        let level = self.number("log_level", "log.level", 0, 4)?;
        let mut log = Log { level: level.map(|level| LEVELS[level as usize]), to_console: false, file: None };
        for target in self.ini.get("log.target_type").unwrap_or("console").split(',') {
            match target.trim() {
                "console" => log.to_console = true,
                "file" => {
                    let most = self.number("", "log.max_size", 0, u64::MAX)?.unwrap_or(0).max(SMALLEST_LOG);
                    let path = PathBuf::from(directory).join(self.ini.get("log.filename").unwrap_or("gmq.log"));
                    log.file = Some(LogFile { path, most: self.truth("log.rotate")?.then_some(most) });
                }
                other => return Err(format!("log.target_type: {other:?} is neither console nor file")),
            }
        }
        Ok(log)
    }
}

/// An address as Go writes it: without a host it is that of all interfaces.
fn address(given: &str) -> String {
    if given.starts_with(':') { format!("0.0.0.0{given}") } else { given.to_owned() }
}

/// Arguments of `ms mq-node` for those of `gnode`.
pub(crate) fn gnode(arguments: &[String]) -> Result<Translated, String> {
    let given = Given::read(arguments, GNODE)?;
    let mut translated = vec!["mq-node".to_owned()];
    let mut add = |name: &str, value: String| translated.push(format!("--{name}={value}"));
    add("http", address(given.text("http_addr", "http_server.addr").unwrap_or("127.0.0.1:9504")));
    add("gmq-tcp", address(given.text("tcp_addr", "tcp_server.addr").unwrap_or("127.0.0.1:9503")));
    add("rpc", address(given.text("rpc_addr", "").unwrap_or("127.0.0.1:0")));
    add("gmq-register", given.text("register_addr", "gregister.addr").unwrap_or("http://127.0.0.1:9595").to_owned());
    for (name, flag, key) in [
        ("gmq-report-http", "report_http_addr", "node.reportHttpaddr"),
        ("gmq-report-tcp", "report_tcp_addr", "node.reportTcpaddr"),
    ] {
        if let Some(reported) = given.text(flag, key) {
            add(name, reported.to_owned());
        }
    }
    if let Some(endpoints) = given.text("etcd_endpoints", "etcd.endpoints") {
        let members = endpoints.split(',').map(|member| member.trim().trim_start_matches("http://"));
        add("gmq-etcd", format!("etcd://{}", members.collect::<Vec<_>>().join(",")));
    }
    let number =
        |flag, key, most, default| Ok::<_, String>(given.number(flag, key, 1, most)?.unwrap_or(default).to_string());
    add("node-id", number("node_id", "node.id", 1023, 1)?);
    add("weight", number("node_weight", "node.weight", u32::MAX.into(), 1)?);
    add("new-topic-ttr", format!("{}s", number("msg_ttr", "node.msgTTR", 60, 30)?));
    add("new-topic-retries", number("msg_max_retry", "node.msgMaxRetry", u16::MAX.into(), 5)?);
    add("new-topic-mode", "fuzzy".to_owned());
    let data = given.text("data_save_path", "node.dataSavePath").unwrap_or("data/gnode").to_owned();
    let log = given.log(&data)?;
    add("data", data);
    match (given.tls("http_server")?, given.tls("tcp_server")?) {
        (None, None) => {}
        (Some(http), Some(tcp)) if http == tcp => {
            add("cert", http.0);
            add("key", http.1);
        }
        _ => {
            let text = "http_server.enableTls: the doors of a node have one certificate: give http_server and tcp_server \
                the same certFile and keyFile, and enableTls = true in both or in none";
            return Err(text.to_owned());
        }
    }
    if given.is_set("insecure") {
        translated.push("--insecure".to_owned());
    }
    Ok(Translated { arguments: translated, log })
}

/// Returns true for a command line of `ms gregister` in gmq's form: with the options of gmq's program.
pub(crate) fn is_gregister(arguments: &[String]) -> bool {
    let names = arguments.iter().filter_map(|argument| argument.strip_prefix('-'));
    let mut names = names.map(|name| name.trim_start_matches('-').split('=').next().unwrap_or_default());
    names.any(|name| ["http_addr", "config_file", "data_save_path", "log_level"].contains(&name))
}

/// Arguments of `ms gregister` for those of gmq's `gregister`.
pub(crate) fn gregister(arguments: &[String]) -> Result<Translated, String> {
    let given = Given::read(arguments, GREGISTER)?;
    let mut translated = vec!["gregister".to_owned()];
    let mut add = |name: &str, value: String| translated.push(format!("--{name}={value}"));
    add("http", address(given.text("http_addr", "http_server.addr").unwrap_or("127.0.0.1:9595")));
    let data = given.text("data_save_path", "").unwrap_or("gregister-data").to_owned();
    add("data", data);
    if let Some(networks) = given.text("networks", "") {
        add("networks", networks.to_owned());
    }
    if let Some((cert, key)) = given.tls("http_server")? {
        add("cert", cert);
        add("key", key);
    }
    if given.is_set("insecure") {
        translated.push("--insecure".to_owned());
    }
    Ok(Translated { arguments: translated, log: given.log("")? })
}

#[cfg(test)]
#[path = "translate/tests.rs"]
mod tests;
