use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use ms_rpc::Status;

/// One call that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Which of its load's calls it was, from 0.
    pub number: u64,
    /// When it was made.
    pub begin: Instant,
    /// How long it took.
    pub after: Duration,
    /// What the call noted, or why it failed.
    pub result: Result<u64, Status>,
}

impl Ended {
    /// When it ended.
    pub fn end(&self) -> Instant {
        self.begin + self.after
    }
}

/// What became of the calls of a [`Load`](crate::Load), in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    ended: Vec<Ended>,
    length: Duration,
}

impl Tally {
    pub(super) fn new(mut ended: Vec<Ended>, length: Duration) -> Self {
        ended.sort_by_key(|call| call.begin);
        Self { ended, length }
    }

    /// The calls of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.ended.extend(other.ended);
        Self::new(self.ended, self.length.max(other.length))
    }

    /// Each call.
    pub fn ended(&self) -> &[Ended] {
        &self.ended
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.ended.len() as u64
    }

    /// How many calls were made each second.
    pub fn rate(&self) -> f64 {
        self.ended.len() as f64 / self.length.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The calls that failed, and why.
    pub fn failed(&self) -> impl Iterator<Item = (&Ended, &Status)> {
        self.ended.iter().filter_map(|call| call.result.as_ref().err().map(|status| (call, status)))
    }

    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed().count() as u64
    }

    /// The reasons of the first failures, each once with its count.
    pub fn first_failures(&self) -> String {
        let mut reasons = BTreeMap::<String, usize>::new();
        for (_, status) in self.failed() {
            let text: String = without_ports(&status.to_string()).chars().take(160).collect();
            *reasons.entry(format!("{:?}, {text}", status.outcome())).or_default() += 1;
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let reasons = reasons.iter().take(3).map(|(reason, count)| format!("{count} x {reason}"));
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// The latency that this share of the successful calls stays below; none without a success.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        self.quantile_of(share, |call| call.result.is_ok())
    }

    /// The latency that this share of those calls stays below; none if there are none.
    pub fn quantile_of(&self, share: f64, wanted: impl Fn(&Ended) -> bool) -> Option<Duration> {
        let mut latencies: Vec<_> = self.ended.iter().filter(|call| wanted(call)).map(|call| call.after).collect();
        latencies.sort_unstable();
        let at = (latencies.len() as f64 * share) as usize;
        latencies.get(at.min(latencies.len().saturating_sub(1))).copied()
    }

    /// By how much the call that exceeded `deadline` most did so.
    pub fn overrun(&self, deadline: Duration) -> Duration {
        self.ended.iter().map(|call| call.after.saturating_sub(deadline)).max().unwrap_or_default()
    }

    /// The least number of different instances that served the calls made in any `window` between `from` and `to`.
    pub fn fewest_serving(&self, window: Duration, from: Instant, to: Instant) -> usize {
        let mut fewest = usize::MAX;
        let mut begin = from;
        while begin + window <= to {
            let calls = self.ended.iter().filter(|call| (begin..begin + window).contains(&call.begin));
            let serving: HashSet<_> = calls.filter_map(|call| call.result.as_ref().ok()).collect();
            fewest = fewest.min(serving.len());
            begin += window;
        }
        fewest
    }
}

/// The port would make one reason as many as there are instances.
fn without_ports(text: &str) -> String {
    let mut parts = text.split("127.0.0.1:");
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        short += "127.0.0.1:*";
        short += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    short
}

#[cfg(test)]
mod tests {
    use ms_rpc::Code;

    use super::*;

    #[test]
    fn figures_are_taken_over_the_right_calls() {
        let begin = Instant::now();
        let ms = Duration::from_millis;
        let call = |number: u64| {
            let result =
                if number == 7 { Err(Status::new(Code::Aborted, "127.0.0.1:80 said no")) } else { Ok(number % 3) };
            Ended { number, begin: begin + ms(10 * number), after: ms(number), result }
        };
        let even = Tally::new((0..50).map(|number| call(2 * number)).collect(), ms(1_000));
        let odd = Tally::new((0..50).map(|number| call(2 * number + 1)).collect(), ms(1_000));
        let tally = even.and(odd);
        assert_eq!((tally.calls(), tally.failures(), tally.rate()), (100, 1, 100.0));
        assert_eq!(tally.quantile(0.99), Some(ms(99)));
        assert_eq!(tally.overrun(ms(90)), ms(9));
        assert_eq!(tally.fewest_serving(ms(30), begin, begin + ms(1_000)), 2, "7 failed, 6 and 8 are of two");
        assert_eq!(tally.fewest_serving(ms(30), begin + ms(90), begin + ms(1_000)), 3);
        assert_eq!(tally.first_failures(), "1 x Answered, aborted: 127.0.0.1:* said no");
    }
}
