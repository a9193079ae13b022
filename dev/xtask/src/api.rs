//! The public API of the published libraries, beside the lists of it that are committed.
//!
//! A change of the API changes a list in the same commit, so that a reader of the commit sees it, and a
//! release knows what is breaking.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    command::Failure,
    report::{Outcome, Verdict},
    steps,
};

/// Where the lists are, below the root.
const LISTS: &str = "dev/api";

/// The crates of others whose types are in ours: a new major version of one of them breaks ours.
const EXTERNAL: &str = "dev/api/external-types.txt";

/// The libraries, with all of their features.
const LIBRARIES: [&str; 6] = [
    "partykit-core",
    "partykit-runtime-tokio",
    "partykit-runtime-workers",
    "partykit-yjs",
    "partykit-extras",
    "partykit",
];

/// Come with the compiler, and are not crates of others.
const STANDARD: [&str; 18] = [
    "alloc", "core", "std", "bool", "char", "str", "f32", "f64", "i8", "i16", "i32", "i64", "u8",
    "u16", "u32", "u64", "usize", "self",
];

/// `cargo xtask api`
pub(crate) fn run(root: &Path, arguments: &[String]) -> Outcome {
    match arguments {
        [] => step(root),
        [write] if write == "--write" => {
            let api = Api::read(root)?;
            fs::create_dir_all(root.join(LISTS)).map_err(|error| of(LISTS, &error))?;
            for (path, text) in api.lists() {
                fs::write(root.join(&path), text).map_err(|error| of(&path, &error))?;
            }
            Ok(Verdict::Passed)
        }
        _ => Err(Failure::new("usage: cargo xtask api [--write]")),
    }
}

/// A failure when a list is not what the code says.
pub(crate) fn step(root: &Path) -> Outcome {
    let mut changes = String::new();
    for (path, now) in Api::read(root)?.lists() {
        let before = fs::read_to_string(root.join(&path)).unwrap_or_default();
        for line in difference(&before, &now) {
            let _ = writeln!(changes, "{path}: {line}");
        }
    }
    match changes.is_empty() {
        true => Ok(Verdict::Passed),
        false => Err(Failure::new(format!(
            "{changes}The public API has changed. If it has to: `cargo xtask api --write`"
        ))),
    }
}

/// The items of each library, a line each.
struct Api(Vec<(&'static str, Vec<String>)>);

impl Api {
    fn read(root: &Path) -> Result<Self, Failure> {
        describe(root)?;
        let items = LIBRARIES.iter().map(|library| {
            let api = public_api::Builder::from_rustdoc_json(described(root, library))
                .omit_blanket_impls(true)
                .omit_auto_trait_impls(true)
                .omit_auto_derived_impls(true)
                .build()
                .map_err(|error| {
                    Failure::new(format!("{library}: {error}. Another compiler, another format?"))
                })?;
            let name = library.replace('-', "_");
            let items: BTreeSet<String> =
                api.items().map(|item| short(&name, &item.to_string())).collect();
            Ok((*library, items.into_iter().collect()))
        });
        items.collect::<Result<_, _>>().map(Self)
    }

    /// The text of each list, by its path.
    fn lists(&self) -> Vec<(String, String)> {
        let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect();
        let mut lists: Vec<(String, String)> = (self.0.iter())
            .map(|(library, items)| (format!("{LISTS}/{library}.txt"), text(items)))
            .collect();
        let items = self.0.iter().flat_map(|(_, items)| items);
        let crates: BTreeSet<String> = items.flat_map(|item| crates(item)).collect();
        lists.push((EXTERNAL.to_owned(), text(&crates.into_iter().collect::<Vec<_>>())));
        lists
    }
}

/// Where [`describe`] puts what it says of a library.
fn described(root: &Path, library: &str) -> PathBuf {
    root.join(format!("target/doc/{}.json", library.replace('-', "_")))
}

/// What rustdoc says of the libraries; a failure when it warns. It looks at every page of documentation, but writes data
/// and no HTML. Stable compilers do that too, when they are told that they are not stable: but only rustdoc is
/// told so, or cargo would compile all dependencies again.
fn describe(root: &Path) -> Result<(), Failure> {
    steps::docs(root)
        .env("RUSTDOC", root.join("dev/xtask/rustdoc.sh"))
        .env("RUSTDOCFLAGS", "-Zunstable-options --output-format=json -D warnings")
        .run()
}

/// The crates of others that an item names: what stands before the first `::` of each path.
fn crates(item: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    item.split(|c: char| !is_word(c))
        .filter_map(|path| path.split_once("::"))
        .map(|(first, _)| first)
        .filter(|first| first.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter(|first| !STANDARD.contains(first) && !first.starts_with("partykit"))
        .map(ToOwned::to_owned)
        .collect()
}

/// `item` without the modules in which our other libraries keep a type: they are private, and may change.
fn short(library: &str, item: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let (mut short, mut rest) = (String::new(), item);
    while let Some(at) = rest.find("partykit_") {
        let (before, path) = rest.split_at(at);
        let end = path.find(|c: char| !is_word(c)).unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        short.push_str(before);
        let (first, inner) = path.split_once("::").unwrap_or((path, ""));
        let is_type = |segment: &&str| segment.starts_with(|c: char| c.is_ascii_uppercase());
        match inner.split("::").any(|segment| is_type(&segment)) && first != library {
            true => {
                let kept = inner.split("::").skip_while(|segment| !is_type(segment));
                let kept: Vec<&str> = [first].into_iter().chain(kept).collect();
                short.push_str(&kept.join("::"));
            }
            false => short.push_str(path),
        }
        rest = after;
    }
    short + rest
}

/// What came and what went, in the order of the lists.
fn difference(before: &str, now: &str) -> Vec<String> {
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) =
        (before.lines().collect(), now.lines().collect());
    let gone = old.difference(&new).map(|line| format!("- {line}"));
    let come = new.difference(&old).map(|line| format!("+ {line}"));
    gone.chain(come).collect()
}

fn of(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_of_others_are_named() {
        let item = "pub fn partykit_core::f(a: &http::Request<bytes::bytes::Bytes>) -> core::option::Option<T::Item>";
        assert_eq!(crates(item), ["http", "bytes"]);
        for item in ["pub struct partykit_core::Room", "pub fn u16::from(code: CloseCode) -> Self"]
        {
            assert_eq!(crates(item), Vec::<String>::new());
        }
    }

    #[test]
    fn private_modules_of_our_other_libraries_are_left_out() {
        let item = "pub fn partykit_runtime_tokio::tls::Tls::a(partykit_core::value::error::CallError) -> partykit_core::Room";
        let expected = "pub fn partykit_runtime_tokio::tls::Tls::a(partykit_core::CallError) -> partykit_core::Room";
        assert_eq!(short("partykit_runtime_tokio", item), expected);
    }

    #[test]
    fn what_came_and_what_went_is_told() {
        assert_eq!(difference("a\nb\n", "b\nc\n"), ["- a", "+ c"]);
        assert_eq!(difference("a\n", "a\n"), Vec::<String>::new());
    }
}
