//! Each type, trait and macro of a published crate has one path: the lists of the public API tell.

use std::collections::BTreeMap;

use super::{File, Violation};

/// Where the lists are.
const LISTS: &str = "dev/api/";

/// What can be imported. A function may have the name of another one in another module.
const KINDS: [&str; 5] = ["struct ", "enum ", "trait ", "type ", "macro "];

pub(super) fn check(file: &File) -> Vec<Violation> {
    if !file.path.starts_with(LISTS) {
        return Vec::new();
    }
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let Some(path) = item(line) else { continue };
        let name = path.rsplit("::").next().unwrap_or(path);
        match first.get(name) {
            Some(other) if *other != path => {
                let what = format!("{name} has two paths, {other} and {path}: export it once");
                violations.push(Violation::new(&file.path, index + 1, what));
            }
            _ => drop(first.insert(name, path)),
        }
    }
    violations
}

/// The path of the item that a line of a list declares. `None` for fields, methods and other lines.
fn item(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("pub ")?;
    let rest = KINDS.iter().find_map(|kind| rest.strip_prefix(kind))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let path = rest[..end.unwrap_or(rest.len())].trim_end_matches(':');
    // An associated type stands below a type, whose name begins with a capital.
    let mut modules = path.rsplit("::").skip(1);
    modules.all(|part| part.starts_with(|c: char| c.is_lowercase())).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(list: &str) -> Vec<String> {
        let found = check(&File::new("dev/api/a.txt", list));
        found.into_iter().map(|violation| violation.to_string()).collect()
    }

    #[test]
    fn one_path_each_is_fine() {
        let list = "pub struct a::One\n#[non_exhaustive] pub enum a::b::Two\npub type a::One::Err = u8\n\
                    pub type a::b::Two::Err = u8\npub fn a::One::new() -> a::One\npub trait a::Three: Send";
        assert_eq!(what(list), [""; 0]);
    }

    #[test]
    fn two_paths_are_found() {
        let list = "pub struct a::One\npub struct a::b::One";
        assert_eq!(
            what(list),
            ["dev/api/a.txt:2: One has two paths, a::One and a::b::One: export it once"]
        );
        assert_eq!(what("pub trait a::T\n#[x] pub trait a::b::T: Send").len(), 1);
    }
}
