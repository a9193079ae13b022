//! Documents of Yjs beside those of y-partyserver, and under `kill -9`, by real clients: `dev/yjs`.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    command::{Command, Failure},
    report::{Outcome, Verdict},
    steps::{self, built},
    tools, workers,
};

/// The provider of y-partyserver against our documents on Tokio, which a step has built.
pub(crate) fn test(root: &Path) -> Outcome {
    run_tests(root, |npm| Ok(npm.env("PEER_BIN", built("yjs-peer", "yjs-peer")?)))
}

/// The same against the editor in `workerd`, as [`workers::prepared`] has written it.
pub(crate) fn test_worker(root: &Path, editor: &Path) -> Outcome {
    run_tests(root, |npm| {
        let npm = npm.env("RUNTIME", "workerd").env("WORKERD", workers::program()?);
        Ok(npm.env("EDITOR_WORKER", editor))
    })
}

fn run_tests(root: &Path, with: impl FnOnce(Command) -> Result<Command, Failure>) -> Outcome {
    steps::ran(&with(Command::new(&root.join(tools::YJS), "npm test"))?.tee()?)
}

/// `cargo xtask bench --only yjs`: `--quick` only tries, `--check` fails when a goal is missed.
pub(crate) fn bench(root: &Path, arguments: &[&str]) -> Outcome {
    tools::install(root)?;
    let editor = workers::prepared(root, "editor", "main", "Documents")?;
    let anchor = workers::prepared_bundle(root, "dev/yjs/anchor", "main", "Main")?;
    Command::new(root, "cargo build --release -p editor --bins").run()?;
    let node = Command::new(&root.join(tools::YJS), "node bench.mjs")
        .env("EDITOR_BIN", released("editor")?)
        .env("EDITOR_WORKER", editor)
        .env("ANCHOR_WORKER", anchor)
        .env("WORKERD", workers::program()?);
    run(node, arguments)
}

/// `cargo xtask crash yjs`: kills the editor's server while clients type. `--kills 200`, `--forget`.
pub(crate) fn crash(root: &Path, arguments: &[&str]) -> Outcome {
    tools::install(root)?;
    steps::build_programs(root)?;
    let node = Command::new(&root.join(tools::YJS), "node crash.mjs")
        .env("EDITOR_BIN", built("editor", "editor")?);
    run(node, arguments)
}

/// The binary of the release profile, beside the profile that built us.
fn released(binary: &str) -> Result<PathBuf, Failure> {
    let ours = env::current_exe().map_err(|error| Failure::new(error.to_string()))?;
    let profiles = ours.ancestors().nth(2).unwrap_or(Path::new(""));
    Ok(profiles.join("release").join(format!("{binary}{}", env::consts::EXE_SUFFIX)))
}

fn run(node: Command, arguments: &[&str]) -> Outcome {
    let node = arguments.iter().fold(node, |node, argument| node.arg(argument));
    let done: Result<(), Failure> = node.run();
    done.map(|()| Verdict::Passed)
}
