use proptest::prelude::*;

use super::*;

/// The same by other means: a pattern is cut into its texts, which are looked for.
fn naive(pattern: &str, text: &str) -> bool {
    match pattern.split('*').collect::<Vec<_>>()[..] {
        [whole] => whole == text,
        [begin, end] => text.len() >= begin.len() + end.len() && text.starts_with(begin) && text.ends_with(end),
        _ => false,
    }
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof!["[ab.]{1,3}", "[ab.]{0,2}[*]", "[*][ab.]{0,2}"]
}

proptest! {
    #[test]
    fn rules_decide_as_a_naive_model_does(
        deny in prop::collection::vec((pattern(), pattern(), pattern()), 0..3),
        allow in prop::collection::vec((pattern(), pattern(), pattern()), 0..4),
        who in "[ab.]{0,3}", service in "[ab.]{1,3}", method in "[ab.]{1,3}",
    ) {
        let rules = |list: &[(String, String, String)]| -> Vec<Rule> {
            list.iter().map(|(who, service, method)| Rule::new(who.clone(), format!("{service}/{method}"))).collect()
        };
        let hit = |list: &[(String, String, String)]| {
            list.iter().any(|(w, s, m)| naive(w, &who) && naive(s, &service) && naive(m, &method))
        };
        let expected = (deny.is_empty() && allow.is_empty()) || (!hit(&deny) && hit(&allow));
        let rules = Rules { deny: rules(&deny), allow: rules(&allow) };
        prop_assert_eq!(rules.allows(&who, &service, &method), expected);
    }
}

#[test]
fn patterns_have_one_star_at_an_end() {
    for legal in ["a", "*", "a*", "*a", "spiffe://prod/*"] {
        assert!(Pattern(legal.to_owned()).is_legal(), "{legal}");
    }
    for illegal in ["", "**", "a*b", "*a*", "a**"] {
        assert!(!Pattern(illegal.to_owned()).is_legal(), "{illegal}");
    }
}
