//! Medians, and how far they can be trusted.

/// The middle of some figures, and where they lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// The 95 % interval of the median, from order statistics: no assumption about the distribution. With fewer than
    /// six figures there is none.
    pub(crate) interval: Option<(f64, f64)>,
}

impl Spread {
    /// Of these figures; `None` if there are none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let count = sorted.len();
        let median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
        let interval = interval_rank(count).map(|rank| (sorted[rank], sorted[count - 1 - rank]));
        Some(Self { median, least, most, interval })
    }
}

/// The greatest `rank` (from 0) for which the median lies between the figures of this rank from below and from above
/// with a probability of at least 95 %: each tail, P(Binomial(count, 1/2) <= rank), is at most 2.5 %.
fn interval_rank(count: usize) -> Option<usize> {
    let mut probability = 0.5_f64.powi(i32::try_from(count).ok()?);
    let mut tail = probability;
    let mut rank = None;
    for next in 0..count / 2 {
        if tail > 0.025 {
            break;
        }
        rank = Some(next);
        probability *= (count - next) as f64 / (next + 1) as f64;
        tail += probability;
    }
    rank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        let odd = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.least, odd.most, odd.interval), (2.0, 1.0, 3.0, None));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }

    /// Ranks from the tables of the sign test.
    #[test]
    fn the_interval_has_the_textbook_ranks() {
        assert_eq!([5, 6, 9, 21, 31].map(interval_rank), [None, Some(0), Some(1), Some(5), Some(9)]);
        let spread = Spread::of((0..21).map(f64::from)).unwrap();
        assert_eq!(spread.interval, Some((5.0, 15.0)));
    }
}
