use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Error, Life, Log, Project, capnp};

/// Longer than `workerd` waits for the handlers of a room that is told to sleep: 30 s.
const PATIENCE: Duration = Duration::from_secs(40);

/// A Worker that runs. It is killed, sockets and all, when this is dropped.
#[derive(Debug)]
pub struct Workerd {
    child: Child,
    http: SocketAddr,
    control: SocketAddr,
    log: Log,
    marks: AtomicU64,
    /// Goes with it.
    _files: TempDir,
}

impl Workerd {
    /// Starts the Worker that was built for `project`, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it was not built, when there is no `workerd`, or when that does not start.
    pub fn start(project: &Project) -> Result<Self, Error> {
        Self::launch(project, false)
    }

    /// The same, and prints to standard error what it says.
    ///
    /// # Errors
    ///
    /// Those of [`Workerd::start`].
    pub fn start_aloud(project: &Project) -> Result<Self, Error> {
        Self::launch(project, true)
    }

    /// The program: what the variable `WORKERD` names, else the one that npm has installed.
    ///
    /// # Errors
    ///
    /// When it is not installed.
    pub fn program() -> Result<PathBuf, Error> {
        program()
    }

    /// `http://` and the address of the Worker.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The address of the Worker.
    pub fn address(&self) -> SocketAddr {
        self.http
    }

    /// `http://` and the address of the control: `POST /control/evict?party=..&room=..`.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// The process, for measurements.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Puts a room to sleep, as the platform does after ten quiet seconds: its instance is gone, its sockets
    /// stay. Waits for the handlers that run. `false` when it was not in memory.
    ///
    /// Blocks.
    ///
    /// # Errors
    ///
    /// When there is no such party, or the room does not come to rest.
    pub fn evict(&self, party: &str, room: &str) -> Result<bool, Error> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("party", party)
            .append_pair("room", room)
            .finish();
        let (status, body) = post(self.control, &format!("/control/evict?{query}"))?;
        match (status.as_str(), body.trim()) {
            ("200", "true") => Ok(true),
            ("200", "false") => Ok(false),
            (_, why) => Err(Error::Refused(format!("{status} {why}"))),
        }
    }

    /// Collects the garbage of a Worker that is [collectable](crate::Project::collectable).
    ///
    /// Blocks.
    ///
    /// # Errors
    ///
    /// When the Worker does not answer, or is not collectable.
    pub fn collect_garbage(&self) -> Result<(), Error> {
        match post(self.http, "/collect-garbage")? {
            (status, said) if (status.as_str(), said.trim()) == ("200", "collected") => Ok(()),
            (status, said) => Err(Error::Refused(format!("{status} {said}"))),
        }
    }

    /// All that it has said until now. (What [`Workerd::log`] has may lag behind.)
    ///
    /// Blocks.
    ///
    /// # Errors
    ///
    /// When the control does not answer.
    pub fn lines(&self) -> Result<Vec<String>, Error> {
        let mark = self.marks.fetch_add(1, Ordering::Relaxed);
        let (status, body) = post(self.control, &format!("/control/mark?mark={mark}"))?;
        match self.log.wait_for(&format!("mark <{mark}>"), PATIENCE) {
            Some(_) => Ok(self.log.lines()),
            None => Err(Error::Refused(format!("{status} {body}, and the log has no mark"))),
        }
    }

    /// How a room is, and what has woken it, without asking it: see [`Life`].
    ///
    /// Blocks.
    ///
    /// # Errors
    ///
    /// Those of [`Workerd::lines`].
    pub fn life(&self, party: &str, room: &str) -> Result<Life, Error> {
        Ok(Life::read(self.lines()?.iter().map(String::as_str), party, room))
    }

    /// Waits until it ends, which it does not by itself.
    ///
    /// # Errors
    ///
    /// When the system cannot say.
    pub fn wait(mut self) -> Result<(), Error> {
        self.child.wait()?;
        Ok(())
    }

    fn launch(project: &Project, aloud: bool) -> Result<Self, Error> {
        let program = program()?;
        let files =
            TempDir::with_prefix("workerd-").map_err(|e| Error::File("a directory".into(), e))?;
        prepare(project, files.path())?;
        // `workerd` tells its ports on a descriptor of its own; the shell makes our pipe that, and gives
        // it our standard error for its output. Then it is `workerd`, with the same process id.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3>&1 1>&2"#])
            .arg(&program)
            .args(["serve", "config.capnp", "--experimental", "--control-fd=3"])
            .current_dir(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::File(program, error))?;
        let (ports, said) = (child.stdout.take(), child.stderr.take());
        let (ports, said) = (ports.expect("stdout is piped"), said.expect("stderr is piped"));
        let log = Log::default();
        log.follow(said, aloud);
        let mut ports = BufReader::new(ports);
        let listening = listening(&mut ports);
        let (Some(http), Some(control)) = (listening.get("http"), listening.get("control")) else {
            // It closed the pipe, so it is about to end; what it said on the way is the reason.
            child.wait()?;
            log.wait_for("error", Duration::from_secs(1));
            return Err(Error::NotStarted(log.lines().join("\n")));
        };
        let local = |port: &u16| SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        let (http, control) = (local(http), local(control));
        // Nobody asks what else it tells there, and it must not meet a closed pipe.
        thread::spawn(move || std::io::copy(&mut ports, &mut std::io::sink()));
        Ok(Self { child, http, control, log, marks: AtomicU64::new(0), _files: files })
    }
}

impl Drop for Workerd {
    fn drop(&mut self) {
        // Told to end, it would wait for its WebSockets. An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where npm puts it; the package for each platform is the program alone.
fn program() -> Result<PathBuf, Error> {
    if let Some(named) = env::var_os("WORKERD").filter(|path| !path.is_empty()) {
        return Ok(named.into());
    }
    let system = match env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let processor = match env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "64",
    };
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("node_modules/@cloudflare/workerd-{system}-{processor}/bin/workerd"));
    if program.is_file() { Ok(program) } else { Err(Error::NotInstalled(program)) }
}

/// Writes what `workerd` reads into `directory`: the configuration, the Worker, the control.
pub(crate) fn prepare(project: &Project, directory: &Path) -> Result<(), Error> {
    let mut modules = Vec::new();
    copy_modules(&project.build, &directory.join("worker"), "", &mut modules)?;
    if project.is_collectable {
        let worker = directory.join("worker");
        let failed = |error| Error::File(worker.clone(), error);
        fs::rename(worker.join("index.js"), worker.join("collected.js")).map_err(failed)?;
        fs::write(worker.join("index.js"), include_str!("collectable.js")).map_err(failed)?;
        modules.push("collected.js".to_owned());
    }
    // The first is the entry.
    modules.sort_by_key(|path| (path != "index.js", path.clone()));
    let storage = project.storage.clone().unwrap_or_else(|| directory.join("storage"));
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| Error::File(path, error))
    };
    fs::create_dir_all(&storage).map_err(|error| Error::File(storage.clone(), error))?;
    write("control.js", include_str!("control.js"))?;
    write("config.capnp", &capnp::config(project, &modules, &storage))
}

/// Copies what can be a module, and notes its path below `from`.
fn copy_modules(
    from: &Path,
    to: &Path,
    below: &str,
    modules: &mut Vec<String>,
) -> Result<(), Error> {
    let failed = |error| Error::File(from.to_owned(), error);
    fs::create_dir_all(to).map_err(|error| Error::File(to.to_owned(), error))?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            copy_modules(&path, &to.join(&name), &format!("{below}{name}/"), modules)?;
        } else if name.ends_with(".js") || name.ends_with(".wasm") {
            fs::copy(&path, to.join(&name)).map_err(|error| Error::File(path, error))?;
            modules.push(format!("{below}{name}"));
        }
    }
    Ok(())
}

/// The ports of its sockets, as soon as it has told both. Fewer when it ended first.
fn listening(told: &mut impl BufRead) -> HashMap<String, u16> {
    let mut ports = HashMap::new();
    for line in told.lines().map_while(Result::ok) {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if let ("listen", Some(socket), Some(port)) = (
            event["event"].as_str().unwrap_or_default(),
            event["socket"].as_str(),
            event["port"].as_u64(),
        ) {
            ports.insert(socket.to_owned(), u16::try_from(port).unwrap_or_default());
        }
        if ports.len() == 2 {
            break;
        }
    }
    ports
}

/// Status and body of the answer.
fn post(address: SocketAddr, path: &str) -> Result<(String, String), Error> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_until_both_are_known() {
        let mut told = &br#"{"event":"listen","socket":"http","port":4}
{"event":"listen","socket":"control","port":5}
{"event":"other"}
"#[..];
        let ports = listening(&mut told);
        assert_eq!(ports, [("http".to_owned(), 4), ("control".to_owned(), 5)].into());
        assert_eq!(listening(&mut &b"no json\n"[..]), HashMap::new());
    }
}
