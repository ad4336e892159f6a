//! Tables for terminals and for Markdown.

/// Which side the text of a column stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows below a head; cells that are missing at a row's end are empty.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: impl IntoIterator<Item = (&'static str, Align)>) -> Self {
        Self {
            columns: columns.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// In columns of equal width.
    pub(crate) fn text(&self) -> String {
        let head = self.columns.iter().map(|(name, _)| (*name).to_owned());
        let rows: Vec<Vec<String>> = [head.collect()]
            .into_iter()
            .chain(self.rows.iter().cloned())
            .collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| rows.iter().map(|row| width(row, column)).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &rows {
            let cells = self.columns.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, ((_, align), &width))| {
                let cell = row.get(column).map_or("", String::as_str);
                match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        let mut text = line(self.columns.iter().map(|(name, _)| *name).collect());
        let rule = self.columns.iter().map(|(_, align)| match align {
            Align::Left => "---",
            Align::Right => "--:",
        });
        text.push_str(&line(rule.collect()));
        for row in &self.rows {
            let cells = (0..self.columns.len()).map(|column| row.get(column).map_or("", |c| c));
            text.push_str(&line(cells.collect()));
        }
        text
    }
}

fn width(row: &[String], column: usize) -> usize {
    row.get(column).map_or(0, |cell| cell.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([("name", Align::Left), ("n", Align::Right)]);
        table.push(["a".to_owned(), "100".to_owned()]);
        table.push(["long one".to_owned()]);
        table
    }

    #[test]
    fn columns_have_equal_width() {
        assert_eq!(table().text(), "name        n\na         100\nlong one\n");
    }

    #[test]
    fn markdown_keeps_the_alignment() {
        assert_eq!(
            table().markdown(),
            "| name | n |\n| --- | --: |\n| a | 100 |\n| long one |  |\n"
        );
    }
}
