//! A layer of the user's own, on both sides: tenants with a budget of calls. The layer itself takes 45 lines.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ms_rpc::{Answer, CallOptions, Client, Code, Context, Invocation, Layer, Next, Outcome, Server, Status};

/// Server's layer: counts the calls of each tenant, and refuses those beyond its budget.
#[derive(Debug)]
struct Budgets {
    calls: u32,
    spent: Mutex<HashMap<String, u32>>,
    seen: Arc<Mutex<Vec<(Code, bool)>>>,
}

/// The tenant of a call, for the method.
struct Tenant(String);

#[async_trait::async_trait]
impl Layer for Budgets {
    async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status> {
        let Some(tenant) = call.context().metadata("tenant").map(str::to_owned) else {
            return Err(Status::new(Code::Unauthenticated, "send the tenant's name as `tenant`").not_executed());
        };
        let left = {
            let mut spent = self.spent.lock().unwrap();
            let spent = spent.entry(tenant.clone()).or_default();
            *spent += 1;
            self.calls.checked_sub(*spent)
        };
        let Some(left) = left else {
            let message = format!("tenant `{tenant}` has spent its {} calls", self.calls);
            let status = Status::new(Code::ResourceExhausted, message).not_executed();
            return Err(status.with_retry_after(Duration::from_secs(60)));
        };
        call.context_mut().extensions_mut().insert(Tenant(tenant));
        let started = std::time::Instant::now();
        let mut answer = next.run(call).await?;
        self.seen.lock().unwrap().push((answer.code(), started.elapsed() < Duration::from_secs(60)));
        answer.metadata_mut().insert("calls-left", &left.to_string())?;
        answer.metadata_mut().insert_bytes("budget-bin", &left.to_be_bytes())?;
        Ok(answer)
    }
}

/// Client's layer: names the tenant, and notes what is left of its budget, as text and in binary.
#[derive(Clone, Debug, Default)]
struct As(&'static str, Arc<Mutex<Vec<Left>>>);

type Left = (String, Vec<u8>);

#[async_trait::async_trait]
impl Layer for As {
    async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status> {
        call.context_mut().metadata_mut().insert("tenant", self.0)?;
        let answer = next.run(call).await?;
        if let Some(metadata) = answer.metadata() {
            let text = metadata.get("calls-left").unwrap_or_default().to_owned();
            self.1.lock().unwrap().push((text, metadata.get_bytes("budget-bin").unwrap_or_default().to_vec()));
        }
        Ok(answer)
    }
}

#[ms_rpc::service(name = "hello")]
trait Hello {
    async fn hello(&self, ctx: Context) -> String;
}

struct Greeter;

impl Hello for Greeter {
    async fn hello(&self, ctx: Context) -> String {
        format!("hello {}", ctx.extensions().get::<Tenant>().unwrap().0)
    }
}

#[tokio::test]
async fn a_layer_on_each_side_names_counts_refuses_and_reports() {
    let seen = Arc::default();
    let budgets = Budgets { calls: 2, spent: Mutex::default(), seen: Arc::clone(&seen) };
    let server = Server::bind("127.0.0.1:0").await.unwrap().layer(budgets).serve(HelloServer::new(Greeter));
    let server = server.start().await.unwrap();
    let client = Client::connect(&server.address().to_string()).await.unwrap();

    let error = HelloClient::new(client.clone()).hello().await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::Unauthenticated, Outcome::Refused));
    assert_eq!(error.message(), "send the tenant's name as `tenant`");

    let red = As("red", Arc::default());
    let hello = HelloClient::new(client.with(CallOptions::new().layer(red.clone())));
    for _ in 0..2 {
        assert_eq!(hello.hello().await.unwrap(), "hello red");
    }
    let error = hello.hello().await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::ResourceExhausted, Outcome::Refused));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(error.message(), "tenant `red` has spent its 2 calls");
    let left = [("1".to_owned(), 1u32.to_be_bytes().to_vec()), ("0".to_owned(), 0u32.to_be_bytes().to_vec())];
    assert_eq!(*red.1.lock().unwrap(), left);

    // A tenant of its own budget goes on.
    let blue = HelloClient::new(client.with(CallOptions::new().layer(As("blue", Arc::default()))));
    assert_eq!(blue.hello().await.unwrap(), "hello blue");
    assert_eq!(*seen.lock().unwrap(), [(Code::Ok, true); 3]);
    server.shutdown().await;
}
