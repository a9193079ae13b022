//! The guide's page about deploying, as far as this machine can try it: the units of systemd and the
//! health check of the image. What it serves, [`Reader`](crate::pages::Reader) has tried.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command as Process, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{command::Failure, tools};

const UNITS: [&str; 2] = ["my-party.socket", "my-party.service"];

/// Where the units say that the program is.
const INSTALLED: &str = "/usr/local/bin/my-party";

/// Where the health check asks.
const ADDRESS: &str = "127.0.0.1:1999";

/// Whether this machine has what [`check`] and the page need.
pub(crate) fn has_systemd() -> bool {
    ["systemd-analyze", "systemd-socket-activate"].iter().all(|name| tools::find(name).is_some())
}

/// `directory` is that of the crate, into which the page's blocks were written, and which was built.
pub(crate) fn check(directory: &Path) -> Result<(), Failure> {
    let program = directory.join("target/debug/my-party");
    verify_units(directory, &program)?;
    let dockerfile = read(&directory.join("Dockerfile"))?;
    let probe = health_check(&dockerfile)?;
    let server = Server::start(directory, &program)?;
    if !runs(&probe)? {
        return Err(Failure::new("the health check fails beside a server that is well"));
    }
    drop(server);
    match runs(&probe)? {
        true => Err(Failure::new("the health check succeeds without a server")),
        false => Ok(()),
    }
}

/// systemd has nothing to say about them.
fn verify_units(directory: &Path, program: &Path) -> Result<(), Failure> {
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
    match done.status.success() && said.trim().is_empty() {
        true => Ok(()),
        false => Err(Failure::new(format!("systemd-analyze verify: {}", said.trim()))),
    }
}

/// The words of the command that an image is asked with.
fn health_check(dockerfile: &str) -> Result<Vec<String>, Failure> {
    let line = dockerfile.lines().find(|line| line.starts_with("HEALTHCHECK "));
    let words = line.and_then(|line| line.split_once(" CMD ")).map(|(_, words)| words);
    words
        .and_then(|words| serde_json::from_str(words).ok())
        .ok_or_else(|| Failure::new("the Dockerfile has no HEALTHCHECK with a list of words"))
}

fn runs(words: &[String]) -> Result<bool, Failure> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Failure::new("the health check is empty"))?;
    let done = Process::new(program).args(arguments).stderr(Stdio::null()).status();
    done.map(|status| status.success()).map_err(|error| Failure::new(error.to_string()))
}

/// The program as the image runs it; ends with this.
struct Server(Child);

impl Server {
    fn start(directory: &Path, program: &Path) -> Result<Self, Failure> {
        let mut command = Process::new(program);
        command.current_dir(directory).env("ADDRESS", ADDRESS).stdout(Stdio::null());
        let server = Self(command.spawn().map_err(|error| Failure::new(error.to_string()))?);
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(ADDRESS).is_err() {
            if Instant::now() > until {
                return Err(Failure::new(format!("nobody listens on {ADDRESS}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_check_of_an_image_is_found() {
        let image = "FROM scratch\nHEALTHCHECK --interval=1s CMD [\"bash\", \"-c\", \"exit 3\"]\n";
        let words = health_check(image).unwrap();
        assert_eq!(words, ["bash", "-c", "exit 3"]);
        assert!(!runs(&words).unwrap());
        assert!(health_check("FROM scratch\nHEALTHCHECK CMD true\n").is_err());
        assert!(health_check("FROM scratch\n").is_err());
    }
}
