//! The page on the protocol lists the reasons with which connections are closed: all of them, and no others.

use std::collections::BTreeSet;

use partykit::{CloseCode, error::ErrorId, runtime::CloseReason};

const PAGE: &str = include_str!("../docs/src/protocol.md");

#[test]
fn the_page_on_the_protocol_lists_each_reason_with_its_code() {
    let list = |reason: &CloseReason| (u16::from(reason.code()), reason.text().to_owned());
    let listed: BTreeSet<_> = CloseReason::ALL.iter().map(list).collect();
    assert_eq!(listed.len(), CloseReason::ALL.len(), "two reasons have the same text");
    assert_eq!(shown(PAGE), listed);
}

#[test]
fn the_reason_of_a_failed_connect_is_an_error_id() {
    let close = CloseReason::failed(ErrorId::from_bytes([1; 8]));
    assert_eq!((close.code(), close.reason()), (CloseCode::INTERNAL, "error 0101010101010101"));
    assert!(PAGE.contains("| 1011 | `error` and an error id |"));
}

#[test]
fn a_row_counts_for_the_code_above_it() {
    let rows = "| code | reason | sent when |\n|---|---|---|\n| 1002 | `a` | x |\n| | `b` | |\n\n\
                | reason of a 1006 | what |\n|---|---|\n| `c` | y |\n\n| other | table |\n| 1 | `d` | z |";
    let expected = [(1002, "a"), (1002, "b"), (1006, "c")];
    assert_eq!(shown(rows), expected.map(|(code, text)| (code, text.to_owned())).into());
}

/// The codes and reasons in the page's two tables.
fn shown(page: &str) -> BTreeSet<(u16, String)> {
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let text = |cell: &str| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned());
    let mut code = 0;
    let sent = table(page, "| code | reason |").filter_map(|row| {
        let [_, number, reason, ..] = &cells(row)[..] else { return None };
        code = number.parse().unwrap_or(code);
        Some((code, text(reason)?))
    });
    let seen = table(page, "| reason of a 1006 |")
        .filter_map(|row| Some((1006, text(cells(row).get(1)?)?)));
    sent.chain(seen).collect()
}

fn table<'a>(page: &'a str, head: &'a str) -> impl Iterator<Item = &'a str> {
    page.lines().skip_while(move |line| !line.starts_with(head)).take_while(|line| !line.is_empty())
}
