//! A process that is killed while it copies: the store has all that was acknowledged, what has its name is
//! whole, and what has not is no store and is removed by the next.
#![cfg(unix)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use partykit_runtime_tokio::store::{self, BackupOptions, LoadOptions, SalvageOptions, Selection};

use super::support::{address, directory, open, puts, rows, write};

/// Says to this program, started again, which directory it works in, and at which of its steps it stands
/// still.
const WORK_IN: &str = "PARTYKIT_TEST_COPIES_IN";
const STAND_AT: &str = "PARTYKIT_TEST_COPIES_STAND_AT";

static STEPS: AtomicU64 = AtomicU64::new(0);

/// What the child does until it is killed. It writes a line for each of its steps.
#[tokio::test]
async fn child() {
    let Some(directory) = std::env::var_os(WORK_IN).map(PathBuf::from) else { return };
    let [data, closed] = ["data", "closed"].map(|name| directory.join(name));
    let store = open(&data);
    let begin = rows(&store, &address("a")).await.unwrap();
    let begin = begin.iter().map(|(key, _)| number(key)).max().unwrap_or(0);
    for n in begin + 1.. {
        let value = format!("{n} {}", "x".repeat(3000));
        write(&store, &address("a"), puts([(format!("{n}"), value)])).await.unwrap();
        say(&format!("stored {n}"));
        if n % 8 == 0 {
            let told = move |_| say("backup");
            let options = BackupOptions::new().hard_links(n % 16 == 0).progress(told);
            store.backup(directory.join(format!("backup {n}")), options).await.unwrap();
            let told = |_| say("closed");
            store::verify(&closed, told).unwrap();
            let mut text = Vec::new();
            store::dump(&closed, &Selection::All, &mut text, told).unwrap();
            let to = directory.join(format!("loaded {n}"));
            store::load(&text[..], &to, LoadOptions::new(), told).unwrap();
            let to = directory.join(format!("salvaged {n}"));
            store::salvage(&closed, Some(&to), SalvageOptions::new(), told).unwrap();
        }
    }
}

fn say(what: &str) {
    let write = |what: &str| {
        let mut out = std::io::stdout();
        writeln!(out, "step {what}").and_then(|()| out.flush()).unwrap();
    };
    write(what);
    let stand_at: u64 = std::env::var(STAND_AT).unwrap().parse().unwrap();
    if STEPS.fetch_add(1, Ordering::SeqCst) == stand_at {
        write("standing");
        loop {
            std::thread::park();
        }
    }
}

fn number(key: &[u8]) -> u64 {
    std::str::from_utf8(key).unwrap().parse().unwrap()
}

fn start(directory: &Path, stand_at: u64) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "killed_copies::child", "--nocapture"]).env(WORK_IN, directory);
    child.env(STAND_AT, stand_at.to_string());
    child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_whole_copies_only() {
    let directory = directory();
    {
        let store = open(directory.path().join("closed"));
        for n in 0..20 {
            let value = "y".repeat(5000);
            write(&store, &address(format!("{n}")), puts([("k", value)])).await.unwrap();
        }
        store.close().await;
    }
    let mut acknowledged = 0;
    let mut copies = 0;
    let mut partials = 0;
    for life in (0..24).step_by(2) {
        // Each step of a round of copies once.
        let mut child = start(directory.path(), 8 + life);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map(Result::unwrap) {
            match line.split_once("step ").map(|(_, step)| step) {
                Some("standing") => break,
                Some(step) => {
                    let stored = step.strip_prefix("stored ").map(|n| n.parse().unwrap());
                    acknowledged = stored.unwrap_or(acknowledged);
                }
                None => {}
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        for path in names {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.ends_with(".partial") {
                partials += 1;
                assert!(
                    path.join("unfinished").exists() || fs::read_dir(&path).unwrap().count() == 0
                );
                continue;
            }
            let report = store::verify(&path, |_| ()).unwrap();
            assert!(report.is_sound(), "{name}: {:?}", report.findings);
            match name.split_once(' ') {
                None => {}
                Some(("backup", n)) => assert!(report.rows >= n.parse().unwrap(), "{name}"),
                Some(_) => assert_eq!(report.rows, 20, "{name}"),
            }
            copies += usize::from(name.contains(' '));
        }
        let store = open(directory.path().join("data"));
        let found = rows(&store, &address("a")).await.unwrap();
        let last = found.iter().map(|(key, _)| number(key)).max().unwrap_or(0);
        assert!(last >= acknowledged && found.len() as u64 == last, "{last} of {acknowledged}");
        drop(store);
        // As an operator would do after a crash: the same again.
        for path in fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if let Some(name) = path.to_str().unwrap().strip_suffix(".partial") {
                let store = open(directory.path().join("data"));
                store.backup(name, BackupOptions::new()).await.unwrap();
                assert!(!path.exists());
                fs::remove_dir_all(name).unwrap();
            }
        }
    }
    assert!(copies > 0, "no copy came to its end in any life");
    assert!(partials > 2, "{partials} of 12 lives were killed within a copy");
}
