//! The guide's page of limits names tests and settings that exist.

use super::{File, Violation};

pub(super) const PATH: &str = "docs/src/limits.md";

/// Where the methods of a type that settings belong to are written.
const TYPES: &[(&str, &[&str])] = &[
    ("Builder", &["partykit-runtime-tokio/src/builder"]),
    ("Options", &["partykit-core/src/value/options"]),
];

/// Checks each row of each table: the third column names settings, the last one names tests.
pub(super) fn check(page: &File, files: &[File]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut rows = 0;
    for (index, line) in page.text.lines().enumerate() {
        let Some(row) = line.trim().strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells[0].starts_with("--") || cells[0] == "threat" {
            continue;
        }
        rows += 1;
        let mut complain = |what: String| violations.push(Violation::new(PATH, index + 1, what));
        let [_, _, setting, _, test] = cells[..] else {
            complain(format!("a row has 5 cells, not {}", cells.len()));
            continue;
        };
        for name in code(setting).filter(|name| !is_setting(name, files)) {
            complain(format!("there is no setting {name}"));
        }
        if code(setting).next().is_none() && setting != "fixed" {
            complain("a row names its setting, or says `fixed` without quotes".to_owned());
        }
        for name in code(test).filter(|name| !is_test(name, files)) {
            complain(format!("there is no test {name}"));
        }
        if code(test).next().is_none() {
            complain("a row names its test".to_owned());
        }
    }
    if rows == 0 {
        violations.push(Violation::new(PATH, 1, "the page has no table of limits"));
    }
    violations
}

/// What stands between backquotes.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn is_setting(name: &str, files: &[File]) -> bool {
    let Some((of, method)) = name.split_once("::") else { return false };
    let places = TYPES.iter().find(|(known, _)| *known == of).map_or(&[][..], |(_, places)| places);
    let method = format!("pub fn {method}");
    files.iter().any(|file| {
        let is_there = places.iter().any(|place| file.path.starts_with(place));
        is_there && has_function(&file.text, &method)
    })
}

/// A function of this name with an attribute that makes it a test, or a command of xtask.
fn is_test(name: &str, files: &[File]) -> bool {
    if name.starts_with("cargo xtask ") {
        return true;
    }
    let head = format!("fn {name}");
    files.iter().filter(|file| file.is_rust()).any(|file| {
        let lines: Vec<&str> = file.text.lines().collect();
        let is_head = |line: &str| has_function(line, &head);
        lines.iter().enumerate().any(|(at, line)| {
            let above = &lines[at.saturating_sub(4)..at];
            is_head(line) && above.iter().any(|line| line.contains("test"))
        })
    })
}

fn has_function(text: &str, head: &str) -> bool {
    text.match_indices(head).any(|(at, _)| text[at + head.len()..].starts_with(['(', '<']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(row: &str) -> Vec<String> {
        let head = "| threat | limit | setting | measured | test |\n|---|---|---|---|---|\n";
        let page = File::new(PATH, &format!("# Limits\n\n{head}{row}\n"));
        let files = [
            File::new(
                "partykit-runtime-tokio/src/builder/limits.rs",
                "impl Builder {\n    pub fn max_rooms(self) {}\n}\n",
            ),
            File::new(
                "partykit-core/src/value/options.rs",
                "pub fn mailbox(self) {}\nfn hidden() {}\n",
            ),
            File::new(
                "a/tests/b.rs",
                "#[tokio::test]\nasync fn holds() {}\n\n\n\n\nfn helper() {}\n",
            ),
        ];
        let violations = check(&page, &files);
        violations.into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn rows_name_what_exists() {
        for good in [
            "| a | b | `Builder::max_rooms`, `Options::mailbox` | c | `holds` |",
            "| a | b | fixed | | `cargo xtask bench --only hostile`, `holds` |",
        ] {
            assert_eq!(what(good), Vec::<String>::new());
        }
    }

    #[test]
    fn rows_that_name_nothing_are_found() {
        for (bad, problem) in [
            ("| a | b | `Builder::max_room` | c | `holds` |", "no setting Builder::max_room"),
            ("| a | b | `Options::max_rooms` | c | `holds` |", "no setting Options::max_rooms"),
            ("| a | b | `Options::hidden` | c | `holds` |", "no setting Options::hidden"),
            ("| a | b | | c | `holds` |", "names its setting"),
            ("| a | b | fixed | c | `hold` |", "no test hold"),
            ("| a | b | fixed | c | `helper` |", "no test helper"),
            ("| a | b | fixed | c | |", "names its test"),
            ("| a | b | fixed | `holds` |", "5 cells, not 4"),
            ("", "no table"),
        ] {
            let found = what(bad);
            assert!(found.len() == 1 && found[0].contains(problem), "{bad}: {found:?}");
        }
    }
}
