//! Programs of gmq: the TCP port of a queue node and its registration, and the command lines of `gnode`, `gregister`, `gclient`
//! and gmq-web.

pub(crate) mod client;
mod flags;
mod http;
mod ini;
mod register;
mod translate;
pub(crate) mod web;

use std::{error::Error, ffi::OsString, io::Write, net::SocketAddr, path::Path};

use clap::Args;
use ms_gmq::GmqServer;
use ms_mq::{Mode, Settings};
use serde::Deserialize;

use crate::{door::Door, exit::Failure, times};
use flags::Known;
use register::Joining;
pub(crate) use register::Registering;
pub(crate) use translate::Translated;

/// Arguments of a queue node about gmq, and about new topics.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct GmqArgs {
    /// Where the TCP protocols of gmq are served. They have no token: with --token or --token-file, give --client-ca too.
    /// Default: nowhere.
    #[arg(long)]
    gmq_tcp: Option<SocketAddr>,
    /// Registers of gmq that the node joins, such as http://127.0.0.1:9595, separated by commas. They may start later.
    #[arg(long, requires = "gmq_tcp")]
    gmq_register: Option<String>,
    /// URL of the etcd in which the node is listed in gmq's form too, under /gmq/node-ID; it may start later. Needs the back end etcd.
    #[arg(long, requires = "gmq_tcp", value_name = "URL")]
    gmq_etcd: Option<String>,
    /// TCP address that registers and etcd are told. Default: the one that --gmq-tcp listens on.
    #[arg(long, value_name = "HOST:PORT")]
    gmq_report_tcp: Option<String>,
    /// HTTP address that registers and etcd are told. Default: the one that --http listens on.
    #[arg(long, value_name = "HOST:PORT")]
    gmq_report_http: Option<String>,
    /// Length of deliveries of new topics, such as 30s. Default: 30s.
    #[arg(long)]
    new_topic_ttr: Option<String>,
    /// Retries of new topics. Default: 5.
    #[arg(long)]
    new_topic_retries: Option<u16>,
    /// How route keys of new topics are held against bind keys: exact or fuzzy. Default: exact.
    #[arg(long)]
    new_topic_mode: Option<String>,
}

impl GmqArgs {
    /// With what a file says where nothing was given.
    pub(crate) fn or(self, file: Self) -> Self {
        Self {
            gmq_tcp: self.gmq_tcp.or(file.gmq_tcp),
            gmq_register: self.gmq_register.or(file.gmq_register),
            gmq_etcd: self.gmq_etcd.or(file.gmq_etcd),
            gmq_report_tcp: self.gmq_report_tcp.or(file.gmq_report_tcp),
            gmq_report_http: self.gmq_report_http.or(file.gmq_report_http),
            new_topic_ttr: self.new_topic_ttr.or(file.new_topic_ttr),
            new_topic_retries: self.new_topic_retries.or(file.new_topic_retries),
            new_topic_mode: self.new_topic_mode.or(file.new_topic_mode),
        }
    }

    /// Settings that new topics begin with.
    pub(crate) fn new_topics(&self) -> Result<Settings, String> {
        let ttr = self.new_topic_ttr.as_deref().map(times::parse).transpose();
        let mode = match self.new_topic_mode.as_deref() {
            None => None,
            Some("exact") => Some(Mode::Exact),
            Some("fuzzy") => Some(Mode::Fuzzy),
            Some(other) => return Err(format!("new-topic-mode: {other:?} is neither exact nor fuzzy")),
        };
        Ok(Settings {
            mode,
            ttr_ms: ttr.map_err(|error| format!("new-topic-ttr: {error}"))?.map(times::millis),
            max_retries: self.new_topic_retries,
            ..Settings::default()
        })
    }

    /// Listens, where strangers do not get in: the protocols have no token, so certificates of clients take its place.
    pub(crate) async fn bind(&self, door: &Door) -> Result<Option<GmqServer>, Box<dyn Error>> {
        let Some(address) = self.gmq_tcp else { return Ok(None) };
        door.check_without_tokens("gmq-tcp", address)?;
        let server = GmqServer::bind(address).await.map_err(|error| format!("gmq-tcp: {address}: {error}"))?;
        Ok(Some(match &door.tls {
            Some(tls) => server.tls(tls),
            None => server,
        }))
    }

    /// The node as registers and etcd know it; `None` if it is listed nowhere.
    pub(crate) fn registering(
        &self,
        id: u16,
        weight: f64,
        (tcp, http): (Option<SocketAddr>, SocketAddr),
    ) -> Result<Option<Registering>, Failure> {
        let Some(tcp) = tcp.filter(|_| self.gmq_register.is_some() || self.gmq_etcd.is_some()) else { return Ok(None) };
        let reported = |what: &str, given: &Option<String>, address: SocketAddr| match given {
            Some(given) => Ok(given.clone()),
            None if address.ip().is_unspecified() => Err(Failure::Usage(format!(
                "{what}: the node listens on all addresses: name the one under which it is reached"
            ))),
            None => Ok(address.to_string()),
        };
        let tcp = reported("gmq-report-tcp", &self.gmq_report_tcp, tcp)?;
        let http = reported("gmq-report-http", &self.gmq_report_http, http)?;
        let node = Joining { id, weight, tcp, http };
        Registering::new(self.gmq_register.as_deref(), self.gmq_etcd.as_deref(), &node).map(Some)
    }
}

/// Command line of another program, as it is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Words {
    /// Options in the form of Go: -NAME=VALUE, --NAME=VALUE or -NAME VALUE; -help lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    words: Vec<String>,
}

impl Words {
    /// Prints the options if they are asked for; returns true then.
    fn help(&self, known: &[Known]) -> bool {
        let asks = self.words.iter().any(|word| matches!(word.as_str(), "-h" | "-help" | "--help"));
        if asks {
            // The reader may be gone.
            let _ = writeln!(std::io::stdout(), "{}", flags::usage(known));
        }
        asks
    }
}

/// Programs that are subcommands under their own names.
const PROGRAMS: [&str; 4] = ["gnode", "gregister", "gclient", "gmq-web"];

/// The command line with the subcommand that a program's own name stands for; gmq's form of `gregister` has one of its own.
pub(crate) fn by_program(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    let program = arguments.first().and_then(|program| Path::new(program).file_name()?.to_str()).unwrap_or_default();
    if PROGRAMS.contains(&program) {
        let program = program.to_owned();
        arguments.insert(1, program.into());
    }
    let rest: Vec<_> = arguments.iter().skip(2).filter_map(|word| word.to_str().map(str::to_owned)).collect();
    if arguments.get(1).is_some_and(|command| command == "gregister") && translate::is_gregister(&rest) {
        arguments[1] = "gmq-register".into();
    }
    arguments
}

/// The command line of `ms mq-node` for one of `gnode`.
pub(crate) fn gnode(words: &Words) -> Result<Translated, Failure> {
    translated(words, translate::GNODE, translate::gnode)
}

/// The command line of `ms gregister` for one of gmq's `gregister`.
pub(crate) fn gregister(words: &Words) -> Result<Translated, Failure> {
    translated(words, translate::GREGISTER, translate::gregister)
}

fn translated(
    words: &Words,
    known: &[Known],
    translate: impl Fn(&[String]) -> Result<Translated, String>,
) -> Result<Translated, Failure> {
    if words.help(known) {
        return Err(Failure::Closed);
    }
    translate(&words.words).map_err(Failure::Usage)
}
