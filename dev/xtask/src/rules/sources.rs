//! Rules for the text of any file, whatever it is about.

use super::{File, Violation, lexer};
use crate::command::Failure;

/// A source file has one noun; over this it has more.
const MAX_LINES: usize = 600;

const SOURCES: &[&str] = &[".rs", ".mjs", ".js", ".ts", ".html", ".css", ".sh"];

/// First parts of paths that exist on one machine and not on the next.
const MACHINE_DIRECTORIES: &[&str] = &["work", "root", "farm", "tmp", "home", "Users"];

/// Modules whose `sleep` waits for the clock on the wall.
const CLOCKS: &[&str] = &["thread", "time"];

/// Everything that any file can do wrong.
pub(super) fn check(file: &File) -> Result<Vec<Violation>, Failure> {
    let mut violations = machine_paths(file);
    violations.extend(too_long(file));
    violations.extend(download_addresses(file));
    if file.is_rust() && is_test(&file.path) {
        violations.extend(sleeps(file)?);
    }
    if file.is_rust() && file.path.starts_with("partykit-core/") {
        violations.extend(platforms(file)?);
    }
    Ok(violations)
}

/// `#![forbid(unsafe_code)]` must stand in `file`.
pub(super) fn forbids_unsafe(file: &File) -> Result<Option<Violation>, Failure> {
    let tokens = lexer::tokens(file)?;
    let attribute = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];
    let found = tokens
        .windows(attribute.len())
        .any(|window| window.iter().map(|token| token.text.as_str()).eq(attribute));
    Ok((!found).then(|| Violation::new(&file.path, 1, "#![forbid(unsafe_code)] is missing")))
}

fn too_long(file: &File) -> Option<Violation> {
    let lines = file.text.lines().count();
    let is_source = SOURCES.iter().any(|extension| file.path.ends_with(extension));
    (is_source && lines > MAX_LINES).then(|| {
        Violation::new(&file.path, 1, format!("{lines} lines, at most {MAX_LINES} allowed"))
    })
}

fn machine_paths(file: &File) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for directory in MACHINE_DIRECTORIES {
            let pattern = format!("/{directory}/");
            let is_path = line.match_indices(&pattern).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "_-.~/*+}>)]$:".contains(c))
            });
            if is_path {
                let what = format!("a path of one machine ({pattern})");
                violations.push(Violation::new(&file.path, index + 1, what));
            }
        }
    }
    violations
}

/// A lock file of npm must not say from where its author happened to download.
fn download_addresses(file: &File) -> Option<Violation> {
    if !file.path.ends_with("package-lock.json") {
        return None;
    }
    let line = file.text.lines().position(|line| line.contains("\"resolved\":"))?;
    Some(Violation::new(&file.path, line + 1, "a download address in a lock file"))
}

fn is_test(path: &str) -> bool {
    path.starts_with("dev/workerd/")
        || path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// Tests wait for events or on virtual time, never on the wall clock. A file whose clock stands still
/// says so: in its tests' attributes, or in its first line.
fn sleeps(file: &File) -> Result<Vec<Violation>, Failure> {
    let first = file.text.lines().next().unwrap_or_default();
    if file.text.contains("(start_paused = true)") || first.contains("virtual time") {
        return Ok(Vec::new());
    }
    let tokens = lexer::tokens(file)?;
    let mut violations = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let is_clock = CLOCKS.contains(&token.text.as_str());
        if is_clock && tokens.get(index + 1).is_some_and(|next| next.text == "::") {
            let path = tokens[index + 2..].iter().map(|token| (&*token.text, token.line));
            violations.extend(sleep_in(path).map(|line| {
                Violation::new(&file.path, line, "a sleep on the wall clock in a test")
            }));
        }
    }
    Ok(violations)
}

/// The line of the `sleep` that a path names, by itself or in braces of an import.
fn sleep_in<'a>(mut path: impl Iterator<Item = (&'a str, usize)>) -> Option<usize> {
    let is_sleep =
        |(text, _): &(&str, usize)| matches!(*text, "sleep" | "sleep_until" | "sleep_ms");
    let first = path.next()?;
    if first.0 != "{" {
        return is_sleep(&first).then_some(first.1);
    }
    path.take_while(|(text, _)| *text != "}").find(is_sleep).map(|(_, line)| line)
}

/// Core runs anywhere and does not ask where.
fn platforms(file: &File) -> Result<Vec<Violation>, Failure> {
    let asks = |text: &str| matches!(text, "target_arch" | "target_family" | "target_os");
    let tokens = lexer::tokens(file)?;
    let asking = tokens.iter().filter(|token| asks(&token.text));
    Ok(asking
        .map(|token| Violation::new(&file.path, token.line, format!("`{}` in core", token.text)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<(usize, String)> {
        let violations = check(&File::new(path, text)).unwrap();
        violations.into_iter().map(|violation| (violation.line, violation.what)).collect()
    }

    #[test]
    fn files_of_source_have_a_length() {
        let text = "\n".repeat(MAX_LINES);
        assert_eq!(broken("a/b.rs", &text), []);
        let longer = format!("{text}\n");
        for path in ["a/b.rs", "dev/node/a.mjs", "page.html"] {
            assert_eq!(broken(path, &longer), [(1, "601 lines, at most 600 allowed".into())]);
        }
        assert_eq!(broken("Cargo.lock", &longer), []);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for directory in MACHINE_DIRECTORIES {
            let found = [(2, format!("a path of one machine (/{directory}/)"))];
            for before in ["", "\"", "see ", "(", "DIR="] {
                assert_eq!(broken("a.md", &format!("\n{before}/{directory}/x")), found);
            }
            for before in ["http://host", "a", "..", "http:/", "$HOME", "{root}"] {
                assert_eq!(broken("a.md", &format!("{before}/{directory}/x")), []);
            }
        }
    }

    #[test]
    fn lock_files_name_no_host() {
        let text = "{\n\"a\": {\n\"resolved\": \"https://example.com/a.tgz\"\n}}";
        let found = [(3, "a download address in a lock file".into())];
        assert_eq!(broken("dev/node/package-lock.json", text), found);
        assert_eq!(broken("package-lock.json", "{ \"a\": { \"version\": \"1\" } }"), []);
    }

    #[test]
    fn sleeps_in_tests_are_found() {
        for text in [
            "fn f() { thread::sleep(d) }",
            "fn f() { std::thread::sleep(d) }",
            "async fn f() { tokio::time::sleep(d).await }",
            "async fn f() { tokio::time::sleep_until(t).await }",
            "use tokio::time::sleep;",
            "use tokio::time::{Duration, sleep, timeout};",
        ] {
            let found = [(1, "a sleep on the wall clock in a test".into())];
            assert_eq!(broken("a/tests/b.rs", text), found, "{text}");
            assert_eq!(broken("a/src/tests.rs", text), found, "{text}");
            assert_eq!(broken("a/src/b.rs", text), [], "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_sleep_is_fine() {
        for text in [
            "// thread::sleep(d)\nfn f() { \"thread::sleep\"; }",
            "fn f() { room.sleep(); Machine::sleep(); }",
            "use tokio::time::{timeout, advance}; fn sleep() {}",
            "#[tokio::test(start_paused = true)] async fn f() { tokio::time::sleep(d).await }",
            "//! A house in virtual time.\nasync fn f() { tokio::time::sleep(d).await }",
        ] {
            assert_eq!(broken("tests/b.rs", text), [], "{text}");
        }
    }

    #[test]
    fn core_asks_for_no_platform() {
        let text = "\n#[cfg(target_arch = \"wasm32\")] fn f() {}";
        assert_eq!(broken("partykit-core/src/a.rs", text), [(2, "`target_arch` in core".into())]);
        assert_eq!(broken("partykit-runtime-workers/src/a.rs", text), []);
    }

    #[test]
    fn unsafe_code_must_be_forbidden_in_code_not_in_a_comment() {
        let check = |text| forbids_unsafe(&File::new("lib.rs", text)).unwrap();
        assert_eq!(check("//! Docs.\n#![forbid(unsafe_code)]\nmod a;"), None);
        assert!(check("// #![forbid(unsafe_code)]\nmod a;").is_some());
        assert!(check("#![deny(unsafe_code)]").is_some());
    }
}
