//! What `#[service]` takes, and what it says about what it does not take.

#[test]
fn errors_point_at_the_users_line_and_say_what_to_write() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/fail/*.rs");
}

#[test]
fn everything_that_is_promised_compiles_and_runs() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
}
