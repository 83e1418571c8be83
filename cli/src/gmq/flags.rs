//! Command lines of gmq's programs, as Go's package `flag` reads them. Pure.

use std::collections::BTreeMap;

/// Values by the names of their options.
pub(crate) type Values = BTreeMap<String, String>;

/// An option: its name, and what it says.
pub(crate) type Known = (&'static str, &'static str);

/// Reads `-name=value`, `--name=value` and `-name value`; the last one of several counts. An option that is a `switch` needs no
/// value.
pub(crate) fn parse(arguments: &[String], known: &[Known], switches: &[&str]) -> Result<Values, String> {
    let mut values = Values::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let option = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')).filter(|name| !name.is_empty());
        let option = option.ok_or_else(|| format!("`{argument}` is no option: write -NAME=VALUE"))?;
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        if !known.iter().any(|(known, _)| *known == name) {
            return Err(format!("there is no option `-{name}`\n{}", usage(known)));
        }
        let value = match value {
            Some(value) => value,
            None if switches.contains(&name) => "true".to_owned(),
            None => arguments.next().ok_or_else(|| format!("-{name}: it needs a value, as in -{name}=VALUE"))?.clone(),
        };
        values.insert(name.to_owned(), value);
    }
    Ok(values)
}

/// The options, one a line.
pub(crate) fn usage(known: &[Known]) -> String {
    let width = known.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = known.iter().map(|(name, text)| format!("  -{name:width$}  {text}"));
    ["options:".to_owned()].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Known] = &[("http_addr", "address"), ("node_id", "number"), ("insecure", "switch")];

    fn read(line: &str) -> Result<Vec<String>, String> {
        let arguments: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let values = parse(&arguments, KNOWN, &["insecure"])?;
        Ok(values.into_iter().map(|(name, value)| format!("{name}: {value}")).collect())
    }

    #[test]
    fn one_dash_or_two_and_an_equals_sign_or_a_space() {
        let wanted = ["http_addr: h:1".to_owned(), "node_id: 2".to_owned()];
        for line in [
            "-http_addr=h:1 -node_id=2",
            "--http_addr=h:1 --node_id 2",
            "-http_addr h:1 -node_id=2",
            "-node_id=7 --http_addr h:1 -node_id=2",
        ] {
            assert_eq!(read(line).unwrap(), wanted, "{line}");
        }
        assert_eq!(read("-http_addr=a=b").unwrap(), ["http_addr: a=b"]);
        assert_eq!(read("-insecure -node_id=").unwrap(), ["insecure: true", "node_id: "]);
    }

    #[test]
    fn what_is_no_option_is_named() {
        assert!(
            read("-nod_id=1").unwrap_err().starts_with("there is no option `-nod_id`\noptions:\n  -http_addr  address")
        );
        assert!(read("start").unwrap_err().starts_with("`start` is no option"));
        assert!(read("-").unwrap_err().starts_with("`-` is no option"));
        assert_eq!(read("-node_id").unwrap_err(), "-node_id: it needs a value, as in -node_id=VALUE");
    }
}
