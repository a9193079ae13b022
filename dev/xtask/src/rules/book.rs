//! The guide's table of contents names its pages: all of them, and no others.

use super::{File, Violation};

pub(super) const SUMMARY: &str = "docs/src/SUMMARY.md";

/// Where the pages stand whose examples are compiled.
pub(super) const COMPILED: &str = "src/guide.rs";

/// `paths` are all files of the repository.
pub(super) fn check<'a>(summary: &File, paths: impl Iterator<Item = &'a str>) -> Vec<Violation> {
    let pages: Vec<&str> = paths
        .filter_map(|path| path.strip_prefix("docs/src/"))
        .filter(|page| page.ends_with(".md") && *page != "SUMMARY.md")
        .collect();
    let links: Vec<(usize, &str)> = summary
        .text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| {
            let (link, _) = line.split_once("](")?.1.split_once(')')?;
            Some((index + 1, link))
        })
        .collect();
    let mut violations = Vec::new();
    for (line, link) in links.iter().filter(|(_, link)| !pages.contains(link)) {
        violations.push(Violation::new(SUMMARY, *line, format!("there is no page {link}")));
    }
    for page in pages.iter().filter(|page| !links.iter().any(|(_, link)| link == *page)) {
        violations.push(Violation::new(SUMMARY, 1, format!("the page {page} is not listed")));
    }
    violations
}

/// Every page with Rust in it is compiled.
pub(super) fn compiled(files: &[File], list: &File) -> Vec<Violation> {
    let pages = files.iter().filter(|file| {
        file.path.starts_with("docs/src/") && file.text.lines().any(|it| it.starts_with("```rust"))
    });
    pages
        .filter(|page| !list.text.contains(&format!("\"../{}\"", page.path)))
        .map(|page| Violation::new(&page.path, 1, format!("its examples are not in {COMPILED}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(summary: &str, paths: &[&str]) -> Vec<String> {
        let violations = check(&File::new(SUMMARY, summary), paths.iter().copied());
        violations.into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn missing_and_unlisted_pages_are_found() {
        let summary = "# Summary\n\n- [A](a.md)\n  - [B](sub/b.md)\n";
        let all = ["docs/src/SUMMARY.md", "docs/src/a.md", "docs/src/sub/b.md", "README.md"];
        assert_eq!(what(summary, &all), Vec::<String>::new());
        assert_eq!(what(summary, &all[..2]), ["there is no page sub/b.md"]);
        assert_eq!(what("[A](a.md)", &all), ["the page sub/b.md is not listed"]);
    }

    #[test]
    fn a_page_whose_examples_are_not_compiled_is_found() {
        let files = [
            File::new("docs/src/a.md", "```rust\nfn a() {}\n```"),
            File::new("docs/src/b.md", "```toml\n```"),
        ];
        let list = |text| File::new(COMPILED, text);
        assert_eq!(compiled(&files, &list("include_str!(\"../docs/src/a.md\")")), []);
        assert_eq!(compiled(&files, &list("")).len(), 1);
    }
}
