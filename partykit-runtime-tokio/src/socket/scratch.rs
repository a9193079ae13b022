use std::cell::Cell;

/// The most bytes that one read takes.
const SIZE: usize = 64 << 10;

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends out the read buffer of this thread, which all of its sockets share.
pub(crate) fn with<R>(read: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = BUFFER.take().unwrap_or_else(|| vec![0; SIZE].into());
    let result = read(&mut buffer);
    BUFFER.set(Some(buffer));
    result
}
