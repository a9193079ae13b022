use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use arbitrary::Arbitrary;
use futures_executor::block_on;
use partykit_core::{Connection, List, Message, Result, Room, Server, testing::TestRoomBuilder};

/// Something that a handler does with its storage.
#[derive(Arbitrary, Clone, Debug)]
enum ListStep {
    /// The handler ends, what it wrote is committed, and the next one begins.
    Commit,
    /// The handler fails, what it wrote is forgotten, and the next one begins.
    Fail,
    /// What the handler wrote is committed, whatever becomes of it later.
    Sync,
    /// Deletes a row.
    Delete(Key),
    /// Deletes all.
    DeleteAll,
    /// Puts a row.
    Put(Key, u8),
    /// Asks for rows, and compares.
    List(Query),
}

/// Which rows, as [`List`] has it.
#[derive(Arbitrary, Clone, Debug)]
struct Query {
    prefix: Option<Key>,
    start: Option<Key>,
    /// Without the first key itself.
    after: bool,
    end: Option<Key>,
    reverse: bool,
    limit: Option<u8>,
}

/// One of a few keys, some of which begin others, at the edges of what text can be.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Key(u8);

impl Key {
    fn text(self) -> String {
        const EDGES: [&str; 4] = ["", "\0", "é", "\u{10ffff}"];
        let [first, second] = [self.0 % 4, self.0 / 4 % 4].map(usize::from);
        [["a", "b", "\u{7f}", "\u{10ffff}"][first], EDGES[second]].concat()
    }
}

type Rows = BTreeMap<String, Vec<u8>>;

/// Runs the steps in the handlers of a room and compares what `list` gives with what a map has.
///
/// # Panics
///
/// When they differ.
pub fn list(bytes: &[u8]) {
    let steps = crate::values::<ListStep>(bytes);
    let script = Arc::new(Mutex::new(Script::default()));
    let room = {
        let script = script.clone();
        TestRoomBuilder::new(move |_: &_| Lister { script: script.clone() }).build()
    };
    block_on(async {
        let client = room.connect("client").await;
        for turn in steps.split_inclusive(|step| matches!(step, ListStep::Commit | ListStep::Fail))
        {
            lock(&script).turn = turn.to_vec();
            client.send("go").await;
            let expected = lock(&script).take();
            assert_eq!(room.rows(List::new()).await, expected, "after {turn:?}");
        }
    });
}

/// What the handlers are to do, and what should come of it.
#[derive(Default)]
struct Script {
    turn: Vec<ListStep>,
    durable: Rows,
    /// Panics of handlers are caught; this tells of them.
    difference: Option<String>,
}

impl Script {
    /// The rows that should be stored.
    fn take(&mut self) -> Vec<(String, Vec<u8>)> {
        assert!(self.difference.is_none(), "{}", self.difference.take().unwrap_or_default());
        self.durable.clone().into_iter().collect()
    }
}

struct Lister {
    script: Arc<Mutex<Script>>,
}

impl Server for Lister {
    async fn on_message(&mut self, room: &Room, _: &Connection, _: Message) -> Result {
        let storage = room.storage();
        let (turn, mut rows) = {
            let mut script = lock(&self.script);
            (mem::take(&mut script.turn), script.durable.clone())
        };
        for step in turn {
            match &step {
                ListStep::Commit => {}
                ListStep::Fail => return Err("asked to fail".into()),
                ListStep::Sync => {
                    storage.sync().await?;
                    lock(&self.script).durable.clone_from(&rows);
                }
                ListStep::Delete(key) => {
                    storage.delete(&key.text())?;
                    rows.remove(&key.text());
                }
                ListStep::DeleteAll => {
                    storage.delete_all();
                    rows.clear();
                }
                ListStep::Put(key, value) => {
                    storage.put_bytes(&key.text(), vec![*value])?;
                    rows.insert(key.text(), vec![*value]);
                }
                ListStep::List(query) => {
                    let found = storage.list_bytes(query.list()).await?;
                    let found: Vec<_> = found.into_iter().map(|(k, v)| (k, v.to_vec())).collect();
                    let expected = query.select(&rows);
                    if found != expected {
                        let difference = format!("{query:?} gave {found:?}, not {expected:?}");
                        lock(&self.script).difference.get_or_insert(difference);
                    }
                }
            }
        }
        lock(&self.script).durable = rows;
        Ok(())
    }
}

impl Query {
    fn list(&self) -> List {
        let mut list = List::new();
        if let Some(prefix) = &self.prefix {
            list = list.prefix(prefix.text());
        }
        match &self.start {
            Some(start) if self.after => list = list.start_after(start.text()),
            Some(start) => list = list.start(start.text()),
            None => {}
        }
        if let Some(end) = &self.end {
            list = list.end(end.text());
        }
        if self.reverse {
            list = list.reverse();
        }
        match self.limit {
            Some(limit) => list.limit(limit.into()),
            None => list,
        }
    }

    /// The same, word for word.
    fn select(&self, rows: &Rows) -> Vec<(String, Vec<u8>)> {
        let prefix = self.prefix.map(Key::text).unwrap_or_default();
        let start = self.start.map(Key::text).unwrap_or_default();
        let after = self.after && self.start.is_some();
        let end = self.end.map(Key::text);
        let mut selected: Vec<_> = rows
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .filter(|(key, _)| if after { **key > start } else { **key >= start })
            .filter(|(key, _)| end.as_ref().is_none_or(|end| *key < end))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if self.reverse {
            selected.reverse();
        }
        selected.truncate(self.limit.map_or(usize::MAX, usize::from));
        selected
    }
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().expect("no handler panics with the script in its hands")
}
