//! What the running handler has written, in layers: its own, and one for each transaction that is open,
//! the innermost last.
//!
//! Code belongs to the transaction inside of which it is polled. It writes into that layer, and sees that
//! layer and those below it. A transaction that succeeds is merged into the layer below, so it costs what
//! it has written and not what was written before; one that fails is dropped.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::ids::TransactionId;
use crate::{Batch, Connection, StorageError, storage::is_schedule, value::limits};

/// The layers.
#[derive(Debug)]
pub(super) struct Overlay {
    /// Most handlers open no transaction, so there is one.
    layers: SmallVec<[Layer; 1]>,
    last_id: TransactionId,
}

/// What one transaction has written.
#[derive(Debug, Default)]
struct Layer {
    id: TransactionId,
    batch: Batch,
    /// The bytes in the batch.
    size: usize,
    /// The bytes of layers below that do not count any more, because of this one.
    hides: usize,
    states: Vec<(Connection, Option<Bytes>)>,
    /// The number of its first write, and of its last.
    first: Option<u64>,
    last: u64,
}

impl Default for Overlay {
    fn default() -> Self {
        Self { layers: smallvec![Layer::default()], last_id: 0 }
    }
}

impl Overlay {
    /// Begins a transaction inside of another. `None` while there is one already: transactions beside
    /// one another would keep each other's writes, or lose them.
    pub(super) fn begin(&mut self, within: TransactionId) -> Option<TransactionId> {
        if self.innermost() != within {
            return None;
        }
        self.last_id += 1;
        self.layers.push(Layer { id: self.last_id, ..Layer::default() });
        Some(self.last_id)
    }

    /// The transaction that began last and is open.
    pub(super) fn innermost(&self) -> TransactionId {
        self.layers.last().map_or(0, |layer| layer.id)
    }

    /// The transaction that is open right inside of another.
    pub(super) fn inside(&self, transaction: TransactionId) -> Option<TransactionId> {
        let depth = self.depth(transaction)?;
        self.layers.get(depth + 1).map(|layer| layer.id)
    }

    pub(super) fn is_open(&self, transaction: TransactionId) -> bool {
        self.depth(transaction).is_some()
    }

    /// Keeps what a transaction has written, as the writes of the one around it. It has to be the
    /// innermost.
    pub(super) fn keep(&mut self) {
        if self.layers.len() < 2 {
            return;
        }
        let Some(inner) = self.layers.pop() else { return };
        if let Some((outer, below)) = self.layers.split_last_mut() {
            outer.take_over(inner, below);
        }
    }

    /// Drops a transaction and those inside of it. Returns the number of its first write, and that of
    /// the last write of those that remain.
    pub(super) fn discard(&mut self, transaction: TransactionId) -> (Option<u64>, u64) {
        let mut first = None;
        if let Some(depth) = self.depth(transaction).filter(|depth| *depth > 0) {
            let dropped = self.layers.drain(depth..);
            first = dropped.filter_map(|layer| layer.first).min();
        }
        (first, self.layers.iter().map(|layer| layer.last).max().unwrap_or(0))
    }

    /// What a transaction sees, newest first.
    pub(super) fn seen_from(&self, transaction: TransactionId) -> impl Iterator<Item = &Batch> {
        let depth = self.depth(transaction).unwrap_or(0);
        self.layers[..=depth].iter().rev().map(|layer| &layer.batch)
    }

    /// Puts (`Some`) or deletes rows as the write of this number: all of them, or none if they are too
    /// much for a handler.
    pub(super) fn write(
        &mut self,
        transaction: TransactionId,
        number: u64,
        rows: Vec<(Bytes, Option<Bytes>)>,
    ) -> Result<(), StorageError> {
        let depth = self.depth(transaction).ok_or(StorageError::TransactionEnded)?;
        let more: usize = rows.iter().map(|(key, value)| size(key, value.as_ref())).sum();
        let (below, own) = self.layers.split_at(depth);
        let (mut replaced, mut hidden) = (0, 0);
        for (key, _) in &rows {
            match own[0].find(key) {
                Some(old) => replaced += old,
                None if own[0].batch.clear => {}
                None => hidden += find(below, key),
            }
        }
        let total = (counted(&self.layers) + more).saturating_sub(replaced + hidden);
        if total > limits::BATCH {
            return Err(StorageError::BatchTooLarge(total));
        }
        let layer = &mut self.layers[depth];
        layer.size = (layer.size + more).saturating_sub(replaced);
        layer.hides += hidden;
        layer.batch.writes.extend(rows);
        layer.wrote(number);
        Ok(())
    }

    /// Merges what the framework writes: rows that do not count towards a handler's limit.
    pub(super) fn merge(&mut self, transaction: TransactionId, number: u64, batch: Batch) {
        if let Some(depth) = self.depth(transaction) {
            self.layers[depth].batch.merge(batch);
            self.layers[depth].wrote(number);
        }
    }

    /// Deletes every row.
    pub(super) fn clear(&mut self, transaction: TransactionId, number: u64) {
        let Some(depth) = self.depth(transaction) else { return };
        let below = counted(&self.layers[..depth]);
        let layer = &mut self.layers[depth];
        layer.batch = Batch { clear: true, ..Batch::default() };
        (layer.size, layer.hides) = (0, below);
        layer.wrote(number);
    }

    pub(super) fn set_state(
        &mut self,
        transaction: TransactionId,
        connection: &Connection,
        state: Option<Bytes>,
    ) {
        let Some(depth) = self.depth(transaction) else { return };
        self.layers[depth].set_state(connection.clone(), state);
    }

    /// The state that a transaction sees, if one was set.
    pub(super) fn state(
        &self,
        transaction: TransactionId,
        connection: &Connection,
    ) -> Option<&Option<Bytes>> {
        let depth = self.depth(transaction).unwrap_or(0);
        let states = self.layers[..=depth].iter().rev().flat_map(|layer| &layer.states);
        states.into_iter().find(|(other, _)| other == connection).map(|(_, state)| state)
    }

    /// All states that were set: of those that were set twice, the last one.
    pub(super) fn states(&self) -> Vec<(&Connection, &Option<Bytes>)> {
        let mut states: Vec<(&Connection, &Option<Bytes>)> = Vec::new();
        for (connection, state) in self.layers.iter().rev().flat_map(|layer| &layer.states) {
            if !states.iter().any(|(other, _)| *other == connection) {
                states.push((connection, state));
            }
        }
        states
    }

    pub(super) fn has_states(&self) -> bool {
        self.layers.iter().any(|layer| !layer.states.is_empty())
    }

    /// Whether no row was written, and no alarm.
    pub(super) fn is_empty(&self) -> bool {
        self.layers.iter().all(|layer| layer.batch.is_empty())
    }

    /// The handler's own rows: all, once no transaction is open.
    pub(super) fn own(&self) -> &Batch {
        &self.layers[0].batch
    }

    /// Takes what the handler has written. Transactions that are open are dropped.
    pub(super) fn take(&mut self) -> (Batch, Vec<(Connection, Option<Bytes>)>) {
        self.layers.truncate(1);
        let own = std::mem::take(&mut self.layers[0]);
        (own.batch, own.states)
    }

    fn depth(&self, transaction: TransactionId) -> Option<usize> {
        self.layers.iter().rposition(|layer| layer.id == transaction)
    }
}

impl Layer {
    fn wrote(&mut self, number: u64) {
        self.first.get_or_insert(number);
        self.last = self.last.max(number);
    }

    /// The bytes of a row in this layer.
    fn find(&self, key: &Bytes) -> Option<usize> {
        self.batch.writes.get(key).map(|value| size(key, value.as_ref()))
    }

    fn set_state(&mut self, connection: Connection, state: Option<Bytes>) {
        match self.states.iter_mut().find(|(other, _)| *other == connection) {
            Some((_, pending)) => *pending = state,
            None => self.states.push((connection, state)),
        }
    }

    /// Does what a transaction above this layer has done; `below` is what this layer stands on.
    fn take_over(&mut self, inner: Self, below: &[Self]) {
        if inner.batch.clear {
            (self.size, self.hides) = (inner.size, counted(below));
            self.batch = inner.batch;
        } else {
            for (key, value) in inner.batch.writes {
                self.size += size(&key, value.as_ref());
                match self.find(&key) {
                    Some(replaced) => self.size = self.size.saturating_sub(replaced),
                    None if self.batch.clear => {}
                    None => self.hides += find(below, &key),
                }
                self.batch.writes.insert(key, value);
            }
            self.batch.wake_up = inner.batch.wake_up.or(self.batch.wake_up);
        }
        self.first = self.first.or(inner.first);
        self.last = self.last.max(inner.last);
        inner.states.into_iter().for_each(|(connection, state)| self.set_state(connection, state));
    }
}

/// The bytes that these layers make together.
fn counted(layers: &[Layer]) -> usize {
    let sizes: usize = layers.iter().map(|layer| layer.size).sum();
    sizes.saturating_sub(layers.iter().map(|layer| layer.hides).sum())
}

/// The bytes of the row that these layers show.
fn find(layers: &[Layer], key: &Bytes) -> usize {
    for layer in layers.iter().rev() {
        match layer.find(key) {
            Some(size) => return size,
            None if layer.batch.clear => return 0,
            None => {}
        }
    }
    0
}

/// The first byte of a row's key is not the user's, and not counted. Rows of the framework are not counted,
/// but schedules are: users say how large they are.
fn size(key: &Bytes, value: Option<&Bytes>) -> usize {
    match key.first() {
        Some(0) if is_schedule(key) => key.len() + value.map_or(0, Bytes::len),
        Some(0) | None => 0,
        Some(_) => key.len() - 1 + value.map_or(0, Bytes::len),
    }
}
