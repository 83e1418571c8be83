use super::*;

fn verdict(code: Code, outcome: Outcome, idempotent: bool) -> Verdict {
    judge(&Status::new(code, "").with_outcome(outcome), idempotent)
}

#[test]
fn only_what_was_not_executed_or_may_be_twice_is_tried_again() {
    use Verdict::*;
    for idempotent in [false, true] {
        assert_eq!(verdict(Code::Unavailable, Outcome::NotSent, idempotent), AtOnce);
        assert_eq!(verdict(Code::InvalidArgument, Outcome::NotSent, idempotent), GiveUp);
        assert_eq!(verdict(Code::Unavailable, Outcome::Refused, idempotent), WithinBudget);
        assert_eq!(verdict(Code::Unimplemented, Outcome::Refused, idempotent), OnceElsewhere);
        assert_eq!(verdict(Code::ResourceExhausted, Outcome::Refused, idempotent), GiveUp);
        assert_eq!(verdict(Code::Unavailable, Outcome::Answered, idempotent), GiveUp);
        assert_eq!(verdict(Code::DeadlineExceeded, Outcome::Unknown, idempotent), GiveUp);
    }
    assert_eq!(verdict(Code::Unavailable, Outcome::Unknown, false), GiveUp);
    assert_eq!(verdict(Code::Unavailable, Outcome::Unknown, true), WithinBudget);
}

#[test]
fn the_result_has_the_outcome_of_the_attempt_that_came_farthest() {
    let failed = |code, outcome| Status::new(code, "").with_outcome(outcome);
    let config = RetryConfig::default();
    let mut failures = Failures::new(&config);
    assert_eq!(failures.judge(&failed(Code::Unavailable, Outcome::Unknown), true), Verdict::WithinBudget);
    assert_eq!(failures.judge(&failed(Code::Unavailable, Outcome::Refused), true), Verdict::WithinBudget);
    let result = failures.result(failed(Code::Unavailable, Outcome::NotSent), "a:1");
    assert_eq!((result.outcome(), result.instance()), (Outcome::Unknown, Some("a:1")));
}

#[test]
fn a_method_that_two_instances_do_not_have_is_not_asked_for_again() {
    let config = RetryConfig::default();
    let mut failures = Failures::new(&config);
    let status = Status::new(Code::Unimplemented, "").with_outcome(Outcome::Refused);
    assert_eq!(failures.judge(&status, true), Verdict::OnceElsewhere);
    assert_eq!(failures.judge(&status, true), Verdict::GiveUp);
}

#[test]
fn the_budget_is_a_tenth_of_the_calls_and_3_a_second() {
    let budget = Budget::new(&RetryConfig::default());
    let retries = |now: u64| (0..2000).filter(|_| budget.withdraw(Duration::from_millis(now))).count();
    assert_eq!(retries(0), 10, "it starts with a few");
    (0..50).for_each(|_| budget.deposit());
    assert_eq!(retries(0), 5);
    assert_eq!(retries(1000), 3);
    assert_eq!(retries(61_000), 180);
    (0..20_000).for_each(|_| budget.deposit());
    assert_eq!(retries(61_000), 1000, "no more are saved up");
    assert_eq!(retries(59_000), 0, "a clock that steps back credits nothing");
}

#[test]
fn the_back_off_has_a_cap() {
    for attempt in 0..100 {
        assert!(backoff(&RetryConfig::default(), attempt) <= Duration::from_secs(1));
    }
    assert!(backoff(&RetryConfig::default(), 0) <= Duration::from_millis(50));
}
