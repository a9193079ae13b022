//! The guide's pages about deploying, as far as this machine can try them: the units of systemd. What they serve,
//! [`Reader`](crate::pages::Reader) has tried, and the image [`image`](crate::image) tries.

use std::{fs, path::Path, process::Command as Process};

use crate::{
    command::{Command, Failure},
    tools,
};

const UNITS: [&str; 3] = ["my-party.socket", "my-party.service", "reload.service"];

/// Where the units say that the program is.
const INSTALLED: &str = "/usr/local/bin/my-party";

/// Whether this machine has what [`verify_units`] and the page need.
pub(crate) fn has_systemd() -> bool {
    ["systemd-analyze", "systemd-socket-activate"].iter().all(|name| tools::find(name).is_some())
}

/// What the page says that the service is rated, at most, in tenths.
const EXPOSURE: &str = "16";

/// systemd has nothing to say about the units, and rates the service as the page says. `directory` is that of the
/// crate, into which the pages' blocks were written, and which was built.
pub(crate) fn verify_units(directory: &Path) -> Result<(), Failure> {
    let program = directory.join("target/debug/my-party");
    let mut command = Process::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    for unit in UNITS {
        let path = directory.join(unit);
        let text = read(&path)?.replace(INSTALLED, &program.display().to_string());
        fs::write(&path, text).map_err(|error| Failure::new(format!("{unit}: {error}")))?;
        command.arg(path);
    }
    let done = command.output().map_err(|error| Failure::new(error.to_string()))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() || !said.trim().is_empty() {
        return Err(Failure::new(format!("systemd-analyze verify: {}", said.trim())));
    }
    Command::new(directory, "systemd-analyze security --no-pager --offline=yes --threshold")
        .arg(EXPOSURE)
        .arg(UNITS[1])
        .log()
        .map(drop)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
