//! Who may know whom: facade to runtimes to core, and never back.

use super::Violation;

/// Packages, and what none of their dependencies may be, at any depth.
pub(super) const ARROWS: &[(&str, &[&str])] = &[
    (
        "partykit-core",
        &[
            "tokio",
            "hyper",
            "mio",
            "worker",
            "wasm-bindgen",
            "partykit",
            "partykit-runtime-tokio",
            "partykit-runtime-workers",
        ],
    ),
    ("partykit-runtime-tokio", &["partykit", "partykit-runtime-workers", "wasm-bindgen"]),
    ("partykit-runtime-workers", &["partykit", "partykit-runtime-tokio", "tokio", "mio"]),
    (
        "partykit-extras",
        &[
            "partykit",
            "partykit-runtime-tokio",
            "partykit-runtime-workers",
            "tokio",
            "wasm-bindgen",
        ],
    ),
    (
        "partykit-yjs",
        &[
            "partykit",
            "partykit-runtime-tokio",
            "partykit-runtime-workers",
            "tokio",
            "wasm-bindgen",
        ],
    ),
];

/// `tree` is what `cargo tree --prefix none` prints: a package a line, its name the first word.
pub(super) fn check(package: &str, banned: &[&str], tree: &str) -> Vec<Violation> {
    let mut found: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| banned.contains(name))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(|name| {
            let what = format!("{package} must not depend on {name} (`cargo tree -i {name}`)");
            Violation::new(&format!("{package}/Cargo.toml"), 1, what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_dependency_is_found_once_and_only_by_its_whole_name() {
        let tree = "partykit-core v0.1.0\ntokio v1.0.0\nbytes v1.0.0\ntokio v1.0.0 (*)\n";
        let violations = check("partykit-core", &["tokio", "mio", "byte"], tree);
        assert_eq!(violations.len(), 1);
        assert!(violations[0].what.contains("must not depend on tokio"));
        assert_eq!(check("partykit-core", &["mio"], tree), []);
    }

    #[test]
    fn every_arrow_is_about_a_package_of_this_workspace() {
        for (package, banned) in ARROWS {
            assert!(crate::root().join(package).join("Cargo.toml").is_file(), "{package}");
            assert!(!banned.is_empty() && !banned.contains(package));
        }
    }
}
