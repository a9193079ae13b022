//! Words that make a sentence hard to read, and what to write instead. The texts that people outside read:
//! sources of the product, the guide, and the pages at the root.

use super::{File, Violation};

/// A phrase, in lower case, and the plain alternative.
const WORDS: &[(&str, &str)] = &[
    ("anew", "write \"again\""),
    ("anybody", "name who: \"any client\", \"an attacker\""),
    ("but for", "write \"except\""),
    ("everybody", "name who: \"all clients\", \"all users\""),
    ("however", "write \"even if\", \"no matter how\", or \"but\""),
    ("is none", "say what there is not: \"`None` if the room has no alarm\""),
    ("nobody", "name who does not: \"no client\", \"no other room\""),
    ("nothing but", "write \"only\""),
    ("so many", "write \"this many\", \"how many\" or the number"),
    ("so much", "write \"this much\", \"how much\" or the number"),
    ("somebody", "name who: \"a client\", \"a user\", \"another process\""),
    ("unless said", "write \"Default: 10 s\""),
    ("whatever", "write \"also if\", \"no matter what\", or \"everything that\""),
    ("whichever", "write \"the one that\", \"any\""),
    ("whoever", "name who: \"a client that\", \"the caller\""),
];

/// Openings of a paragraph that put the subject last.
const OPENINGS: &[&str] = &["Before which ", "Of all ", "Of what ", "Of which ", "That which "];

const PLACES: &[&str] = &["partykit-", "src/", "examples/", "docs/src/", "docs/adr/"];

const PAGES: &[&str] = &["README.md", "CONTRIBUTING.md", "SECURITY.md"];

pub(super) fn check(file: &File) -> Vec<Violation> {
    if !is_read_outside(&file.path) {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let mut found = |what: String| {
            violations.push(Violation::new(&file.path, index + 1, what));
        };
        // "there is none" is plain enough.
        let lower = line.to_lowercase().replace("there is none", "");
        for (word, instead) in WORDS.iter().filter(|(word, _)| has(&lower, word)) {
            found(format!("\"{word}\": {instead}"));
        }
        let text = line.trim_start().trim_start_matches(['/', '!', ' ']);
        if let Some(opening) = OPENINGS.iter().find(|opening| text.starts_with(*opening)) {
            found(format!("\"{opening}..\" at the beginning: put the subject first"));
        }
    }
    violations
}

fn is_read_outside(path: &str) -> bool {
    let is_text = path.ends_with(".rs") || path.ends_with(".md");
    let is_test = path.split('/').any(|part| part == "tests" || part == "tests.rs");
    // `cargo xtask bench` writes this page.
    let is_written = path == "docs/src/benchmarks.md";
    let is_place = PLACES.iter().any(|place| path.starts_with(place));
    PAGES.contains(&path) || (is_text && is_place && !is_test && !is_written)
}

/// Whether `line` has `phrase` as whole words.
fn has(line: &str, phrase: &str) -> bool {
    line.match_indices(phrase).any(|(at, _)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let before = line[..at].chars().next_back();
        let after = line[at + phrase.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&File::new(path, text)).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn each_of_them_is_found_where_people_read() {
        for path in
            ["partykit-core/src/a.rs", "src/lib.rs", "docs/src/a.md", "docs/adr/a.md", "README.md"]
        {
            for (word, _) in WORDS {
                assert_eq!(lines(path, &format!("\n/// The {word}, if any.")), [2], "{word}");
            }
            for opening in OPENINGS {
                assert_eq!(lines(path, &format!("    //! {opening}x")), [1], "{opening}");
            }
        }
    }

    #[test]
    fn other_words_and_other_files_are_not_meant() {
        let text = "there is none; is_none() is nonesuch; a new room; Option::is none_of; renewed, manewed; it somebodys";
        assert_eq!(lines("src/lib.rs", text), [0; 0]);
        for path in ["dev/xtask/src/a.rs", "partykit-core/tests/a.rs", "src/tests.rs", "a.toml"] {
            assert_eq!(lines(path, "nobody"), [0; 0], "{path}");
        }
    }

    #[test]
    fn what_to_write_instead_is_said() {
        let found = check(&File::new("README.md", "Nobody waits."));
        let line = "README.md:1: \"nobody\": name who does not: \"no client\", \"no other room\"";
        assert_eq!(found[0].to_string(), line);
    }
}
