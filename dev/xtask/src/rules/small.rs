//! The four small servers stay small, and the guide shows them as they are.
//!
//! A *handler line* is a line inside of the body of a function that is neither blank nor only a comment. All
//! functions of the file count, `options` and helpers too, so that nothing is gained by moving code from one to
//! another. Written for PartyServer and counted the same way, by hand, they take 8, 9, 4 and 17 lines: the
//! guide's page shows them.

use super::{File, Violation};

/// The page that shows them.
pub(super) const PAGE: &str = "docs/src/small.md";

/// Each server, and how many handler lines it may have.
pub(super) const SERVERS: [(&str, usize); 4] = [
    ("examples/small/src/chat.rs", 12),
    ("examples/small/src/presence.rs", 12),
    ("examples/small/src/webhook.rs", 6),
    ("examples/small/src/poll.rs", 28),
];

/// Checks one of them against the page and its limit.
pub(super) fn check(file: &File, limit: usize, page: &File) -> Vec<Violation> {
    let mut violations = Vec::new();
    let lines = handler_lines(file);
    if lines > limit {
        let what = format!("{lines} handler lines, at most {limit} allowed");
        violations.push(Violation::new(&file.path, 1, what));
    }
    if !page.text.contains(&format!("```rust\n{}```\n", file.text)) {
        let what = format!("does not show {} as it is", file.path);
        violations.push(Violation::new(&page.path, 1, what));
    }
    let name = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if !page.text.contains(&format!("\n| {name} | {lines} |")) {
        let what = format!("its table does not say that {name} has {lines} lines");
        violations.push(Violation::new(&page.path, 1, what));
    }
    violations
}

/// The file is formatted, so the body of a function ends with a brace below the beginning of its head.
fn handler_lines(file: &File) -> usize {
    let mut count = 0;
    // What the line starts with that ends the head or the body which is being read.
    let (mut head, mut body): (Option<&str>, Option<String>) = (None, None);
    for (_, line) in file.code() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if let Some(end) = &body {
            match line == end {
                true => body = None,
                false => count += 1,
            }
            continue;
        }
        if head.is_none() && is_head(line.trim_start()) {
            head = Some(indent);
        }
        let Some(begun) = head else { continue };
        if line.ends_with('{') {
            (head, body) = (None, Some(format!("{begun}}}")));
        } else if line.ends_with(';') {
            // A function without a body: a trait's.
            head = None;
        } else if line.ends_with('}') {
            // Head and body in one line.
            count += usize::from(!line.ends_with("{}"));
            head = None;
        }
    }
    count
}

fn is_head(line: &str) -> bool {
    line.split(['(', '<']).next().is_some_and(|before| {
        let words: Vec<&str> = before.split(' ').collect();
        matches!(words[..], [.., "fn", _])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        handler_lines(&File::new("a.rs", text))
    }

    #[test]
    fn the_lines_in_bodies_count_and_no_others() {
        let text = "use a::{\n    b,\n};\n\nstruct A {\n    a: u8,\n}\n\nimpl A {\n    fn f(\n        a: u8,\n    ) -> B {\n\
                    \n        // Why.\n        g(a, |b| {\n            b\n        });\n        h()\n    }\n\n    fn i() { j() }\n}\n\n\
                    trait T {\n    fn k();\n}\n\nconst L: M = M {\n    n: 1,\n};\n";
        assert_eq!(count(text), 4 + 1);
        assert_eq!(count("fn f() {\n    \"a\n    b\"\n}\n"), 2);
        assert_eq!(count("fn f() {}\n"), 0);
        assert_eq!(count("fn f(a: [u8; 4]) {\n    g();\n}\n"), 1);
    }

    #[test]
    fn a_server_that_grows_is_found_and_so_is_a_page_that_lags_behind() {
        let file = File::new("examples/small/src/a.rs", "fn f() {\n    g();\n    h();\n}\n");
        let page =
            |table: &str, code: &str| File::new(PAGE, &format!("```rust\n{code}```\n{table}\n"));
        let found = |limit, page: &File| check(&file, limit, page).len();
        assert_eq!(found(2, &page("\n| a | 2 | 3 |", &file.text)), 0);
        assert_eq!(found(1, &page("\n| a | 2 | 3 |", &file.text)), 1);
        assert_eq!(found(2, &page("\n| a | 3 | 3 |", &file.text)), 1);
        assert_eq!(found(2, &page("\n| a | 2 | 3 |", "fn f() {}\n")), 1);
    }
}
