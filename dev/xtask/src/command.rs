//! A command of another program: printed before it runs, timed, and an error when it fails.

use std::{
    cell::Cell,
    ffi::OsStr,
    fmt,
    io::{self, BufRead, BufReader, Read, Seek},
    path::Path,
    process::{self, Stdio},
    time::Instant,
};

/// A failure of a command that ran apart has this many lines of what it said.
const LAST: usize = 20;

/// Why a step failed, in words for the person who ran it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

thread_local! {
    /// Whether commands of this thread run beside those of another.
    static IS_APART: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, whose commands are those of [`Command::apart`]. Those of threads that it starts are not.
pub(crate) fn apart<T>(work: impl FnOnce() -> T) -> T {
    let before = IS_APART.replace(true);
    let done = work();
    IS_APART.set(before);
    done
}

/// A command line in the making. Runs in the directory it was made for, without standard input.
#[derive(Debug)]
pub(crate) struct Command {
    inner: process::Command,
    line: String,
}

impl Command {
    /// Splits `line` at white space: no argument may hold any; add those with [`Command::arg`].
    pub(crate) fn new(directory: &Path, line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut inner = process::Command::new(words.next().expect("a command has a program"));
        inner.args(words).current_dir(directory).stdin(Stdio::null());
        Self { inner, line: line.to_owned() }
    }

    /// Of a program that was built here, wherever that is.
    pub(crate) fn built(directory: &Path, program: &Path) -> Self {
        let mut inner = process::Command::new(program);
        inner.current_dir(directory).stdin(Stdio::null());
        Self { inner, line: program.display().to_string() }
    }

    pub(crate) fn arg(mut self, argument: &str) -> Self {
        self.inner.arg(argument);
        self.line.push_str(&format!(" {argument}"));
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.line = format!("{key}='{}' {}", value.as_ref().display(), self.line);
        self.inner.env(key, value);
        self
    }

    /// Runs it, its output going where ours goes.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        if IS_APART.get() {
            return self.apart().map(drop);
        }
        self.announce();
        let started = Instant::now();
        let status = self.inner.status().map_err(|error| self.not_started(&error))?;
        self.judge(status, started)
    }

    /// Runs it like [`Command::run`] and returns what it wrote to standard output besides.
    pub(crate) fn tee(mut self) -> Result<String, Failure> {
        if IS_APART.get() {
            return self.apart();
        }
        self.announce();
        let started = Instant::now();
        self.inner.stdout(Stdio::piped());
        let mut child = self.inner.spawn().map_err(|error| self.not_started(&error))?;
        let mut seen = String::new();
        for line in BufReader::new(child.stdout.take().expect("stdout is piped")).lines() {
            let line = line.map_err(|error| self.not_started(&error))?;
            println!("{line}");
            seen.push_str(&line);
            seen.push('\n');
        }
        let status = child.wait().map_err(|error| self.not_started(&error))?;
        self.judge(status, started).map(|()| seen)
    }

    /// Runs it, and prints all that it wrote when it has ended: for commands that run beside others. Returns
    /// that, too; a failure has the last lines.
    pub(crate) fn apart(mut self) -> Result<String, Failure> {
        println!("$ {} ..", self.line);
        let started = Instant::now();
        let mut log = tempfile::tempfile().map_err(|error| self.not_started(&error))?;
        let both = log.try_clone().and_then(|out| Ok((out, log.try_clone()?)));
        let (out, err) = both.map_err(|error| self.not_started(&error))?;
        let status = self.inner.stdout(out).stderr(err).status();
        let status = status.map_err(|error| self.not_started(&error))?;
        let mut said = Vec::new();
        log.rewind()
            .and_then(|()| log.read_to_end(&mut said))
            .map_err(|error| self.not_started(&error))?;
        let said = String::from_utf8_lossy(&said).into_owned();
        // One call, so that two commands that end together do not mix.
        println!("$ {}\n{said}  ({:.1} s)", self.line, started.elapsed().as_secs_f64());
        if status.success() {
            return Ok(said);
        }
        let lines: Vec<_> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST)..].join("\n");
        Err(Failure::new(format!("{}: {status}\n{last}", self.line)))
    }

    /// Runs it and returns what it wrote to standard error, which nobody sees unless it fails.
    pub(crate) fn log(mut self) -> Result<String, Failure> {
        self.announce();
        let started = Instant::now();
        let output = self.inner.output().map_err(|error| self.not_started(&error))?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            eprintln!("{log}");
        }
        self.judge(output.status, started).map(|()| log)
    }

    /// Runs it quietly and returns its standard output: for questions, not for work.
    pub(crate) fn read(mut self) -> Result<String, Failure> {
        let output = self.inner.output().map_err(|error| self.not_started(&error))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("{}: {}\n{why}", self.line, output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn announce(&self) {
        println!("$ {}", self.line);
    }

    fn judge(&self, status: process::ExitStatus, started: Instant) -> Result<(), Failure> {
        println!("  ({:.1} s)", started.elapsed().as_secs_f64());
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(format!("{}: {status}", self.line)))
        }
    }

    fn not_started(&self, error: &io::Error) -> Failure {
        Failure::new(format!("{}: {error}", self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        Command::new(Path::new("."), line)
    }

    #[test]
    fn a_command_that_fails_is_named_in_the_error() {
        let failure = command("cargo no-such-subcommand").run().unwrap_err().to_string();
        assert!(failure.starts_with("cargo no-such-subcommand: exit status"), "{failure}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named_in_the_error() {
        let failure = command("no-such-program-anywhere").tee().unwrap_err().to_string();
        assert!(failure.starts_with("no-such-program-anywhere: "), "{failure}");
    }

    #[test]
    fn output_can_be_read() {
        assert!(command("cargo --version").tee().unwrap().starts_with("cargo "));
        assert!(command("cargo --version").read().unwrap().starts_with("cargo "));
    }

    #[test]
    fn a_log_is_what_went_to_standard_error() {
        assert_eq!(command("cargo --version").log().unwrap(), "");
        assert!(command("cargo no-such-subcommand").log().is_err());
    }

    #[test]
    fn commands_of_what_works_apart_run_apart() {
        let failure = apart(|| command("cargo no-such-subcommand").run()).unwrap_err().to_string();
        assert!(failure.contains("no such command"), "{failure}");
        assert!(apart(|| command("cargo --version").tee()).unwrap().starts_with("cargo "));
        let failure = command("cargo no-such-subcommand").run().unwrap_err().to_string();
        assert!(!failure.contains("no such command"), "{failure}");
    }

    #[test]
    fn a_failure_of_a_command_that_ran_apart_has_its_last_words() {
        assert!(command("cargo --version").apart().is_ok());
        let failure = command("cargo no-such-subcommand").apart().unwrap_err().to_string();
        assert!(failure.contains("no such command"), "{failure}");
    }

    #[test]
    fn the_line_shows_what_a_shell_would_need() {
        let command = command("cargo doc").env("RUSTDOCFLAGS", "-D warnings").arg("--no-deps");
        assert_eq!(command.line, "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }
}
