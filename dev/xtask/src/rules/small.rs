//! The four small servers stay small, and the guide shows them as they are.
//!
//! A *handler line* is a line inside of the body of a function that is neither blank nor only a comment. All
//! functions of the file count, `options` and helpers too, so that nothing is gained by moving code from one to
//! another. Written for PartyServer and counted the same way, by hand, they take 8, 9, 4 and 17 lines: the
//! guide's page shows them.

use std::collections::BTreeSet;

use super::{File, Violation, lexer};
use crate::command::Failure;

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
pub(super) fn check(file: &File, limit: usize, page: &File) -> Result<Vec<Violation>, Failure> {
    let mut violations = Vec::new();
    let lines = handler_lines(file)?;
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
    Ok(violations)
}

fn handler_lines(file: &File) -> Result<usize, Failure> {
    let tokens = lexer::tokens(file)?;
    let mut lines = BTreeSet::new();
    // How many braces are open, and with how many the body of the outermost function has begun.
    let (mut depth, mut begun, mut announced) = (0_usize, None, false);
    let mut in_signature = 0_usize;
    for token in &tokens {
        match token.text.as_str() {
            "fn" if begun.is_none() => announced = true,
            // A function without a body: a trait's.
            ";" if begun.is_none() && in_signature == 0 => announced = false,
            "(" | "[" if begun.is_none() => in_signature += 1,
            ")" | "]" if begun.is_none() => in_signature = in_signature.saturating_sub(1),
            "{" => {
                depth += 1;
                if announced && begun.is_none() {
                    begun = Some(depth);
                    continue;
                }
            }
            "}" => {
                depth = depth.saturating_sub(1);
                if begun.is_some_and(|begun| depth < begun) {
                    (begun, announced) = (None, false);
                }
            }
            _ => {}
        }
        if begun.is_some() {
            lines.extend(token.line..=token.last_line);
        }
    }
    Ok(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        handler_lines(&File::new("a.rs", text)).unwrap()
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
        let found = |limit, page: &File| check(&file, limit, page).unwrap().len();
        assert_eq!(found(2, &page("\n| a | 2 | 3 |", &file.text)), 0);
        assert_eq!(found(1, &page("\n| a | 2 | 3 |", &file.text)), 1);
        assert_eq!(found(2, &page("\n| a | 3 | 3 |", &file.text)), 1);
        assert_eq!(found(2, &page("\n| a | 2 | 3 |", "fn f() {}\n")), 1);
    }
}
