//! The guide as a site.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    charts,
    command::{Command, Failure},
    report::{Outcome, Verdict},
    tools,
};

/// Where the site is made, below the root.
const SITE: &str = "docs/book";

const USAGE: &str = "\
cargo xtask book             makes the site in docs/book, and checks its links
cargo xtask book --charts    draws the charts of docs/src/benchmarks.md again, and makes the site";

/// `cargo xtask book`
pub(crate) fn run(root: &Path, arguments: &[String]) -> Outcome {
    for argument in arguments {
        match argument.as_str() {
            "--charts" => charts::write(root)?,
            _ => return Err(Failure::new(USAGE)),
        }
    }
    step(root)
}

/// As a step of `test`. The links of the sources are checked by `rules`, those of the site here.
pub(crate) fn step(root: &Path) -> Outcome {
    charts::check(root)?;
    tools::require("mdbook")?;
    Command::new(root, "mdbook build docs").run()?;
    let pages = pages(&root.join(SITE))?;
    let broken = broken(&pages, |path| root.join(SITE).join(path).exists());
    println!("  {} pages in {SITE}", pages.len());
    match broken.is_empty() {
        true => Ok(Verdict::Passed),
        false => Err(Failure::new(broken.join("\n"))),
    }
}

/// The text of each page, by its path in the site.
fn pages(site: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let failed = |path: &Path, error| Failure::new(format!("{}: {error}", path.display()));
    let mut pages = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(directory) = left.pop() {
        let entries =
            fs::read_dir(site.join(&directory)).map_err(|error| failed(&directory, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed(&directory, error))?;
            let path = directory.join(entry.file_name());
            if entry.path().is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "html") {
                let text =
                    fs::read_to_string(entry.path()).map_err(|error| failed(&path, error))?;
                pages.insert(path.display().to_string(), text);
            }
        }
    }
    Ok(pages)
}

/// Links and pictures that lead nowhere. The page of everything (`print.html`) has each anchor twice, and the
/// page of errors is shown at any place: both are left out.
fn broken(pages: &BTreeMap<String, String>, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let ids: BTreeMap<&str, BTreeSet<&str>> =
        pages.iter().map(|(path, text)| (path.as_str(), values(text, "id"))).collect();
    let mut broken = Vec::new();
    for (path, text) in pages {
        if matches!(path.as_str(), "print.html" | "404.html" | "toc.html") {
            continue;
        }
        for link in values(text, "href").into_iter().chain(values(text, "src")) {
            if link.contains(':') || link.starts_with("//") || link.is_empty() {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { path } else { file };
            if !exists(file) {
                broken.push(format!("{path}: the link {link} leads to no file"));
            } else if !anchor.is_empty() && ids.get(file).is_some_and(|ids| !ids.contains(anchor)) {
                broken.push(format!("{path}: the link {link} leads to no anchor"));
            }
        }
    }
    broken
}

/// What an attribute says in all tags. Code that is shown is text, and no tag.
fn values<'a>(text: &'a str, attribute: &str) -> BTreeSet<&'a str> {
    let start = format!(" {attribute}=\"");
    text.split('<')
        .filter_map(|tag| tag.split('>').next()?.split_once(&start))
        .filter_map(|(_, rest)| Some(rest.split_once('"')?.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_site_are_followed() {
        let page = |text: &str| {
            let pages = [("a.html", text), ("b.html", "<h1 id=\"top\">")];
            pages.map(|(path, text)| (path.to_owned(), text.to_owned())).into()
        };
        let exists = |path: &str| ["a.html", "b.html", "p.svg"].contains(&path);
        let good = "<a href=\"b.html#top\"> <a href=\"https://a.b/c\"> <img src=\"p.svg\"> <a id=\"x\" href=\"#x\"> \
                    &lt;script src=\"/shown.js\"&gt;";
        assert_eq!(broken(&page(good), exists), Vec::<String>::new());
        for (text, problem) in [
            ("<a href=\"c.html\">", "a.html: the link c.html leads to no file"),
            ("<img alt=\"\" src=\"q.svg\">", "a.html: the link q.svg leads to no file"),
            ("<a href=\"b.html#end\">", "a.html: the link b.html#end leads to no anchor"),
            ("<a href=\"#end\">", "a.html: the link #end leads to no anchor"),
        ] {
            assert_eq!(broken(&page(text), exists), [problem]);
        }
    }
}
