//! What tests look at.
#![allow(dead_code, reason = "each test uses some of it")]

use ms_mq::{Engine, Look, TopicStats};

/// One topic, or all: the first page.
pub(crate) async fn topics(engine: &impl Engine, topic: Option<&str>) -> Vec<TopicStats> {
    let look = Look::Stats { topic: topic.map(str::to_owned), after: None };
    engine.look(look).await.unwrap().topics().0
}

pub(crate) async fn stats(engine: &impl Engine, topic: &str) -> TopicStats {
    topics(engine, Some(topic)).await.remove(0)
}
