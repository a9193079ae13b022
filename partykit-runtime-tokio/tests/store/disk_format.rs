//! Reads a store by the layouts in the guide, and by nothing else: so that the page stays right.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use partykit_core::{Backend, Batch, Timestamp, WakeUp};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use super::support::{address, open, puts, quick_directory as directory, write};

const PAGE: &str = include_str!("../../../docs/src/disk-format.md");

/// A layout of the page: the names, kinds and lengths of its fields.
struct Layout(Vec<(String, usize)>);

/// The fields of something that was read.
type Fields = HashMap<String, Vec<u8>>;

impl Layout {
    fn of(name: &str) -> Self {
        let begin = format!("```text layout {name}\n");
        let (_, rest) = PAGE.split_once(&begin).unwrap_or_else(|| panic!("no layout {name}"));
        let lines = rest.split("```").next().unwrap().lines();
        let field = |line: &str| {
            let mut words = line.split_whitespace();
            let (name, kind) = (words.next().unwrap().to_owned(), words.next().unwrap());
            let length = match kind {
                "u8" => 1,
                "u16" => 2,
                "u32" => 4,
                "u64" => 8,
                "u128" => 16,
                "bytes" => words.next().unwrap().parse().unwrap(),
                other => panic!("{other}"),
            };
            (name, length)
        };
        Self(lines.map(field).collect())
    }

    fn length(&self) -> usize {
        self.0.iter().map(|(_, length)| length).sum()
    }

    fn read(&self, reader: &mut &[u8]) -> Fields {
        let field =
            |(name, length): &(String, usize)| (name.clone(), take(reader, *length).to_vec());
        self.0.iter().map(field).collect()
    }
}

fn take<'a>(reader: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (bytes, rest) = reader.split_at(length);
    *reader = rest;
    bytes
}

fn number(fields: &Fields, name: &str) -> u128 {
    let bytes = &fields[name];
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u128::from(*byte))
}

fn varint(reader: &mut &[u8]) -> usize {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = take(reader, 1)[0];
        number |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            return number;
        }
    }
}

fn string<'a>(reader: &mut &'a [u8]) -> &'a [u8] {
    let length = varint(reader);
    take(reader, length)
}

/// All rows: their keys, and their values.
type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn read_store(path: &Path) -> Rows {
    let mut rows = read_tree(&path.join("tree"));
    let text = fs::read_to_string(path.join("store")).unwrap();
    let (body, checksum) = text.split_at(text.rfind("checksum").unwrap());
    assert_eq!(checksum, format!("checksum {:016x}\n", xxh3_64(body.as_bytes())));
    assert!(PAGE.contains("**format 2**") && text.starts_with("partykit store, format 2\n"));
    let fact = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    };
    let mark = rows.remove(&b"m"[..]).unwrap_or_else(|| vec![0; 16]);
    let mut next = u64::from_le_bytes(*mark.first_chunk().unwrap()) + 1;
    let file = u64::from_le_bytes(*mark.last_chunk().unwrap());
    for index in file + 1..=fact("log ") {
        let seed = [fact("secret ").to_le_bytes(), index.to_le_bytes()].concat();
        let bytes = fs::read(path.join(format!("log/{index:016}"))).unwrap();
        next = read_log(&bytes, xxh3_64(&seed), index, next, &mut rows);
    }
    assert!(next > fact("number "));
    rows
}

/// Gives the number of the record that comes next.
fn read_log(bytes: &[u8], seed: u64, index: u64, mut next: u64, rows: &mut Rows) -> u64 {
    let head = Layout::of("log-head").read(&mut &bytes[..]);
    assert_eq!(head["magic"], b"PKLOG 2\n");
    assert_eq!(number(&head, "index"), index.into());
    assert_eq!(number(&head, "first"), next.into());
    assert_eq!(number(&head, "length"), bytes.len() as u128);
    let mut at = Layout::of("log-head").length();
    assert_eq!(number(&head, "checksum"), xxh3_64_with_seed(&bytes[..at - 8], seed).into());
    while bytes[at..].iter().any(|byte| *byte != 0) {
        let mut record = Vec::new();
        let head_length = Layout::of("record-head").length();
        if 512 - at % 512 < head_length + Layout::of("stamp").length() {
            at = at.next_multiple_of(512);
        }
        let head = Layout::of("record-head").read(&mut &bytes[at..]);
        assert_eq!((number(&head, "number"), number(&head, "mark")), (next.into(), 0xDD));
        let checksum = xxh3_64_with_seed(&bytes[at..at + 16], seed) << 8 >> 8;
        assert_eq!(number(&head, "checksum"), checksum.into());
        let length = head_length + number(&head, "length") as usize;
        while record.len() < length {
            let stamp_length = Layout::of("stamp").length();
            let end = at + (length - record.len()).min(512 - at % 512 - stamp_length);
            let of_record = seed ^ next.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let stamp = Layout::of("stamp").read(&mut &bytes[end..]);
            let checksum =
                xxh3_64_with_seed(&bytes[at..end], of_record.wrapping_add(at as u64)) << 8 >> 8;
            assert_eq!(
                (number(&stamp, "checksum"), number(&stamp, "mark")),
                (checksum.into(), 0xDD)
            );
            record.extend(&bytes[at..end]);
            at = end + stamp_length;
        }
        let mut changes = &record[head_length..];
        while !changes.is_empty() {
            let change = Layout::of("change").read(&mut changes);
            let key = take(&mut changes, number(&change, "key") as usize).to_vec();
            let value = take(&mut changes, number(&change, "value") as usize).to_vec();
            match number(&change, "kind") {
                0 => drop(rows.remove(&key)),
                1 => drop(rows.insert(key, value)),
                kind => panic!("{kind}"),
            }
        }
        next += 1;
    }
    next
}

fn sections(bytes: &[u8]) -> HashMap<Vec<u8>, &[u8]> {
    let layout = Layout::of("trailer");
    let trailer = layout.read(&mut &bytes[bytes.len() - layout.length()..]);
    assert_eq!((&trailer["magic"][..], number(&trailer, "version")), (&b"SFA!"[..], 1));
    let contents = &bytes[number(&trailer, "at") as usize..][..number(&trailer, "length") as usize];
    assert_eq!(number(&trailer, "checksum"), xxh3_128(contents));
    let mut reader = contents;
    assert_eq!(take(&mut reader, 4), b"TOC!");
    let count = u32::from_le_bytes(*take(&mut reader, 4).first_chunk().unwrap());
    let section = |_| {
        let section = Layout::of("section").read(&mut reader);
        let name = take(&mut reader, number(&section, "name") as usize).to_vec();
        let (at, length) = (number(&section, "at") as usize, number(&section, "length") as usize);
        (name, &bytes[at..at + length])
    };
    (0..count).map(section).collect()
}

fn read_tree(tree: &Path) -> Rows {
    let bytes = fs::read(tree.join("current")).unwrap();
    let current = Layout::of("current").read(&mut &bytes[..]);
    let list = fs::read(tree.join(format!("v{}", number(&current, "version")))).unwrap();
    assert_eq!(number(&current, "checksum"), xxh3_128(&list));
    let mut reader = sections(&list)[&b"tables"[..]];
    let mut runs = Vec::new();
    for _level in 0..take(&mut reader, 1)[0] {
        for _run in 0..take(&mut reader, 1)[0] {
            let count = u32::from_le_bytes(*take(&mut reader, 4).first_chunk().unwrap());
            let mut run = BTreeMap::new();
            for _file in 0..count {
                let listed = Layout::of("listed").read(&mut reader);
                let path = tree.join("tables").join(number(&listed, "id").to_string());
                let bytes = fs::read(path).unwrap();
                assert_eq!(number(&listed, "checksum"), xxh3_128(&bytes));
                for (key, value) in read_table(&bytes) {
                    assert!(run.insert(key, value).is_none(), "files of a run share a key");
                }
            }
            runs.push(run);
        }
    }
    // The newest run is the first.
    let mut rows = BTreeMap::new();
    for run in runs.into_iter().rev() {
        rows.extend(run);
    }
    rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// The newest value of each key; `None` if it is removed.
fn read_table(bytes: &[u8]) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let mut rows = BTreeMap::new();
    let mut places = Vec::new();
    let mut reader = bytes;
    loop {
        let at = bytes.len() - reader.len();
        let (kind, content) = read_block(&mut reader);
        if kind != 0 {
            break;
        }
        places.push(at);
        for (key, value) in read_rows(content) {
            rows.entry(key).or_insert(value);
        }
    }
    let sections = sections(bytes);
    let mut index = *sections.get(&b"index"[..]).unwrap_or(&sections[&b"tli"[..]]);
    let mut listed = Vec::new();
    while !index.is_empty() {
        let (kind, mut content) = read_block(&mut index);
        assert_eq!(kind, 1);
        while take(&mut content, 1)[0] != 255 {
            listed.push(varint(&mut content));
            let (_length, _number, _last) =
                (varint(&mut content), varint(&mut content), string(&mut content));
        }
    }
    assert_eq!(listed, places);
    let (kind, facts) = read_block(&mut &sections[&b"meta"[..]][..]);
    let facts: BTreeMap<_, _> = read_rows(facts).into_iter().collect();
    assert_eq!(kind, 3);
    assert_eq!(facts[&b"key#min"[..]].as_ref(), rows.keys().next());
    assert_eq!(facts[&b"key#max"[..]].as_ref(), rows.keys().next_back());
    rows
}

fn read_block<'a>(reader: &mut &'a [u8]) -> (u128, &'a [u8]) {
    let (begin, layout) = (*reader, Layout::of("block"));
    let head = layout.read(reader);
    assert_eq!(head["magic"], b"LSM\x03");
    let checksum = xxh3_128(&begin[..layout.length() - 4]);
    assert_eq!(number(&head, "header"), u128::from(checksum as u32));
    let content = take(reader, number(&head, "length") as usize);
    assert_eq!(number(&head, "checksum"), xxh3_128(content));
    assert_eq!(head["length"], head["length2"]);
    (number(&head, "kind"), content)
}

fn read_rows(content: &[u8]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let layout = Layout::of("block-tail");
    let tail = layout.read(&mut &content[content.len() - layout.length()..]);
    let interval = number(&tail, "interval") as usize;
    let (mut reader, mut rows, mut whole) = (content, Vec::new(), Vec::new());
    loop {
        let kind = take(&mut reader, 1)[0];
        if kind == 255 {
            break;
        }
        let _number = varint(&mut reader);
        let key = if rows.len() % interval == 0 {
            whole = string(&mut reader).to_vec();
            whole.clone()
        } else {
            let shared = varint(&mut reader);
            [&whole[..shared], string(&mut reader)].concat()
        };
        let value = (kind == 0).then(|| string(&mut reader).to_vec());
        rows.push((key, value));
    }
    assert_eq!(rows.len() as u128, number(&tail, "count"));
    rows
}

fn room_key(kind: u8, room: &str) -> Vec<u8> {
    let mut key = vec![kind];
    for part in ["main", room] {
        key.extend((part.len() as u16).to_be_bytes());
        key.extend(part.as_bytes());
    }
    key
}

#[tokio::test]
async fn a_store_is_read_by_the_page() {
    let directory = directory();
    let path = directory.path().join("store");
    let mut expected = Rows::new();
    for life in 0..3_u64 {
        let store = open(&path);
        for room in ["a", "b", "c"] {
            let values = (0..40).map(|n| (format!("{n}"), format!("{life} {}", "x".repeat(n * 9))));
            let at = WakeUp::At(Timestamp::from_millis(life + 7));
            let batch = Batch { wake_up: Some(at), ..puts(values) };
            write(&store, &address(room), batch).await.unwrap();
        }
        // One row goes, one room is cleared.
        let gone = Batch { writes: [("7".into(), None)].into(), ..Batch::default() };
        write(&store, &address("a"), gone).await.unwrap();
        let clear = Batch { clear: true, ..puts([("new", format!("{life}"))]) };
        write(&store, &address("b"), clear).await.unwrap();
        if life == 2 {
            for room in ["a", "b", "c"] {
                let rows = super::support::rows(&store, &address(room)).await.unwrap();
                for (key, value) in rows {
                    let key = [b"/", room.as_bytes(), b"/", &key].concat();
                    expected.insert(key, value.to_vec());
                }
            }
            assert_eq!(store.wake_ups(None, 9).await.unwrap().len(), 2);
        }
        store.close().await;
    }
    let rows = read_store(&path);
    let mut found = Rows::new();
    for room in ["a", "b", "c"] {
        let generation = rows.get(&room_key(b'g', room)).cloned().unwrap_or(vec![0; 8]);
        let prefix = [room_key(b'r', room), generation].concat();
        for (key, value) in rows.range(prefix.clone()..) {
            let Some(key) = key.strip_prefix(&prefix[..]) else { break };
            found.insert([b"/", room.as_bytes(), b"/", key].concat(), value.clone());
        }
        let time = (room != "b").then(|| 9_u64.to_be_bytes());
        assert_eq!(
            rows.get(&room_key(b't', room)).map(|it| &it[..]),
            time.as_ref().map(|it| &it[..])
        );
        let mut wake = vec![b'w'];
        wake.extend(9_u64.to_be_bytes());
        wake.extend(&room_key(b'w', room)[1..]);
        assert_eq!(rows.contains_key(&wake), room != "b");
    }
    assert_eq!(found, expected);
    assert!(fs::read_dir(path.join("tree/tables")).unwrap().count() > 0);
}
