//! Methods that return a status of their own.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use ms_rpc::{Client, Code, DescribeClient, Outcome, RunningServer, Server, Status};

#[ms_rpc::service(name = "statuses")]
trait Statuses {
    async fn busy(&self, code: u8) -> Result<u32, Status>;
    async fn refuses(&self) -> std::result::Result<u32, ms_rpc::Status>;
    async fn passes_on(&self) -> Result<u32, Status>;
    async fn answers(&self, value: Option<Vec<(u8, String)>>) -> Result<Option<Vec<(u8, String)>>, Status>;
}

/// With the server behind it, if there is one.
struct Service(Option<StatusesClient>);

impl Statuses for Service {
    async fn busy(&self, code: u8) -> Result<u32, Status> {
        Err(Status::new(Code::from_number(code), "too much").with_retry_after(Duration::from_millis(250)))
    }

    async fn refuses(&self) -> Result<u32, Status> {
        Err(Status::new(Code::Unavailable, "not now").not_executed())
    }

    async fn passes_on(&self) -> Result<u32, Status> {
        match &self.0 {
            Some(behind) => behind.refuses().await,
            None => self.refuses().await,
        }
    }

    async fn answers(&self, value: Option<Vec<(u8, String)>>) -> Result<Option<Vec<(u8, String)>>, Status> {
        Ok(value)
    }
}

async fn start(service: Service) -> (RunningServer, Client) {
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(StatusesServer::new(service)).start().await.unwrap();
    let client = Client::connect(&server.address().to_string()).await.unwrap();
    (server, client)
}

#[tokio::test]
async fn a_status_that_a_method_returns_is_that_of_the_call() {
    let (_behind, behind) = start(Service(None)).await;
    let behind = StatusesClient::new(behind);
    let (_server, client) = start(Service(Some(behind.clone()))).await;
    let statuses = StatusesClient::new(client.clone());
    let busy = statuses.busy(8).await.unwrap_err();
    assert_eq!((busy.code(), busy.message(), busy.outcome()), (Code::ResourceExhausted, "too much", Outcome::Answered));
    assert_eq!(busy.retry_after(), Some(Duration::from_millis(250)));
    assert_eq!(statuses.busy(0).await.unwrap_err().code(), Code::Unknown, "an error is no success");
    let refused = statuses.refuses().await.unwrap_err();
    assert_eq!((refused.code(), refused.outcome()), (Code::Unavailable, Outcome::Refused));
    // What another call says of itself is not true of this one: its method has run.
    assert_eq!(statuses.passes_on().await.unwrap_err().outcome(), Outcome::Answered);
    assert_eq!(behind.passes_on().await.unwrap_err().outcome(), Outcome::Refused);
    for value in [None, Some(vec![(1, "a".to_owned())])] {
        assert_eq!(statuses.answers(value.clone()).await.unwrap(), value);
    }
    let error = client.call("statuses", "refuses", &serde_json::json!([])).await.unwrap_err();
    assert!(error.outcome() == Outcome::Refused && error.service_error::<()>().is_none());
}

#[tokio::test]
async fn a_server_tells_its_methods_as_they_are_written() {
    let (_server, client) = start(Service(None)).await;
    let describe = DescribeClient::new(client);
    let written = describe.signatures("statuses".to_owned()).await.unwrap().unwrap();
    let expected = [
        "busy(code: u8) -> Result<u32, Status>",
        "refuses() -> std::result::Result<u32, ms_rpc::Status>",
        "passes_on() -> Result<u32, Status>",
        "answers(value: Option<Vec<(u8, String)>>) -> Result<Option<Vec<(u8, String)>>, Status>",
    ];
    assert_eq!(written, expected);
    assert_eq!(describe.service("statuses".to_owned()).await.unwrap().unwrap().methods.len(), expected.len());
    assert_eq!(describe.signatures("nowhere".to_owned()).await.unwrap(), None);
}
