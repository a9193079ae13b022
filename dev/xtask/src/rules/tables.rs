//! The guide's tables name what the code has: all options, and metrics that exist.

use std::collections::BTreeSet;

use super::{File, Violation};

pub(super) const OPTIONS: &str = "docs/src/options.md";
pub(super) const METRICS: &str = "docs/src/prometheus.md";

/// Types whose methods are options, as the headings of the page name them, and where they are written.
const TYPES: [(&str, &str); 3] = [
    ("Options", "partykit-core/src/value/options"),
    ("Builder", "partykit-runtime-tokio/src/builder"),
    ("Settings", "partykit-runtime-workers/src/settings"),
];

/// Where the names of metrics are written.
const NAMES: &str = "partykit-runtime-tokio/src/metrics";

/// Each method that sets something has a row in the table of its type, and each row has such a method.
pub(super) fn options(page: &File, files: &[File]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (of, place) in TYPES {
        let code: BTreeSet<&str> = files
            .iter()
            .filter(|file| file.path.starts_with(place) && file.is_rust())
            .flat_map(|file| setters(&file.text))
            .collect();
        let rows = rows(&page.text, of);
        let mut complain = |what: String| violations.push(Violation::new(OPTIONS, 1, what));
        if code.is_empty() {
            complain(format!("{place} has no option"));
        }
        for name in code.difference(&rows) {
            complain(format!("{of}::{name} has no row"));
        }
        for name in rows.difference(&code) {
            complain(format!("there is no {of}::{name}"));
        }
    }
    violations
}

/// Each metric that the page names is one that the runtime counts.
pub(super) fn metrics(page: &File, files: &[File]) -> Vec<Violation> {
    let places = || files.iter().filter(|file| file.path.starts_with(NAMES));
    let exists = |name: &str| places().any(|file| file.text.contains(&format!("\"{name}\"")));
    let mut violations = Vec::new();
    for (index, line) in page.text.lines().enumerate() {
        let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("partykit_")) {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            if !exists(name.unwrap_or(word)) {
                let what = format!("there is no metric {word}");
                violations.push(Violation::new(METRICS, index + 1, what));
            }
        }
    }
    violations
}

/// The public methods that take the value and return it.
fn setters(text: &str) -> Vec<&str> {
    let heads = text.split("pub fn ").skip(1).filter_map(|rest| rest.split_once('{'));
    heads
        .filter(|(head, _)| head.contains("self") && !head.contains("&self"))
        .filter(|(head, _)| head.contains("-> Self"))
        .filter_map(|(head, _)| head.split(['(', '<']).next())
        .collect()
}

/// What the first cells of the tables below the heading of a type name.
fn rows<'a>(text: &'a str, of: &str) -> BTreeSet<&'a str> {
    let heading = format!("`{of}`");
    let mut is_below = false;
    let mut rows = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("## ") {
            is_below = line.ends_with(&heading);
        } else if is_below
            && let Some((name, _)) = line.strip_prefix("| `").and_then(|row| row.split_once('`'))
        {
            rows.insert(name);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> [File; 4] {
        let options = "pub fn new() -> Self {}\npub fn hibernates(&self) -> bool {}\n\
                       pub fn hibernate(self, hibernate: bool) -> Self {}\n";
        let builder = "pub fn fallback<F>(\n    mut self,\n    fallback: F,\n) -> Self\nwhere {}\n\
                       pub fn build(self) -> Result<Runtime> {}\n";
        [
            File::new("partykit-core/src/value/options.rs", options),
            File::new("partykit-runtime-tokio/src/builder/front.rs", builder),
            File::new("partykit-runtime-workers/src/settings.rs", "pub fn prefix(self) -> Self {}"),
            File::new("partykit-runtime-tokio/src/metrics.rs", "\"partykit_commit_seconds\""),
        ]
    }

    #[test]
    fn each_option_has_a_row_and_each_row_an_option() {
        let page = |builder: &str| {
            let text = format!(
                "## Party: `Options`\n| option |\n| `hibernate` | a |\n## Tokio: `Builder`\n\
                 | `{builder}` | b |\n## `Settings`\n| `prefix` | c |\n"
            );
            let violations = options(&File::new(OPTIONS, &text), &code());
            violations.into_iter().map(|violation| violation.what).collect::<Vec<_>>()
        };
        assert_eq!(page("fallback"), Vec::<String>::new());
        let found = page("build");
        assert_eq!(found, ["Builder::fallback has no row", "there is no Builder::build"]);
        assert_eq!(options(&File::new(OPTIONS, ""), &[]).len(), 3);
    }

    #[test]
    fn metrics_that_are_not_counted_are_found() {
        let what = |text| metrics(&File::new(METRICS, text), &code()).len();
        assert_eq!(what("rate(partykit_commit_seconds_bucket[5m]) > 1"), 0);
        assert_eq!(what("rate(partykit_commits_seconds_bucket[5m]) > 1"), 1);
    }
}
