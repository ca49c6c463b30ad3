//! How values are spread: a histogram that can be written, read and added up.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Two significant digits and more: a value is kept within 0.1 %.
const DIGITS: u8 = 3;
/// The largest value; larger ones count as it. In microseconds some 19 hours.
const VALUE_MAX: u64 = 1 << 36;
/// No value is counted more often at once. All pairs that fit into a file of samples (1 GiB) then add up to less than
/// 64 bits hold.
const COUNT_MAX: u64 = 1 << 36;

/// Counts of values, each within 0.1 %. In a file it is a list of `[value, count]`, ascending.
///
/// One that is counted into is a histogram of some 100 KB. One that was read keeps the list: a recording has thousands
/// of them, most with a handful of values.
#[derive(Clone, Debug)]
pub struct Spread {
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    /// Ascending, no value twice, no count of zero.
    Read(Vec<(u64, u64)>),
    Counted(Histogram<u64>),
}

impl Default for Spread {
    fn default() -> Spread {
        Spread { values: Values::Read(Vec::new()) }
    }
}

impl PartialEq for Spread {
    fn eq(&self, other: &Spread) -> bool {
        self.pairs() == other.pairs()
    }
}

impl Spread {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.add(value, 1);
    }

    /// Counts a value so many times.
    pub fn add(&mut self, value: u64, count: u64) {
        let (value, count) = (value.min(VALUE_MAX), count.min(COUNT_MAX));
        self.histogram().record_n(value, count).expect("it grows up to the largest value");
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Spread) {
        match &other.values {
            Values::Read(pairs) => pairs.iter().for_each(|&(value, count)| self.add(value, count)),
            Values::Counted(values) => {
                self.histogram().add(values).expect("it grows up to the largest value");
            }
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        match &self.values {
            Values::Read(pairs) => pairs.iter().fold(0, |sum, &(_, count)| sum.saturating_add(count)),
            Values::Counted(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        match &self.values {
            Values::Read(pairs) => pairs.is_empty(),
            Values::Counted(values) => values.is_empty(),
        }
    }

    /// The value below or at which this share of them lies, 0 to 1; `None` without values.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        match &self.values {
            Values::Read(pairs) => {
                let wanted = (share * self.count() as f64).ceil() as u64;
                let mut so_far = 0_u64;
                let reached = pairs.iter().find(|(_, count)| {
                    so_far = so_far.saturating_add(*count);
                    so_far >= wanted
                });
                reached.or(pairs.last()).map(|&(value, _)| value)
            }
            Values::Counted(values) => (!values.is_empty()).then(|| values.value_at_quantile(share)),
        }
    }

    /// The largest; `None` without values.
    pub fn max(&self) -> Option<u64> {
        match &self.values {
            Values::Read(pairs) => pairs.last().map(|&(value, _)| value),
            Values::Counted(values) => (!values.is_empty()).then(|| values.max()),
        }
    }

    /// The mean; `None` without values.
    pub fn mean(&self) -> Option<f64> {
        let sum: f64 = self.iter().map(|(value, count)| value as f64 * count as f64).sum();
        (!self.is_empty()).then(|| sum / self.count() as f64)
    }

    /// Each value that occurs, ascending, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let (read, counted) = match &self.values {
            Values::Read(pairs) => (Some(pairs.iter().copied()), None),
            Values::Counted(values) => {
                let recorded = values.iter_recorded();
                (None, Some(recorded.map(|value| (value.value_iterated_to(), value.count_at_value()))))
            }
        };
        read.into_iter().flatten().chain(counted.into_iter().flatten())
    }

    fn pairs(&self) -> Vec<(u64, u64)> {
        self.iter().collect()
    }

    /// To count into.
    fn histogram(&mut self) -> &mut Histogram<u64> {
        if let Values::Read(pairs) = &self.values {
            // It grows with what it is given.
            let mut values = Histogram::new(DIGITS).expect("the digits are a constant that fits");
            values.auto(true);
            for &(value, count) in pairs {
                values.record_n(value, count).expect("it grows up to the largest value");
            }
            self.values = Values::Counted(values);
        }
        match &mut self.values {
            Values::Counted(values) => values,
            Values::Read(_) => unreachable!("it was made one above"),
        }
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Spread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Spread, D::Error> {
        let mut pairs: Vec<(u64, u64)> = Deserialize::deserialize(deserializer)?;
        let sound = pairs.windows(2).all(|two| two[0].0 < two[1].0)
            && pairs
                .iter()
                .all(|&(value, count)| value <= VALUE_MAX + VALUE_MAX / 1_000 && (1..=COUNT_MAX).contains(&count));
        if !sound {
            let mut counted = Spread::default();
            pairs.iter().for_each(|&(value, count)| counted.add(value, count));
            pairs = counted.pairs();
        }
        pairs.shrink_to_fit();
        Ok(Spread { values: Values::Read(pairs) })
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

    #[test]
    fn what_was_read_tells_the_same_as_what_was_counted() {
        let mut counted = Spread::default();
        (1..=5_000_u64).for_each(|n| counted.add(n * n, n % 7));
        let read: Spread = serde_json::from_str(&serde_json::to_string(&counted).unwrap()).unwrap();
        assert_eq!(read, counted);
        assert_eq!((read.count(), read.max(), read.mean()), (counted.count(), counted.max(), counted.mean()));
        for share in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            assert_eq!(read.quantile(share), counted.quantile(share), "{share}");
        }
        let mut twice = read.clone();
        twice.merge(&read);
        assert_eq!((twice.count(), twice.quantile(0.9)), (2 * read.count(), read.quantile(0.9)));
    }

    #[test]
    fn a_list_that_is_out_of_order_is_put_in_order() {
        let read: Spread = serde_json::from_str("[[9, 1], [3, 2], [9, 1], [5, 0]]").unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), [(3, 2), (9, 2)]);
        let huge: Spread = serde_json::from_str("[[18446744073709551615, 18446744073709551615], [1, 5]]").unwrap();
        assert_eq!(huge.quantile(0.0), Some(1));
    }
}
