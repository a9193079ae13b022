//! Workers: built, run and weighed here, on what comes from crates.io and npm.

use std::{
    collections::BTreeMap,
    fs,
    path::{self, Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use flate2::{Compression, write::GzEncoder};
use partykit_workerd::{Project, Workerd};
use serde_json::{Value, json};

use crate::{
    command::{Command, Failure},
    report::{Outcome, Verdict},
    steps, tools,
};

const USAGE: &str = "\
cargo xtask workers build PACKAGE [--unwind] [--out DIRECTORY]  makes a Worker of its library
cargo xtask workers dev PACKAGE [--port PORT]                   makes and runs it; default port: 8787
cargo xtask workers size [--write]                              weighs the relay; --write accepts its weight
cargo xtask workers unwind                                      tests Workers whose panics unwind

--unwind: a panic fails the one room that it is in. Needs a nightly toolchain.";

/// The port that `wrangler dev` takes, too.
const PORT: u16 = 8787;

/// What the relay weighed when somebody last said that it may: below the root.
const FIGURE: &str = "dev/xtask/workers-size.json";

/// How much more than [`FIGURE`] is growth that somebody has to look at.
const GROWTH_PERCENT: usize = 10;

/// What the relay may never weigh: the promise in the guide.
const LIMIT: Size = Size { raw: 527_000, gzip: 229_500 };

/// `cargo xtask workers ..`
pub(crate) fn run(root: &Path, arguments: &[String]) -> Outcome {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["build", package, ref options @ ..] => {
            let mut build = Build::of(package);
            let mut options = options.iter();
            while let Some(option) = options.next() {
                build = match (*option, options.as_slice()) {
                    ("--unwind", _) => build.unwind(),
                    ("--out", [directory, ..]) => {
                        options.next();
                        let directory = path::absolute(directory)
                            .map_err(|error| Failure::new(format!("{directory}: {error}")))?;
                        build.out(&directory)
                    }
                    _ => return Err(Failure::new(USAGE)),
                };
            }
            build.run(root).map(|_| Verdict::Passed)
        }
        ["dev", package] => dev(root, package, PORT),
        ["dev", package, "--port", port] => match port.parse() {
            Ok(port) => dev(root, package, port),
            Err(_) => Err(Failure::new(format!("{port} is no port"))),
        },
        ["size"] => weigh(root),
        ["size", "--write"] => write_figure(root),
        ["unwind"] => unwind(root),
        _ => Err(Failure::new(USAGE)),
    }
}

/// The library of a package with its feature `workers`, to be made a Worker.
pub(crate) struct Build<'a> {
    package: &'a str,
    out: Option<PathBuf>,
    unwinds: bool,
}

impl<'a> Build<'a> {
    pub(crate) fn of(package: &'a str) -> Self {
        Self { package, out: None, unwinds: false }
    }

    /// Into this directory; Default: `build/` beside the package's manifest.
    fn out(self, directory: &Path) -> Self {
        Self { out: Some(directory.to_owned()), ..self }
    }

    /// With panics that unwind, which builds the standard library again.
    fn unwind(self) -> Self {
        Self { unwinds: true, ..self }
    }

    /// Makes it, and returns the directory of the package.
    pub(crate) fn run(&self, root: &Path) -> Result<PathBuf, Failure> {
        let place = Place::of(root, self.package)?;
        let compiled = self.compile(root, &place)?;
        optimise(root, &self.bundle(root, &place, &compiled)?)?;
        Ok(place.directory)
    }

    /// Returns the file that rustc writes.
    fn compile(&self, root: &Path, place: &Place) -> Result<PathBuf, Failure> {
        let line = "--lib --crate-type cdylib --profile workers --no-default-features \
                    --features workers --target wasm32-unknown-unknown -p";
        let cargo = match self.unwinds {
            false => Command::new(root, &format!("cargo rustc {line}")),
            // Apart: with other flags, cargo would compile all of it again each time.
            true => Command::new(
                root,
                &format!("cargo +nightly rustc -Zbuild-std=std,panic_unwind {line}"),
            )
            .env("RUSTFLAGS", "-Cpanic=unwind")
            .env("CARGO_PROFILE_WORKERS_PANIC", "unwind")
            // Nightly's LLVM has crashed on fat LTO of code that unwinds.
            .env("CARGO_PROFILE_WORKERS_LTO", "off")
            .env("CARGO_TARGET_DIR", place.target.join("unwind")),
        };
        cargo.arg(self.package).run()?;
        Ok(match self.unwinds {
            false => place.target.join(&place.wasm),
            true => place.target.join("unwind").join(&place.wasm),
        })
    }

    /// Makes a Worker of what was compiled, and returns the file for `wasm-opt`.
    fn bundle(&self, root: &Path, place: &Place, compiled: &Path) -> Result<PathBuf, Failure> {
        let out = self.out.clone().unwrap_or_else(|| place.directory.join("build"));
        Command::built(root, &steps::bundler(root)?)
            .arg(&compiled.display().to_string())
            .arg(&out.display().to_string())
            .run()?;
        Ok(out.join("index_bg.wasm"))
    }
}

/// The packages that were made, and where each of them is.
static MADE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// What is weighed: the tests run it as it is sent to Cloudflare.
const WEIGHED: &str = "relay";

/// The Worker of the suite: optimised as well, but once, as the gain of doing it again is a four-hundredth.
const SUITE: &str = "partykit-conformance";

/// Makes what the tests run, once a run of `cargo xtask`; all but those two without `wasm-opt`, which takes longer
/// than they run.
pub(crate) fn make_all(root: &Path, packages: &[&str]) -> Result<(), Failure> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut compiled = Vec::new();
    for package in packages.iter().filter(|package| !made.contains_key(**package)) {
        let (build, place) = (Build::of(package), Place::of(root, package)?);
        let wasm = build.compile(root, &place)?;
        compiled.push((build, place, wasm));
    }
    // Only now: another step may be compiling what bundles them, beside this one.
    for (build, place, wasm) in compiled {
        let wasm = build.bundle(root, &place, &wasm)?;
        match build.package {
            WEIGHED => optimise(root, &wasm)?,
            SUITE => optimise_by(root, &wasm, &["-Oz"])?,
            _ => {}
        }
        made.insert(build.package.to_owned(), place.directory);
    }
    Ok(())
}

/// Makes one as [`Build::run`] does, unless this run of `cargo xtask` has made it.
fn make(root: &Path, package: &str) -> Result<PathBuf, Failure> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(directory) = made.get(package) {
        return Ok(directory.clone());
    }
    let directory = Build::of(package).run(root)?;
    made.insert(package.to_owned(), directory.clone());
    Ok(directory)
}

/// The `workerd` that npm has installed.
pub(crate) fn program() -> Result<PathBuf, Failure> {
    Workerd::program().map_err(|error| Failure::new(error.to_string()))
}

/// Builds a package with one party, and writes what `workerd serve config.capnp` runs into the directory
/// that it returns.
pub(crate) fn prepared(
    root: &Path,
    package: &str,
    party: &str,
    class: &str,
) -> Result<PathBuf, Failure> {
    let directory = make(root, package)?;
    written(root, &directory, package, party, class)
}

/// As [`prepared`], for a Worker that [`bundle`] makes in a directory below the root.
pub(crate) fn prepared_bundle(
    root: &Path,
    directory: &str,
    party: &str,
    class: &str,
) -> Result<PathBuf, Failure> {
    bundle(root, directory)?;
    written(root, &root.join(directory), &directory.replace('/', "-"), party, class)
}

fn written(
    root: &Path,
    project: &Path,
    name: &str,
    party: &str,
    class: &str,
) -> Result<PathBuf, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let prepared = Place::of(root, "editor")?.target.join("workerd").join(name);
    let project = Project::open(project).map_err(|error| failed(&error))?;
    project.party(party, class).write(&prepared).map_err(|error| failed(&error))?;
    Ok(prepared)
}

/// Makes a Worker of the JavaScript in a directory and of what it takes from npm.
pub(crate) fn bundle(root: &Path, directory: &str) -> Result<(), Failure> {
    let modules = root.join(tools::WORKERD).join("node_modules");
    let program = modules.join(".bin/esbuild");
    if !program.is_file() {
        return Err(Failure::new("no esbuild: run `cargo xtask setup`"));
    }
    let line = format!("{} index.js --outfile=build/index.js", program.display());
    Command::new(&root.join(directory), &line)
        .arg("--bundle")
        .arg("--format=esm")
        .arg("--minify")
        .arg("--external:cloudflare:*")
        .arg("--external:*.wasm")
        .arg("--log-level=warning")
        .env("NODE_PATH", modules)
        .run()
}

/// Makes `build/NAME.wasm` of `NAME.wat` in a directory.
pub(crate) fn assemble(root: &Path, directory: &str, name: &str) -> Result<(), Failure> {
    let program = root.join(tools::WORKERD).join("node_modules/.bin/wasm-as");
    if !program.is_file() {
        return Err(Failure::new("no wasm-as: run `cargo xtask setup`"));
    }
    let directory = root.join(directory);
    let build = directory.join("build");
    fs::create_dir_all(&build)
        .map_err(|error| Failure::new(format!("{}: {error}", build.display())))?;
    let line =
        format!("{} --enable-bulk-memory {name}.wat -o build/{name}.wasm", program.display());
    Command::new(&directory, &line).run()
}

/// What the harness's tests know of unwinding, on a nightly toolchain.
fn unwind(root: &Path) -> Outcome {
    let out = root.join(tools::WORKERD).join("fixture/build-unwind");
    Command::new(root, "rustup component add rust-src --toolchain nightly").run()?;
    Build::of("workerd-fixture").unwind().out(&out).run(root)?;
    let line = "cargo test -p partykit-workerd --test worker -- --ignored unwinding";
    tests_passed(&Command::new(root, line).tee()?)?;
    let out = root.join("dev/conformance/build-unwind");
    Build::of("partykit-conformance").unwind().out(&out).run(root)?;
    let line = "cargo test -p partykit-conformance --test workerd -- --ignored unwinding";
    tests_passed(&Command::new(root, line).tee()?)
}

/// A run of no test is a failure.
pub(crate) fn tests_passed(said: &str) -> Outcome {
    match said.lines().find_map(|line| line.strip_prefix("test result: ok. ")) {
        Some(counts) if !counts.starts_with("0 passed") => Ok(Verdict::Passed),
        _ => Err(Failure::new("no test ran")),
    }
}

/// Builds it and runs it until somebody stops it, in this machine's `workerd`.
fn dev(root: &Path, package: &str, port: u16) -> Outcome {
    let directory = Build::of(package).run(root)?;
    let project = Project::open(&directory).map_err(|error| Failure::new(error.to_string()))?;
    let project = project.port(port).storage(directory.join(".workerd"));
    let workerd =
        Workerd::start_aloud(&project).map_err(|error| Failure::new(error.to_string()))?;
    println!("listening on {}", workerd.url());
    println!(
        "a room sleeps when told: POST {}/control/evict?party=CLASS&room=ROOM",
        workerd.control_url()
    );
    workerd.wait().map_err(|error| Failure::new(error.to_string()))?;
    Ok(Verdict::Passed)
}

/// The Worker of the relay against its figure and its limit.
pub(crate) fn weigh(root: &Path) -> Outcome {
    let size = size_of_relay(root)?;
    let text = fs::read_to_string(root.join(FIGURE))
        .map_err(|error| Failure::new(format!("{FIGURE}: {error}")))?;
    let figure: Value =
        serde_json::from_str(&text).map_err(|error| Failure::new(format!("{FIGURE}: {error}")))?;
    judge(size, Size::read(&figure)?).map(|()| Verdict::Passed)
}

fn write_figure(root: &Path) -> Outcome {
    let Size { raw, gzip } = size_of_relay(root)?;
    let text = format!("{}\n", json!({ "raw": raw, "gzip": gzip }));
    fs::write(root.join(FIGURE), text)
        .map_err(|error| Failure::new(format!("{FIGURE}: {error}")))?;
    Ok(Verdict::Passed)
}

fn size_of_relay(root: &Path) -> Result<Size, Failure> {
    Size::of(&make(root, "relay")?.join("build/index_bg.wasm"))
}

fn judge(size: Size, figure: Size) -> Result<(), Failure> {
    for (what, now, before, limit) in
        [("raw", size.raw, figure.raw, LIMIT.raw), ("gzipped", size.gzip, figure.gzip, LIMIT.gzip)]
    {
        if now > limit {
            return Err(Failure::new(format!("{now} bytes {what}, over the limit of {limit}")));
        }
        if now * 100 > before * (100 + GROWTH_PERCENT) {
            return Err(Failure::new(format!(
                "{now} bytes {what}, over {GROWTH_PERCENT} % more than {before}: if it has to be, \
                 `cargo xtask workers size --write`"
            )));
        }
    }
    Ok(())
}

/// In place. About a twentieth less, for some seconds.
fn optimise(root: &Path, wasm: &Path) -> Result<(), Failure> {
    // Again and again, until nothing is gained. `docs/src/workers.md` has the same command.
    optimise_by(root, wasm, &["-Oz", "--converge"])
}

fn optimise_by(root: &Path, wasm: &Path, how: &[&str]) -> Result<(), Failure> {
    let program = root.join(tools::WORKERD).join("node_modules/.bin/wasm-opt");
    if !program.is_file() {
        return Err(Failure::new("no wasm-opt: run `cargo xtask setup`"));
    }
    let path = wasm.display().to_string();
    let program = Command::new(root, &program.display().to_string());
    let command = how.iter().fold(program, |command, option| command.arg(option));
    // What rustc uses of wasm is named in the file, what wasm-bindgen adds is not.
    let command = command.arg("--enable-exception-handling");
    command.arg(&path).arg("-o").arg(&path).run()?;
    println!("  {path}: {}", Size::of(wasm)?);
    Ok(())
}

/// Where cargo has a package, and puts what it makes of it.
struct Place {
    directory: PathBuf,
    target: PathBuf,
    /// Below `target`.
    wasm: PathBuf,
}

impl Place {
    fn of(root: &Path, package: &str) -> Result<Self, Failure> {
        let metadata = Command::new(root, "cargo metadata --no-deps --format-version 1").read()?;
        let metadata: Value =
            serde_json::from_str(&metadata).map_err(|error| Failure::new(error.to_string()))?;
        Self::find(&metadata, package)
            .ok_or_else(|| Failure::new(format!("no package {package} with a library")))
    }

    fn find(metadata: &Value, package: &str) -> Option<Self> {
        let packages = metadata["packages"].as_array()?;
        let package = packages.iter().find(|found| found["name"] == package)?;
        let directory = Path::new(package["manifest_path"].as_str()?).parent()?.to_owned();
        let library = package["targets"].as_array()?.iter().find(|target| {
            let kinds = target["kind"].as_array().into_iter().flatten();
            kinds.filter_map(Value::as_str).any(|kind| matches!(kind, "lib" | "rlib" | "cdylib"))
        })?;
        let name = library["name"].as_str()?.replace('-', "_");
        let target = metadata["target_directory"].as_str()?.into();
        let wasm = format!("{}/workers/{name}.wasm", tools::WASM).into();
        Some(Self { directory, target, wasm })
    }
}

/// Of a wasm file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    raw: usize,
    gzip: usize,
}

impl Size {
    fn of(wasm: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("{}: {error}", wasm.display()));
        let bytes = fs::read(wasm).map_err(failed)?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        std::io::Write::write_all(&mut encoder, &bytes).map_err(failed)?;
        Ok(Self { raw: bytes.len(), gzip: encoder.finish().map_err(failed)?.len() })
    }

    fn read(figure: &Value) -> Result<Self, Failure> {
        let bytes = |key: &str| {
            let bytes = figure[key].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
            bytes.ok_or_else(|| Failure::new(format!("{FIGURE} has no {key}")))
        };
        Ok(Self { raw: bytes("raw")?, gzip: bytes("gzip")? })
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of wasm, {} gzipped", self.raw, self.gzip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_refused_and_so_is_too_much() {
        let figure = Size { raw: 400_000, gzip: 150_000 };
        assert!(judge(figure, figure).is_ok());
        assert!(judge(Size { raw: 440_000, gzip: 165_000 }, figure).is_ok());
        assert!(judge(Size { raw: 440_001, ..figure }, figure).is_err());
        assert!(judge(Size { gzip: 165_001, ..figure }, figure).is_err());
        let large = Size { raw: LIMIT.raw + 1, ..figure };
        assert!(judge(large, large).unwrap_err().to_string().contains("limit"));
    }

    #[test]
    fn a_package_is_found_where_cargo_has_it() {
        let metadata = json!({
            "target_directory": "target",
            "packages": [{
                "name": "my-party",
                "manifest_path": "examples/my-party/Cargo.toml",
                "targets": [{ "kind": ["bin"], "name": "other" }, { "kind": ["lib"], "name": "my_party" }],
            }],
        });
        let place = Place::find(&metadata, "my-party").unwrap();
        assert_eq!(place.directory, Path::new("examples/my-party"));
        assert!(place.wasm.ends_with("wasm32-unknown-unknown/workers/my_party.wasm"));
        assert!(Place::find(&metadata, "other").is_none());
    }

    #[test]
    fn what_is_no_command_is_told_how_to_be_one() {
        let arguments = ["build".to_owned()];
        assert!(run(Path::new("."), &arguments).unwrap_err().to_string().contains("PACKAGE"));
    }
}
