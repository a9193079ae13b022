//! Every public type of the published crates has an example in its documentation, which `cargo test`
//! compiles.

use super::{File, Violation};

/// The crates whose types users see. A type counts as public when it is `pub`: what is not meant for
/// users is `pub(crate)`, as a lint sees to.
const CRATES: [&str; 2] = ["partykit-core/src/", "partykit-runtime-tokio/src/"];

/// What the first line of a module says that is public for our own tests only.
const OURS: &str = "Not part of the public API.";

pub(super) fn check(file: &File) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !file.is_rust() || !CRATES.iter().any(|source| file.path.starts_with(source)) {
        return violations;
    }
    if file.text.lines().next().is_some_and(|first| first.ends_with(OURS)) {
        return violations;
    }
    let (mut documented, mut example) = (false, false);
    for (index, line) in file.text.lines().enumerate() {
        if let Some(name) = type_name(line) {
            if !example {
                let what = format!("the type {name} has no example");
                violations.push(Violation::new(&file.path, index + 1, what));
            }
            (documented, example) = (false, false);
        } else if let Some(text) = line.strip_prefix("///") {
            // The first line of documentation behind something else begins a new item.
            example = (documented && example) || text.trim_start().starts_with("```");
            documented = true;
        } else if line.is_empty() || line == "}" {
            (documented, example) = (false, false);
        }
    }
    violations
}

/// The name of the type that a line begins to define for users.
fn type_name(line: &str) -> Option<&str> {
    let kinds = ["struct ", "enum ", "trait ", "type "];
    let definition = line.strip_prefix("pub ")?;
    let name = kinds.iter().find_map(|kind| definition.strip_prefix(kind))?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Vec<String> {
        let file = File::new("partykit-core/src/a.rs", text);
        check(&file).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_public_type_without_an_example_is_found() {
        assert_eq!(missing("/// A.\npub struct A;"), ["the type A has no example"]);
        let after = "/// ```\n/// ```\npub struct A;\n\n/// B.\n#[derive(Debug)]\npub enum B<T> {}";
        assert_eq!(missing(after), ["the type B has no example"]);
        assert_eq!(missing("/// ```\n/// ```\nfn f() {}\n\npub type C = ();").len(), 1);
    }

    #[test]
    fn examples_and_private_types_are_fine() {
        assert!(missing("//! For tests. Not part of the public API.\n\npub struct A;").is_empty());
        assert_eq!(
            missing("/// A.\n///\n/// ```\n/// ```\n#[derive(Debug)]\npub trait A {}").len(),
            0
        );
        assert_eq!(missing("/// A.\npub(crate) struct A;\nstruct B;").len(), 0);
        assert!(check(&File::new("dev/xtask/src/a.rs", "pub struct A;")).is_empty());
    }
}
