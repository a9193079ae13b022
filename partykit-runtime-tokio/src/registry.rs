//! The rooms that are in memory. It does not use Tokio, so that a model checker can run it.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use hashbrown::{HashTable, hash_table::Entry};
use partykit_core::{Refusal, RoomAddress, runtime::RoomCell};

/// Default of [`Builder::max_rooms`](crate::Builder::max_rooms). An empty room takes less than 1 KiB.
pub(crate) const MAX_ROOMS: usize = 100_000;

/// The rooms are divided among this many locks for each core. Few shards have large tables. A small table that stays
/// keeps a whole slab of the allocator that rooms which were awake have left.
const SHARDS_PER_CORE: usize = 4;

/// A shard with at least this capacity gives memory back when it uses less than a quarter of it.
const WORTH_SHRINKING: usize = 64;

/// The table of rooms in memory. A room that is not in it exists only as rows in storage.
///
/// **No room is ever in memory twice.** The danger: an input reaches a cell that the table has just
/// forgotten, while the next input makes a new cell. Therefore
///
/// * every input that can bring a vacant cell to life (connect, request, tell) goes through
///   [`Registry::enter`], under the shard's lock;
/// * [`Registry::forget`] removes a cell under the same lock, and only if it is vacant *then*;
/// * a vacant cell has no connection, no task and no guard, so code that still holds it has no input that
///   could start its instance.
///
/// So a cell outside of the table is vacant and stays vacant.
///
/// Locks are taken in this order: shard, then cell. A cell does not hold its lock while it calls
/// [`Host::vacant`](partykit_core::runtime::Host::vacant).
pub(crate) struct Registry {
    shards: Box<[Mutex<Rooms>]>,
    /// Clients choose the names of rooms, so the hashes must not be foreseen.
    hasher: RandomState,
    closed: AtomicBool,
    max_rooms: usize,
    /// The number of entries, and of cells that are about to become entries.
    rooms: AtomicUsize,
}

/// By the hash of the address, which the cell has.
type Rooms = HashTable<Arc<RoomCell>>;

impl Registry {
    pub(crate) fn new(max_rooms: usize) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            shards: (0..SHARDS_PER_CORE * cores).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            closed: AtomicBool::new(false),
            max_rooms,
            rooms: AtomicUsize::new(0),
        }
    }

    /// Gives an input to a room. Makes a cell if the room has none, and reports whether the new cell is kept.
    /// The closures run under the shard's lock, so they must not call the registry.
    ///
    /// # Errors
    ///
    /// When the registry is [closed](Registry::close), or a new cell would be over the limit. The closures
    /// are then not called.
    pub(crate) fn enter<R>(
        &self,
        address: &RoomAddress,
        make: impl FnOnce() -> Arc<RoomCell>,
        input: impl FnOnce(&Arc<RoomCell>) -> R,
        kept: impl FnOnce(),
    ) -> Result<R, Refusal> {
        let hash = self.hash(address);
        let mut rooms = self.shard(hash);
        if self.closed.load(Ordering::SeqCst) {
            drop(rooms);
            return Err(Refusal::ShuttingDown);
        }
        if let Some(cell) = rooms.find(hash, |known| known.address() == address) {
            return Ok(input(cell));
        }
        let count = |rooms| (rooms < self.max_rooms).then_some(rooms + 1);
        if self.rooms.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).is_err() {
            drop(rooms);
            return Err(Refusal::TooManyRooms);
        }
        let cell = make();
        let result = input(&cell);
        // This cell has refused its first input, or is done with it already. It never calls `forget` again,
        // so it must not get an entry.
        if cell.is_vacant() {
            self.rooms.fetch_sub(1, Ordering::SeqCst);
        } else {
            rooms.insert_unique(hash, cell, |known| self.hash(known.address()));
            kept();
        }
        Ok(result)
    }

    /// Whether more than a 64th of the allowed rooms are in memory. Vacant rooms are then forgotten at once,
    /// so that requests for invented names never fill the table.
    pub(crate) fn is_crowded(&self) -> bool {
        self.rooms.load(Ordering::Relaxed) > self.max_rooms / 64
    }

    /// A room that is in memory. For inputs that a room without a cell does not need, such as a broadcast or
    /// a question about its state.
    pub(crate) fn find(&self, address: &RoomAddress) -> Option<Arc<RoomCell>> {
        let hash = self.hash(address);
        self.shard(hash).find(hash, |known| known.address() == address).cloned()
    }

    /// Removes the cell from the table if it is vacant now. The call may come late: another cell may have
    /// taken its place. Returns whether the cell was removed.
    pub(crate) fn forget(&self, cell: &Arc<RoomCell>) -> bool {
        let hash = self.hash(cell.address());
        let mut rooms = self.shard(hash);
        let Ok(known) = rooms.find_entry(hash, |known| Arc::ptr_eq(known, cell)) else {
            return false;
        };
        if !cell.is_vacant() {
            return false;
        }
        let (forgotten, _) = known.remove();
        self.rooms.fetch_sub(1, Ordering::SeqCst);
        if rooms.capacity() >= WORTH_SHRINKING && rooms.len() <= rooms.capacity() / 4 {
            let half = rooms.capacity() / 2;
            rooms.shrink_to(half, |known| self.hash(known.address()));
        }
        drop(rooms);
        drop(forgotten);
        true
    }

    /// All rooms in memory, in no order. They are collected shard by shard, so this is not one moment.
    pub(crate) fn all(&self) -> Vec<Arc<RoomCell>> {
        let shards = self.shards.iter().map(lock);
        shards.flat_map(|rooms| rooms.iter().cloned().collect::<Vec<_>>()).collect()
    }

    /// Refuses all further inputs and returns the rooms in memory. No room can be added later.
    pub(crate) fn close(&self) -> Vec<Arc<RoomCell>> {
        self.closed.store(true, Ordering::SeqCst);
        self.all()
    }

    /// Takes inputs again, with these rooms and those that have entries.
    pub(crate) fn open(&self, rooms: impl IntoIterator<Item = Arc<RoomCell>>) {
        for room in rooms {
            let hash = self.hash(room.address());
            let mut rooms = self.shard(hash);
            let is_same = |known: &Arc<RoomCell>| known.address() == room.address();
            let before = match rooms.entry(hash, is_same, |known| self.hash(known.address())) {
                Entry::Occupied(mut known) => Some(mem::replace(known.get_mut(), room)),
                Entry::Vacant(place) => {
                    place.insert(room);
                    self.rooms.fetch_add(1, Ordering::SeqCst);
                    None
                }
            };
            drop(rooms);
            drop(before);
        }
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Drops all entries of a closed registry.
    pub(crate) fn clear(&self) {
        debug_assert!(
            self.closed.load(Ordering::SeqCst),
            "an open registry never forgets a live room"
        );
        for shard in &self.shards {
            let rooms = mem::take(&mut *lock(shard));
            self.rooms.fetch_sub(rooms.len(), Ordering::SeqCst);
            drop(rooms);
        }
    }

    fn hash(&self, address: &RoomAddress) -> u64 {
        self.hasher.hash_one(address)
    }

    /// The shard of the addresses with this hash.
    fn shard(&self, hash: u64) -> MutexGuard<'_, Rooms> {
        // The table takes the lowest bits for the place and the highest seven to compare, so the shard is
        // told by others.
        lock(&self.shards[(hash >> 32) as usize % self.shards.len()])
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// A poisoned lock is used all the same: no code under it leaves the table half-changed.
fn lock(shard: &Mutex<Rooms>) -> MutexGuard<'_, Rooms> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{Weak, atomic::AtomicUsize},
        time::{Duration, Instant},
    };

    use futures_util::future::BoxFuture;
    use partykit_core::{
        Close, Options, Request, Response, Result, Room, RoomId, Server,
        runtime::{Chain, ConnectionKey, Outgoing, RoomKind, Socket, drive},
        testing::bare::{Bare, Runs},
    };
    use tokio::sync::oneshot;

    use super::*;

    /// The rooms of a registry, on real time.
    struct Town {
        registry: Registry,
        tokio: tokio::runtime::Handle,
        origin: Instant,
    }

    /// Makes the cells itself, and looks at all earlier ones of the name when it does.
    struct House {
        host: Arc<Bare<Town>>,
        kind: Arc<RoomKind>,
        made: Mutex<HashMap<RoomAddress, Vec<Weak<RoomCell>>>>,
    }

    impl House {
        fn new(options: Options, tokio: &tokio::runtime::Runtime) -> Arc<Self> {
            let (registry, origin) = (Registry::new(MAX_ROOMS), Instant::now());
            let host = Bare::new(Town { registry, tokio: tokio.handle().clone(), origin });
            let kind = RoomKind::new(options, host.clone());
            Arc::new(Self { host, kind, made: Mutex::default() })
        }

        fn enter<R>(
            &self,
            address: &RoomAddress,
            input: impl FnOnce(&Arc<RoomCell>) -> R,
        ) -> Result<R, Refusal> {
            self.host.runs.registry.enter(address, || self.make(address), input, || ())
        }

        fn make(&self, address: &RoomAddress) -> Arc<RoomCell> {
            let cell = RoomCell::new(address.clone(), self.kind.clone());
            let mut made = self.made.lock().unwrap();
            let cells = made.entry(address.clone()).or_default();
            cells.retain(|cell| cell.strong_count() > 0);
            let others = cells.iter().filter_map(Weak::upgrade);
            assert!(others.into_iter().all(|other| other.is_vacant()), "a room lives twice");
            cells.push(Arc::downgrade(&cell));
            cell
        }

        fn request(&self, address: &RoomAddress) -> Result<Response, Refusal> {
            let answer = self.enter(address, |cell| cell.request(Request::default(), Chain::new()));
            self.host.runs.tokio.block_on(answer?)
        }

        /// Connects and goes away again.
        fn visit(&self, address: &RoomAddress) {
            let (socket, decided) = TestSocket::new();
            let (cell, connection) = self.connect(address, socket).unwrap();
            self.host.runs.tokio.block_on(decided).unwrap();
            cell.closed(connection, Close::normal());
        }

        fn connect(
            &self,
            address: &RoomAddress,
            socket: Arc<dyn Socket>,
        ) -> Result<(Arc<RoomCell>, ConnectionKey), Refusal> {
            let connect = |cell: &Arc<RoomCell>| {
                let connected = cell.connect("id", "http://h/", Request::default(), socket);
                connected.map(|connection| (cell.clone(), connection))
            };
            self.enter(address, connect)?
        }

        fn wait_until_forgotten(&self) {
            let begin = Instant::now();
            while !self.host.runs.registry.all().is_empty() {
                assert!(
                    begin.elapsed() < Duration::from_secs(20),
                    "vacant rooms are not forgotten"
                );
                thread::yield_now();
            }
        }
    }

    impl Runs for Town {
        fn elapsed(&self) -> Duration {
            self.origin.elapsed()
        }

        fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
            Box::pin(tokio::time::sleep_until((self.origin + at).into()))
        }

        fn spawn(&self, task: BoxFuture<'static, ()>) {
            self.tokio.spawn(task);
        }

        fn drive(&self, room: Arc<RoomCell>) -> BoxFuture<'static, ()> {
            Box::pin(drive(room, Counter::new))
        }

        fn vacant(&self, room: &Arc<RoomCell>) {
            self.registry.forget(room);
        }
    }

    struct TestSocket(Mutex<Option<oneshot::Sender<()>>>);

    impl TestSocket {
        fn new() -> (Arc<Self>, oneshot::Receiver<()>) {
            let (accepted, decided) = oneshot::channel();
            (Arc::new(Self(Mutex::new(Some(accepted)))), decided)
        }
    }

    impl Socket for TestSocket {
        fn accept(&self) {
            let accepted = self.0.lock().unwrap().take().expect("accepted once");
            let _ = accepted.send(());
        }

        fn refuse(&self, close: Close) {
            panic!("a connect failed: {close}");
        }

        fn send(&self, _: Outgoing<'_>) {}

        fn close(&self, _: Close) {}

        fn flush(&self) {}
    }

    /// Counts requests in storage, in two steps.
    struct Counter(&'static AtomicUsize);

    /// By the length of the name.
    static INSTANCES: [AtomicUsize; 10] = [const { AtomicUsize::new(0) }; 10];

    impl Counter {
        fn new(room: &RoomId) -> Self {
            let instances = &INSTANCES[room.len()];
            assert_eq!(instances.fetch_add(1, Ordering::SeqCst), 0, "two instances of a room");
            Self(instances)
        }
    }

    impl Drop for Counter {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Server for Counter {
        async fn on_request(&mut self, room: &Room, _: Request) -> Result<Response> {
            let count: u32 = room.storage().get("count").await?.unwrap_or(0) + 1;
            tokio::task::yield_now().await;
            room.storage().put("count", &count)?;
            Ok(Response::new(count.to_string().into()))
        }
    }

    fn tokio_runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
    }

    fn address(len: usize) -> RoomAddress {
        RoomAddress::new("counter", RoomId::new("r".repeat(len)).unwrap())
    }

    fn options() -> Options {
        Options::new().hibernate_after(Duration::ZERO)
    }

    /// The rooms fall asleep as soon as nothing waits, so that every input races with the removal of the
    /// cell that the one before has woken.
    #[test]
    fn no_room_lives_twice() {
        const THREADS: usize = 8;
        const ROUNDS: usize = 600;

        let tokio = tokio_runtime();
        let house = House::new(options(), &tokio);
        thread::scope(|scope| {
            for seed in 0..THREADS {
                let house = &house;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let address = address(1 + (round * 7 + seed) % 3);
                        if (round + seed) % 4 == 0 {
                            house.visit(&address);
                        } else {
                            house.request(&address).unwrap();
                        }
                    }
                });
            }
        });
        house.wait_until_forgotten();

        let cells = house.made.lock().unwrap().len();
        assert_eq!(cells, 3, "each name was used");
        let counted = (1..=3).map(|len| {
            let answer = house.request(&address(len)).unwrap();
            let body = answer.body().bytes().unwrap().to_vec();
            String::from_utf8(body).unwrap().parse::<usize>().unwrap() - 1
        });
        assert_eq!(counted.sum::<usize>(), THREADS * ROUNDS / 4 * 3, "no request was lost");
    }

    #[test]
    fn a_room_has_an_entry_while_it_has_a_connection() {
        let tokio = tokio_runtime();
        let house = House::new(options().hibernate(true), &tokio);
        let (socket, decided) = TestSocket::new();
        let (cell, connection) = house.connect(&address(5), socket).unwrap();
        tokio.block_on(decided).unwrap();
        tokio.block_on(cell.hibernate()).unwrap();
        house.host.runs.registry.forget(&cell);
        assert!(Arc::ptr_eq(&house.host.runs.registry.find(&address(5)).unwrap(), &cell));
        cell.closed(connection, Close::normal());
        house.wait_until_forgotten();
        assert!(cell.is_vacant());
        house.host.runs.registry.forget(&cell);
    }

    #[test]
    fn a_refused_first_input_leaves_no_entry() {
        let tokio = tokio_runtime();
        let house = House::new(options().max_connections(0), &tokio);
        let (socket, _decided) = TestSocket::new();
        assert_eq!(house.connect(&address(6), socket).unwrap_err(), Refusal::Full);
        assert!(house.host.runs.registry.find(&address(6)).is_none());
    }

    #[test]
    fn another_cell_of_the_name_is_not_forgotten() {
        let tokio = tokio_runtime();
        let house = House::new(options().hibernate(true), &tokio);
        let stranger = house.make(&address(7));
        let (socket, decided) = TestSocket::new();
        let (cell, _connection) = house.connect(&address(7), socket).unwrap();
        tokio.block_on(decided).unwrap();
        house.host.runs.registry.forget(&stranger);
        assert!(Arc::ptr_eq(&house.host.runs.registry.find(&address(7)).unwrap(), &cell));
    }

    #[test]
    fn a_closed_registry_lets_nothing_in() {
        let tokio = tokio_runtime();
        let house = House::new(options().hibernate(true), &tokio);
        let (socket, decided) = TestSocket::new();
        let (cell, _connection) = house.connect(&address(8), socket).unwrap();
        tokio.block_on(decided).unwrap();
        let rooms = house.host.runs.registry.close();
        assert!(rooms.len() == 1 && Arc::ptr_eq(&rooms[0], &cell));
        for len in [8, 9] {
            assert_eq!(house.request(&address(len)).unwrap_err(), Refusal::ShuttingDown);
        }
        house.host.runs.registry.clear();
        assert!(house.host.runs.registry.find(&address(8)).is_none());
    }
}
