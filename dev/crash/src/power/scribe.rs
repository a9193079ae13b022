use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
};

/// The process that the shim's tests kill: does what the script says, one line after the other, in its
/// working directory, says `done`, and waits for its end.
///
/// | line | does |
/// |---|---|
/// | `create FILE` | a new, empty file |
/// | `write FILE OFFSET TEXT`, `append FILE TEXT` | writes |
/// | `truncate FILE LENGTH` | shortens or lengthens it |
/// | `copy FILE FILE` | as `fs::copy` does |
/// | `mkdir DIR`, `rename FROM TO`, `link FROM TO`, `remove FILE` | names |
/// | `sync FILE`, `sync-data FILE`, `sync-dir DIR` | makes it last |
/// | `temporary FILE TEXT` | as `tempfile` writes a file and gives it a name |
/// | `count FILE` | appends and syncs numbers until the end, and says each one when it is synced |
///
/// # Errors
///
/// When one of them fails.
pub fn scribe(script: &str) -> io::Result<()> {
    let mut out = io::stdout();
    for line in script.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["create", file] => drop(File::create(file)?),
            ["write", file, offset, text] => {
                open(file)?.write_all_at(text.as_bytes(), number(offset)?)?;
            }
            ["append", file, text] => {
                OpenOptions::new().append(true).open(file)?.write_all(text.as_bytes())?;
            }
            ["truncate", file, length] => open(file)?.set_len(number(length)?)?,
            ["copy", from, to] => drop(fs::copy(from, to)?),
            ["mkdir", directory] => fs::create_dir(directory)?,
            ["rename", from, to] => fs::rename(from, to)?,
            ["link", from, to] => fs::hard_link(from, to)?,
            ["remove", file] => fs::remove_file(file)?,
            ["sync", file] => open(file)?.sync_all()?,
            ["sync-data", file] => open(file)?.sync_data()?,
            ["sync-dir", directory] => File::open(directory)?.sync_all()?,
            ["temporary", file, text] => {
                let mut temporary = tempfile::NamedTempFile::new_in(".")?;
                temporary.write_all(text.as_bytes())?;
                temporary.persist(file)?;
            }
            ["count", file] => count(Path::new(file))?,
            _ => return Err(io::Error::other(format!("not a line of a script: {line}"))),
        }
    }
    writeln!(out, "done")?;
    // Until the other end is closed, which is when the test is over.
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

fn count(file: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(file)?;
    let mut out = io::stdout();
    for number in 1_u64.. {
        file.write_all(&number.to_le_bytes())?;
        file.sync_data()?;
        writeln!(out, "{number}")?;
    }
    Ok(())
}

fn open(file: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(file)
}

fn number(word: &str) -> io::Result<u64> {
    word.parse().map_err(io::Error::other)
}
