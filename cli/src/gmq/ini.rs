//! Configuration files of gmq's programs. Pure.

use std::collections::BTreeMap;

/// Values by `section.key`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ini(BTreeMap<String, String>);

impl Ini {
    /// Reads `[section]` and `key = value`; `#` and `;` begin a comment, at the beginning of a line or after white space.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        let mut section = "";
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = without_comment(line).trim();
            if line.is_empty() {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.trim();
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| format!("line {number}: `{line}` is neither [section] nor key = value"))?;
            let value = value.trim();
            let quoted = ['"', '\'', '`'].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            values.insert(format!("{section}.{}", key.trim()), quoted.unwrap_or(value).to_owned());
        }
        Ok(Self(values))
    }

    /// The value of `section.key`; `None` if it is missing or empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A key that is none of these.
    pub(crate) fn unknown(&self, known: &[&str]) -> Option<&str> {
        self.0.keys().map(String::as_str).find(|key| !known.contains(key))
    }
}

fn without_comment(line: &str) -> &str {
    let begins = |(at, sign): (usize, char)| {
        matches!(sign, '#' | ';') && line[..at].chars().next_back().is_none_or(char::is_whitespace)
    };
    line.char_indices().find(|found| begins(*found)).map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keys_and_comments() {
        let text = "\u{feff}; all\n[node]\nid = 1   # of 1 to 1023\nweight=2\n# level = 3\n dataSavePath = \"data dir\" \r\n\n\
            [ gregister ]\naddr = http://h:1/#x\nempty =\nname = a;b ;c";
        let ini = Ini::parse(text).unwrap();
        assert_eq!(ini.get("node.id"), Some("1"));
        assert_eq!(ini.get("node.weight"), Some("2"));
        assert_eq!(ini.get("node.dataSavePath"), Some("data dir"));
        assert_eq!(ini.get("gregister.addr"), Some("http://h:1/#x"));
        assert_eq!(ini.get("gregister.name"), Some("a;b"));
        assert_eq!((ini.get("gregister.empty"), ini.get("node.level")), (None, None));
        let known = ["node.id", "node.weight", "node.dataSavePath", "gregister.addr", "gregister.empty"];
        assert_eq!(ini.unknown(&known), Some("gregister.name"));
        assert_eq!(Ini::parse("[a\n").unwrap_err(), "line 1: `[a` is neither [section] nor key = value");
    }
}
