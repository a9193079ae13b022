use serde::Serialize;

use super::storage::checked;
use crate::{
    List, Storage, StorageError,
    storage::row::{from_json, next_key, to_json},
};

/// The digits of the number after the prefix: enough for JavaScript's largest safe integer.
const DIGITS: usize = 16;

impl Storage<'_> {
    /// Stores `value` under the next key that begins with `prefix`, and returns the key: the prefix and a
    /// number of 16 digits, so that [`List::prefix`] gives the values in the order in which they were
    /// appended.
    ///
    /// No key is used twice, even if many values are appended in a millisecond, if the newest rows were
    /// deleted, or after a sleep or restart. The next number is stored beside the rows;
    /// [`list`](Storage::list) does not show it, and [`delete_all`](Storage::delete_all) removes it. Each
    /// prefix has its own numbers.
    ///
    /// ```
    /// use partykit_core::{Connection, List, Message, Request, Result, Room, Server};
    ///
    /// #[derive(Default)]
    /// struct Chat;
    ///
    /// impl Server for Chat {
    ///     async fn on_connect(&mut self, room: &Room, new: &Connection, _: &Request) -> Result {
    ///         let latest = List::new().prefix("said:").reverse().limit(50);
    ///         for (_, text) in room.storage().list::<String>(latest).await?.into_iter().rev() {
    ///             new.send(text);
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     async fn on_message(&mut self, room: &Room, _: &Connection, message: Message) -> Result {
    ///         room.storage().append("said:", message.text()?).await?;
    ///         room.broadcast(message).send();
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`put`](Storage::put), and when the store fails. Nothing is written then. The prefix may have
    /// at most 2,032 bytes, because the number belongs to the key.
    pub async fn append<T: Serialize + ?Sized>(
        &self,
        prefix: &str,
        value: &T,
    ) -> Result<String, StorageError> {
        let value = to_json(prefix, value)?;
        let counter = next_key(prefix)?;
        loop {
            let syncs = self.syncs();
            let mut next = self.read(std::slice::from_ref(&counter)).await?.pop().flatten();
            if next.is_none() {
                // There may be older rows, from a server that numbered its keys itself.
                let last = List::new().prefix(prefix).reverse().limit(1);
                let last = self.list_bytes(last).await?.pop();
                let last = last.and_then(|(key, _)| number(&key, prefix));
                next = last.map(|last| (last + 1).to_string().into());
            }
            if self.syncs() != syncs {
                continue;
            }
            // Other code of the handler may have appended while this waited. From here on, no other code runs
            // in between.
            let pending = self.room.inside(|turn| turn.lookup(&counter)).value();
            let next = pending.or(next).map(|next| from_json::<u64>(prefix, &next)).transpose()?;
            let next = next.unwrap_or(0);
            let key = format!("{prefix}{next:0DIGITS$}");
            let next = (next + 1).to_string();
            self.write(vec![checked(&key, value)?, (counter, Some(next.into()))])?;
            return Ok(key);
        }
    }
}

/// The number of a key, if it has one.
fn number(key: &str, prefix: &str) -> Option<u64> {
    let digits = key.strip_prefix(prefix)?;
    let are_digits = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    are_digits.then(|| digits.parse().ok()).flatten()
}
