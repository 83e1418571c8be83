//! `ms services`, `instances`, `describe`, `health` and `call`: services of any registry, as callers see them.

use std::{io::Read, sync::Arc, time::Duration};

use clap::Args;
use ms_register::{Instance, MsRegister, ServiceName};
use ms_rpc::{CallOptions, Client, ClientProxy, Code, DescribeClient, HealthClient, HealthState, Status};
use serde_json::{Map, Value};

use crate::{
    caller::{Caller, CallerArgs, RegistryArgs},
    exit::Failure,
    output::{Output, row},
    times,
};

#[derive(Args, Debug)]
pub(crate) struct ServicesArgs {
    #[command(flatten)]
    registry: RegistryArgs,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct InstancesArgs {
    service: String,
    /// Prints the list again whenever it changes, until the command is ended.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ServiceArgs {
    service: String,
    #[command(flatten)]
    caller: CallerArgs,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CallArgs {
    service: String,
    method: String,
    /// Arguments in order, each in JSON.
    arguments: Vec<String>,
    /// All arguments as one JSON array, or object by name: text, `-` for stdin, or `@FILE`.
    #[arg(short, long, conflicts_with = "arguments")]
    data: Option<String>,
    /// Time limit of the call.
    #[arg(long, default_value = "5s", value_parser = times::parse)]
    deadline: Duration,
    /// Metadata of the call.
    #[arg(short, long, value_name = "KEY=VALUE")]
    meta: Vec<String>,
    /// Id of the only instance to call.
    #[arg(long)]
    instance: Option<String>,
    #[command(flatten)]
    caller: CallerArgs,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// A connection to one instance of a service.
async fn client(caller: &Caller, service: &str, instance: &Instance) -> Result<Client, Failure> {
    Ok(caller.client(Client::builder().service(service)).connect(&instance.address()).await?)
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unreachable(status.to_string()),
            _ => Self::Refused(status.to_string()),
        }
    }
}

fn name(service: &str) -> Result<ServiceName, Failure> {
    ServiceName::new(service).map_err(|error| Failure::Usage(error.to_string()))
}

/// The listed instances, at least one.
async fn listed(registry: &Arc<dyn MsRegister>, service: &str) -> Result<Vec<Instance>, Failure> {
    let found = registry.list(&name(service)?).await?;
    match found.is_empty() {
        true => Err(Failure::Empty(format!("no instance of `{service}` is listed in {}", registry.url()))),
        false => Ok(found),
    }
}

pub(crate) async fn services(args: ServicesArgs) -> Result<(), Failure> {
    let (registry, output) = (args.registry.connect(None).await?, Output::new(args.json));
    let rows: Vec<_> = registry.services().await?.iter().map(|name| row! { "service": name.as_str() }).collect();
    output.rows(&["service"], &rows)
}

pub(crate) async fn instances(args: InstancesArgs) -> Result<(), Failure> {
    let (registry, output) = (args.registry.connect(None).await?, Output::new(args.json));
    if !args.watch {
        return show(&output, &listed(&registry, &args.service).await?);
    }
    let mut watch = registry.watch(&name(&args.service)?);
    loop {
        let snapshot = watch.changed().await.map_err(|error| Failure::Unreachable(error.to_string()))?;
        if !snapshot.is_failing() {
            show(&output, snapshot.instances())?;
        }
    }
}

fn show(output: &Output, instances: &[Instance]) -> Result<(), Failure> {
    let rows: Vec<_> = instances
        .iter()
        .map(|instance| {
            let metadata: Map<_, _> =
                instance.metadata().iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
            let (id, address) = (instance.id(), instance.address());
            row! { "id": id, "address": address, "weight": instance.weight(), "metadata": metadata }
        })
        .collect();
    output.rows(&["id", "address", "weight", "metadata"], &rows)
}

pub(crate) async fn describe(args: ServiceArgs) -> Result<(), Failure> {
    let ((registry, caller), output) = (args.caller.open(None).await?, Output::new(args.json));
    let mut failed = None;
    for instance in listed(&registry, &args.service).await? {
        match describe_at(&caller, &args.service, &instance).await {
            Ok(rows) => return output.rows(&["method", "definition", "idempotent"], &rows),
            Err(failure) => failed = Some(failure),
        }
    }
    Err(failed.unwrap_or(Failure::Closed))
}

async fn describe_at(caller: &Caller, service: &str, instance: &Instance) -> Result<Vec<Map<String, Value>>, Failure> {
    let client = DescribeClient::new(client(caller, service, instance).await?);
    let Some(description) = client.service(service.to_owned()).await? else {
        return Err(Failure::Refused(format!("`{}` is not served at {}", service, instance.address())));
    };
    // Servers of earlier versions do not tell definitions.
    let signatures = client.signatures(service.to_owned()).await.ok().flatten().unwrap_or_default();
    let methods = description.methods.into_iter().enumerate();
    Ok(methods
        .map(|(at, method)| {
            let arguments = method.arguments.join(", ");
            let written = signatures.get(at).filter(|text| !text.is_empty()).cloned();
            let definition = written.unwrap_or_else(|| format!("{}({arguments})", method.name));
            row! { "method": method.name, "definition": definition, "idempotent": method.idempotent }
        })
        .collect())
}

pub(crate) async fn health(args: ServiceArgs) -> Result<(), Failure> {
    let ((registry, caller), output) = (args.caller.open(None).await?, Output::new(args.json));
    let (mut rows, mut ill) = (Vec::new(), 0);
    for instance in listed(&registry, &args.service).await? {
        let asked = async { Ok(HealthClient::new(client(&caller, &args.service, &instance).await?)) };
        let state = match asked.await {
            Ok(client) => client.service(args.service.clone()).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        let (state, reason) = match state {
            Ok(Some(HealthState::Serving)) => ("serving", String::new()),
            Ok(Some(HealthState::Starting)) => ("starting", String::new()),
            Ok(Some(HealthState::Draining)) => ("draining", String::new()),
            Ok(Some(_)) => ("unknown", "a state of a later version".to_owned()),
            Ok(None) => ("absent", "the service is not served there".to_owned()),
            Err(Failure::Unreachable(reason)) => ("unreachable", reason),
            Err(failure) => ("refused", failure.to_string()),
        };
        ill += usize::from(state != "serving");
        rows.push(row! { "id": instance.id(), "address": instance.address(), "state": state, "reason": reason });
    }
    output.rows(&["id", "address", "state", "reason"], &rows)?;
    match ill {
        0 => Ok(()),
        ill => Err(Failure::Refused(format!("{ill} of {} instances are not serving", rows.len()))),
    }
}

pub(crate) async fn call(args: CallArgs) -> Result<(), Failure> {
    let arguments = arguments(&args)?;
    let mut options = CallOptions::new().deadline(args.deadline);
    for pair in &args.meta {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("--meta: `{pair}` has no `=`: write KEY=VALUE")))?;
        options = options.metadata(key, value);
    }
    if let Some(instance) = args.instance {
        options = options.instance(instance);
    }
    let ((registry, caller), output) = (args.caller.open(None).await?, Output::new(args.json));
    let proxy = caller.proxy(ClientProxy::builder(registry)).build();
    let proxy = proxy.map_err(|error| Failure::Usage(error.to_string()))?;
    match proxy.with(options).call(&args.service, &args.method, &arguments).await {
        Ok(value) => output.line(&value.to_string(), &row! { "value": value }),
        Err(status) => {
            // The service's own error is a value too.
            let own = status.service_error::<Value>().and_then(Result::ok);
            let failure = Failure::from(status);
            Err(match own {
                Some(own) => Failure::Refused(format!("{failure}: {own}")),
                None => failure,
            })
        }
    }
}

/// The arguments: one by one, or all at once.
fn arguments(args: &CallArgs) -> Result<Value, Failure> {
    let Some(data) = &args.data else {
        let read = |text: &String| {
            serde_json::from_str::<Value>(text).map_err(|error| {
                let hint = "quote a text twice, as '\"red\"'";
                Failure::Usage(format!("the argument `{text}` is no JSON ({error}): {hint}"))
            })
        };
        return args.arguments.iter().map(read).collect::<Result<Vec<_>, _>>().map(Value::from);
    };
    let text = match data.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(|error| Failure::Other(format!("{path}: {error}")))?,
        None if data == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        None => data.clone(),
    };
    match serde_json::from_str(&text) {
        Ok(value @ (Value::Array(_) | Value::Object(_))) => Ok(value),
        Ok(_) => Err(Failure::Usage("--data: write an array of all arguments, or an object by name".to_owned())),
        Err(error) => Err(Failure::Usage(format!("--data is no JSON: {error}"))),
    }
}
