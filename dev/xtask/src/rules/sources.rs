//! Rules for the text of any file, whatever it is about.

use super::{File, Violation};

/// A source file has one noun; over this it has more.
const MAX_LINES: usize = 600;

const SOURCES: &[&str] = &[".rs", ".mjs", ".js", ".ts", ".html", ".css", ".sh"];

/// First parts of paths that exist on one machine and not on the next.
const MACHINE_DIRECTORIES: &[&str] = &["work", "root", "farm", "tmp", "home", "Users"];

/// Modules whose `sleep` waits for the clock on the wall.
const CLOCKS: &[&str] = &["thread", "time"];

/// What they call it.
const SLEEPS: &[&str] = &["sleep", "sleep_until", "sleep_ms"];

/// Everything that any file can do wrong.
pub(super) fn check(file: &File) -> Vec<Violation> {
    let mut violations = machine_paths(file);
    violations.extend(too_long(file));
    violations.extend(download_addresses(file));
    if file.is_rust() && is_test(&file.path) {
        violations.extend(sleeps(file));
    }
    if file.is_rust() && file.path.starts_with("partykit-core/") {
        violations.extend(platforms(file));
    }
    violations
}

/// `#![forbid(unsafe_code)]` must stand in `file`, as a line of its own.
pub(super) fn forbids_unsafe(file: &File) -> Option<Violation> {
    let found = file.code().any(|(_, line)| line == "#![forbid(unsafe_code)]");
    (!found).then(|| Violation::new(&file.path, 1, "#![forbid(unsafe_code)] is missing"))
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
fn sleeps(file: &File) -> Vec<Violation> {
    let first = file.text.lines().next().unwrap_or_default();
    if file.text.contains("(start_paused = true)") || first.contains("virtual time") {
        return Vec::new();
    }
    let mut violations = Vec::new();
    // The import of a clock whose braces are open.
    let mut importing = false;
    for (number, line) in file.code() {
        let named = CLOCKS.iter().any(|clock| line.contains(&format!("{clock}::sleep")));
        let mut lists = CLOCKS.iter().filter_map(|clock| line.split_once(&format!("{clock}::{{")));
        let list = lists.next().map(|(_, list)| list).or(importing.then_some(line));
        let imported = list.is_some_and(|list| {
            let list = list.split('}').next().unwrap_or_default();
            list.split(',').any(|name| SLEEPS.contains(&name.trim()))
        });
        importing = list.is_some_and(|list| !list.contains('}'));
        if named || imported {
            violations.push(Violation::new(
                &file.path,
                number,
                "a sleep on the wall clock in a test",
            ));
        }
    }
    violations
}

/// Core runs anywhere and does not ask where.
fn platforms(file: &File) -> Vec<Violation> {
    let asked = ["target_arch", "target_family", "target_os"];
    let asking = file.code().flat_map(|(line, text)| {
        asked.into_iter().filter(|it| text.contains(it)).map(move |it| (line, it))
    });
    asking.map(|(line, it)| Violation::new(&file.path, line, format!("`{it}` in core"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<(usize, String)> {
        let violations = check(&File::new(path, text));
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
            "use tokio::{sync::Notify, time::{Duration, sleep}};",
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
            "// thread::sleep(d)\nfn f() {}",
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
        let check = |text| forbids_unsafe(&File::new("lib.rs", text));
        assert_eq!(check("//! Docs.\n#![forbid(unsafe_code)]\nmod a;"), None);
        assert!(check("// #![forbid(unsafe_code)]\nmod a;").is_some());
        assert!(check("#![deny(unsafe_code)]").is_some());
    }
}
