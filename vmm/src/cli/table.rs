//! Plain text tables: aligned by spaces, the heading bold where colour is wanted.

use std::io::IsTerminal;

/// Whether to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Plain text.
    Plain,
    /// ANSI escape sequences.
    Colour,
}

impl Style {
    /// Colour on a terminal, unless NO_COLOR is set (no-color.org) or the terminal is dumb.
    pub(super) fn of(stream: &impl IsTerminal) -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if stream.is_terminal() && !forbidden && !dumb {
            Style::Colour
        } else {
            Style::Plain
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Style::Plain => text.to_owned(),
            Style::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    /// A heading.
    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Good news.
    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Bad news.
    pub(super) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }
}

/// Which side a column's cells lean to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table.
pub(super) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(columns: impl IntoIterator<Item = (impl Into<String>, Align)>) -> Self {
        let columns = columns
            .into_iter()
            .map(|(name, align)| (name.into(), align))
            .collect();
        Table {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that are missing are empty, those beyond the last column are dropped.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().take(self.columns.len()).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// The table as text, two spaces between columns and at the start of a line, none at its end.
    pub(super) fn render(&self, style: Style) -> String {
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = self
                    .rows
                    .iter()
                    .chain([&heading])
                    .map(|row| row[column].chars().count());
                cells.max().unwrap_or(0)
            })
            .collect();
        let mut text = style.bold(&self.line(&heading, &widths)) + "\n";
        for row in &self.rows {
            text += &(self.line(row, &widths) + "\n");
        }
        text
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, &width), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            line += "  ";
            line += &match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            };
        }
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([("who", Align::Left), ("ns", Align::Right), ("note", Align::Left)]);
        table.row(["0.0".into(), "1234".into(), "–".into()]);
        table.row(["10.15".into(), "7".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        assert_eq!(
            table().render(Style::Plain),
            "  who      ns  note\n  0.0    1234  –\n  10.15     7\n"
        );
    }

    #[test]
    fn only_colour_adds_escape_sequences() {
        assert!(!table().render(Style::Plain).contains('\x1b'));
        assert!(table().render(Style::Colour).starts_with("\x1b[1m  who"));
    }
}
