//! Names of methods: `FindAll` in Go is `find_all` in Rust. Pure.

/// The method of `known` that a Go client means: of the same name, or but for its first letter, or in snake case.
pub(crate) fn find(asked: &str, known: &[&'static str]) -> Option<&'static str> {
    let snake = snake(asked);
    let is_first_letter_alone = |name: &str| {
        let (mut a, mut b) = (name.chars(), asked.chars());
        match (a.next(), b.next()) {
            (Some(x), Some(y)) => x.eq_ignore_ascii_case(&y) && a.as_str() == b.as_str(),
            _ => false,
        }
    };
    let exact = known.iter().find(|&&name| name == asked);
    let but_one = || known.iter().find(|name| is_first_letter_alone(name));
    let snake = || known.iter().find(|&&name| name == snake);
    exact.or_else(but_one).or_else(snake).copied()
}

fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut last_was_small = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && last_was_small {
            snake.push('_');
        }
        last_was_small = !letter.is_ascii_uppercase();
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The name under which a Go server exports a method: `find_all` is `FindAll`.
pub(crate) fn exported(name: &str) -> String {
    let mut exported = String::with_capacity(name.len());
    for word in name.split('_') {
        let mut letters = word.chars();
        exported.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        exported.push_str(letters.as_str());
    }
    exported
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_name_finds_its_method() {
        let known = ["find", "find_all", "findAll", "Odd", "by_id"];
        for (asked, found) in [
            ("Find", Some("find")),
            ("find", Some("find")),
            ("FindAll", Some("findAll")),
            ("find_all", Some("find_all")),
            ("Odd", Some("Odd")),
            ("odd", Some("Odd")),
            ("ById", Some("by_id")),
            ("ByID", Some("by_id")),
            ("FIND", Some("find")),
            ("Lost", None),
            ("", None),
        ] {
            assert_eq!(find(asked, &known), found, "{asked}");
        }
    }

    #[test]
    fn a_method_is_exported_under_its_go_name() {
        for (name, go) in [("find", "Find"), ("find_all", "FindAll"), ("Odd", "Odd"), ("by_id", "ById")] {
            assert_eq!(exported(name), go);
        }
    }
}
