//! Makes a Worker out of a party that was compiled to wasm: `partykit-bundle PARTY.wasm DIRECTORY`.
//!
//! | file | is |
//! |---|---|
//! | `index.js` | the Worker: the fetch handler and a class for each Durable Object, [by hand](WORKER) |
//! | `bindings.js`, `snippets/` | the calls between JavaScript and wasm, made by wasm-bindgen |
//! | `index_bg.wasm` | the party and the runtime |
//!
//! The directory is emptied first. `npx wrangler dev` and `npx wrangler deploy` take `index.js` as `main`.

use std::{collections::BTreeSet, env, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use wasm_bindgen_cli_support::Bindgen;

/// The part that is the same in every Worker.
const WORKER: &str = include_str!("worker.js");

/// Tells the Worker whether the wasm instance can still be used. It is in `bindings.js`, because it reads a
/// variable there.
const TERMINATED: &str = "
export function __terminated() {
    return getInt32ArrayMemory0()[wasm.__instance_terminated.value / 4] !== 0;
}
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, directory] = &*arguments else {
        bail!("usage: partykit-bundle PARTY.wasm DIRECTORY");
    };
    let (input, directory) = (Path::new(input), Path::new(directory));
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    bind(input, directory)?;
    let bindings = fs::read_to_string(directory.join("index.js"))?;
    let own = format!("{}{TERMINATED}{}", each_once(&at_once(&bindings)?), glue(&bindings));
    fs::write(directory.join("bindings.js"), own)?;
    fs::write(directory.join("index.js"), worker(&bindings)?)?;
    Ok(())
}

/// Runs wasm-bindgen. The names of functions are removed: they are a fifth of the file.
fn bind(input: &Path, directory: &Path) -> Result<()> {
    Bindgen::new()
        .input_path(input)
        .out_name("index")
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .reset_state_function(true)
        .force_enable_abort_handler(true)
        .module(true)?
        .generate(directory)
        .with_context(|| format!("cannot bind {}: does it export a party?", input.display()))
}

/// Replaces the source phase import of the wasm by a plain import, the only one that Workers support.
fn at_once(bindings: &str) -> Result<String> {
    const SOURCE_PHASE: &str = "import source wasmModule from";
    ensure!(bindings.contains(SOURCE_PHASE), "wasm-bindgen imports no wasm");
    Ok(bindings.replacen(SOURCE_PHASE, "import wasmModule from", 1))
}

/// Without the imports of a module that is imported already. wasm-bindgen imports one again for each function that wasm
/// calls directly, under the same key of an object, and wrangler warns of each.
fn each_once(bindings: &str) -> String {
    // Of `"./module.js": import2,`, the module and the number.
    let entry = |line| str::trim(line).strip_suffix(',')?.split_once("\": import");
    let mut modules = BTreeSet::new();
    let entries = bindings.lines().filter_map(entry);
    let repeated: BTreeSet<&str> =
        entries.filter(|(module, _)| !modules.insert(*module)).map(|(_, number)| number).collect();
    let lines = bindings.split_inclusive('\n').filter(|line| {
        let number = match line.strip_prefix("import * as import") {
            Some(import) => import.split(' ').next(),
            None => entry(line).map(|(_, number)| number),
        };
        number.is_none_or(|number| !repeated.contains(number))
    });
    lines.collect()
}

/// Exports what the Worker calls of the runtime's JavaScript: the short way to a room, and what a message is handed over
/// by. A library without the runtime has neither.
fn glue(bindings: &str) -> String {
    const RUNTIME: &str = "./snippets/partykit-runtime-workers-";
    let mut imported = bindings.split(['"', '\'']).filter(|text| text.starts_with(RUNTIME));
    match imported.find(|text| text.ends_with("/src/js/glue.js")) {
        Some(glue) => {
            format!("\nexport {{ hear as __hear, shortcut as __shortcut }} from {glue:?};\n")
        }
        None => "
export function __hear(room, socket, message) {
    return room.webSocketMessage(socket, message);
}
export function __shortcut() {}
"
        .to_owned(),
    }
}

/// The Worker for these bindings.
fn worker(bindings: &str) -> Result<String> {
    ensure!(
        bindings.contains("\nexport function fetch("),
        "no function `fetch` is exported: is there a `partykit::workers::export!` in the library, and \
         is the feature on that it stands behind?"
    );
    let classes = durable_objects(bindings);
    ensure!(!classes.is_empty(), "no Durable Object is exported");
    let mut worker = WORKER.to_owned();
    for class in classes {
        worker.push_str(&format!("export const {class} = durableObject(bindings.{class});\n"));
    }
    Ok(worker)
}

/// The classes of Durable Objects: those with a `fetch`. Libraries may export other classes.
fn durable_objects(bindings: &str) -> Vec<&str> {
    let mut classes = Vec::new();
    let mut class = None;
    for line in bindings.lines() {
        if let Some(rest) = line.strip_prefix("export class ") {
            class = rest.split([' ', '{']).next();
        } else if line.starts_with('}') {
            class = None;
        } else if line.starts_with("    fetch(") {
            classes.extend(class);
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDINGS: &str = "import source wasmModule from \"./index_bg.wasm\";\n\
                            export class Stream {\n    read() {\n    }\n}\n\
                            export class Relay {\n    fetch(request) {\n    }\n}\n\
                            export function fetch(request, env, ctx) {\n}\n";

    #[test]
    fn the_worker_exports_what_can_be_asked_and_nothing_else() {
        assert_eq!(durable_objects(BINDINGS), ["Relay"]);
        let worker = worker(BINDINGS).unwrap();
        assert!(worker.ends_with("export const Relay = durableObject(bindings.Relay);\n"));
    }

    #[test]
    fn a_library_that_exports_no_party_is_refused() {
        let nothing = "export class Stream {\n    read() {\n    }\n}\n";
        let failure = worker(nothing).unwrap_err().to_string();
        assert!(failure.contains("export!"), "{failure}");
        let no_class = "\nexport function fetch(request, env, ctx) {\n}\n";
        assert!(worker(no_class).unwrap_err().to_string().contains("no Durable Object"));
    }

    #[test]
    fn the_glue_is_the_runtimes() {
        let path = "./snippets/partykit-runtime-workers-1a2b/src/js/glue.js";
        let bindings = format!(
            "import {{ ask }} from './snippets/a-1/src/js/glue.js'\nimport {{ ask }} from '{path}'\n"
        );
        assert_eq!(
            glue(&bindings),
            format!("\nexport {{ hear as __hear, shortcut as __shortcut }} from \"{path}\";\n")
        );
        let own = glue(BINDINGS);
        assert!(own.contains("function __hear(") && own.contains("function __shortcut("), "{own}");
    }

    #[test]
    fn a_module_is_imported_once() {
        let bindings = "import * as import1 from \"./a.js\"\n\
                        import * as import2 from \"./a.js\"\n\
                        import * as import12 from \"./b.js\"\n\
                        const all = {\n    \"./a.js\": import1,\n    \"./a.js\": import2,\n    \"./b.js\": import12,\n};\n";
        assert_eq!(
            each_once(bindings),
            "import * as import1 from \"./a.js\"\n\
             import * as import12 from \"./b.js\"\n\
             const all = {\n    \"./a.js\": import1,\n    \"./b.js\": import12,\n};\n"
        );
        assert_eq!(each_once(BINDINGS), BINDINGS);
    }

    #[test]
    fn the_module_is_imported_as_workers_do() {
        let bindings = at_once(BINDINGS).unwrap();
        assert!(bindings.starts_with("import wasmModule from \"./index_bg.wasm\";\n"));
        assert!(at_once("").is_err());
    }
}
