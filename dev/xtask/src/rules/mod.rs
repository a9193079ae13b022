//! Rules of this repository that no linter knows, as code. What each is for: CONTRIBUTING.md.
//!
//! A rule is a function from text to [`Violation`]s; this file alone touches the disk and cargo.

mod arrows;
mod book;
mod examples;
mod front;
mod graph;
mod limits;
mod links;
mod names;
mod paths;
mod relay;
mod small;
mod sources;
mod tables;
mod walks;
mod words;

use std::{fmt, fs, path::Path};

use crate::command::{Command, Failure};

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    path: String,
    line: usize,
    what: String,
}

impl Violation {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A text file of the repository; `path` is relative to its root, with `/` between the parts.
#[derive(Debug)]
struct File {
    path: String,
    text: String,
}

impl File {
    #[cfg(test)]
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The lines of code with their numbers: those that are neither blank nor only a comment.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = (1..).zip(self.text.lines());
        lines.filter(|(_, line)| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with("//")
        })
    }
}

/// Checks every file that git knows or would take in, and the dependencies of the crates.
pub(crate) fn check(root: &Path) -> Result<Vec<Violation>, Failure> {
    let files = files(root)?;
    let mut violations = Vec::new();
    for file in &files {
        violations.extend(sources::check(file));
        violations.extend(words::check(file));
        violations.extend(examples::check(file));
        violations.extend(front::check(file));
        violations.extend(paths::check(file));
    }
    let manifest = required(&files, relay::MANIFEST)?;
    violations.extend(relay::check(required(&files, relay::PATH)?, manifest));
    for (path, limit) in small::SERVERS {
        let page = required(&files, small::PAGE)?;
        violations.extend(small::check(required(&files, path)?, limit, page));
    }
    violations.extend(sources::forbids_unsafe(required(&files, "partykit-core/src/lib.rs")?));
    if let Some(summary) = files.iter().find(|file| file.path == book::SUMMARY) {
        let pages = files.iter().map(|file| file.path.as_str());
        violations.extend(book::check(summary, pages));
    }
    violations.extend(limits::check(required(&files, limits::PATH)?, &files));
    violations.extend(tables::options(required(&files, tables::OPTIONS)?, &files));
    violations.extend(tables::metrics(required(&files, tables::METRICS)?, &files));
    violations.extend(walks::check(required(&files, walks::PAGE)?, &files));
    for (list, column) in names::LISTS {
        let page = required(&files, names::PAGE)?;
        violations.extend(names::check(page, required(&files, list)?, column));
    }
    violations.extend(links::check(&files, |path| root.join(path).exists()));
    violations.extend(book::compiled(&files, required(&files, book::COMPILED)?));
    violations.extend(graph::check(&files));
    for (package, banned) in arrows::ARROWS {
        violations.extend(arrows::check(package, banned, &tree(root, package)?));
    }
    Ok(violations)
}

/// Prints who knows whom in the core.
pub(crate) fn graph(root: &Path) -> Result<(), Failure> {
    println!("{}", graph::Graph::new(&files(root)?).show());
    Ok(())
}

/// A rule about a file that is not there is a rule that cannot fail.
fn required<'a>(files: &'a [File], path: &str) -> Result<&'a File, Failure> {
    let file = files.iter().find(|file| file.path == path);
    file.ok_or_else(|| Failure::new(format!("{path} is missing")))
}

/// What `package` depends on, at any depth and with all features, for [`arrows::check`].
fn tree(root: &Path, package: &str) -> Result<String, Failure> {
    let line = format!("cargo tree -p {package} -e normal --all-features --prefix none");
    Command::new(root, &line).read()
}

fn files(root: &Path) -> Result<Vec<File>, Failure> {
    let line = "git ls-files -z --cached --others --exclude-standard";
    let listed = Command::new(root, line).read()?;
    let mut files = Vec::new();
    for path in listed.split_terminator('\0') {
        // Deleted but not yet committed, a link to a directory, or not text: nothing to read.
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            files.push(File { path: path.to_owned(), text });
        }
    }
    match files.is_empty() {
        true => Err(Failure::new("git lists no files")),
        false => Ok(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_dependency_would_be_seen_in_the_real_tree() {
        let tree = tree(&crate::root(), "partykit-runtime-tokio").unwrap();
        assert_eq!(arrows::check("partykit-runtime-tokio", &["tokio"], &tree).len(), 1);
    }

    #[test]
    fn files_are_those_of_the_repository() {
        let files = files(&crate::root()).unwrap();
        assert!(required(&files, "dev/xtask/src/rules/mod.rs").is_ok());
        assert!(required(&files, "no/such/file").is_err());
        assert!(!files.iter().any(|file| file.path.contains("node_modules/")));
    }
}
