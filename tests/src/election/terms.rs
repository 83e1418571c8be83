//! What the candidates wrote down of their terms: one line for each look at `is_leader` that was true, with the times right before
//! and right after it.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::Failure;

/// One term of one candidate. It led at `first`, at `last`, and whenever it looked in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    candidate: usize,
    token: u64,
    first: Duration,
    last: Duration,
    pub(super) looks: u64,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { candidate, token, first, last, looks } = self;
        write!(
            f,
            "candidate {candidate} led from {:.3} to {:.3} s, token {token}, {looks} looks",
            first.as_secs_f64(),
            last.as_secs_f64()
        )
    }
}

pub(super) fn log(directory: &Path, candidate: usize) -> PathBuf {
    directory.join(format!("{candidate}.terms"))
}

/// The terms of all candidates, in the order of their beginnings.
pub(super) fn read(directory: &Path, candidates: usize) -> Result<Vec<Term>, Failure> {
    let mut terms: BTreeMap<(usize, u64), Term> = BTreeMap::new();
    for candidate in 0..candidates {
        let text = match fs::read_to_string(log(directory, candidate)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text?,
        };
        // A process that was killed may have left a line without its end.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let numbers = line.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
            let &[token, before, after] = numbers.as_slice() else {
                return Err(format!("a line of a log is {line:?}").into());
            };
            let [before, after] = [before, after].map(Duration::from_nanos);
            // The look itself was at some moment between the two: what is certain is the least.
            let term = Term { candidate, token, first: after, last: after, looks: 0 };
            let term = terms.entry((candidate, token)).or_insert(term);
            term.last = term.last.max(before);
            term.looks += 1;
        }
    }
    let mut terms: Vec<_> = terms.into_values().collect();
    terms.sort_by_key(|term| term.first);
    Ok(terms)
}

/// How many pairs overlap, and the shortest time between two that follow each other.
pub(super) fn overlaps(terms: &[Term]) -> (u64, Option<Duration>) {
    let mut overlaps = 0;
    for (index, term) in terms.iter().enumerate() {
        overlaps += terms[index + 1..].iter().filter(|later| later.first <= term.last).count() as u64;
    }
    (overlaps, terms.windows(2).map(|pair| pair[1].first.saturating_sub(pair[0].last)).min())
}

pub(super) fn falling(terms: &[Term]) -> u64 {
    terms.windows(2).filter(|pair| pair[1].token <= pair[0].token).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_and_falling_tokens_are_found() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(log(directory.path(), 0), "7 100 110\n7 200 210\n7 300 310\n7 4").unwrap();
        fs::write(log(directory.path(), 2), "9 390 400\n9 500 510\n").unwrap();
        let mut terms = read(directory.path(), 3).unwrap();
        assert_eq!(terms.iter().map(|term| (term.token, term.looks)).collect::<Vec<_>>(), [(7, 3), (9, 2)]);
        assert_eq!((terms[0].first, terms[0].last), (Duration::from_nanos(110), Duration::from_nanos(300)));
        assert_eq!(overlaps(&terms), (0, Some(Duration::from_nanos(100))));
        assert_eq!(falling(&terms), 0);
        terms[0].last = Duration::from_nanos(450);
        terms[1].token = 7;
        assert_eq!((overlaps(&terms).0, falling(&terms)), (1, 1));
    }
}
