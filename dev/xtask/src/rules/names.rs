//! The table for those who come from PartyKit names everything that PartyKit and PartyServer have.

use super::{File, Violation};

pub(super) const PAGE: &str = "docs/src/from-partykit.md";

/// The lists of names, and in which column of the table they have to be.
pub(super) const LISTS: [(&str, usize); 2] =
    [("dev/xtask/names/partykit.txt", 0), ("dev/xtask/names/partyserver.txt", 1)];

/// Checks the page against one of the lists.
pub(super) fn check(page: &File, list: &File, column: usize) -> Vec<Violation> {
    let known: Vec<&str> =
        page.text.lines().filter_map(|line| cell(line, column)).flat_map(words).collect();
    let lines = list.text.lines().filter(|line| !line.starts_with('#'));
    let missing = lines.flat_map(str::split_whitespace).filter(|name| !known.contains(name));
    let what = |name| format!("its table does not name `{name}` of {}", list.path);
    missing.map(|name| Violation::new(&page.path, 1, what(name))).collect()
}

/// What stands in a column of a row. `the same` means the column before.
fn cell(row: &str, column: usize) -> Option<&str> {
    let cells: Vec<&str> = row.strip_prefix('|')?.split('|').map(str::trim).collect();
    match *cells.get(column)? {
        "the same" => cells.get(column.checked_sub(1)?).copied(),
        cell => Some(cell),
    }
}

/// The words in the code of a cell.
fn words(cell: &str) -> impl Iterator<Item = &str> {
    let code = cell.split('`').skip(1).step_by(2);
    code.flat_map(|code| code.split(|c: char| !(c.is_alphanumeric() || c == '_')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_table_lacks_in_its_column_is_told() {
        let page = File::new(
            "a.md",
            "onStart is no row.\n| `onStart()` | `onBegin()` | `on_start` |\n| `send(x)`, stop | the same | `send` |\n",
        );
        let list = File::new("names.txt", "# A class\nonStart send\nstop\n");
        let what = |column| -> Vec<String> {
            check(&page, &list, column).into_iter().map(|it| it.what).collect()
        };
        let missing = |name: &str| format!("its table does not name `{name}` of names.txt");
        assert_eq!(what(0), [missing("stop")]);
        assert_eq!(what(1), [missing("onStart"), missing("stop")]);
    }
}
