//! Names of candidates in a queue. Pure.

/// A candidate's node in a queue: `<16 hexadecimal digits>-<id>-<10 digits>`.
pub(super) struct Queued<'a> {
    pub(super) name: &'a str,
    pub(super) id: &'a str,
    pub(super) number: u64,
}

impl<'a> Queued<'a> {
    /// `None`: it is something else.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let (tag, rest) = name.split_once('-')?;
        let (id, digits) = rest.rsplit_once('-')?;
        let is_queued = tag.len() == 16 && digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_queued.then(|| digits.parse().ok()).flatten().map(|number| Self { name, id, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_queue_are_read() {
        let found = Queued::parse("0123456789abcdef-10.0.0.1:80-x-0000000012").unwrap();
        assert_eq!((found.id, found.number), ("10.0.0.1:80-x", 12));
        for other in
            ["", "lock-0000000001", "0123456789abcdef-0000000001", "0123456789abcdef-a-1", "0123456789abcdef-a-"]
        {
            assert!(Queued::parse(other).is_none(), "{other}");
        }
    }
}
