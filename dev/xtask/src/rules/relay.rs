//! The first screen: a relay stays short and knows nothing but the facade.
//!
//! That it compiles without features, so with the crates alone that its manifest always has, is a step of
//! `cargo xtask test`.

use super::{File, Violation};

pub(super) const PATH: &str = "examples/relay/src/lib.rs";
pub(super) const MANIFEST: &str = "examples/relay/Cargo.toml";

/// Lines that hold code: neither blank nor only comment.
const MAX_LINES: usize = 25;

/// What needs no dependency. The first screen needs nothing from it.
const STANDARD: &[&str] = &["std::", "core::", "alloc::"];

pub(super) fn check(file: &File, manifest: &File) -> Vec<Violation> {
    let mut violations = Vec::new();
    let lines = file.code().count();
    if lines > MAX_LINES {
        let what = format!("{lines} lines of code, at most {MAX_LINES} allowed");
        violations.push(Violation::new(&file.path, 1, what));
    }
    for (line, text) in file.code() {
        for name in STANDARD.iter().filter(|name| names(text, name)) {
            let what = format!("`{name}` is not of `partykit`");
            violations.push(Violation::new(&file.path, line, what));
        }
    }
    for (line, name) in dependencies(manifest).filter(|(_, name)| *name != "partykit") {
        let what = format!("`{name}` is not `partykit`, and not optional");
        violations.push(Violation::new(&manifest.path, line, what));
    }
    violations
}

/// Whether a path in the line begins with this.
fn names(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The lines and names of the dependencies that the package always has.
fn dependencies(manifest: &File) -> impl Iterator<Item = (usize, &str)> {
    let lines = manifest.text.lines().zip(1..);
    let section = lines.skip_while(|(line, _)| *line != "[dependencies]").skip(1);
    let section = section.take_while(|(line, _)| !line.starts_with('['));
    let always = section.filter(|(line, _)| !line.contains("optional = true"));
    always.filter_map(|(line, number)| {
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        (!name.is_empty() && !name.starts_with('#')).then_some((number, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONLY: &str = "[dependencies]\npartykit.workspace = true\n\n# Of the binary.\n\
                        tokio = { workspace = true, optional = true }\n\n[lints]\nworkspace = true\n";

    fn found(text: &str, manifest: &str) -> Vec<String> {
        let violations = check(&File::new(PATH, text), &File::new(MANIFEST, manifest));
        violations.into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_short_relay_of_partykit_alone_is_fine() {
        let text = "//! Not `std::process`.\nuse partykit::Room;\n\nfn f() { my_std::g() }\n";
        assert_eq!(found(text, ONLY), Vec::<String>::new());
    }

    #[test]
    fn other_crates_are_found() {
        for root in ["std", "core", "alloc"] {
            let what = [format!("`{root}::` is not of `partykit`")];
            for text in ["use X::a;", "fn f() { X::a() }", "use ::X::a;", "fn f(a: &X::A) {}"] {
                assert_eq!(found(&text.replace('X', root), ONLY), what, "{text}");
            }
        }
        for more in ["http = \"1\"", "http.workspace = true", "http = { version = \"1\" }"] {
            let manifest = format!("[dependencies]\n{more}\npartykit.workspace = true\n");
            assert_eq!(found("", &manifest), ["`http` is not `partykit`, and not optional"]);
        }
    }

    #[test]
    fn lines_of_code_are_counted_without_blanks_and_comments() {
        let fits = format!("// a\n\n/// b\n{}", "fn f() {}\n".repeat(MAX_LINES));
        assert_eq!(found(&fits, ONLY), Vec::<String>::new());
        let too_long = ["26 lines of code, at most 25 allowed"];
        assert_eq!(found(&format!("{fits}fn g() {{}}"), ONLY), too_long);
    }
}
