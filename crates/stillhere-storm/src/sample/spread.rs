//! How values are spread: a histogram that can be written, read and added up.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Two significant digits and more: a value is kept within 0.1 %.
const DIGITS: u8 = 3;
/// The largest value; larger ones count as it. In microseconds some 19 hours.
const VALUE_MAX: u64 = 1 << 36;

/// Counts of values, each within 0.1 %. In a file it is a list of `[value, count]`, ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    values: Histogram<u64>,
}

impl Default for Spread {
    fn default() -> Spread {
        // Grows with what it is given, so an empty one costs little.
        let mut values = Histogram::new(DIGITS).expect("the digits are a constant that fits");
        values.auto(true);
        Spread { values }
    }
}

impl Spread {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.add(value, 1);
    }

    /// Counts a value so many times.
    pub fn add(&mut self, value: u64, count: u64) {
        self.values.record_n(value.min(VALUE_MAX), count).expect("it grows up to the largest value");
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Spread) {
        self.values.add(&other.values).expect("it grows up to the largest value");
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value below or at which this share of them lies, 0 to 1; `None` without values.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        (!self.is_empty()).then(|| self.values.value_at_quantile(share))
    }

    /// The largest; `None` without values.
    pub fn max(&self) -> Option<u64> {
        (!self.is_empty()).then(|| self.values.max())
    }

    /// The mean; `None` without values.
    pub fn mean(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.values.mean())
    }

    /// Each value that occurs, ascending, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.values.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value()))
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Spread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Spread, D::Error> {
        let pairs: Vec<(u64, u64)> = Deserialize::deserialize(deserializer)?;
        let mut spread = Spread::default();
        for (value, count) in pairs {
            spread.add(value, count);
        }
        Ok(spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_wrote() {
        let mut spread = Spread::default();
        for value in [0, 1, 999, 1_000, 1_000, 123_456, 7_000_000, u64::MAX] {
            spread.record(value);
        }
        let text = serde_json::to_string(&spread).unwrap();
        let read: Spread = serde_json::from_str(&text).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), spread.iter().collect::<Vec<_>>());
        assert_eq!((read.count(), read.quantile(0.5)), (8, Some(1_000)));
        assert_eq!(serde_json::from_str::<Spread>("[]").unwrap().quantile(0.5), None);
    }

    #[test]
    fn added_up_it_has_the_values_of_both() {
        let (mut a, mut b) = (Spread::default(), Spread::default());
        a.add(10, 99);
        b.record(5_000_000);
        a.merge(&b);
        assert_eq!((a.count(), a.quantile(0.99), a.max().map(|max| max / 10_000)), (100, Some(10), Some(500)));
    }
}
