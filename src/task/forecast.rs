//! How long a deployment usually takes, by what the last ones of its kind took.

use super::Timestamp;

/// What is usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Half of them took no longer, in microseconds.
    pub p50: u64,
    /// Nine of ten took no longer.
    pub p90: u64,
    /// How many they were.
    pub samples: usize,
}

impl Forecast {
    /// The forecast by these durations; `None` when there are none.
    pub fn of(mut durations: Vec<u64>) -> Option<Self> {
        durations.sort_unstable();
        let samples = durations.len();
        // The nearest rank: a duration that has really been seen.
        let rank = |tenths: usize| durations.get((samples * tenths).div_ceil(10).saturating_sub(1)).copied();
        Some(Self { p50: rank(5)?, p90: rank(9)?, samples })
    }
}

/// How long something should take of which not every part was seen before, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// By what half of the seen ones took.
    pub p50: u64,
    /// By what nine of ten took.
    pub p90: u64,
    /// How many parts were never seen: for them nothing is counted.
    pub unseen: usize,
}

impl Expected {
    /// Of parts that go on at the same time: the longest decides.
    pub fn together(parts: impl IntoIterator<Item = Option<Forecast>>) -> Self {
        parts.into_iter().fold(Self::default(), |all, part| match part {
            Some(part) => Self { p50: all.p50.max(part.p50), p90: all.p90.max(part.p90), ..all },
            None => Self { unseen: all.unseen + 1, ..all },
        })
    }

    /// With what follows it.
    #[must_use]
    pub const fn then(self, next: Self) -> Self {
        Self {
            p50: self.p50.saturating_add(next.p50),
            p90: self.p90.saturating_add(next.p90),
            unseen: self.unseen + next.unseen,
        }
    }
}

/// When all of these, each with its beginning, should have ended: by half, and by nine of ten of what
/// was seen. `None` when one of them was never seen.
pub fn quiet(
    going_on: impl IntoIterator<Item = (Timestamp, Option<Forecast>)>,
) -> Option<(Timestamp, Timestamp)> {
    let after = |begun: Timestamp, micros| Timestamp(begun.0.saturating_add_unsigned(micros));
    let mut quiet: Option<(Timestamp, Timestamp)> = None;
    for (begun, forecast) in going_on {
        let forecast = forecast?;
        let (half, most) = (after(begun, forecast.p50), after(begun, forecast.p90));
        quiet = Some(quiet.map_or((half, most), |(a, b)| (a.max(half), b.max(most))));
    }
    quiet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_has_been_seen() {
        assert_eq!(Forecast::of(Vec::new()), None);
        assert_eq!(Forecast::of(vec![7]), Some(Forecast { p50: 7, p90: 7, samples: 1 }));
        let ten = (1..=10).rev().collect();
        assert_eq!(Forecast::of(ten), Some(Forecast { p50: 5, p90: 9, samples: 10 }));
    }

    #[test]
    fn the_longest_decides_a_batch_and_batches_add_up() {
        let forecast = |p50, p90| Some(Forecast { p50, p90, samples: 1 });
        let first = Expected::together([forecast(5, 9), None, forecast(3, 30)]);
        assert_eq!(first, Expected { p50: 5, p90: 30, unseen: 1 });
        let both = first.then(Expected::together([forecast(1, 2)]));
        assert_eq!(both, Expected { p50: 6, p90: 32, unseen: 1 });
    }

    #[test]
    fn the_last_one_decides_when_it_is_quiet() {
        let forecast = |p50, p90| Some(Forecast { p50, p90, samples: 1 });
        let both = [(Timestamp(10), forecast(5, 90)), (Timestamp(20), forecast(6, 7))];
        assert_eq!(quiet(both), Some((Timestamp(26), Timestamp(100))));
        assert_eq!(quiet([both[0], (Timestamp(1), None)]), None);
        assert_eq!(quiet([]), None);
    }
}
