//! Channels of the user's own: a fake in a test, and one that asks a second server when the first has no answer in time.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{sync::Arc, time::Duration};

use ms_rpc::{Answer, AnyChannel, CallOptions, Channel, Client, Code, Invocation, Local, Outcome, Status};
use shop::{Item, Missing, ShopClient, ShopServer, TestShop};

/// Asks `second` as well when `first` has not answered after `after`: the first answer counts.
#[derive(Debug)]
struct Hedged {
    first: AnyChannel,
    second: AnyChannel,
    after: Duration,
}

#[async_trait::async_trait]
impl Channel for Hedged {
    async fn invoke(&self, call: &mut Invocation) -> Result<Answer, Status> {
        if !call.is_idempotent() {
            return self.first.invoke(call).await;
        }
        let mut again = call.clone();
        let mut first = std::pin::pin!(self.first.invoke(call));
        if let Ok(answer) = tokio::time::timeout(self.after, &mut first).await {
            return answer;
        }
        tokio::select! {
            answer = first => answer,
            answer = self.second.invoke(&mut again) => answer,
        }
    }
}

/// Never answers.
#[derive(Debug)]
struct Silent;

#[async_trait::async_trait]
impl Channel for Silent {
    async fn invoke(&self, _: &mut Invocation) -> Result<Answer, Status> {
        std::future::pending().await
    }
}

/// Knows one item.
#[derive(Debug)]
struct Fake;

#[async_trait::async_trait]
impl Channel for Fake {
    async fn invoke(&self, call: &mut Invocation) -> Result<Answer, Status> {
        let (id,): (i64,) = call.arguments()?;
        match id {
            7 => Answer::value(call.codec(), &Item { id, tags: Vec::new() }),
            _ => Answer::service_error(call.codec(), &Missing(id)),
        }
    }
}

#[tokio::test]
async fn a_fake_answers_values_and_errors() {
    let shop = ShopClient::new(Arc::new(Fake));
    assert_eq!(shop.find(7).await.unwrap().id, 7);
    assert_eq!(shop.find(8).await.unwrap_err().service(), Some(&Missing(8)));
    let error = shop.echo("no number".to_owned()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_channel_is_given_up_at_the_deadline() {
    let shop = ShopClient::new(Arc::new(Silent)).with(CallOptions::new().deadline(Duration::from_millis(50)));
    let error = shop.echo("hello".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::DeadlineExceeded, Outcome::Unknown));
}

#[tokio::test]
async fn the_second_of_two_servers_answers_for_the_first() {
    let (server, _) = shop::server().await;
    let server = server.start().await.unwrap();
    let client = Client::connect(&server.address().to_string()).await.unwrap();
    let silent = AnyChannel::from(Arc::new(Silent));
    let hedged = |first: &AnyChannel, second: AnyChannel| {
        let after = Duration::from_millis(1);
        let channel = Arc::new(Hedged { first: first.clone(), second, after });
        ShopClient::new(channel).with(CallOptions::new().deadline(Duration::from_secs(10)))
    };
    let shop = hedged(&silent, client.into()).with(CallOptions::new().idempotent());
    assert_eq!(shop.find(5).await.unwrap().id, 5);
    // A server within the process is a channel like any other.
    let local: AnyChannel = Local::new(ShopServer::new(TestShop)).into();
    assert_eq!(hedged(&local, silent).echo("here".to_owned()).await.unwrap(), "here");
    server.shutdown().await;
}
