//! Percentiles of times. No mean: on a busy machine it tells of the machine.

use std::time::Duration;

/// Of a set of measurements, in whatever unit they were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// How many there were.
    pub count: usize,
    /// The median.
    pub p50: f64,
    /// Nine of ten are below it. Of fewer than ten: NaN.
    pub p90: f64,
    /// 99 of 100 are below it. Of fewer than 100: NaN.
    pub p99: f64,
}

impl Percentiles {
    /// Of those of `values` that are numbers: who measured nothing says NaN.
    pub fn of(mut values: Vec<f64>) -> Percentiles {
        values.retain(|value| !value.is_nan());
        values.sort_unstable_by(f64::total_cmp);
        let count = values.len();
        let at = |share: usize, least: usize| {
            if count < least { f64::NAN } else { values[count * share / 100] }
        };
        Percentiles { count, p50: at(50, 1), p90: at(90, 10), p99: at(99, 100) }
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
    fn of_a_hundred_and_of_fewer() {
        let upto = |count: u32| Percentiles::of((0..count).rev().map(f64::from).collect());
        assert_eq!(upto(100), Percentiles { count: 100, p50: 50.0, p90: 90.0, p99: 99.0 });
        assert_eq!(upto(99).p90, 89.0);
        assert!(upto(99).p99.is_nan() && upto(9).p90.is_nan() && upto(0).p50.is_nan());
        assert_eq!(Percentiles::of(vec![f64::NAN, 3.0]).p50, 3.0);
    }
}
