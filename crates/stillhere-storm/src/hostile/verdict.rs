//! The verdict on a client: what was seen, and what holds.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use stillhere_core::text::Escaped;

/// What became of a client, behaviour by behaviour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// How long it was watched so far, in milliseconds.
    pub lasted_ms: u64,
    /// One for each behaviour.
    pub rows: Vec<Row>,
}

/// One behaviour of the server, and how the client took it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The behaviour's name.
    pub behaviour: String,
    /// What the server does.
    pub about: String,
    /// Where it does so.
    pub address: SocketAddr,
    /// What was seen.
    pub seen: Seen,
    /// What is asked of a client; the first is what the behaviour is about.
    pub criteria: Vec<Criterion>,
}

/// What was seen of the client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Connections that met the behaviour.
    pub connections: u64,
    /// The waits before it came back, in milliseconds, the first [`GAPS_MAX`] of them.
    pub gaps_ms: Vec<u64>,
    /// The longest that it held a link on which it heard nothing, in milliseconds.
    pub silent_ms: Option<u64>,
    /// Complete frames from it.
    pub frames: u64,
    /// Bytes from it.
    pub bytes_in: u64,
    /// Bytes that it was sent.
    pub bytes_out: u64,
    /// Its process, if that could be found.
    pub pid: Option<u32>,
    /// Its resident memory when it was found, in bytes.
    pub rss: Option<u64>,
    /// The largest growth of that, in bytes.
    pub rss_growth: Option<u64>,
    /// Cores that it used, or waited for, on average.
    pub cores: Option<f64>,
}

/// Waits that a row lists.
pub const GAPS_MAX: usize = 32;

/// Something that a sound client does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// Its name.
    pub name: String,
    /// Whether it holds; `None` if that couldn't be told.
    pub holds: Option<bool>,
    /// Why, in a sentence.
    pub says: String,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All that could be told holds, and what the behaviour is about could be told.
    Passed,
    /// Something doesn't hold.
    Failed,
    /// Nobody came, or not for long enough.
    Undecided,
}

impl Row {
    /// How it ended for this behaviour.
    pub fn outcome(&self) -> Outcome {
        if self.criteria.iter().any(|criterion| criterion.holds == Some(false)) {
            return Outcome::Failed;
        }
        match self.criteria.first() {
            Some(point) if point.holds == Some(true) => Outcome::Passed,
            Some(_) | None => Outcome::Undecided,
        }
    }
}

impl Verdict {
    /// How it ended in all: the worst of its rows.
    pub fn outcome(&self) -> Outcome {
        let has = |outcome| self.rows.iter().any(|row| row.outcome() == outcome);
        if has(Outcome::Failed) {
            Outcome::Failed
        } else if self.rows.is_empty() || has(Outcome::Undecided) {
            Outcome::Undecided
        } else {
            Outcome::Passed
        }
    }

    /// Whether the client stood everything. What couldn't be told about is not stood.
    pub fn passed(&self) -> bool {
        self.outcome() == Outcome::Passed
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Undecided => "undecided",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let Seen { connections, frames, bytes_in, bytes_out, .. } = row.seen;
            writeln!(
                f,
                "{:<12} {:<9} {} connections, {frames} frames and {bytes_in} B from it, {bytes_out} B to it",
                row.behaviour,
                row.outcome(),
                connections
            )?;
            for criterion in &row.criteria {
                let mark = match criterion.holds {
                    Some(true) => "holds",
                    Some(false) => "FAILS",
                    None => "?",
                };
                writeln!(f, "    {mark:<6}{:<14} {}", criterion.name, Escaped(&criterion.says))?;
            }
        }
        write!(f, "in all: {}", self.outcome())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(holds: &[Option<bool>]) -> Row {
        let criterion =
            |holds: &Option<bool>| Criterion { name: "gives-up".to_owned(), holds: *holds, says: "So.".to_owned() };
        Row {
            behaviour: "stall".to_owned(),
            about: String::new(),
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            seen: Seen::default(),
            criteria: holds.iter().map(criterion).collect(),
        }
    }

    #[test]
    fn a_row_fails_with_one_criterion_and_passes_only_by_its_first() {
        for (holds, outcome) in [
            (&[Some(true), None][..], Outcome::Passed),
            (&[Some(true), Some(false)], Outcome::Failed),
            (&[None, Some(true)], Outcome::Undecided),
            (&[None, Some(false)], Outcome::Failed),
            (&[], Outcome::Undecided),
        ] {
            assert_eq!(row(holds).outcome(), outcome, "{holds:?}");
        }
    }

    #[test]
    fn a_verdict_is_the_worst_of_its_rows_and_reads_what_it_wrote() {
        let (good, bad, open) = (row(&[Some(true)]), row(&[Some(false)]), row(&[None]));
        for (rows, outcome) in [
            (vec![], Outcome::Undecided),
            (vec![good.clone()], Outcome::Passed),
            (vec![good.clone(), open.clone()], Outcome::Undecided),
            (vec![open, bad, good], Outcome::Failed),
        ] {
            let verdict = Verdict { lasted_ms: 1, rows };
            assert_eq!((verdict.outcome(), verdict.passed()), (outcome, outcome == Outcome::Passed));
            let text = serde_json::to_string(&verdict).unwrap();
            assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
            assert!(verdict.to_string().ends_with(&format!("in all: {outcome}")), "{verdict}");
        }
    }
}
