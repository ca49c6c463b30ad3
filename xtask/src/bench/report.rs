//! The rows as a table for people, as Markdown for `docs/performance.md` and as JSON for programs.

use serde::Serialize;

use super::machine::Machine;
use super::row::{Row, number};

/// Everything one run found.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Where and how.
    pub(crate) machine: Machine,
    /// Whether this was a `--quick` run, whose figures are only a first look.
    pub(crate) quick: bool,
    /// How often each server was measured beside its floor.
    pub(crate) pairs: usize,
    /// The table.
    pub(crate) rows: Vec<Row>,
}

const HEADINGS: [&str; 9] = ["name", "what", "value", "unit", "floor", "ratio", "must", "aim", "met"];
/// The columns that hold numbers and stand on the right.
const RIGHT: [bool; 9] = [false, false, true, false, true, true, true, true, false];

impl Report {
    /// For a terminal: columns set apart by spaces, remarks below.
    pub(crate) fn table(&self) -> String {
        let cells = self.cells();
        let widths = widths(&cells);
        let mut text = String::new();
        for line in std::iter::once(HEADINGS.map(str::to_owned)).chain(cells) {
            let padded: Vec<String> = (0..9).map(|column| pad(&line[column], widths[column], RIGHT[column])).collect();
            text += padded.join("  ").trim_end();
            text.push('\n');
        }
        for row in self.rows.iter().filter(|row| !row.note.is_empty()) {
            text += &format!("\n{} ({}): {}", row.name, row.what, row.note);
        }
        text + &format!("\nduring the run: {}\n", self.machine.others)
    }

    /// For the documentation.
    pub(crate) fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "Command: `{}` · {} · {}, {} of memory, kernel {} · load average before: {} · meanwhile {} · {} pairs of server and floor{}\n\n",
            machine.command,
            machine.date,
            machine.cpu,
            machine.memory,
            machine.kernel,
            machine.load,
            machine.others,
            self.pairs,
            if self.quick { " · a quick run: a first look, not a figure to quote" } else { "" }
        );
        text += &format!("| {} |\n", HEADINGS.join(" | "));
        text += &format!("|{}\n", RIGHT.map(|right| if right { "---:|" } else { "---|" }).concat());
        for line in self.cells() {
            text += &format!("| {} |\n", line.join(" | "));
        }
        for row in self.rows.iter().filter(|row| !row.note.is_empty()) {
            text += &format!("\n- **{}**, {}: {}", row.name, row.what, row.note.replace('\n', " "));
        }
        text.trim_end().to_owned() + "\n"
    }

    fn cells(&self) -> Vec<[String; 9]> {
        let optional = |value: Option<f64>| value.map_or("–".to_owned(), number);
        let goal = |goal: Option<super::row::Goal>| goal.map_or("–".to_owned(), |goal| goal.to_string());
        let cells = |row: &Row| {
            [
                row.name.to_owned(),
                row.what.clone(),
                optional(row.value),
                row.unit.to_owned(),
                optional(row.floor),
                row.ratio.map_or("–".to_owned(), |ratio| format!("{}×", number(ratio))),
                goal(row.must),
                goal(row.aim),
                row.met.word().to_owned(),
            ]
        };
        self.rows.iter().map(cells).collect()
    }
}

fn widths(cells: &[[String; 9]]) -> [usize; 9] {
    let mut widths = HEADINGS.map(|heading| heading.chars().count());
    for line in cells {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn pad(text: &str, width: usize, right: bool) -> String {
    if right { format!("{text:>width$}") } else { format!("{text:<width$}") }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Figure, Goal};
    use super::*;

    fn report() -> Report {
        let figure = Figure { value: 5.0, floor: Some(10.0), ratio: Some(0.5) };
        let row = Row::new("legacy", "CPU per beat", figure, "µs").must(Goal::RatioAtMost(0.6)).aim(Goal::AtMost(4.0));
        Report { machine: Machine::look(), quick: true, pairs: 1, rows: vec![row.note("a remark")] }
    }

    #[test]
    fn the_markdown_table_has_one_line_a_row_and_says_how_it_was_made() {
        let text = report().markdown();
        assert!(
            text.contains("| legacy | CPU per beat | 5 | µs | 10 | 0.50× | ≤ 0.60× | ≤ 4 | must, not aim |"),
            "{text}"
        );
        assert!(text.contains("Command: `cargo xtask"), "{text}");
        assert!(text.contains("a quick run"), "{text}");
        assert!(text.ends_with("- **legacy**, CPU per beat: a remark\n"), "{text}");
    }

    #[test]
    fn the_plain_table_lines_its_columns_up() {
        let text = report().table();
        let lines: Vec<&str> = text.lines().collect();
        let column = |line: &str, word: &str| line.find(word).map(|place| line[..place].chars().count());
        assert_eq!(column(lines[0], "what"), column(lines[1], "CPU per beat"));
        assert_eq!(column(lines[0], "met"), column(lines[1], "must, not aim"));
    }
}
