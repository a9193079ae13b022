//! Does what a page of the guide says, word for word, in a folder of its own.
//!
//! A comment that readers do not see stands in front of a block and says what the block is:
//!
//! | comment | the block |
//! |---|---|
//! | `<!-- file: NAME -->` | is written to this file |
//! | `<!-- run -->` | is run, each line behind a `$`; it has to succeed |
//! | `<!-- start: ADDRESS -->` | is started, and ends with the page, or when the page starts another one there |
//! | `<!-- serve: ADDRESS -->` | is started as well; two clients of a relay have to hear each other there |
//! | `<!-- keep: ADDRESS -->` | is run, and two clients of a relay that are connected there stay connected |
//! | `<!-- next: ADDRESS -->` | is started, and takes over there: what was started before ends, and two clients stay |
//! | `<!-- install -->` | installs packages of npm: those that are here have to be what it asks for |
//!
//! `<!-- browser: WHAT -->` stands in front of a sentence, and a browser does what this says:
//! `dev/node/web-page.mjs`. Blocks without a comment are for reading only.

use std::{
    ffi::OsString,
    fs, io,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command as Process, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use tungstenite::Message;

use crate::command::Failure;

/// How long a server may take until it listens: it may have to be compiled first.
const PATIENCE: Duration = Duration::from_secs(900);

/// What a page tells its reader to do.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    Write { file: String, text: String },
    Run { script: String },
    Serve { script: String, address: SocketAddr },
    Start { script: String, address: String },
    Keep { script: String, address: SocketAddr },
    Next { script: String, address: SocketAddr },
    Install,
    Browse { what: String },
}

/// Somebody who reads pages and does what they say.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Where the next command runs.
    directory: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    /// What every crate that the reader makes gets, by its name in that crate, as a link or as a copy.
    beside: Vec<(&'static str, PathBuf)>,
    /// The tests with a browser, and the packages of npm that they and the pages have.
    browser_tests: PathBuf,
    /// What runs while a page is followed, by its address.
    started: Vec<(String, Served)>,
}

impl Reader {
    /// `directory` is where the first page begins, `browser_tests` the folder with `web-page.mjs`.
    pub(crate) fn new(directory: &Path, browser_tests: PathBuf) -> Self {
        Self {
            directory: directory.to_owned(),
            environment: Vec::new(),
            beside: Vec::new(),
            browser_tests,
            started: Vec::new(),
        }
    }

    pub(crate) fn env(mut self, key: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((key, value.into()));
        self
    }

    /// Puts this into each crate that a page makes: a directory as a link, a file as a copy.
    pub(crate) fn with(mut self, name: &'static str, source: impl Into<PathBuf>) -> Self {
        self.beside.push((name, source.into()));
        self
    }

    /// Where the reader is now.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Goes back to where the next page begins.
    pub(crate) fn go(&mut self, directory: PathBuf) {
        self.directory = directory;
    }

    /// Does all that `text`, the page called `page`, says. Returns how many blocks it did.
    pub(crate) fn follow(&mut self, page: &str, text: &str) -> Result<usize, Failure> {
        let failed = |why: String| Failure::new(format!("{page}: {why}"));
        let acts = acts(text).map_err(failed)?;
        if acts.is_empty() {
            return Err(failed("it says nothing to do".to_owned()));
        }
        let done = acts.iter().try_for_each(|act| self.act(page, act));
        self.started.clear();
        done.map_err(|failure| failed(failure.to_string()))?;
        Ok(acts.len())
    }

    fn act(&mut self, page: &str, act: &Act) -> Result<(), Failure> {
        match act {
            Act::Write { file, text } => {
                println!("  {page}: writes {file}");
                fs::write(self.directory.join(file), text)
                    .map_err(|error| Failure::new(format!("{file}: {error}")))
            }
            Act::Run { script } => {
                println!("  {page}: runs\n{script}");
                self.run(script)
            }
            Act::Serve { script, address } => {
                println!("  {page}: serves by\n{script}");
                self.start(script, &address.to_string())?;
                let relayed = join(*address).and_then(|mut pair| relayed(&mut pair));
                relayed.map_err(|error| Failure::new(format!("{address}: {error}")))
            }
            Act::Start { script, address } => {
                println!("  {page}: starts\n{script}");
                self.start(script, address)
            }
            Act::Keep { script, address } => {
                println!("  {page}: runs, with clients that stay,\n{script}");
                keep(*address, || self.run(script))
            }
            Act::Next { script, address } => {
                println!("  {page}: starts what takes over\n{script}");
                keep(*address, || self.take_over(script, &address.to_string()))
            }
            Act::Install => {
                println!("  {page}: takes the packages of npm that are here");
                self.install()
            }
            Act::Browse { what } => {
                println!("  {page}: a browser: {what}");
                let script = self.browser_tests.join("web-page.mjs");
                self.succeeds(Process::new("node").arg(script).arg(what))
            }
        }
    }

    fn run(&mut self, script: &str) -> Result<(), Failure> {
        let told = self.directory.join(".directory");
        let script = format!("set -e\n{script}pwd > '{}'", told.display());
        let failed = |error: io::Error| Failure::new(error.to_string());
        self.succeeds(&mut self.bash(&script))?;
        self.directory = fs::read_to_string(&told).map_err(failed)?.trim_end().into();
        fs::remove_file(&told).map_err(failed)?;
        if self.directory.join("Cargo.toml").is_file() {
            for (name, source) in &self.beside {
                place(source, &self.directory.join(name)).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn start(&mut self, script: &str, address: &str) -> Result<(), Failure> {
        self.started.retain(|(other, _)| other != address);
        let started = self.spawn(script, address)?;
        self.started.push((address.to_owned(), started));
        Ok(())
    }

    /// Starts a server, and waits until it listens.
    fn spawn(&self, script: &str, address: &str) -> Result<Served, Failure> {
        if TcpStream::connect(address).is_ok() {
            return Err(Failure::new(format!("{address} is in use by another program")));
        }
        let mut served = Served::new(self.shell(script))?;
        wait(|| {
            if let Some(status) = served.ended() {
                return Err(Failure::new(format!("the server ended: {status}")));
            }
            Ok(TcpStream::connect(address).is_ok())
        })?;
        Ok(served)
    }

    /// Starts a server that takes over, and waits until it has: then the one before ends.
    fn take_over(&mut self, script: &str, address: &str) -> Result<(), Failure> {
        let mut next = Served::new(self.shell(script))?;
        let before = self.started.iter_mut().find(|(other, _)| other == address);
        let (_, before) = before.ok_or_else(|| Failure::new("nothing was started there"))?;
        wait(|| match next.ended() {
            Some(status) => Err(Failure::new(format!("the next server ended: {status}"))),
            None => Ok(before.ended().is_some()),
        })?;
        *before = next;
        Ok(())
    }

    /// Has npm compare the packages that are here with those that `package.json` asks for.
    fn install(&self) -> Result<(), Failure> {
        let packages = self.browser_tests.join("node_modules");
        place(&packages, &self.directory.join("node_modules"))
            .map_err(|error| Failure::new(error.to_string()))?;
        self.succeeds(&mut self.bash("npm ls"))
    }

    fn succeeds(&self, command: &mut Process) -> Result<(), Failure> {
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(Failure::new("a command failed")),
            Err(error) => Err(Failure::new(error.to_string())),
        }
    }

    /// A shell that stays, and sees the end of what it has started, as a reader's does.
    fn shell(&self, script: &str) -> Process {
        self.bash(&format!("{script}exit $?"))
    }

    fn bash(&self, script: &str) -> Process {
        let mut command = Process::new("bash");
        command.arg("-c").arg(script).current_dir(&self.directory).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        // Cargo tells our own process where our own package is.
        command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_TARGET_DIR");
        command
    }
}

type Client = tungstenite::WebSocket<TcpStream>;

/// Two clients of one room.
fn join(address: SocketAddr) -> Result<[Client; 2], tungstenite::Error> {
    let join = || {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let url = format!("ws://{address}/parties/main/lobby");
        tungstenite::client(url, stream).map(|(socket, _)| socket).map_err(|error| match error {
            tungstenite::HandshakeError::Failure(error) => error,
            interrupted => tungstenite::Error::Io(io::Error::other(interrupted.to_string())),
        })
    };
    Ok([join()?, join()?])
}

/// What the first one says, the second one hears.
fn relayed([ada, bob]: &mut [Client; 2]) -> Result<(), tungstenite::Error> {
    ada.send(Message::text("hello"))?;
    match bob.read()? {
        Message::Text(text) if text.as_str() == "hello" => Ok(()),
        other => Err(tungstenite::Error::Io(io::Error::other(format!("heard {other:?}")))),
    }
}

/// Does something while two clients are connected, and has them talk before and after it.
fn keep(address: SocketAddr, act: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("{address}: {error}"));
    let mut pair = join(address).map_err(failed)?;
    relayed(&mut pair).map_err(failed)?;
    act()?;
    relayed(&mut pair).map_err(failed)
}

/// Waits until something is so.
fn wait(mut is_so: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    while !is_so()? {
        if Instant::now() > until {
            return Err(Failure::new(format!("nothing happens in {PATIENCE:?}")));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Ends with all processes that it has started.
#[derive(Debug)]
struct Served(Child);

impl Served {
    /// In a process group of its own.
    fn new(mut command: Process) -> Result<Self, Failure> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().map(Self).map_err(|error| Failure::new(error.to_string()))
    }

    /// How it has ended, it and all that it has started, such as the process that took over from it.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.0.try_wait().ok().flatten()?;
        (!self.signal("-0")).then_some(status)
    }

    /// Whether there is a process that it reaches.
    fn signal(&self, signal: &str) -> bool {
        let group = format!("-{}", self.0.id());
        let mut kill = Process::new("kill");
        kill.args([signal, "--", &group]).stderr(Stdio::null());
        kill.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Not SIGINT, which the children of a shell's background job ignore.
        for signal in ["-TERM", "-KILL"] {
            self.signal(signal);
            for _ in 0..200 {
                if self.ended().is_some() {
                    return;
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn place(source: &Path, target: &Path) -> io::Result<()> {
    if target.exists() {
        return Ok(());
    }
    if source.is_file() {
        return fs::copy(source, target).map(drop);
    }
    fs::create_dir_all(source)?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(source, target)?;
    Ok(())
}

/// The files that a page writes.
pub(crate) fn files(text: &str) -> Result<Vec<(String, String)>, String> {
    let written = acts(text)?.into_iter().filter_map(|act| match act {
        Act::Write { file, text } => Some((file, text)),
        _ => None,
    });
    Ok(written.collect())
}

/// What a page says, in its order.
fn acts(text: &str) -> Result<Vec<Act>, String> {
    let mut acts = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(what) = line.trim().strip_prefix("<!-- ").and_then(|it| it.strip_suffix(" -->"))
        else {
            continue;
        };
        let (verb, noun) = what.split_once(": ").unwrap_or((what, ""));
        if verb == "browser" {
            acts.push(Act::Browse { what: noun.to_owned() });
        }
        if !["file", "run", "serve", "start", "keep", "next", "install"].contains(&verb) {
            continue;
        }
        if !lines.next().is_some_and(|line| line.starts_with("```")) {
            return Err(format!("no block follows <!-- {what} -->"));
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let script = || {
            let commands = block.iter().filter_map(|line| line.strip_prefix("$ "));
            commands.map(|line| format!("{line}\n")).collect::<String>()
        };
        acts.push(match verb {
            "file" => Act::Write { file: noun.to_owned(), text: format!("{}\n", block.join("\n")) },
            "run" => Act::Run { script: script() },
            "start" => Act::Start { script: script(), address: noun.to_owned() },
            "install" => Act::Install,
            _ => {
                let address = noun.parse().map_err(|_| format!("{noun} is no address"))?;
                match verb {
                    "keep" => Act::Keep { script: script(), address },
                    "next" => Act::Next { script: script(), address },
                    _ => Act::Serve { script: script(), address },
                }
            }
        });
    }
    Ok(acts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_in_its_order_and_other_blocks_are_not() {
        let page = "# A\n<!-- run -->\n```console\n$ cargo new a\nCreated\n$ cd a\n```\n\
                    ```toml\nno = 1\n```\n<!-- a note -->\n<!-- file: src/main.rs -->\n```rust\nfn main() {}\n```\n\
                    <!-- serve: 127.0.0.1:1999 -->\n```console\n$ cargo run\n```\n\
                    <!-- keep: 127.0.0.1:1999 -->\n```console\n$ kill -USR2 7\n```\n\
                    <!-- next: 127.0.0.1:1999 -->\n```console\n$ A=b cargo run\n```\n";
        let address = SocketAddr::from(([127, 0, 0, 1], 1999));
        let expected = [
            Act::Run { script: "cargo new a\ncd a\n".into() },
            Act::Write { file: "src/main.rs".into(), text: "fn main() {}\n".into() },
            Act::Serve { script: "cargo run\n".into(), address },
            Act::Keep { script: "kill -USR2 7\n".into(), address },
            Act::Next { script: "A=b cargo run\n".into(), address },
        ];
        assert_eq!(acts(page).unwrap(), expected);
        let page = "<!-- start: localhost:5173 -->\n```\n$ npx vite\n```\n\n<!-- browser: a page -->\n\nLook.\n\
                    <!-- install -->\n```\n$ npm install\n```\n";
        let expected = [
            Act::Start { script: "npx vite\n".into(), address: "localhost:5173".into() },
            Act::Browse { what: "a page".into() },
            Act::Install,
        ];
        assert_eq!(acts(page).unwrap(), expected);
        assert!(acts("<!-- run -->\n\n```\n```\n").unwrap_err().contains("no block"));
        assert!(acts("<!-- serve: here -->\n```\n```\n").unwrap_err().contains("no address"));
    }

    #[test]
    fn what_fails_is_told_with_the_page_and_where_a_command_went_is_remembered() {
        let home = std::env::temp_dir().join(format!("partykit-pages-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let mut reader = Reader::new(&home, PathBuf::new());
        let page = |line: &str| format!("<!-- run -->\n```console\n$ {line}\n```\n");
        reader.follow("a.md", &page("mkdir -p below && cd below")).unwrap();
        assert!(reader.directory.ends_with("below"));
        let failure = reader.follow("a.md", &page("false")).unwrap_err().to_string();
        assert_eq!(failure, "a.md: a command failed");
        let failure = reader.follow("a.md", "# Nothing").unwrap_err().to_string();
        assert_eq!(failure, "a.md: it says nothing to do");
        fs::remove_dir_all(&home).unwrap();
    }
}
