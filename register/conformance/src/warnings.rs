//! Collects the warnings of one thread.

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{Event, Level, Subscriber, field::Field, subscriber::DefaultGuard};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
};

/// The warnings since it was made, on the thread of the test: its tasks run there too.
#[derive(Debug)]
pub struct Warnings {
    texts: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

impl Warnings {
    /// Begins to collect.
    pub fn capture() -> Self {
        let texts = Arc::new(Mutex::new(Vec::new()));
        let guard = tracing::subscriber::set_default(Registry::default().with(Recorder(texts.clone())));
        Self { texts, _guard: guard }
    }

    /// The warnings that contain `text`.
    pub fn with(&self, text: &str) -> Vec<String> {
        lock(&self.texts).iter().filter(|warning| warning.contains(text)).cloned().collect()
    }
}

fn lock(texts: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    texts.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Recorder(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::WARN {
            let mut text = String::new();
            event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
                if field.name() == "message" {
                    // A `String` takes whatever is written.
                    let _ = write!(text, "{value:?}");
                }
            });
            lock(&self.0).push(text);
        }
    }
}
