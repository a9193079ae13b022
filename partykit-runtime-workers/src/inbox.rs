//! Where JavaScript puts what a connection says: into Wasm's memory, with all that is to be known of it, in
//! one call. As a text of JavaScript it would be handed over by three.

use std::cell::RefCell;

use partykit_core::Message;
use wasm_bindgen::JsValue;

use crate::js::{self, JsWebSocket};

/// What a client has said.
pub(crate) struct Said {
    /// The number of the connection.
    pub(crate) order: u32,
    /// `None` if it is longer than it may be.
    pub(crate) message: Option<Message>,
}

/// Before the message stand the number of its connection (4 bytes, the low one first), and whether it is a
/// text.
const HEAD: usize = 8;

/// What there is space for without asking twice.
const SPACE: usize = HEAD + 4096;

/// What is kept for the next message; the memory of a longer one is given back.
const KEPT: usize = 64 << 10;

thread_local! {
    /// Messages come one after another, also in an isolate of many rooms.
    static INBOX: RefCell<Vec<u8>> = RefCell::default();
}

/// Tells JavaScript where Wasm's memory is: a new instance has another.
pub(crate) fn open() {
    js::remember(&wasm_bindgen::memory());
}

/// Takes what a socket says. `None` if no connection is known to have it.
pub(crate) fn take(socket: &JsWebSocket, message: &JsValue, limit: usize) -> Option<Said> {
    // Every unit of UTF-16 is at least one byte.
    let most = u32::try_from(limit).unwrap_or(u32::MAX);
    INBOX.with_borrow_mut(|inbox| {
        let mut space = SPACE;
        let taken = loop {
            if inbox.len() < space {
                inbox.resize(space, 0);
            }
            let taken = js::take(
                socket,
                message,
                most,
                inbox.as_mut_ptr() as usize as u32,
                inbox.len() as u32,
            );
            match taken {
                js::Taken::Wants(bytes) => space = HEAD + bytes,
                taken => break taken,
            }
        };
        let order = u32::from_le_bytes([inbox[0], inbox[1], inbox[2], inbox[3]]);
        let message = match taken {
            js::Taken::Nobodys => return None,
            js::Taken::Bytes(bytes) if bytes <= limit => {
                let bytes = inbox[HEAD..HEAD + bytes].to_vec();
                Some(if inbox[4] == 1 { text(bytes).into() } else { Message::from(bytes) })
            }
            _ => None,
        };
        if inbox.len() > KEPT {
            *inbox = Vec::new();
        }
        Some(Said { order, message })
    })
}

/// JavaScript writes only UTF-8.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
