//! A whole run: every setting in rounds, each round over all implementations, so that drift meets all of them alike.

use std::time::{Duration, Instant};

use crate::{
    implementations::Implementation,
    peer::Failure,
    sample::Sample,
    settings::{self, Effort, Load, Setting},
    statistics::Spread,
};

/// What to measure.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) implementations: Vec<Implementation>,
    pub(crate) settings: Vec<Setting>,
    pub(crate) quick: bool,
    /// Name of the implementation that the others are compared to.
    pub(crate) ceiling: &'static str,
    /// Once this has passed, every setting that is left gets one round alone.
    pub(crate) budget: Duration,
}

/// All that was seen in one setting.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) setting: Setting,
    pub(crate) ceiling: &'static str,
    pub(crate) series: Vec<Series>,
}

/// What one implementation showed in one setting, round by round.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) implementation: Implementation,
    pub(crate) samples: Vec<Sample>,
    /// The ceiling in the same rounds; empty if it was not measured.
    pub(crate) ceiling: Vec<Sample>,
    /// Where the ceiling was measured on both sides of each sample: after it. Then `ceiling` is before it.
    pub(crate) ceiling_after: Vec<Sample>,
}

impl Run {
    /// Measures everything.
    pub(crate) async fn measure(&self) -> Result<Vec<Outcome>, Failure> {
        let deadline = Instant::now() + self.budget;
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(self.settings.len());
        for setting in &self.settings {
            eprintln!("{}: {}", setting.name, setting.title);
            let outcome = match setting.load {
                Load::HalfPeak => self.half_peak(setting, &outcomes, deadline).await?,
                _ => self.side_by_side(setting, deadline).await?,
            };
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    async fn side_by_side(&self, setting: &Setting, deadline: Instant) -> Result<Outcome, Failure> {
        let effort = Effort::of(setting, self.quick);
        let mut series = self.empty_series();
        for _ in rounds(effort, deadline) {
            for series in &mut series {
                series.samples.push(Sample::take(series.implementation, setting, effort, 0.0).await?);
            }
        }
        let ceiling = series.iter().find(|series| series.implementation.name == self.ceiling);
        if let Some(samples) = ceiling.map(|ceiling| ceiling.samples.clone()) {
            series.iter_mut().for_each(|series| series.ceiling.clone_from(&samples));
        }
        Ok(Outcome { setting: *setting, ceiling: self.ceiling, series })
    }

    /// Every implementation at half of its own peak; right before and right after it the ceiling at the same rate, which so
    /// shows by how much the same thing differs from itself.
    async fn half_peak(&self, setting: &Setting, outcomes: &[Outcome], deadline: Instant) -> Result<Outcome, Failure> {
        let effort = Effort::of(setting, self.quick);
        let mut series = self.empty_series();
        let ceiling = self.implementations.iter().copied().find(|known| known.name == self.ceiling);
        let measured = outcomes.iter().find(|outcome| outcome.setting.name == settings::PEAK.name);
        let here;
        let peaks = match measured {
            Some(peaks) => peaks,
            None => {
                here = self.side_by_side(&settings::PEAK, deadline).await?;
                &here
            }
        };
        for _ in rounds(effort, deadline) {
            for (series, peak) in series.iter_mut().zip(&peaks.series) {
                let peak = Spread::of(peak.samples.iter().map(|sample| sample.calls_per_second));
                let rate = peak.ok_or("a peak without a sample")?.median / 2.0;
                if let Some(ceiling) = ceiling {
                    series.ceiling.push(Sample::take(ceiling, setting, effort, rate).await?);
                }
                series.samples.push(Sample::take(series.implementation, setting, effort, rate).await?);
                if let Some(ceiling) = ceiling {
                    series.ceiling_after.push(Sample::take(ceiling, setting, effort, rate).await?);
                }
            }
        }
        Ok(Outcome { setting: *setting, ceiling: self.ceiling, series })
    }

    fn empty_series(&self) -> Vec<Series> {
        let empty = |implementation: &_| Series {
            implementation: *implementation,
            samples: vec![],
            ceiling: vec![],
            ceiling_after: vec![],
        };
        self.implementations.iter().map(empty).collect()
    }
}

fn rounds(effort: Effort, deadline: Instant) -> impl Iterator<Item = usize> {
    (0..effort.rounds).take_while(move |round| *round == 0 || Instant::now() < deadline)
}
