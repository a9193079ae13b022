use std::{
    fmt,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::{Arc, Mutex},
};

use lsm_tree::{
    Slice,
    compaction::{CompactionFilter, Factory, ItemAccessor, Verdict, filter::Context},
};

use super::{files::Files, guard::lock, keys};

/// Tells deleted rows, which belong to earlier generations, from those that count. The keys have to come in
/// order, so that the generation of each room is read only once.
pub(super) struct Generations<G> {
    /// Reads the value of the row that has a room's generation.
    get: G,
    room: Vec<u8>,
    generation: keys::Generation,
}

impl<G: FnMut(&[u8]) -> lsm_tree::Result<Option<Slice>>> Generations<G> {
    pub(super) fn new(get: G) -> Self {
        Self { get, room: Vec::new(), generation: keys::Generation::default() }
    }

    pub(super) fn is_over(&mut self, key: &[u8]) -> lsm_tree::Result<bool> {
        let Some((room, generation)) = keys::split_row(key) else { return Ok(false) };
        if room != self.room {
            let value = (self.get)(&keys::generation_of(room))?;
            let found = value.and_then(|value| keys::Generation::read(&value));
            self.generation = found.unwrap_or_default();
            self.room.clear();
            self.room.extend_from_slice(room);
        }
        Ok(generation < self.generation)
    }
}

/// Leaves rows of earlier generations out of merged files.
///
/// A generation counts only if it is in the tree's files itself. A generation that is only in memory can be
/// lost with the power (if the store is not durable), and then the rows before it are needed again. Older
/// snapshots hold the older files, so nothing is taken from them.
#[derive(Clone, Default)]
pub(super) struct Collector(Arc<Mutex<Arc<Files>>>);

impl Collector {
    pub(super) fn publish(&self, files: Arc<Files>) {
        *lock(&self.0) = files;
    }
}

impl UnwindSafe for Collector {}
impl RefUnwindSafe for Collector {}

impl Factory for Collector {
    fn name(&self) -> &str {
        "generations"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        let files = lock(&self.0).clone();
        Box::new(Filter(Generations::new(move |key: &[u8]| files.get(key))))
    }
}

struct Filter<G>(Generations<G>);

impl<G> CompactionFilter for Filter<G>
where
    G: FnMut(&[u8]) -> lsm_tree::Result<Option<Slice>> + Send,
{
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        // The generation is a part of the key. So what older files have of this key is over too, and no
        // tombstone is needed.
        Ok(if self.0.is_over(item.key())? { Verdict::Destroy } else { Verdict::Keep })
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}
