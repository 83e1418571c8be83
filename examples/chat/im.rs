//! A back end of the chat.

use std::sync::Arc;

use ms_gate::{GateBackend, GateClient, Member, backend};
use ms_register::MsRegister;
use ms_rpc::{Balancer, Blob, ClientProxy, Service};
use serde::Deserialize;
use serde_json::{Value, json};

/// Message between back ends, which no route leads to: deliver what message 3 asks for.
const DELIVER: u32 = 4;

struct Im {
    name: String,
    gates: GateClient,
}

/// Content of message 3.
#[derive(Deserialize)]
struct ToOne {
    to: String,
    text: String,
}

/// The service of a back end of this name.
pub(crate) fn service(name: &str, registry: &Arc<dyn MsRegister>) -> impl Service + use<> {
    let proxy = ClientProxy::builder(registry.clone()).balancer(Balancer::RoundRobin);
    // A balancer is no setting that can be out of its range.
    let proxy = proxy.build().unwrap_or_else(|_| ClientProxy::new(registry.clone()));
    backend(Arc::new(Im { name: name.to_owned(), gates: GateClient::new(proxy) }))
}

impl GateBackend for Im {
    async fn message(&self, from: Member, msg_id: u32, data: Blob) -> Option<Blob> {
        match msg_id {
            2 => {
                let said = json!({"from": called(&from), "text": String::from_utf8_lossy(&data), "by": self.name});
                let _ = self.gates.push_all(2, bytes(&said)).await;
                None
            }
            // Any back end may do it; the answer comes back the same way.
            3 => {
                let handed_on = self.gates.forward("im", None, (from, DELIVER, data)).await;
                handed_on.unwrap_or_else(|status| Some(bytes(&json!({"error": status.code().name()}))))
            }
            DELIVER => Some(bytes(&self.deliver(&from, &data).await)),
            _ => None,
        }
    }
}

impl Im {
    async fn deliver(&self, from: &Member, data: &[u8]) -> Value {
        let Ok(ToOne { to, text }) = serde_json::from_slice(data) else {
            return json!({"error": "write it as {\"to\": .., \"text\": ..}"});
        };
        let said = json!({"from": called(from), "text": text, "by": self.name, "alone": true});
        match self.gates.push_user(&to, 2, bytes(&said)).await {
            Ok(true) => json!({"delivered": to, "by": self.name}),
            Ok(false) => json!({"error": format!("{to} is not here")}),
            Err(status) => json!({"error": status.code().name()}),
        }
    }
}

/// Name of a client, as others see it.
fn called(member: &Member) -> String {
    member.user.as_ref().map_or_else(|| member.id.to_string(), |user| user.to_string())
}

fn bytes(value: &Value) -> Blob {
    value.to_string().into_bytes().into()
}
