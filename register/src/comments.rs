//! JSON with comments. Pure.

/// JSON text without its `//` comments, as in the samples of zinx-cluster's files. Strings stay as they are, and lines keep their numbers,
/// for messages about errors.
pub fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' => in_string = !in_string,
            '\\' if in_string => {
                out.push(c);
                out.extend(chars.next());
                continue;
            }
            '/' if !in_string && chars.peek() == Some(&'/') => {
                while chars.next_if(|c| *c != '\n').is_some() {}
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_strings_stay() {
        let text = "// head\n{\"a\": 1, // one\n \"b//\": \"x\\\"//y\", \"c\": 4 / 2}//end";
        assert_eq!(without_comments(text), "\n{\"a\": 1, \n \"b//\": \"x\\\"//y\", \"c\": 4 / 2}");
    }
}
