use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{Loss, Power};

/// A script for the [scribe](super::scribe), and what a power loss after it has to leave: files with
/// what they hold, and directories, which end in `/`.
struct Case {
    what: &'static str,
    script: &'static str,
    left: &'static [(&'static str, &'static str)],
}

/// Of each pair the first shows that something is lost, and the second that nothing else is.
const CASES: &[Case] = &[
    Case {
        what: "an unsynced write is lost",
        script: "create a\nsync-dir .\nwrite a 0 one",
        left: &[("a", ""), ("old", "0123456789")],
    },
    Case {
        what: "a synced write survives",
        script: "create a\nsync-dir .\nwrite a 0 one\nsync-data a",
        left: &[("a", "one"), ("old", "0123456789")],
    },
    Case {
        what: "what was written after the sync is lost, and nothing before it",
        script: "create a\nsync-dir .\nappend a one\nsync a\nappend a two",
        left: &[("a", "one"), ("old", "0123456789")],
    },
    Case {
        what: "a synced file without a synced directory is lost",
        script: "create a\nwrite a 0 one\nsync a",
        left: &[("old", "0123456789")],
    },
    Case {
        what: "a rename without a synced directory is lost",
        script: "rename old new",
        left: &[("old", "0123456789")],
    },
    Case {
        what: "a rename with a synced directory survives",
        script: "rename old new\nsync-dir .",
        left: &[("new", "0123456789")],
    },
    Case {
        what: "a rename of what was not synced leaves an empty file",
        script: "create a\nwrite a 0 one\nrename a old\nsync-dir .",
        left: &[("old", "")],
    },
    Case {
        what: "a file put in the place of another is there when it was synced",
        script: "temporary old new\nsync old\nsync-dir .",
        left: &[("old", "new")],
    },
    Case {
        what: "a removed file is back without a synced directory",
        script: "remove old",
        left: &[("old", "0123456789")],
    },
    Case {
        what: "a removed file stays away with a synced directory",
        script: "remove old\nsync-dir .",
        left: &[],
    },
    Case {
        what: "an unsynced truncation is lost",
        script: "truncate old 4",
        left: &[("old", "0123456789")],
    },
    Case {
        what: "a synced truncation survives",
        script: "truncate old 4\nsync old\ntruncate old 8\nwrite old 1 xx",
        left: &[("old", "0123")],
    },
    Case {
        what: "of writes one over the other the synced ones survive",
        script: "write old 2 abcd\nwrite old 4 EFGH\nsync-data old\nwrite old 3 ____",
        left: &[("old", "01abEFGH89")],
    },
    Case {
        what: "a directory is lost with all in it, synced or not",
        script: "mkdir d\ncreate d/a\nwrite d/a 0 one\nsync d/a\nsync-dir d",
        left: &[("old", "0123456789")],
    },
    Case {
        what: "a directory survives when the one around it was synced",
        script: "mkdir d\ncreate d/a\nwrite d/a 0 one\nsync d/a\nsync-dir d\nsync-dir .\ncreate d/b",
        left: &[("d/", ""), ("d/a", "one"), ("old", "0123456789")],
    },
    Case {
        what: "a copy and a link are changes as any others",
        script: "copy old a\nlink old b\nsync a\nsync-dir .\ncopy old c\nappend b more\nsync b",
        left: &[("a", "0123456789"), ("b", "0123456789more"), ("old", "0123456789more")],
    },
];

/// Shows that the shim loses what it has to, and nothing else. `program` is the one with the command
/// `scribe`.
///
/// # Errors
///
/// What it did otherwise.
pub fn self_test(program: &Path, shim: &Path) -> Result<(), String> {
    for case in CASES {
        let left = run(program, shim, case).map_err(|error| format!("{}: {error}", case.what))?;
        let expected = case.left.iter();
        let expected =
            expected.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        if left != expected {
            return Err(format!("not so: {}: there is {left:?}", case.what));
        }
    }
    for round in 0..3 {
        killed_while_writing(program, shim, round).map_err(|error| error.to_string())??;
    }
    Ok(())
}

type Left = BTreeMap<String, String>;

fn run(program: &Path, shim: &Path, case: &Case) -> io::Result<Left> {
    let place = tempfile::tempdir()?;
    let disk = place.path().join("disk");
    fs::create_dir(&disk)?;
    fs::write(disk.join("old"), "0123456789")?;
    let power = Power::on(shim, &disk, &place.path().join("log"))?;
    let mut scribe = start(program, &power, &disk, case.script)?;
    let said = lines(&mut scribe).next().transpose()?;
    let unseen = power.unseen()?;
    end(scribe)?;
    if said.as_deref() != Some("done") {
        return Err(io::Error::other("the script failed"));
    }
    if !unseen.is_empty() {
        return Err(io::Error::other(format!("not seen by the shim: {unseen:?}")));
    }
    power.off(Loss::Everything)?;
    let mut left = Left::new();
    read(&disk, "", &mut left)?;
    Ok(left)
}

/// Kills in the middle of a write or a sync: all numbers that were said are there, and no half of one.
fn killed_while_writing(program: &Path, shim: &Path, round: u64) -> io::Result<Result<(), String>> {
    let place = tempfile::tempdir()?;
    let disk = place.path().join("disk");
    fs::create_dir(&disk)?;
    let power = Power::on(shim, &disk, &place.path().join("log"))?;
    let mut scribe = start(program, &power, &disk, "create a\nsync-dir .\ncount a")?;
    let mut said = 0;
    let mut numbers = lines(&mut scribe);
    while said < 20 + round {
        said = numbers.next().transpose()?.and_then(|line| line.parse().ok()).unwrap_or(u64::MAX);
    }
    scribe.kill()?;
    for line in numbers {
        said = line?.parse().unwrap_or(u64::MAX);
    }
    end(scribe)?;
    power.off(Loss::Everything)?;
    let found = fs::read(disk.join("a"))?;
    let (numbers, half) = found.as_chunks::<8>();
    let counted = numbers.iter().enumerate();
    let right = counted
        .fold(true, |so_far, (at, number)| so_far && u64::from_le_bytes(*number) == at as u64 + 1);
    Ok(if half.is_empty() && right && numbers.len() as u64 >= said {
        Ok(())
    } else {
        Err(format!("not so: {said} numbers were synced; there are {} bytes", found.len()))
    })
}

fn start(program: &Path, power: &Power, disk: &Path, script: &str) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(["scribe", script]).current_dir(disk).envs(power.environment());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}

fn lines(scribe: &mut Child) -> io::Lines<BufReader<impl io::Read + use<>>> {
    BufReader::new(scribe.stdout.take().expect("its output is piped")).lines()
}

fn end(mut scribe: Child) -> io::Result<()> {
    scribe.kill()?;
    scribe.wait().map(drop)
}

fn read(directory: &Path, prefix: &str, into: &mut Left) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            into.insert(format!("{name}/"), String::new());
            read(&entry.path(), &format!("{name}/"), into)?;
        } else {
            into.insert(name, fs::read_to_string(entry.path())?);
        }
    }
    Ok(())
}
