//! Percentiles of times. No mean: on a busy machine it tells of the machine.

use std::time::Duration;

/// Of a set of measurements, in whatever unit they were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// Nine of ten are below it.
    pub p90: f64,
    /// 99 of 100 are below it.
    pub p99: f64,
}

impl Percentiles {
    /// Of at least one value; of none, all are NaN.
    pub fn of(mut values: Vec<f64>) -> Percentiles {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: usize| {
            let index = (values.len() * share / 100).min(values.len().saturating_sub(1));
            values.get(index).copied().unwrap_or(f64::NAN)
        };
        Percentiles { p50: at(50), p90: at(90), p99: at(99) }
    }
}

/// In microseconds.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// In milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_and_of_one() {
        let hundred = Percentiles::of((0..100).rev().map(f64::from).collect());
        assert_eq!(hundred, Percentiles { p50: 50.0, p90: 90.0, p99: 99.0 });
        assert_eq!(Percentiles::of(vec![3.0]).p99, 3.0);
        assert!(Percentiles::of(Vec::new()).p50.is_nan());
    }
}
