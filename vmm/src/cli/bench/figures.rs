//! What was measured, and what may be said of it.
//!
//! A *run* is one execution of the program in one place; its median and 99th percentile are of its samples. Runs in
//! different places take turns. So a ratio is always one of two runs of the same round, and the figure told is the median
//! of these. [`Figure::spread`] does the same with native against native: a ratio within it is no difference.

use super::plan::{Group, Place};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one run said of one thing, picoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) least: u64,
    pub(super) median: u64,
    pub(super) p99: u64,
    pub(super) samples: u64,
}

impl Run {
    /// A run of one sample.
    pub(super) fn once(took: Duration) -> Run {
        let picoseconds = (took.as_nanos() as u64).saturating_mul(1000);
        Run {
            least: picoseconds,
            median: picoseconds,
            p99: picoseconds,
            samples: 1,
        }
    }
}

/// One thing, measured in some places.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) group: Group,
    pub(super) name: String,
    /// Bytes that a sample moves.
    pub(super) moves: Option<u64>,
    /// The runs in each place, in the order of rounds.
    pub(super) runs: BTreeMap<Place, Vec<Run>>,
}

/// Least, median and largest of some ratios.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) least: f64,
    pub(super) median: f64,
    pub(super) most: f64,
}

/// The middle one, or the mean of the two.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) {
        (values[middle - 1] + upper) / 2.0
    } else {
        upper
    })
}

impl Figure {
    fn over(&self, place: Place, of: fn(&Run) -> u64) -> Option<f64> {
        median(self.runs.get(&place)?.iter().map(|run| of(run) as f64).collect())
    }

    /// Median of the runs' medians, picoseconds.
    pub(super) fn median(&self, place: Place) -> Option<f64> {
        self.over(place, |run| run.median)
    }

    /// Median of the runs' 99th percentiles, picoseconds; `None` where a run has so few samples that it is the largest.
    pub(super) fn p99(&self, place: Place) -> Option<f64> {
        const FEWEST: u64 = 50;
        let enough = self.runs.get(&place)?.iter().all(|run| run.samples >= FEWEST);
        enough.then(|| self.over(place, |run| run.p99))?
    }

    /// How a place compares with native, round by round: of times, or of bandwidths.
    pub(super) fn ratio(&self, place: Place) -> Option<Spread> {
        let (these, native) = (self.runs.get(&place)?, self.runs.get(&Place::Native)?);
        let ratios: Vec<f64> = (these.iter().zip(native))
            .map(|(this, native)| {
                let times = this.median as f64 / native.median.max(1) as f64;
                if self.moves.is_some() { 1.0 / times } else { times }
            })
            .collect();
        Some(Spread {
            least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            most: ratios.iter().copied().fold(0.0, f64::max),
            median: median(ratios)?,
        })
    }

    /// How far native lies from native.
    pub(super) fn spread(&self) -> Option<Spread> {
        self.ratio(Place::NativeAgain)
    }
}

/// Takes in a line `sample NAME LEAST MEDIAN P99 COUNT`; `None` if it is none.
pub(super) fn parse(line: &str) -> Option<(&str, Run)> {
    let mut words = line.strip_prefix("sample ")?.split(' ');
    let name = words.next()?;
    let mut number = || words.next()?.parse().ok();
    let run = Run {
        least: number()?,
        median: number()?,
        p99: number()?,
        samples: number()?,
    };
    Some((name, run))
}

/// A time, in the unit that suits it.
pub(super) fn time(picoseconds: f64) -> String {
    let (value, unit) = match picoseconds {
        ..1e6 => (picoseconds / 1e3, "ns"),
        ..1e9 => (picoseconds / 1e6, "µs"),
        ..1e12 => (picoseconds / 1e9, "ms"),
        _ => (picoseconds / 1e12, "s"),
    };
    let digits = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A time, or what was moved in it.
pub(super) fn value(moves: Option<u64>, picoseconds: f64) -> String {
    match moves {
        Some(bytes) => format!(
            "{:.2} GiB/s",
            bytes as f64 / (1u64 << 30) as f64 / (picoseconds / 1e12)
        ),
        None => time(picoseconds),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A figure with these medians, nanoseconds.
    pub(in super::super) fn figure(moves: Option<u64>, runs: &[(Place, &[u64])]) -> Figure {
        let run = |&median: &u64| Run {
            least: median * 900,
            median: median * 1000,
            p99: median * 2000,
            samples: 100,
        };
        Figure {
            group: Group::HandOff,
            name: "hand-off".into(),
            moves,
            runs: runs
                .iter()
                .map(|(place, medians)| (*place, medians.iter().map(run).collect()))
                .collect(),
        }
    }

    #[test]
    fn ratios_are_of_runs_of_the_same_round() {
        let figure = figure(
            None,
            &[
                (Place::Native, &[100, 200, 400]),
                (Place::NativeAgain, &[110, 180, 400]),
                (Place::Guests, &[200, 400, 1200]),
            ],
        );
        assert_eq!(figure.median(Place::Native), Some(200_000.0));
        assert_eq!(
            figure.ratio(Place::Guests),
            Some(Spread {
                least: 2.0,
                median: 2.0,
                most: 3.0
            })
        );
        assert_eq!(
            figure.spread().map(|spread| (spread.least, spread.most)),
            Some((0.9, 1.1))
        );
        assert_eq!(figure.ratio(Place::OneGuest), None);
    }

    #[test]
    fn a_bandwidth_of_half_the_time_is_twice_as_large() {
        let figure = figure(Some(1 << 30), &[(Place::Native, &[100]), (Place::Guests, &[50])]);
        assert_eq!(figure.ratio(Place::Guests).map(|ratio| ratio.median), Some(2.0));
        assert_eq!(value(figure.moves, 1e12), "1.00 GiB/s");
    }

    #[test]
    fn times_have_three_digits() {
        assert_eq!(time(123_456.0), "123 ns");
        assert_eq!(time(1_234_567.0), "1.23 µs");
        assert_eq!(time(57_300_000.0), "57.3 µs");
        assert_eq!(time(1.5e12), "1.50 s");
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn only_samples_are_samples() {
        let run = Run {
            least: 1,
            median: 2,
            p99: 3,
            samples: 4,
        };
        assert_eq!(parse("sample a-b 1 2 3 4"), Some(("a-b", run)));
        assert!(parse("sample a 1 2 3").is_none() && parse("hello").is_none());
    }
}
