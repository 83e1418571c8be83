//! A file whose measured part is exchanged by each run, and whose other text stays.

use std::{fs, path::Path};

use crate::peer::Failure;

/// Writes `measured` between the marks of `command` in the file. A file that is not there begins with `title`.
pub(crate) fn write(path: &Path, title: &str, command: &str, measured: &str) -> Result<(), Failure> {
    let before = fs::read_to_string(path).unwrap_or_else(|_| format!("# {title}\n\n"));
    fs::write(path, replaced(&before, command, measured))
        .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// The text with its measured part exchanged, or with one behind it if it has none.
fn replaced(text: &str, command: &str, measured: &str) -> String {
    let mark = |which: &str| format!("<!-- measured by `bench {command}`: {which} -->\n");
    let (begin, end) = (mark("begin"), mark("end"));
    let parts = text.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let (head, tail) = parts.unwrap_or((text, ""));
    format!("{head}{begin}\n{measured}\n{end}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays() {
        let first = replaced("# Title\n", "rpc", "one");
        let second = replaced(&format!("{first}\nNotes.\n"), "rpc", "two");
        let measured = "<!-- measured by `bench rpc`: begin -->\n\ntwo\n<!-- measured by `bench rpc`: end -->\n";
        assert_eq!(second, format!("# Title\n{measured}\nNotes.\n"));
    }
}
