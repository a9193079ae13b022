//! Who knows whom in `partykit-core`: the files, with re-exports resolved, and the surfaces of its two
//! central types. `cargo xtask graph` prints it, the rule holds it below what it is now.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, Violation};

const SOURCES: &str = "partykit-core/src/";

/// The folders, from the bottom to the top. A file may know those of its own folder and of lower ones.
const FOLDERS: [&str; 8] =
    ["value", "storage", "connection", "machine", "engine", "user", "driver", "runtime"];

/// The largest number of files of which each knows each other, at most.
const CIRCLE: usize = 5;
/// Arrows from a folder to a higher one, at most.
const UPWARD: usize = 0;
/// Functions of `Machine` that others call, at most.
const ENTRIES: usize = 36;
/// What borrows the machine and shows a part of it.
const VIEWS: [&str; 2] = ["TurnMut", "Intake"];
/// Functions of the views that others call, at most.
const VIEWED: usize = 50;
/// Functions of the cell that lead others to the machine, at most: `inside` and `outside`.
const DOORS: usize = 2;
/// The same of its `Driving`, which only the driver has: `report`.
const DRIVER_DOORS: usize = 1;

/// Which file knows which, by the paths of modules: `machine::gate`.
#[derive(Debug, Default)]
pub(super) struct Graph {
    arrows: BTreeMap<String, BTreeSet<String>>,
    /// Functions of `Machine` that others call.
    entries: usize,
    /// The same of its views.
    viewed: usize,
    /// Functions of the cell that lead others into its lock.
    doors: Vec<String>,
    /// Those that lead the driver there.
    driver_doors: Vec<String>,
}

/// What a file names: absolute paths of modules and items, and the names that it exports again.
#[derive(Debug, Default)]
struct Module {
    uses: Vec<Vec<String>>,
    exports: BTreeMap<String, Vec<String>>,
}

pub(super) fn check(files: &[File]) -> Vec<Violation> {
    let graph = Graph::new(files);
    let circle = graph.largest_circle();
    let mut violations = Vec::new();
    if circle.len() > CIRCLE {
        let what = format!("{} files know each other in a circle: {circle:?}", circle.len());
        violations.push(Violation::new(SOURCES, 0, what));
    }
    let upward = graph.upward();
    if upward.len() > UPWARD {
        let what = format!("{} arrows go to a higher folder: {upward:?}", upward.len());
        violations.push(Violation::new(SOURCES, 0, what));
    }
    if graph.entries > ENTRIES {
        let what = format!("the machine has {} entry points, over {ENTRIES}", graph.entries);
        violations.push(Violation::new(SOURCES, 0, what));
    }
    if graph.viewed > VIEWED {
        let what = format!("its views have {} functions, over {VIEWED}", graph.viewed);
        violations.push(Violation::new(SOURCES, 0, what));
    }
    for (doors, most) in [(&graph.doors, DOORS), (&graph.driver_doors, DRIVER_DOORS)] {
        if doors.len() > most {
            let what = format!("{} doors lead to the machine: {doors:?}", doors.len());
            violations.push(Violation::new(SOURCES, 0, what));
        }
    }
    violations
}

impl Graph {
    pub(super) fn new(files: &[File]) -> Self {
        let sources: BTreeMap<String, String> = files.iter().filter_map(source).collect();
        let modules: BTreeMap<&str, Module> =
            sources.iter().map(|(path, text)| (path.as_str(), Module::read(path, text))).collect();
        let mut graph = Self::default();
        for (path, module) in &modules {
            let arrows = graph.arrows.entry((*path).to_owned()).or_default();
            let known = module.uses.iter().filter_map(|used| resolve(&modules, used));
            arrows.extend(known.filter(|known| known != path && !known.is_empty()));
        }
        for (path, text) in &sources {
            if path.starts_with("machine") {
                graph.entries += functions(text, "Machine").len();
                let viewed = VIEWS.iter().map(|view| functions(text, view).len());
                graph.viewed += viewed.sum::<usize>();
            }
            if path.starts_with("engine::cell") {
                graph.doors.extend(doors(text, "RoomCell"));
                graph.driver_doors.extend(doors(text, "Driving"));
            }
        }
        graph
    }

    /// Arrows to a higher folder.
    fn upward(&self) -> Vec<String> {
        let height =
            |path: &str| FOLDERS.iter().position(|name| path.split("::").next() == Some(name));
        let arrows = self.arrows.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to)));
        arrows
            .filter(|(from, to)| height(from).zip(height(to)).is_some_and(|(from, to)| from < to))
            .map(|(from, to)| format!("{from} -> {to}"))
            .collect()
    }

    fn largest_circle(&self) -> Vec<&str> {
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            self.arrows.keys().map(|path| (path.as_str(), self.reach(path))).collect();
        let circle = |path: &&str| -> Vec<&str> {
            reach[path].iter().filter(|other| reach[**other].contains(path)).copied().collect()
        };
        reach.keys().map(circle).max_by_key(Vec::len).unwrap_or_default()
    }

    /// All that a file knows, itself or through others.
    fn reach(&self, from: &str) -> BTreeSet<&str> {
        let (mut found, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(path) = next.pop() {
            for known in self.arrows.get(path).into_iter().flatten() {
                if self.arrows.contains_key(known) && found.insert(known.as_str()) {
                    next.push(known);
                }
            }
        }
        found
    }

    pub(super) fn show(&self) -> String {
        let circle = self.largest_circle();
        let upward = self.upward();
        let arrows: usize = self.arrows.values().map(BTreeSet::len).sum();
        format!(
            "{} files, {arrows} arrows\nlargest circle: {} files (at most {CIRCLE}): {}\n\
             arrows to a higher folder: {} (at most {UPWARD})\n    {}\n\
             entry points of the machine: {} (at most {ENTRIES})\n\
             functions of its views ({}): {} (at most {VIEWED})\n\
             doors of the cell: {} (at most {DOORS}): {}\n\
             doors of its driver: {} (at most {DRIVER_DOORS}): {}",
            self.arrows.len(),
            circle.len(),
            circle.join(", "),
            upward.len(),
            upward.join("\n    "),
            self.entries,
            VIEWS.join(", "),
            self.viewed,
            self.doors.len(),
            self.doors.join(", "),
            self.driver_doors.len(),
            self.driver_doors.join(", "),
        )
    }
}

impl Module {
    fn read(path: &str, text: &str) -> Self {
        let mut module = Self::default();
        let own: Vec<String> =
            path.split("::").filter(|part| !part.is_empty()).map(Into::into).collect();
        for (before, statement, after) in statements(text) {
            for tree in flatten(statement) {
                let Some(target) = absolute(&own, &tree) else { continue };
                let name = target.last().cloned().unwrap_or_default();
                let is_used = [before, after].iter().any(|rest| rest.contains(name.as_str()));
                if statement.starts_with("pub") {
                    module.exports.insert(name, target.clone());
                }
                if !statement.starts_with("pub") || is_used && !path.is_empty() {
                    module.uses.push(target);
                }
            }
        }
        // Paths in the code, beside those of the `use`s.
        let code = statements(text)
            .iter()
            .fold(text.to_owned(), |code, (_, used, _)| code.replace(used, ""));
        let text = code.as_str();
        for start in ["crate::", "super::"] {
            for (at, _) in text.match_indices(start) {
                let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
                let end = text[at..].find(|c| !is_path(c)).unwrap_or(text.len() - at);
                let target = absolute(&own, text[at..at + end].trim_end_matches(':'));
                module.uses.extend(target.filter(|target| !target.is_empty()));
            }
        }
        module
    }
}

/// The module that a path leads to; `None` if it leads out of the crate.
fn resolve(modules: &BTreeMap<&str, Module>, path: &[String]) -> Option<String> {
    let mut path = path.to_vec();
    for _ in 0..8 {
        let length = (0..=path.len())
            .rev()
            .find(|n| modules.contains_key(path[..*n].join("::").as_str()))?;
        let module = path[..length].join("::");
        let export = path.get(length).and_then(|name| modules[module.as_str()].exports.get(name));
        match export {
            Some(target) if *target != path => path.clone_from(target),
            _ => return Some(module),
        }
    }
    None
}

/// A path from the root of the crate.
fn absolute(own: &[String], path: &str) -> Option<Vec<String>> {
    let mut parts = path.split("::").map(str::trim).filter(|part| !part.is_empty()).peekable();
    let mut target = match *parts.peek()? {
        "crate" => Vec::new(),
        "self" | "super" => own.to_vec(),
        // A child of this module, or another crate, which leads nowhere.
        _ => return Some(own.iter().cloned().chain(parts.map(Into::into)).collect()),
    };
    for part in parts {
        match part {
            "crate" | "self" => {}
            "super" => drop(target.pop()),
            part => target.push(part.split(" as ").next().unwrap_or(part).trim().to_owned()),
        }
    }
    Some(target)
}

/// The `use`s of a file, each with what is before and after it.
fn statements(text: &str) -> Vec<(&str, &str, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = ["use ", "pub use ", "pub(crate) use "].iter().any(|it| line.starts_with(it));
        if let (true, Some(end)) = (start, text[at..].find(';')) {
            found.push((&text[..at], &text[at..at + end], &text[at + end..]));
        }
        at += line.len();
    }
    found
}

/// The paths of a `use` with braces.
fn flatten(statement: &str) -> Vec<String> {
    let tree = statement.split_once("use ").map_or("", |(_, tree)| tree);
    let (mut prefixes, mut paths, mut path) = (vec![String::new()], Vec::new(), String::new());
    for c in tree.chars().filter(|c| !c.is_whitespace()).chain([',']) {
        let prefix = prefixes.last().cloned().unwrap_or_default();
        match c {
            '{' => prefixes.push(prefix + &std::mem::take(&mut path)),
            ',' | '}' => {
                if !path.is_empty() {
                    paths.push(prefix + &std::mem::take(&mut path));
                }
                if c == '}' {
                    prefixes.pop();
                }
            }
            c => path.push(c),
        }
    }
    paths
}

/// The blocks of what a type does by itself, with or without a lifetime.
fn blocks<'a>(text: &'a str, of: &str) -> Vec<&'a str> {
    let heads = [format!("impl {of} {{"), format!("impl {of}<'_> {{")];
    let blocks = heads.iter().flat_map(|head| text.split(head.as_str()).skip(1));
    blocks.map(|rest| rest.split("\n}\n").next().unwrap_or(rest)).collect()
}

/// The functions of a type that the whole crate may call.
fn functions<'a>(text: &'a str, of: &str) -> Vec<&'a str> {
    let public = |block: &'a str| block.split("\n    pub(crate) ").skip(1);
    blocks(text, of).into_iter().flat_map(public).filter_map(name).collect()
}

/// Those that give others the state behind the lock.
fn doors(text: &str, of: &str) -> Vec<String> {
    let leads_in = |head: &&str| head.contains("pub(crate) fn ") && head.contains("FnOnce(&mut ");
    let heads = blocks(text, of).into_iter().flat_map(|block| block.split("\n    }\n"));
    heads.filter(leads_in).filter_map(name).map(ToOwned::to_owned).collect()
}

fn name(text: &str) -> Option<&str> {
    text.split_once("fn ")?.1.split(['(', '<']).next()
}

/// A file of the crate that is no test: the path of its module, and its text without comments.
fn source(file: &File) -> Option<(String, String)> {
    let path = file.path.strip_prefix(SOURCES)?.strip_suffix(".rs")?;
    let parts: Vec<&str> = path.split('/').filter(|part| !["mod", "lib"].contains(part)).collect();
    let tests = ["tests", "properties", "testing", "conformance"];
    if parts.iter().any(|part| tests.contains(part)) {
        return None;
    }
    let text = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    Some((parts.join("::"), code.flat_map(|line| [line, "\n"]).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File::new(&format!("{SOURCES}{path}"), text)
    }

    #[test]
    fn an_arrow_is_found_through_exports() {
        let files = [
            file("lib.rs", "mod value;\npub use value::{name::{Name, Other}, text};\n"),
            file("value/mod.rs", "pub mod name;\npub mod text;\n"),
            file("value/name.rs", "use crate::user::Room;\n"),
            file("value/text.rs", "// use crate::user::Room;\n"),
            file("user/mod.rs", "mod room;\npub use self::room::Room;\n"),
            file("user/room.rs", "use crate::{Name, fmt};\nfn f() { super::other() }\n"),
        ];
        let graph = Graph::new(&files);
        assert_eq!(graph.upward(), ["value::name -> user::room"]);
        assert_eq!(graph.largest_circle(), ["user::room", "value::name"]);
    }

    #[test]
    fn a_circle_and_arrows_that_are_too_many_are_violations() {
        let mut files = vec![file("lib.rs", "mod value;\n")];
        for n in 0..=CIRCLE {
            let next = (n + 1) % (CIRCLE + 1);
            let text = format!("use crate::value::v{next}::V;\nuse crate::user::u{n}::U;\n");
            files.push(file(&format!("value/v{n}.rs"), &text));
            files.push(file(&format!("user/u{n}.rs"), ""));
        }
        assert_eq!(check(&files).len(), 2);
        assert_eq!(check(&files[..2]).len(), 0);
    }

    #[test]
    fn entries_and_doors_are_counted() {
        let machine = "impl Machine {\n    pub(crate) fn push(&mut self) {\n    }\n\n    fn own() {\n    }\n}\n";
        let door =
            "    pub(crate) fn outside<R>(&self, f: impl FnOnce(&mut Machine) -> R) {\n    }\n";
        let own = "    fn enter<R>(&self, f: impl FnOnce(&mut State) -> R) {\n    }\n";
        let view = "impl TurnMut<'_> {\n    pub(crate) fn say(&mut self) {\n    }\n}\n";
        let cell = |doors| format!("impl RoomCell {{\n{own}{}}}\n", door.repeat(doors));
        let files = |doors| {
            let cell = file("engine/cell.rs", &cell(doors));
            [file("machine/mod.rs", machine), file("machine/turn_mut.rs", view), cell]
        };
        let graph = Graph::new(&files(1));
        assert_eq!((graph.entries, graph.viewed), (1, 1));
        assert_eq!(graph.doors, ["outside"]);
        assert_eq!(check(&files(DOORS)).len(), 0);
        assert_eq!(check(&files(DOORS + 1)).len(), 1);
    }
}
