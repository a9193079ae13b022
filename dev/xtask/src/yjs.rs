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

/// The provider of y-partyserver against our documents, on Tokio or in `workerd`. A part of other steps, which
/// have built the servers.
pub(crate) fn test(root: &Path, on_workerd: bool) -> Outcome {
    let npm = Command::new(&root.join(tools::YJS), "npm test");
    let npm = match on_workerd {
        false => npm.env("PEER_BIN", built("yjs-peer", "yjs-peer")?),
        true => npm
            .env("RUNTIME", "workerd")
            .env("WORKERD", workers::program()?)
            .env("PEER_WORKER", workers::prepared(root, "yjs-peer", "main", "Documents")?),
    };
    steps::ran(&npm.tee()?)
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
    Command::new(root, steps::SERVERS).run()?;
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
