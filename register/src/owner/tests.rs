use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Notes what its owner asks for; removing takes a second, in made-up time.
#[derive(Clone, Default)]
struct Diary {
    lines: Arc<Mutex<Vec<&'static str>>>,
    /// How many more acquisitions, and attempts to undo one, fail.
    failures: Arc<AtomicU32>,
}

impl Diary {
    fn lines(&self) -> Vec<&'static str> {
        self.lines.lock().unwrap().clone()
    }

    fn note(&self, line: &'static str) {
        self.lines.lock().unwrap().push(line);
    }

    fn fail(&self) -> Result<(), RegisterError> {
        let left = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err(RegisterError::Unreachable { registry: "test://".to_owned(), reason: "asked to".to_owned() }),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl LeaseKeeper for Diary {
    async fn acquire(&mut self) -> Result<(), RegisterError> {
        self.note("acquire");
        self.fail()
    }

    fn update(&mut self, instance: &Instance) -> Result<(), RegisterError> {
        self.note(if instance.weight() > 1.0 { "heavier" } else { "lighter" });
        Ok(())
    }

    async fn held(&mut self) -> String {
        std::future::pending().await
    }

    async fn release(&mut self) -> Result<(), RegisterError> {
        sleep(Duration::from_secs(1)).await;
        self.note("released");
        Ok(())
    }

    async fn undo(&mut self) -> Result<(), RegisterError> {
        self.fail()?;
        self.note("undone");
        Ok(())
    }
}

async fn start(owners: &Owners, diary: &Diary) -> Result<Registration, RegisterError> {
    let service = "goods".parse().unwrap();
    let (about, instance) = (About::new("test://"), Instance::new("h", 80));
    owners.start(&about, &service, instance, Box::new(diary.clone()), Start::Confirmed).await
}

#[tokio::test(start_paused = true)]
async fn an_id_is_written_again_only_after_its_end() {
    let (owners, diary) = (Owners::default(), Diary::default());
    let first = start(&owners, &diary).await.unwrap();
    let twice = start(&owners, &diary).await.unwrap_err();
    assert!(twice.to_string().contains("deregister that first"), "{twice}");
    drop(first);
    let second = start(&owners, &diary).await.unwrap();
    assert_eq!(diary.lines(), ["acquire", "released", "acquire"]);
    second.deregister(Duration::from_secs(2)).await.unwrap();
    assert_eq!(diary.lines().last(), Some(&"released"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_acquisition_is_undone_before_the_next_one() {
    let (owners, diary) = (Owners::default(), Diary::default());
    // The acquisition and two attempts to undo it.
    diary.failures.store(3, Ordering::Relaxed);
    assert!(start(&owners, &diary).await.unwrap_err().is_transient());
    let _second = start(&owners, &diary).await.unwrap();
    assert_eq!(diary.lines(), ["acquire", "undone", "acquire"]);
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_what_was_dropped_and_ends_the_rest() {
    let (owners, diary) = (Owners::default(), Diary::default());
    drop(start(&owners, &diary).await.unwrap());
    owners.end_all(Duration::from_secs(2)).await.unwrap();
    assert_eq!(diary.lines(), ["acquire", "released"]);
    assert!(matches!(start(&owners, &diary).await, Err(RegisterError::Closed { .. })));

    let (owners, diary) = (Owners::default(), Diary::default());
    let kept = start(&owners, &diary).await.unwrap();
    let late = owners.end_all(Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(late, RegisterError::Timeout { .. }), "{late}");
    kept.deregister(Duration::from_secs(1)).await.unwrap();
    assert_eq!(diary.lines(), ["acquire", "released"]);
}

#[tokio::test(start_paused = true)]
async fn an_update_is_written_in_place_and_tried_again() {
    let (owners, diary) = (Owners::default(), Diary::default());
    let registration = start(&owners, &diary).await.unwrap();
    let (heavy, second) = (registration.instance().with_weight(2.0), Duration::from_secs(1));
    registration.update(heavy.clone(), second).await.unwrap();
    assert_eq!(registration.instance(), heavy);
    assert_eq!(diary.lines(), ["acquire", "heavier", "acquire"]);

    for other in [Instance::new("h", 81).with_id("h:80"), heavy.clone().with_id("b"), heavy.clone().with_weight(0.0)] {
        let refused = registration.update(other, second).await.unwrap_err();
        assert!(matches!(refused, RegisterError::InvalidInstance { .. }), "{refused}");
    }
    let mut state = registration.state();
    diary.failures.store(2, Ordering::Relaxed);
    let light = heavy.clone().with_weight(0.5);
    let late = registration.update(light.clone(), Duration::from_millis(10)).await.unwrap_err();
    assert!(matches!(late, RegisterError::Timeout { .. }), "{late}");
    assert_eq!((*state.borrow(), registration.instance()), (RegistrationState::Lost, heavy), "not yet");
    state.wait_for(|state| *state == RegistrationState::Listed).await.unwrap();
    assert_eq!(registration.instance(), light, "the owner went on");
    registration.deregister(2 * second).await.unwrap();
}
