//! Which of many is asked for: the first most, the others ever less (Zipf 0.99), as it is with what people read.

/// Picks numbers below a bound.
pub struct Zipf {
    /// The chances of the numbers, summed up.
    chances: Vec<f64>,
}

impl Zipf {
    pub fn new(bound: u64) -> Zipf {
        assert!(bound > 0, "there is nothing to pick");
        let mut sum = 0.0;
        let chances = (1..=bound).map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        });
        Zipf { chances: chances.collect() }
    }

    pub fn pick(&self, random: &mut fastrand::Rng) -> usize {
        let at = random.f64() * self.chances[self.chances.len() - 1];
        self.chances.partition_point(|&sum| sum < at).min(self.chances.len() - 1)
    }
}
