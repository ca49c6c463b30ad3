//! One line of the table: what was measured, beside its floor and its goals.

use serde::{Serialize, Serializer};

/// A measured value with its floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    /// The median over all pairs.
    pub(crate) value: f64,
    /// The floor's median, where there is a floor.
    pub(crate) floor: Option<f64>,
    /// The median of value ÷ floor, pair by pair.
    pub(crate) ratio: Option<f64>,
}

impl Figure {
    /// A value that stands alone.
    pub(crate) fn alone(value: f64) -> Self {
        Self { value, floor: None, ratio: None }
    }
}

/// What a goal looks at and on which side of it a figure must stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// The value itself, not above.
    AtMost(f64),
    /// The value itself, not below.
    AtLeast(f64),
    /// The ratio to the floor, not above.
    RatioAtMost(f64),
    /// The ratio to the floor, not below.
    RatioAtLeast(f64),
}

impl Goal {
    fn is_met_by(self, figure: &Figure) -> bool {
        match self {
            Self::AtMost(limit) => figure.value <= limit,
            Self::AtLeast(limit) => figure.value >= limit,
            Self::RatioAtMost(limit) => figure.ratio.is_some_and(|ratio| ratio <= limit),
            Self::RatioAtLeast(limit) => figure.ratio.is_some_and(|ratio| ratio >= limit),
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(formatter, "≤ {}", number(*limit)),
            Self::AtLeast(limit) => write!(formatter, "≥ {}", number(*limit)),
            Self::RatioAtMost(limit) => write!(formatter, "≤ {}×", number(*limit)),
            Self::RatioAtLeast(limit) => write!(formatter, "≥ {}×", number(*limit)),
        }
    }
}

impl Serialize for Goal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a row came out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Met {
    /// There is no goal: the row only stands beside another.
    Unjudged,
    /// All goals there are.
    Yes,
    /// What must be, but not what was aimed at.
    Must,
    /// Not even what must be.
    No,
    /// This machine lacks something the row needs.
    Unmeasured,
    /// The measurement broke, which usually means that the server did.
    Failed,
}

impl Met {
    /// The word in the table.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Unjudged => "–",
            Self::Yes => "yes",
            Self::Must => "must, not aim",
            Self::No => "NO",
            Self::Unmeasured => "not measured",
            Self::Failed => "FAILED",
        }
    }
}

impl Serialize for Met {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// The benchmark, as `--only` names it.
    pub(crate) name: &'static str,
    /// What was measured, in words.
    pub(crate) what: String,
    /// The median, unless nothing could be measured.
    pub(crate) value: Option<f64>,
    /// The unit of value and floor.
    pub(crate) unit: &'static str,
    /// The floor's median.
    pub(crate) floor: Option<f64>,
    /// Value ÷ floor.
    pub(crate) ratio: Option<f64>,
    /// The goal that must be met.
    pub(crate) must: Option<Goal>,
    /// The goal that is aimed at.
    pub(crate) aim: Option<Goal>,
    /// How it came out.
    pub(crate) met: Met,
    /// What a reader has to know beside the number.
    pub(crate) note: String,
}

impl Row {
    /// A measured row without goals; `must`, `aim` and `note` add to it.
    pub(crate) fn new(name: &'static str, what: impl Into<String>, figure: Figure, unit: &'static str) -> Self {
        Self {
            name,
            what: what.into(),
            value: Some(figure.value),
            unit,
            floor: figure.floor,
            ratio: figure.ratio,
            must: None,
            aim: None,
            met: Met::Unjudged,
            note: String::new(),
        }
    }

    /// A row without a value, and why.
    pub(crate) fn absent(name: &'static str, what: &str, met: Met, note: String) -> Self {
        Self { value: None, met, note, ..Self::new(name, what, Figure::alone(0.0), "") }
    }

    /// Sets the goal that must be met.
    pub(crate) fn must(mut self, goal: Goal) -> Self {
        self.must = Some(goal);
        self.judged()
    }

    /// Sets the goal that is aimed at.
    pub(crate) fn aim(mut self, goal: Goal) -> Self {
        self.aim = Some(goal);
        self.judged()
    }

    /// Adds a remark.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn judged(mut self) -> Self {
        let Some(value) = self.value else { return self };
        let figure = Figure { value, floor: self.floor, ratio: self.ratio };
        let met = |goal: Option<Goal>| goal.is_none_or(|goal| goal.is_met_by(&figure));
        self.met = match (met(self.must), met(self.aim)) {
            (false, _) => Met::No,
            (true, false) => Met::Must,
            (true, true) => Met::Yes,
        };
        self
    }
}

/// A number with as many digits as a reader can trust, and thousands set apart.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(left, right)| (left, Some(right)));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        let left = whole.len() - place;
        if place > 0 && left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}

/// The middle value; the mean of the two middle ones when their number is even. NaN when there is none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_judged_by_its_must_first_and_then_by_its_aim() {
        let check = |value: f64, ratio: f64, met: Met| {
            let figure = Figure { value, floor: Some(1.0), ratio: Some(ratio) };
            let row = Row::new("x", "x", figure, "µs").must(Goal::RatioAtMost(0.6)).aim(Goal::AtMost(4.0));
            assert_eq!(row.met, met, "{value} {ratio}");
        };
        check(3.0, 0.5, Met::Yes);
        check(5.0, 0.5, Met::Must);
        check(3.0, 0.7, Met::No);
        let alone = Row::new("x", "x", Figure::alone(3.0), "µs").must(Goal::RatioAtMost(0.6));
        assert_eq!(alone.met, Met::No, "a ratio that is not there is not met");
        let nan = Row::new("x", "x", Figure::alone(f64::NAN), "µs").must(Goal::AtMost(9.0));
        assert_eq!(nan.met, Met::No);
    }

    #[test]
    fn numbers_keep_the_digits_that_mean_something() {
        let check = |value: f64, text: &str| assert_eq!(number(value), text);
        check(123_456.7, "123,457");
        check(1_300.0, "1,300");
        check(-1_300.0, "-1,300");
        check(25.04, "25.0");
        check(2.456, "2.46");
        check(0.6, "0.60");
        check(0.0123, "0.0123");
        check(0.0, "0");
        check(-123.4, "-123");
    }

    #[test]
    fn the_median_of_few_and_none() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
