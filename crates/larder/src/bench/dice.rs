//! Deterministic random numbers and the distributions the generators draw from.

use super::numbers::whole;

/// A generator of 64-bit numbers (xorshift*), the same for the same seed everywhere.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        // A state of zero would stay zero.
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in 0..1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..bound`; `bound` is at least 1.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        whole(self.unit() * bound as f64)
    }

    /// Exponential.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }

    /// Log-normal, by its median and the standard deviation of its logarithm.
    pub(super) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let (radius, angle) = ((-2.0 * (1.0 - self.unit()).ln()).sqrt(), std::f64::consts::TAU * self.unit());
        median * (sigma * radius * angle.cos()).exp()
    }

    /// Geometric from 1 on, by its mean.
    pub(super) fn geometric(&mut self, mean: f64) -> u64 {
        1 + whole((1.0 - self.unit()).ln() / (1.0 - 1.0 / mean.max(1.000_001)).ln())
    }
}

/// Ranks drawn by a Zipf law.
#[derive(Debug)]
pub(super) struct Zipf(Vec<f64>);

impl Zipf {
    /// Rank `r` of `ranks` (at least one), counted from 1, is drawn in proportion to `r^-exponent`.
    pub(super) fn new(ranks: usize, exponent: f64) -> Self {
        let mut total = 0.0;
        let sums = (1..=ranks.max(1)).map(|rank| {
            total += (rank as f64).powf(-exponent);
            total
        });
        Self(sums.collect())
    }

    /// A rank, counted from 0.
    pub(super) fn draw(&self, dice: &mut Dice) -> usize {
        let point = dice.unit() * self.0[self.0.len() - 1];
        self.0.partition_point(|sum| *sum <= point).min(self.0.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_their_means() {
        let mut dice = Dice::new(7);
        let mean = |draw: &mut dyn FnMut() -> f64| (0..100_000).map(|_| draw()).sum::<f64>() / 100_000.0;
        assert!((mean(&mut || dice.exponential(3.0)) - 3.0).abs() < 0.05);
        assert!((mean(&mut || dice.geometric(4.0) as f64) - 4.0).abs() < 0.05);
        assert!((mean(&mut || dice.log_normal(2.0, 0.5)) - 2.0 * 0.125f64.exp()).abs() < 0.05);
        assert!((mean(&mut || dice.below(11) as f64) - 5.0).abs() < 0.05);
    }

    #[test]
    fn low_ranks_are_drawn_in_proportion() {
        let (zipf, mut dice) = (Zipf::new(1000, 1.0), Dice::new(3));
        let mut drawn = vec![0u32; 1000];
        (0..200_000).for_each(|_| drawn[zipf.draw(&mut dice)] += 1);
        let ratio = f64::from(drawn[0]) / f64::from(drawn[9]);
        assert!((8.0..12.0).contains(&ratio), "{ratio}");
    }
}
