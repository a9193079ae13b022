//! The programs that the steps need besides the Rust toolchain: found, or installed by `setup`.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::command::{Command, Failure};

/// What `setup` builds from source when it is missing, and the versions it takes. Another version that is
/// already there is left alone. mdbook serves no site here and runs for a second: so it is built quickly.
const CARGO_TOOLS: &[(&str, &str)] = &[
    ("cargo-hack", "cargo-hack@0.6.46"),
    ("cargo-deny", "cargo-deny@0.20.2"),
    ("mdbook", "mdbook@0.5.4 --debug --no-default-features --features search"),
];

/// The same for the step `fuzz`, which installs it by itself: it needs a nightly toolchain, too.
const CARGO_FUZZ: (&str, &str) = ("cargo-fuzz", "cargo-fuzz@0.13.2");

/// Faster than `cargo test`, and ends a test that hangs; but takes minutes to build, so `unit`
/// does without it where it is missing.
pub(crate) const NEXTEST: &str = "cargo-nextest";

pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// Where the tests with real clients live, below the root.
pub(crate) const NODE_TESTS: &str = "dev/node";

/// The harness for Workers, and beside it what npm has for building and running them, below the root.
pub(crate) const WORKERD: &str = "dev/workerd";

/// The clients of Yjs, below the root.
pub(crate) const YJS: &str = "dev/yjs";

/// socket.io, which our history is run beside, below the root.
const SOCKET_IO: &str = "dev/crash/socket-io";

/// The server on Bun that sockets are measured beside, below the root.
const BUN: &str = "dev/bench/bun";

/// By the names that Debian, Ubuntu, Fedora and Chrome itself use.
const BROWSERS: &[&str] =
    &["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// Installs whatever is missing.
pub(crate) fn install(root: &Path) -> Result<(), Failure> {
    if !has_wasm(root)? {
        Command::new(root, "rustup target add").arg(WASM).run()?;
    }
    for (tool, package) in CARGO_TOOLS {
        install_cargo_tool(root, tool, package)?;
    }
    install_node_modules(&root.join(NODE_TESTS))?;
    install_node_modules(&root.join(WORKERD))?;
    install_node_modules(&root.join(YJS))?;
    if chromium().is_none() {
        install_chromium(root)?;
    }
    install_promtool(root)
}

/// Installs what fuzzing needs beside a nightly toolchain.
pub(crate) fn install_fuzz(root: &Path) -> Result<(), Failure> {
    install_cargo_tool(root, CARGO_FUZZ.0, CARGO_FUZZ.1)
}

/// Installs Bun where the bench looks for it: by the lock file, and for nothing else.
pub(crate) fn install_bun(root: &Path) -> Result<(), Failure> {
    install_node_modules(&root.join(BUN))
}

/// Installs socket.io where `partykit-crash history --beside` looks for it: by the lock file.
pub(crate) fn install_socket_io(root: &Path) -> Result<(), Failure> {
    install_node_modules(&root.join(SOCKET_IO))
}

/// A failure that says how to get `tool`, unless it is there.
pub(crate) fn require(tool: &str) -> Result<(), Failure> {
    match find(tool) {
        Some(_) => Ok(()),
        None => Err(Failure::new(format!("{tool} is missing: run `cargo xtask setup`"))),
    }
}

/// The program called `name`, looked up as cargo looks up its subcommands: `$CARGO_HOME/bin`, then
/// `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    home.map(|home| home.join("bin"))
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|directory| directory.join(format!("{name}{}", env::consts::EXE_SUFFIX)))
        .find(|program| program.is_file())
}

/// The browser: what `CHROMIUM` says, else the first that is installed.
pub(crate) fn chromium() -> Option<PathBuf> {
    let named = env::var_os("CHROMIUM").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| BROWSERS.iter().find_map(|name| find(name)))
}

/// Where Prometheus's program for checking files is: on the `PATH`, or where `setup` puts it.
pub(crate) fn promtool() -> Option<PathBuf> {
    let ours = || Some(cache().ok()?.join("partykit-promtool/usr/bin/promtool"));
    find("promtool").or_else(|| ours().filter(|path| path.is_file()))
}

/// Where what is installed for this repository alone is kept.
pub(crate) fn cache() -> Result<PathBuf, Failure> {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(|| Some(env::home_dir()?.join(".cache")));
    cache.ok_or_else(|| Failure::new("neither HOME nor XDG_CACHE_HOME is set"))
}

/// Takes it out of Debian's package, which would start a service where it is installed. Elsewhere the step
/// `package` says that it does without.
fn install_promtool(root: &Path) -> Result<(), Failure> {
    if promtool().is_some() || find("apt-get").is_none() {
        return Ok(());
    }
    let place = cache()?.join("partykit-promtool");
    let script = "mkdir -p \"$0\" && cd \"$0\" && \
        { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } && \
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar --extract ./usr/bin/promtool && rm prometheus_*.deb";
    let command = Command::new(root, "bash -c").arg(script);
    command.arg(&place.display().to_string()).run()
}

/// `package` is its version, and how it is built.
fn install_cargo_tool(root: &Path, tool: &str, package: &str) -> Result<(), Failure> {
    if find(tool).is_some() {
        return Ok(());
    }
    Command::new(root, &format!("cargo install --locked {package}")).run()
}

/// Asks rustc, not rustup: distributions ship Rust without rustup.
fn has_wasm(root: &Path) -> Result<bool, Failure> {
    let libraries = Command::new(root, "rustc --print target-libdir --target").arg(WASM).read()?;
    Ok(Path::new(libraries.trim()).is_dir())
}

/// Nothing to do where nobody has written a package yet: the step `node` tells.
fn install_node_modules(directory: &Path) -> Result<(), Failure> {
    let lock = directory.join("package-lock.json");
    if !lock.is_file() || !is_stale(&lock, &directory.join("node_modules/.package-lock.json")) {
        return Ok(());
    }
    if find("npm").is_none() {
        return Err(Failure::new("npm is missing: install Node.js 20 or newer"));
    }
    Command::new(directory, "npm ci --no-audit --no-fund").run()
}

/// Whether `product` was made before `source` last changed, or never.
fn is_stale(source: &Path, product: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    changed(product) < changed(source)
}

/// Debian's reverse proxies, which the step `proxies` runs.
const PROXIES: [&str; 3] = ["nginx", "haproxy", "caddy"];

/// Installs the reverse proxies that are missing.
pub(crate) fn install_proxies(root: &Path) -> Result<(), Failure> {
    // Debian puts them where only root looks for programs.
    let is_there = |name: &str| {
        let places = ["/usr/sbin", "/usr/local/sbin"].map(|place| Path::new(place).join(name));
        find(name).is_some() || places.iter().any(|path| path.is_file())
    };
    let missing: Vec<&str> = PROXIES.into_iter().filter(|name| !is_there(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let by_hand =
        format!("{packages} missing. Install them (on Debian: `sudo apt-get install {packages}`)");
    apt_install(root, &packages, &by_hand)
}

fn install_chromium(root: &Path) -> Result<(), Failure> {
    const BY_HAND: &str = "no Chromium or Chrome found. Install one (on Debian: `sudo apt-get \
                           install chromium`) or name one: CHROMIUM=/path/to/chrome";
    apt_install(root, "chromium", BY_HAND)
}

/// `by_hand` says what to do where there is no apt.
fn apt_install(root: &Path, packages: &str, by_hand: &str) -> Result<(), Failure> {
    if find("apt-get").is_none() {
        return Err(Failure::new(by_hand));
    }
    let is_root = Command::new(root, "id -u").read()?.trim() == "0";
    let apt = match (is_root, find("sudo")) {
        (true, _) => "apt-get",
        (false, Some(_)) => "sudo --non-interactive apt-get",
        (false, None) => return Err(Failure::new(by_hand)),
    };
    let install = format!("{apt} install --yes --no-install-recommends {packages}");
    Command::new(root, &format!("{apt} update"))
        .run()
        .and_then(|()| Command::new(root, &install).env("DEBIAN_FRONTEND", "noninteractive").run())
        .map_err(|failure| Failure::new(format!("{failure}; {by_hand}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_found_and_nonsense_is_not() {
        assert!(find("cargo").is_some());
        assert!(find("no-such-program-anywhere").is_none());
        let refused = require("no-such-program-anywhere").unwrap_err().to_string();
        assert!(refused.contains("cargo xtask setup"), "{refused}");
    }

    #[test]
    fn a_product_that_is_not_there_is_stale_and_a_file_is_never_older_than_itself() {
        let manifest = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        assert!(is_stale(manifest, Path::new("no such file")));
        assert!(!is_stale(manifest, manifest));
    }
}
