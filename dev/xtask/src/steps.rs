//! The steps, each with its commands.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{
    api, autobahn, bench, book,
    command::{Command, Failure},
    crash, fuzz, package,
    report::{Outcome, Verdict},
    rules, tools, workers, yjs,
};

/// One check, a subcommand of its own.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(root: &Path) -> Outcome,
}

/// What `test` runs first, each step by itself: what is cheap and tells most, and what the others need.
pub(crate) const FIRST: &[Step] = &[
    Step { name: "fmt", about: "rustfmt, without changing anything", run: fmt },
    Step { name: "rules", about: "the rules of this repository that no linter knows", run: rules },
    Step {
        name: "clippy",
        about: "clippy on every target and feature, warnings denied",
        run: clippy,
    },
    Step {
        name: "setup",
        about: "install what the steps below need and what is missing",
        run: setup,
    },
];

/// Then three lanes beside each other, which take about as long. The tests of the workspace ..
pub(crate) const TESTING: &[Step] = &[
    Step { name: "unit", about: "unit, integration and documentation tests", run: unit },
    Step {
        name: "node",
        about: "real clients: partysocket in Node and in headless Chromium",
        run: node,
    },
    Step { name: "wasm", about: "check what must also build for wasm32", run: wasm },
    Step {
        name: "api",
        about: "rustdoc, warnings denied: the public API is the one that is committed in dev/api",
        run: api::step,
    },
];

/// .. what waits most of the time, with Workers, which are compiled apart from all other things ..
pub(crate) const RUNNING: &[Step] = &[
    Step {
        name: "workers",
        about: "make the Workers that the steps workerd and clients run",
        run: make_workers,
    },
    Step {
        name: "workerd",
        about: "Workers, run in Cloudflare's workerd and by wrangler, and the size of one",
        run: workerd,
    },
    Step {
        name: "clients",
        about: "the real clients of the step node, against Workers in workerd",
        run: clients,
    },
    Step {
        name: "autobahn",
        about: "the WebSocket conformance suite, against the echo example over each transport",
        run: autobahn,
    },
    Step {
        name: "proxies",
        about: "the guide's configurations, in the real nginx, HAProxy and Caddy",
        run: proxies,
    },
    Step {
        name: "crash",
        about: "a server is killed 15 times, also while it hands over, and loses power 15 times, and keeps its word; a store, and a model of it",
        run: crash::step,
    },
];

/// .. and what compiles. It begins when the tests are compiled: cargo builds one thing at a time.
pub(crate) const COMPILING: &[Step] = &[
    Step {
        name: "package",
        about: "what would be published, built from its archives, and the guide's first steps with it",
        run: package::check,
    },
    Step { name: "book", about: "the guide as a site: its charts, its links", run: book::step },
    Step { name: "deny", about: "licences, sources, bans and known vulnerabilities", run: deny },
    Step {
        name: "hack",
        about: "each feature of each published crate by itself; alarms without schedules",
        run: hack,
    },
];

/// At the end this one, by itself: the herd measures how long it waits.
pub(crate) const LAST: &[Step] = &[Step {
    name: "herd",
    about: "a server restarts under 5,000 clients that come back at once: its listener drops none of them",
    run: herd,
}];

/// All steps.
pub(crate) fn all() -> impl Iterator<Item = &'static Step> {
    [FIRST, TESTING, RUNNING, COMPILING, LAST].into_iter().flatten()
}

/// What `test` does not run: it takes long, and its outcome depends on the machine.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The arguments are those that follow its name.
    pub(crate) run: fn(root: &Path, arguments: &[String]) -> Outcome,
}

/// Each a subcommand, which stands alone and takes arguments of its own. One that has a step's name is
/// that step with arguments.
pub(crate) const TOOLS: &[Tool] = &[
    Tool { name: "api", about: "the same, or --write: commits to the API as it is", run: api::run },
    Tool {
        name: "bench",
        about: "measures, and writes docs/src/benchmarks.md; --quick only tries, --check fails below the goals; --only sockets, storage, workers, hostile or yjs; --beside REVISION",
        run: bench::run,
    },
    Tool {
        name: "book",
        about: "the same, or --charts: draws the charts of the benchmarks again",
        run: book::run,
    },
    Tool {
        name: "crash",
        about: "the same as long as one likes: --kills 200 [--hand-overs | --power-loss] [--relaxed] [--seed N]; model --operations 1000000; alarms --seconds 180; schedules --seconds 180; history --beside; yjs --kills 200",
        run: crash::as_told,
    },
    Tool {
        name: "fuzz",
        about: "runs each fuzz target for 20 s, or for as many as it is told; --target document_frame --runs 1000000; needs a nightly toolchain",
        run: fuzz,
    },
    Tool {
        name: "graph",
        about: "prints which files of the core know which, and what the rules say of it",
        run: |root, _| passed(rules::graph(root)),
    },
    Tool {
        name: "workers",
        about: "makes, runs and weighs Workers: build, dev, size, unwind",
        run: workers::run,
    },
];

/// What every build and test here asks for: a dependency is compiled once for each set of features, and
/// one package alone would ask for another set than the step `unit` has built. To compile jemalloc takes minutes,
/// and only the bench runs it.
const ALL: &str = "--workspace --exclude partykit-bench-jemalloc --all-features";

/// Has cargo take the library jemalloc for built: what is only checked is not linked. On other systems than this
/// one, it is built.
const WITHOUT_JEMALLOC: &str = "target.x86_64-unknown-linux-gnu.jemalloc.rustc-cfg=['prefixed']";

/// Builds every program: those that the step `unit` has not built yet are linked. (`--examples` makes cargo count
/// the features of the dev-dependencies in.)
pub(crate) fn build_programs(root: &Path) -> Result<(), Failure> {
    Command::new(root, &format!("cargo build {ALL} --bins --examples")).run()
}

/// The command `partykit-bundle`, built with the features that all builds here have.
pub(crate) fn bundler(root: &Path) -> Result<PathBuf, Failure> {
    let line = format!("cargo build --quiet {ALL} --bin partykit-bundle --examples");
    Command::new(root, &line).run()?;
    built("partykit-bundle", "partykit-bundle")
}

/// The tests of one file, or of one folder, that the step `unit` leaves out: `arguments` are those of the tests.
pub(crate) fn tests(root: &Path, name: &str, arguments: &str) -> Command {
    Command::new(root, &format!("cargo test {ALL} --test {name} {arguments}"))
}

fn fmt(root: &Path) -> Outcome {
    passed(Command::new(root, "cargo fmt --all --check").run())
}

fn rules(root: &Path) -> Outcome {
    let violations = rules::check(root)?;
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => Ok(Verdict::Passed),
        broken => Err(Failure::new(format!("{broken} violations"))),
    }
}

fn clippy(root: &Path) -> Outcome {
    let clippy =
        Command::new(root, "cargo clippy --workspace --all-targets --all-features --config");
    passed(clippy.arg(WITHOUT_JEMALLOC).arg("--").arg("-D").arg("warnings").run())
}

fn unit(root: &Path) -> Outcome {
    let but = if tools::find(tools::NEXTEST).is_some() {
        Command::new(root, &format!("cargo nextest run {ALL} --profile full")).run()?;
        let report = root.join("target/nextest/full/junit.xml");
        let report = fs::read_to_string(&report)
            .map_err(|error| Failure::new(format!("{}: {error}", report.display())))?;
        unsteady(&report).map(|tests| format!("passed only at the second try: {tests}"))
    } else {
        Command::new(root, &format!("cargo test {ALL} --all-targets")).run()?;
        Some("cargo-nextest is missing: ran cargo test, where a hang is no failure".into())
    };
    Command::new(root, &format!("cargo test --doc {ALL}")).run()?;
    Ok(but.map_or(Verdict::Passed, Verdict::PassedBut))
}

/// The names of the tests that failed once and then passed, from nextest's report in JUnit's format.
fn unsteady(report: &str) -> Option<String> {
    let cases = report.split("<testcase name=\"").skip(1);
    let mut names: Vec<_> = cases
        .filter(|case| case.contains("<flakyFailure"))
        .filter_map(|case| case.split('"').next())
        .collect();
    names.sort_unstable();
    (!names.is_empty()).then(|| names.join(", "))
}

fn setup(root: &Path) -> Outcome {
    passed(tools::install(root))
}

fn wasm(root: &Path) -> Outcome {
    let line = "cargo check --lib --no-default-features -p partykit-core -p partykit-runtime-workers \
                -p partykit-conformance -p board -p chat -p echo -p editor -p relay -p reminders -p small --target";
    passed(Command::new(root, line).arg(tools::WASM).run())
}

fn node(root: &Path) -> Outcome {
    let tests = root.join(tools::NODE_TESTS);
    if !tests.join("node_modules").is_dir() {
        return Err(Failure::new("no node_modules: run `cargo xtask setup`"));
    }
    let chromium = tools::chromium()
        .ok_or_else(|| Failure::new("no Chromium: run `cargo xtask setup`, or set CHROMIUM"))?;
    build_programs(root)?;
    let mut npm = Command::new(&tests, "npm test").env("CHROMIUM", chromium);
    for (variable, package, binary) in [
        ("BOARD_BIN", "board", "board"),
        ("CHAT_BIN", "chat", "chat"),
        ("EDITOR_BIN", "editor", "editor"),
        ("PROBE_BIN", "partykit-conformance", "probe"),
        ("RELAY_BIN", "relay", "relay"),
        ("REMINDERS_BIN", "reminders", "reminders"),
    ] {
        if has_package(root, package) {
            npm = npm.env(variable, built(package, binary)?);
        }
    }
    ran(&npm.tee()?)?;
    yjs::test(root)
}

fn autobahn(root: &Path) -> Outcome {
    autobahn::install(root)?;
    build_programs(root)?;
    autobahn::run(&built("partykit-conformance", "transports")?)
}

/// In the order in which they are needed.
fn make_workers(root: &Path) -> Outcome {
    let packages = [
        "workerd-fixture",
        "board",
        "partykit-conformance",
        "relay",
        "chat",
        "editor",
        "reminders",
        "bench-party",
    ];
    passed(workers::make_all(root, &packages))
}

/// First what the build path and the harness promise by themselves, below any runtime.
fn workerd(root: &Path) -> Outcome {
    make_workers(root)?;
    let ignored = "-- --ignored --skip unwinding";
    workers::tests_passed(&tests(root, "worker", ignored).tee()?)?;
    ran(&Command::new(&root.join(tools::WORKERD), "npm test").tee()?)?;
    workers::tests_passed(&tests(root, "hostile", ignored).tee()?)?;
    workers::tests_passed(&tests(root, "workerd", ignored).tee()?)?;
    workers::weigh(root)
}

/// `workerd` is started by the tests themselves: they kill it, too.
fn clients(root: &Path) -> Outcome {
    let chromium = tools::chromium()
        .ok_or_else(|| Failure::new("no Chromium: run `cargo xtask setup`, or set CHROMIUM"))?;
    let editor = workers::prepared(root, "editor", "main", "Documents")?;
    let mut npm = Command::new(&root.join(tools::NODE_TESTS), "npm run test:workerd")
        .env("CHROMIUM", chromium)
        .env("WORKERD", workers::program()?)
        .env("EDITOR_WORKER", &editor);
    for (variable, package, party, class) in [
        ("BOARD_WORKER", "board", "board", "Board"),
        ("CHAT_WORKER", "chat", "chat", "Chat"),
        ("RELAY_WORKER", "relay", "main", "Relay"),
        ("REMINDERS_WORKER", "reminders", "reminders", "Reminders"),
        ("PROBE_WORKER", "partykit-conformance", "probe", "Probes"),
    ] {
        npm = npm.env(variable, workers::prepared(root, package, party, class)?);
    }
    ran(&npm.tee()?)?;
    yjs::test_worker(root, &editor)
}

fn fuzz(root: &Path, arguments: &[String]) -> Outcome {
    tools::install_fuzz(root)?;
    fuzz::run(root, arguments)
}

fn proxies(root: &Path) -> Outcome {
    tools::install_proxies(root)?;
    workers::tests_passed(&tests(root, "proxies", "-- --ignored").tee()?)?;
    Ok(Verdict::Passed)
}

/// Beside nothing else, unlike the small herd of the unit tests: no handshake may take 4 s. In a network of
/// its own, where the kernel counts for no other program, the listener may drop no connection either.
fn herd(root: &Path) -> Outcome {
    const ONE: &str = "--exact herd::threat_07_reconnect_storm --nocapture";
    // A network of its own reaches no registry.
    tests(root, "threats", "--no-run").run()?;
    let is_alone =
        Command::new(root, "unshare --map-root-user --net ip link set lo up").read().is_ok();
    let command = if is_alone {
        Command::new(root, "unshare --map-root-user --net sh -c")
            .arg(&format!(
                "ip link set lo up && exec cargo test {ALL} --test threats --offline -- {ONE}"
            ))
            .env("PARTYKIT_HERD_ALONE", "1")
    } else {
        tests(root, "threats", &format!("-- {ONE}"))
    };
    match command.env("PARTYKIT_HERD", "5000").tee()? {
        said if !said.contains("5000 clients, the last one back") => {
            Err(Failure::new("no herd came"))
        }
        _ if is_alone => Ok(Verdict::Passed),
        _ => Ok(Verdict::PassedBut(
            "without unshare and ip, or the right to use them, it does not judge whether the \
             listener drops connections"
                .into(),
        )),
    }
}

/// The programs whose package has no library: of the others, the library is documented.
const WITHOUT_LIBRARY: [&str; 4] = ["axum-rooms", "metrics-page", "partykit-bundle", "xtask"];

/// rustdoc on every library. (`--examples` as in [`build_programs`]: the step `clippy` has checked the same
/// dependencies.)
pub(crate) fn docs(root: &Path) -> Command {
    let command = Command::new(root, &format!("cargo doc --no-deps {ALL} --lib --examples"));
    WITHOUT_LIBRARY.iter().fold(command, |command, program| command.arg("--bin").arg(program))
}

fn hack(root: &Path) -> Outcome {
    tools::require("cargo-hack")?;
    let mut command = Command::new(root, "cargo hack check --each-feature");
    for package in package::PUBLISHED {
        command = command.arg("-p").arg(package);
    }
    command.run()?;
    // A program without schedules has other code for its alarms. All other tests here have every feature.
    let line = "cargo test -p partykit-core --no-default-features --features testing --test rules -- alarms::";
    workers::tests_passed(&Command::new(root, line).tee()?)
}

/// The advisory database comes over the network, from a place that a closed network may not reach;
/// everything else is decided by the lock file alone.
fn deny(root: &Path) -> Outcome {
    tools::require("cargo-deny")?;
    Command::new(root, "cargo deny --all-features check bans licenses sources").run()?;
    if Command::new(root, "cargo deny fetch db").run().is_err() {
        return Ok(Verdict::PassedBut("no advisories: their database is out of reach".into()));
    }
    passed(Command::new(root, "cargo deny --offline --all-features check advisories").run())
}

/// Arguments as slices, which patterns can be matched with.
pub(crate) fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn passed(done: Result<(), Failure>) -> Outcome {
    done.map(|()| Verdict::Passed)
}

fn has_package(root: &Path, package: &str) -> bool {
    Command::new(root, "cargo pkgid").arg(package).read().is_ok()
}

/// The binary that [`build_programs`] has built: beside our own, which the same profile built.
pub(crate) fn built(package: &str, binary: &str) -> Result<PathBuf, Failure> {
    let ours = env::current_exe().map_err(|error| Failure::new(error.to_string()))?;
    let built = ours.with_file_name(format!("{binary}{}", env::consts::EXE_SUFFIX));
    if built.is_file() {
        Ok(built)
    } else {
        Err(Failure::new(format!("the package {package} has no binary called {binary}")))
    }
}

/// A run of no test is a failure.
pub(crate) fn ran(said: &str) -> Outcome {
    match tests_run(said) {
        Some(0) => Err(Failure::new("npm ran no test")),
        Some(_) => Ok(Verdict::Passed),
        None => Err(Failure::new("npm did not say how many tests it ran")),
    }
}

/// How many tests Node's runner says it ran, in either of its formats; `None` if it does not say.
fn tests_run(output: &str) -> Option<u32> {
    output.lines().rev().find_map(|line| {
        let count = line.strip_prefix("ℹ tests ").or_else(|| line.strip_prefix("# tests "))?;
        count.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_tests_is_read_in_both_formats() {
        assert_eq!(tests_run("✔ a (1ms)\nℹ tests 12\nℹ pass 12\n"), Some(12));
        assert_eq!(tests_run("TAP version 13\n1..0\n# tests 0\n# pass 0\n"), Some(0));
        assert_eq!(tests_run("all is well\n"), None);
    }

    #[test]
    fn a_test_that_passed_at_the_second_try_is_named() {
        let steady = r#"<testcase name="a::one" classname="x" time="0.1"></testcase>"#;
        let other = r#"<testcase name="a::two" time="0.2"><flakyFailure type="x"/></testcase>"#;
        assert_eq!(unsteady(&format!("<testsuite>{steady}</testsuite>")), None);
        let report = format!("<testsuite>{steady}{other}{steady}</testsuite>");
        assert_eq!(unsteady(&report).as_deref(), Some("a::two"));
    }

    #[test]
    fn a_binary_that_was_not_built_is_missed() {
        let failure = built("relay", "no-such-binary").unwrap_err().to_string();
        assert_eq!(failure, "the package relay has no binary called no-such-binary");
    }
}
