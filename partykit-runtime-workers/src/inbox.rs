//! Where JavaScript puts what a connection says: into Wasm's memory, before it calls the room. So it hands over
//! numbers and no values.

use std::cell::RefCell;

use partykit_core::Message;

use crate::js;

/// How many bytes there is space for, usually.
const SPACE: usize = 4096;

/// A longer message's memory is kept for the next one up to this length.
const KEPT: usize = 64 << 10;

thread_local! {
    /// Messages come one after another, also in an isolate of many rooms.
    static INBOX: RefCell<Vec<u8>> = RefCell::default();
}

/// Tells JavaScript where the inbox is, unless it knows: a new instance has another one.
pub(crate) fn open() {
    INBOX.with_borrow_mut(|inbox| {
        if inbox.is_empty() {
            resize(inbox, SPACE);
        }
    });
}

/// Makes space for a message of this many bytes.
pub(crate) fn make_space(bytes: usize) {
    INBOX.with_borrow_mut(|inbox| resize(inbox, bytes));
}

/// Takes the message that has come.
pub(crate) fn take(is_text: bool, length: usize) -> Message {
    INBOX.with_borrow_mut(|inbox| {
        let bytes = inbox[..length].to_vec();
        if inbox.len() > KEPT {
            resize(inbox, SPACE);
        }
        if is_text { text(bytes).into() } else { Message::from(bytes) }
    })
}

/// JavaScript writes only UTF-8.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn resize(inbox: &mut Vec<u8>, bytes: usize) {
    *inbox = vec![0; bytes];
    // Both are below the end of Wasm's memory, which is 128 MB.
    js::remember(&wasm_bindgen::memory(), inbox.as_mut_ptr() as usize as i32, bytes as i32);
}
