//! Tables for terminals: aligned columns, the less important ones left out where there is no room.

use unicode_width::UnicodeWidthStr;

use crate::output::wrapped;

/// Between two columns.
const GAP: usize = 2;

/// One column's title and manners.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) align: Align,
    /// Columns with higher numbers are left out first; 0 always stays.
    pub(crate) rank: u8,
}

/// Where a cell's text stands in its column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A cell's text, which must be harmless already, and its colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    colour: Option<Colour>,
}

/// What a colour is meant to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Good,
    Warning,
    Bad,
    Dim,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Colour::Good => "\u{1b}[32m",
            Colour::Warning => "\u{1b}[33m",
            Colour::Bad => "\u{1b}[31m",
            Colour::Dim => "\u{1b}[2m",
        }
    }
}

impl Cell {
    /// A cell in the terminal's own colour.
    pub(crate) fn new(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), colour: None }
    }

    /// The same cell in this colour, where there are colours.
    pub(crate) fn coloured(self, colour: Colour) -> Cell {
        Cell { colour: Some(colour), ..self }
    }
}

/// Rows under their titles.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn add(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// The table's lines, within `room` columns of the terminal if that is possible at all; then a line that names
    /// what was left out.
    pub(crate) fn render(&self, room: Option<usize>, coloured: bool) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|index| self.width(index)).collect();
        let shown = self.fitting(&widths, room.unwrap_or(usize::MAX));
        let mut text = String::new();
        let titles: Vec<Cell> =
            self.columns.iter().map(|column| Cell::new(column.title).coloured(Colour::Dim)).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            self.render_row(&mut text, row, &shown, &widths, coloured);
        }
        let hidden: Vec<String> = (0..self.columns.len())
            .filter(|index| !shown.contains(index))
            .map(|index| self.columns[index].title.to_lowercase())
            .collect();
        if !hidden.is_empty() {
            let note = format!("(no room for: {}; --json has everything)", hidden.join(", "));
            text.push_str(&wrapped(&note, "", room.unwrap_or(usize::MAX)));
        }
        text
    }

    fn width(&self, index: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[index].text.width());
        cells.chain([self.columns[index].title.width()]).max().unwrap_or(0)
    }

    /// The columns that fit, in their order.
    fn fitting(&self, widths: &[usize], room: usize) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..widths.len()).collect();
        let total = |shown: &[usize]| shown.iter().map(|index| widths[*index] + GAP).sum::<usize>().saturating_sub(GAP);
        while total(&shown) > room {
            let last = shown.iter().copied().max_by_key(|index| self.columns[*index].rank);
            match last.filter(|index| self.columns[*index].rank > 0) {
                Some(least) => shown.retain(|index| *index != least),
                None => break,
            }
        }
        shown
    }

    fn render_row(&self, text: &mut String, row: &[Cell], shown: &[usize], widths: &[usize], coloured: bool) {
        let mut line = String::new();
        for (place, index) in shown.iter().copied().enumerate() {
            let cell = &row[index];
            let padding = " ".repeat(widths[index] - cell.text.width());
            let gap = if place == 0 { "" } else { "  " };
            let painted = match cell.colour {
                Some(colour) if coloured => format!("{}{}\u{1b}[0m", colour.code(), cell.text),
                _ => cell.text.clone(),
            };
            match self.columns[index].align {
                Align::Left => line.push_str(&format!("{gap}{painted}{padding}")),
                Align::Right => line.push_str(&format!("{gap}{padding}{painted}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |title, align, rank| Column { title, align, rank };
        let mut table = Table::new(&[
            column("WHO", Align::Left, 0),
            column("BEATS", Align::Right, 1),
            column("RTT", Align::Right, 2),
        ]);
        table.add(vec![Cell::new("你好"), Cell::new(7), Cell::new("1.5ms").coloured(Colour::Good)]);
        table.add(vec![Cell::new("bo"), Cell::new(1234), Cell::new("-")]);
        table
    }

    #[test]
    fn columns_are_aligned_by_what_a_terminal_shows() {
        assert_eq!(table().render(None, false), "WHO   BEATS    RTT\n你好      7  1.5ms\nbo     1234      -\n");
    }

    #[test]
    fn what_has_no_room_is_left_out_and_named() {
        let narrow = table().render(Some(12), false);
        assert_eq!(narrow, "WHO   BEATS\n你好      7\nbo     1234\n(no room\nfor: rtt;\n--json has\neverything)\n");
        assert!(table().render(Some(1), false).starts_with("WHO\n你好\nbo\n(no\nroom\nfor:\nbeats,\nrtt;"));
    }

    #[test]
    fn colours_change_no_width() {
        let coloured = table().render(None, true);
        let mut bare = coloured;
        for code in ["\u{1b}[32m", "\u{1b}[2m", "\u{1b}[0m"] {
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, table().render(None, false));
    }
}
