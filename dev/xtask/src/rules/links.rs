//! Links between the documents of the repository lead somewhere: to a file, and to a heading in it.

use std::collections::HashMap;

use super::{File, Violation};

/// Checks all links of all Markdown files. `exists` says whether there is such a path in the repository,
/// for files that are no text.
pub(super) fn check(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<Violation> {
    let pages = || files.iter().filter(|file| file.path.ends_with(".md"));
    let anchors: HashMap<&str, Vec<String>> =
        pages().map(|page| (page.path.as_str(), anchors(&page.text))).collect();
    let mut violations = Vec::new();
    for page in pages() {
        for (line, link) in links(&page.text) {
            let mut complain =
                |what: String| violations.push(Violation::new(&page.path, line, what));
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if path.is_empty() { Some(page.path.clone()) } else { resolved(&page.path, path) };
            let Some(target) = target.filter(|target| exists(target)) else {
                complain(format!("the link {link} leads to no file"));
                continue;
            };
            let known = anchors.get(target.as_str());
            if !anchor.is_empty() && known.is_none_or(|known| !known.iter().any(|it| it == anchor))
            {
                complain(format!("the link {link} leads to no heading"));
            }
        }
    }
    violations
}

/// The links into this repository, each with its line.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for (line, text) in prose(text) {
        for (at, _) in text.match_indices("](") {
            let is_code = text[..at].matches('`').count() % 2 == 1;
            let Some((link, _)) = text[at + 2..].split_once(')') else { continue };
            let link = link.split(' ').next().unwrap_or_default();
            if !is_code && !link.contains("://") && !link.starts_with("mailto:") {
                links.push((line, link));
            }
        }
    }
    links
}

/// What the headings of a page are called in links. The second of two equal ones ends in `-1`.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let Some(heading) = line.trim_start_matches('#').strip_prefix(' ') else { continue };
        if !line.starts_with('#') {
            continue;
        }
        let name: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let is_numbered = |it: &&String| {
            let rest = it.strip_prefix(&name).and_then(|rest| rest.strip_prefix('-'));
            **it == name || rest.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        match anchors.iter().filter(is_numbered).count() {
            0 => anchors.push(name),
            earlier => anchors.push(format!("{name}-{earlier}")),
        }
    }
    anchors
}

/// The lines outside of blocks of code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            return None;
        }
        (!is_code).then_some((index + 1, line))
    })
}

/// `link` of the page at `from`, from the root of the repository; `None` when it leads out of that.
fn resolved(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(text: &str) -> Vec<String> {
        let files = [
            File::new("docs/a.md", text),
            File::new("docs/b.md", "# One\n\n## `two` & three\n```\n# no heading\n```\n# One\n"),
        ];
        let exists = |path: &str| ["docs/a.md", "docs/b.md", "picture.png"].contains(&path);
        check(&files, exists).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let text = "# Top\n[a](b.md) [b](b.md#one-1) [c](#top) ![d](../picture.png)\n\
                    [e](https://example.com/x#y) `[f](nowhere)` [g](b.md#two--three)\n```\n[h](no)\n```\n";
        assert_eq!(what(text), Vec::<String>::new());
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for (text, problem) in [
            ("[a](c.md)", "the link c.md leads to no file"),
            ("[a](../../b.md)", "the link ../../b.md leads to no file"),
            ("[a](#top)", "the link #top leads to no heading"),
            ("[a](b.md#no-heading)", "the link b.md#no-heading leads to no heading"),
            ("[a](b.md#one-2)", "the link b.md#one-2 leads to no heading"),
        ] {
            assert_eq!(what(text), [problem], "{text}");
        }
    }
}
