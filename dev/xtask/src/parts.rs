//! Pages of the guide that show parts of a program: their Rust compiles, and runs, in a crate outside of this
//! repository that has the dependencies which the pages name, and no others.
//!
//! The same blocks are doc tests of the library. But there they have all features, and every dependency of
//! the library's own tests.

use std::{fs, path::Path};

use crate::{
    command::{Command, Failure},
    package, pages,
};

/// The pages. What they go on from is the first room.
const PAGES: [&str; 16] = [
    "README.md",
    "docs/src/introduction.md",
    "docs/src/alarms.md",
    "docs/src/calls.md",
    "docs/src/from-partykit.md",
    "docs/src/hibernation.md",
    "docs/src/history.md",
    "docs/src/presence.md",
    "docs/src/schedules.md",
    "docs/src/small.md",
    "docs/src/state.md",
    "docs/src/storage.md",
    "docs/src/tags.md",
    "docs/src/tasks.md",
    "docs/src/testing.md",
    "docs/src/yjs.md",
];

const FIRST: &str = "docs/src/first-room.md";

/// The crate, below the place where the packages are.
pub(crate) const CRATE: &str = "parts";

/// Makes the crate in `place`, and runs it. Returns how many blocks there are.
pub(crate) fn check(root: &Path, place: &Path, target: &Path) -> Result<usize, Failure> {
    let home = place.join(CRATE);
    fs::create_dir_all(home.join("src"))
        .and_then(|()| fs::create_dir_all(home.join("tests")))
        .and_then(|()| fs::copy(root.join("Cargo.lock"), home.join("Cargo.lock")))
        .map_err(|error| of(&home, &error))?;
    for (file, text) in pages::files(&read(&root.join(FIRST))?).map_err(Failure::new)? {
        fs::write(home.join(&file), text).map_err(|error| of(file.as_ref(), &error))?;
    }
    let mut code = String::from("#![allow(dead_code, unused_imports, unused_variables)]\n");
    let (mut more, mut count) = (String::new(), 0);
    for page in PAGES {
        let text = read(&root.join(page))?;
        for line in added(&text) {
            Command::new(&home, &line).run()?;
        }
        more.extend(dev_dependencies(&text));
        let stem = Path::new(page).file_stem().unwrap_or_default().to_string_lossy();
        for (at, block) in blocks(&text).iter().enumerate() {
            code.push_str(&block.test(&format!("{}_{at}", stem.to_lowercase().replace('-', "_"))));
            count += 1;
        }
    }
    let manifest = home.join("Cargo.toml");
    let text = read(&manifest)? + &more;
    fs::write(&manifest, text).map_err(|error| of(&manifest, &error))?;
    let tests = home.join("tests/pages.rs");
    fs::write(&tests, code).map_err(|error| of(&tests, &error))?;
    let line = "cargo test --quiet --test pages";
    let command = Command::new(&home, line).env("CARGO_TARGET_DIR", target);
    command.env(package::DEBUG, package::debug()).run()?;
    Ok(count)
}

/// A block of Rust, with the lines that readers do not see.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    code: String,
    is_run: bool,
}

impl Block {
    /// As rustdoc does it: what stands in the block stands in a function.
    fn test(&self, name: &str) -> String {
        let attribute = if self.is_run { "#[test]\n" } else { "" };
        format!("\n{attribute}fn {name}() {{\n{}}}\n", self.code)
    }
}

/// The blocks that rustdoc compiles.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let is_run = match line {
            "```rust" => true,
            "```rust,no_run" => false,
            _ => continue,
        };
        let shown = lines.by_ref().take_while(|line| *line != "```");
        let code = shown.flat_map(|line| match line.strip_prefix("# ") {
            Some(hidden) => [hidden, "\n"],
            None => [if line == "#" { "" } else { line }, "\n"],
        });
        blocks.push(Block { code: code.collect(), is_run });
    }
    blocks
}

/// The commands in the text that add a dependency.
fn added(page: &str) -> Vec<String> {
    let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let commands = words.split('`').filter(|it| it.starts_with("cargo add "));
    commands.map(ToOwned::to_owned).collect()
}

/// What the page says that belongs at the end of `Cargo.toml`.
fn dev_dependencies(page: &str) -> Option<String> {
    let (_, block) = page.split_once("```toml\n[dev-dependencies]\n")?;
    let (block, _) = block.split_once("```")?;
    Some(format!("\n[dev-dependencies]\n{block}"))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| of(path, &error))
}

fn of(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rustdoc_compiles_is_found_with_its_hidden_lines() {
        let page = "# A\n```rust\n# use a::b;\n#[test]\nb();\n#\n```\n```rust,ignore\nno\n```\n\
                    ```rust,no_run\nfn main() {}\n```\n```toml\n# no\n```\n";
        let expected = [
            Block { code: "use a::b;\n#[test]\nb();\n\n".into(), is_run: true },
            Block { code: "fn main() {}\n".into(), is_run: false },
        ];
        assert_eq!(blocks(page), expected);
        assert_eq!(expected[1].test("a_0"), "\nfn a_0() {\nfn main() {}\n}\n");
    }

    #[test]
    fn what_a_page_adds_is_found() {
        let page = "It needs serde: `cargo add serde\n--features derive`. Not `cargo run`.\n\
                    ```toml\n[dev-dependencies]\na = \"1\"\n```\n";
        assert_eq!(added(page), ["cargo add serde --features derive"]);
        assert_eq!(dev_dependencies(page).unwrap(), "\n[dev-dependencies]\na = \"1\"\n");
        assert_eq!(dev_dependencies("# A"), None);
    }
}
