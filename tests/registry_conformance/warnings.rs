//! Counts what was warned of on this thread.

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex},
};

use tracing::{Event, Level, Subscriber, field::Field, subscriber::DefaultGuard};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
};

/// The warnings since it was made, on the thread of the test: its tasks run there too.
pub(crate) struct Warnings {
    texts: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

impl Warnings {
    pub(crate) fn capture() -> Self {
        let texts = Arc::new(Mutex::new(Vec::new()));
        let guard = tracing::subscriber::set_default(Registry::default().with(Recorder(texts.clone())));
        Self { texts, _guard: guard }
    }

    /// Those that contain `text`.
    pub(crate) fn with(&self, text: &str) -> Vec<String> {
        self.texts.lock().unwrap().iter().filter(|warning| warning.contains(text)).cloned().collect()
    }
}

struct Recorder(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::WARN {
            let mut text = String::new();
            event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
                if field.name() == "message" {
                    write!(text, "{value:?}").unwrap();
                }
            });
            self.0.lock().unwrap().push(text);
        }
    }
}
