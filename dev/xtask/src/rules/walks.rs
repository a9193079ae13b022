//! The walks through the code in CONTRIBUTING name files and functions that exist, and as many files as they
//! say.

use std::collections::BTreeSet;

use super::{File, Violation};

pub(super) const PAGE: &str = "CONTRIBUTING.md";

/// A walk is a list item under this heading that begins with a name in bold.
const HEADING: &str = "### How to find your way";

/// Where files are, with and without the `T` in front of them.
const TOKIO: &str = "partykit-runtime-tokio/src/";
const CORE: &str = "partykit-core/src/";

pub(super) fn check(page: &File, files: &[File]) -> Vec<Violation> {
    let complain = |line: usize, what: String| Violation::new(PAGE, line, what);
    let mut violations = Vec::new();
    let walks = walks(&page.text);
    if walks.is_empty() {
        violations.push(complain(1, format!("there are no walks under {HEADING:?}")));
    }
    for walk in walks {
        let steps = steps(&walk.text);
        for (path, function) in &steps {
            match files.iter().find(|file| file.path == *path) {
                None => violations.push(complain(walk.line, format!("there is no file {path}"))),
                Some(file) if !defines(&file.text, function) => {
                    violations.push(complain(walk.line, format!("{path} has no fn {function}")));
                }
                Some(_) => {}
            }
        }
        let count = steps.iter().map(|(path, _)| path).collect::<BTreeSet<_>>().len();
        if !walk.text.contains(&format!(", {count} files.")) {
            violations.push(complain(walk.line, format!("this walk has {count} files")));
        }
    }
    violations
}

struct Walk {
    line: usize,
    /// In one line.
    text: String,
}

fn walks(page: &str) -> Vec<Walk> {
    let mut walks: Vec<Walk> = Vec::new();
    let lines = page.lines().enumerate().skip_while(|(_, line)| *line != HEADING).skip(1);
    for (index, line) in lines.take_while(|(_, line)| !line.starts_with('#')) {
        if line.starts_with("* **") {
            walks.push(Walk { line: index + 1, text: line.to_owned() });
        } else if let (Some(more), Some(walk)) = (line.strip_prefix("  "), walks.last_mut()) {
            walk.text.push(' ');
            walk.text.push_str(more);
        }
    }
    walks
}

/// Each file of a walk with a function that is to be in it.
fn steps(walk: &str) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    let parts: Vec<&str> = walk.split('`').collect();
    let mut current: Option<String> = None;
    // Every second part stands between backticks.
    for pair in parts.chunks_exact(2) {
        let (before, code) = (pair[0], pair[1]);
        if code.ends_with(".rs") {
            let root = if before.trim_end().ends_with(" T") { TOKIO } else { CORE };
            current = Some(format!("{root}{code}"));
        } else if let Some(path) = &current {
            steps.push((path.clone(), code.to_owned()));
        }
    }
    steps
}

fn defines(source: &str, function: &str) -> bool {
    source
        .match_indices(&format!("fn {function}"))
        .any(|(at, found)| source[at + found.len()..].starts_with(['(', '<']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(walk: &str) -> Vec<String> {
        let files = [
            File::new("partykit-core/src/a.rs", "pub fn one() {}\nfn two<T>() {}"),
            File::new("partykit-runtime-tokio/src/b.rs", "async fn three(&self) {}"),
        ];
        let page =
            format!("# Contributing\n\n{HEADING}\n\nText.\n\n{walk}\n\n## Next\n* **No** walk\n");
        let found = check(&File::new(PAGE, &page), &files);
        found.into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_walk_over_what_exists_is_fine() {
        let walk = "* **A walk**, 2 files. First: `a.rs`\n  (`one`, `two`), T\n  `b.rs` (`three`).";
        assert_eq!(what(walk), [""; 0]);
    }

    #[test]
    fn files_and_functions_that_are_gone_are_found() {
        assert_eq!(
            what("* **A walk**, 1 files. `b.rs` (`three`)."),
            ["there is no file partykit-core/src/b.rs"]
        );
        assert_eq!(
            what("* **A walk**, 1 files. `a.rs` (`on`)."),
            ["partykit-core/src/a.rs has no fn on"]
        );
    }

    #[test]
    fn a_wrong_count_is_found_and_no_walk_at_all() {
        assert_eq!(what("* **A walk**, 3 files. `a.rs` (`one`)."), ["this walk has 1 files"]);
        assert_eq!(what("None."), [format!("there are no walks under {HEADING:?}")]);
    }
}
