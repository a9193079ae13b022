//! `cargo xtask bench`: builds what is measured, and what it is measured beside.

use std::path::{Path, PathBuf};

use crate::{
    charts,
    command::{Command, Failure},
    report::{Outcome, Verdict},
    steps::words,
    tools, workers, yjs,
};

/// Those that the document has a part of.
const PARTS: [&str; 3] = ["sockets", "storage", "workers"];

/// What Bun has no part in.
const WITHOUT_BUN: [&str; 7] =
    ["storage", "rooms", "hostile", "readers", "deaf", "herd", "handover"];

/// Where another revision is built, below the root.
const BESIDE: &str = "target/beside";

/// A run of all, or `--only` one of the document's parts, writes it. All other arguments than `--check` make
/// one that is not whole: it leaves the document alone.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Outcome {
    match &*words(arguments) {
        ["--only", "yjs", rest @ ..] => return yjs::bench(root, rest),
        ["--beside", revision, rest @ ..] => return beside(root, revision, rest),
        _ => {}
    }
    let only = |part: &str| arguments.windows(2).any(|pair| pair == ["--only", part]);
    if only("workers") {
        workers::Build::of("bench-party").run(root)?;
        workers::bundle(root, "dev/bench/partyserver")?;
        workers::assemble(root, "dev/bench/floor", "room")?;
        workers::bundle(root, "dev/bench/floor")?;
    } else if !WITHOUT_BUN.into_iter().any(only) {
        tools::install_bun(root)?;
    }
    let mut bench = built(root)?;
    for argument in arguments {
        bench = bench.arg(argument);
    }
    let rest = arguments.iter().filter(|argument| *argument != "--check").count();
    if rest == if PARTS.into_iter().any(only) { 2 } else { 0 } {
        bench.arg("--write").arg(charts::TABLES).run()?;
        charts::write(root)?;
    } else {
        bench.run()?;
    }
    Ok(Verdict::Passed)
}

/// `--beside REVISION`: this one and that one in turns, each with the bench that it has. `--turns`, `--quick`
/// and `--check` may follow.
fn beside(root: &Path, revision: &str, rest: &[&str]) -> Outcome {
    let other = former(root, revision)?;
    let mut bench = built(root)?.arg("--only").arg("beside");
    bench = bench.env("PARTYKIT_BENCH_FORMER", other);
    for argument in rest {
        bench = bench.arg(argument);
    }
    bench.run()?;
    Ok(Verdict::Passed)
}

/// The command line of the bench, which is built for it.
fn built(root: &Path) -> Result<Command, Failure> {
    Command::new(root, &binaries(root)).run()?;
    // What is measured in this process, commits, has the allocator that servers have.
    let line = "cargo run --release --quiet -p partykit-bench-jemalloc --";
    Ok(Command::new(root, line))
}

/// Builds the bench with each allocator. In revisions of the past, one package had both programs.
fn binaries(source: &Path) -> String {
    let one = "cargo build --release --bins -p partykit-bench";
    match source.join("dev/bench/jemalloc").is_dir() {
        true => format!("{one} -p partykit-bench-jemalloc"),
        false => one.to_owned(),
    }
}

/// The bench of another revision. Its work tree and what was built of it stay, for the next time.
fn former(root: &Path, revision: &str) -> Result<PathBuf, Failure> {
    let named = Command::new(root, "git rev-parse --verify --quiet --end-of-options");
    let commit = named.arg(&format!("{revision}^{{commit}}")).read();
    let commit = commit.map_err(|_| Failure::new(format!("{revision} is no revision")))?;
    let (commit, home) = (commit.trim(), root.join(BESIDE));
    let source = home.join("source");
    if source.join(".git").exists() {
        Command::new(&source, "git checkout --quiet --force --detach").arg(commit).run()?;
    } else {
        let add = Command::new(root, "git worktree add --quiet --force --detach");
        add.arg(&source.display().to_string()).arg(commit).run()?;
    }
    let target = home.join("build");
    Command::new(&source, &binaries(&source)).env("CARGO_TARGET_DIR", &target).run()?;
    Ok(target.join("release/partykit-bench-jemalloc"))
}
