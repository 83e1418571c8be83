use super::*;

fn context(seconds: u64) -> Context {
    let mut metadata = Metadata::new();
    metadata.insert("tenant", "blue").unwrap();
    metadata.insert("trace", "1").unwrap();
    Context::new(Instant::now() + Duration::from_secs(seconds)).with_metadata(metadata)
}

#[tokio::test]
async fn it_is_ambient_in_its_scope_only() {
    let (outer, inner) = (context(10), context(5));
    let expected = (outer.deadline(), inner.deadline());
    let seen = outer
        .scope(async move {
            let nested = inner.scope(async { Context::current().unwrap().deadline() }).await;
            tokio::task::yield_now().await;
            (Context::current_deadline().unwrap(), nested)
        })
        .await;
    assert_eq!(seen, expected);
    assert!(Context::current().is_none());
}

#[tokio::test]
async fn secrets_are_not_printed() {
    let context = context(1).with_peer(Peer::new().with_credentials(*b"hush").with_name("order-center"));
    let printed = format!("{context:?}");
    assert!(printed.contains("order-center"), "{printed}");
    assert!(!printed.contains("blue") && !printed.contains("104, 117"), "{printed}");
}

#[test]
fn an_answers_metadata_is_bounded() {
    let mut slot = Some(context(1));
    Context::enter(&mut slot, || {
        Context::respond_with("cache", "hit").unwrap();
        let error = Context::respond_with("large", &"x".repeat(9_000)).unwrap_err();
        assert!(error.reason.contains("8192"), "{error}");
    });
    let response = slot.as_mut().and_then(Context::take_response).unwrap();
    assert_eq!((response.get("cache"), response.iter().count()), (Some("hit"), 1));
    Context::respond_with("outside", "of a call").unwrap();
}
