//! Random trees of what one handler does side by side, beside a model: every transaction's writes are kept
//! whole or not at all, in the order in which transactions end, and nobody sees what may be undone.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
};

use futures_core::future::BoxFuture;
use futures_util::future::{join_all, select};
use partykit_core::{List, Room, Storage, StorageError};
use proptest::prelude::*;

use crate::script::{inside, test, told};

#[derive(Clone, Debug)]
enum Node {
    Put(u8),
    Delete(u8),
    DeleteAll,
    /// Reads a row, which has to be what the model has.
    Read(u8),
    /// Lists all rows, which have to be those of the model.
    List,
    /// Lets others go on, this many times.
    Wait(u8),
    Sequence(Vec<Node>),
    Join(Vec<Node>),
    /// The first one to end drops the other half-way.
    Select(Box<[Node; 2]>),
    /// Keeps what it wrote, or fails.
    Transaction(bool, Box<Node>),
}

/// So few that writes meet.
const KEYS: u8 = 4;

fn node() -> impl Strategy<Value = Node> {
    let key = || 0..KEYS;
    let leaf = prop_oneof![
        4 => key().prop_map(Node::Put),
        2 => key().prop_map(Node::Delete),
        1 => Just(Node::DeleteAll),
        2 => key().prop_map(Node::Read),
        1 => Just(Node::List),
        3 => (1..4_u8).prop_map(Node::Wait),
    ];
    leaf.prop_recursive(6, 40, 5, |node| {
        let nodes = || prop::collection::vec(node.clone(), 1..5);
        prop_oneof![
            2 => nodes().prop_map(Node::Sequence),
            3 => nodes().prop_map(Node::Join),
            2 => [node.clone(), node.clone()].prop_map(|pair| Node::Select(Box::new(pair))),
            4 => (prop::bool::weighted(0.7), node.clone())
                .prop_map(|(keeps, node)| Node::Transaction(keeps, Box::new(node))),
        ]
    })
}

type Rows = BTreeMap<String, String>;

#[derive(Clone, Debug)]
enum Write {
    Put(String, String),
    Delete(String),
    Clear,
}

fn apply(rows: &mut Rows, writes: &[Write]) {
    for write in writes {
        match write {
            Write::Put(key, value) => drop(rows.insert(key.clone(), value.clone())),
            Write::Delete(key) => drop(rows.remove(key)),
            Write::Clear => rows.clear(),
        }
    }
}

/// What the handler, or a transaction of it, has written so far. What may be undone is in a scope of its own.
#[derive(Clone)]
struct Scope {
    around: Option<Arc<Scope>>,
    writes: Arc<Mutex<Vec<Write>>>,
    /// Of the handler, so that every value is another one.
    values: Arc<Mutex<u32>>,
}

impl Scope {
    fn writes(&self) -> MutexGuard<'_, Vec<Write>> {
        self.writes.lock().unwrap()
    }

    fn write(&self, write: Write) {
        self.writes().push(write);
    }

    fn within(&self) -> Self {
        Self { around: Some(Arc::new(self.clone())), writes: Arc::default(), ..self.clone() }
    }

    /// It has ended well: what it wrote is written where it was begun, now.
    fn keep(&self) {
        let around = self.around.as_ref().expect("a transaction is in something");
        around.writes().extend(self.writes().drain(..));
    }

    fn rows(&self) -> Rows {
        let mut rows = self.around.as_ref().map_or_else(stored, |around| around.rows());
        apply(&mut rows, &self.writes());
        rows
    }

    fn next_value(&self) -> String {
        let mut values = self.values.lock().unwrap();
        *values += 1;
        format!("v{values}")
    }
}

/// What the room has before.
fn stored() -> Rows {
    [("k0", "\"old\""), ("k1", "\"old\"")].map(|(key, value)| (key.into(), value.into())).into()
}

fn name(key: u8) -> String {
    format!("k{key}")
}

fn run<'a>(node: &'a Node, room: &'a Room, scope: Scope) -> BoxFuture<'a, ()> {
    let storage = room.storage();
    Box::pin(async move {
        match node {
            Node::Put(key) => {
                let (key, value) = (name(*key), scope.next_value());
                storage.put_bytes(&key, value.clone()).unwrap();
                scope.write(Write::Put(key, value));
            }
            Node::Delete(key) => {
                storage.delete(&name(*key)).unwrap();
                scope.write(Write::Delete(name(*key)));
            }
            Node::DeleteAll => {
                storage.delete_all();
                scope.write(Write::Clear);
            }
            Node::Read(key) => {
                let found = storage.get_bytes(&name(*key)).await.unwrap();
                let found = found.map(|value| String::from_utf8(value.to_vec()).unwrap());
                assert_eq!(found.as_ref(), scope.rows().get(&name(*key)), "a read of {key}");
            }
            Node::List => assert_eq!(list(storage).await, scope.rows(), "a list"),
            Node::Wait(times) => wait(*times).await,
            Node::Sequence(nodes) => {
                for node in nodes {
                    run(node, room, scope.clone()).await;
                }
            }
            Node::Join(nodes) => {
                join_all(nodes.iter().map(|node| run(node, room, scope.clone()))).await;
            }
            Node::Select(nodes) => {
                let [first, second] = &**nodes;
                drop(select(run(first, room, scope.clone()), run(second, room, scope)).await);
            }
            Node::Transaction(keeps, node) => {
                let within = scope.within();
                let ended = storage.transaction(async |_| {
                    run(node, room, within.clone()).await;
                    if *keeps { Ok(()) } else { Err(StorageError::InvalidKey(0)) }
                });
                let ended = ended.await;
                assert_eq!(ended.is_ok(), *keeps);
                if *keeps {
                    within.keep();
                }
            }
        }
    })
}

async fn list(storage: Storage<'_>) -> Rows {
    let rows = storage.list_bytes(List::new()).await.unwrap();
    rows.into_iter().map(|(key, value)| (key, String::from_utf8(value.to_vec()).unwrap())).collect()
}

async fn wait(times: u8) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2 * ProptestConfig::default().cases,
        ..ProptestConfig::default()
    })]

    #[test]
    fn transactions_in_any_tree_are_whole_or_not_at_all(tree in node()) {
        test(async |stage| {
            let room = stage.room();
            for (key, value) in stored() {
                room.request(told(&format!("put:{key}={}", value.trim_matches('"')))).await.unwrap();
            }
            let scope = Scope {
                around: None,
                writes: Arc::default(),
                values: Arc::default(),
            };
            let (tree, model) = (tree.clone(), scope.clone());
            inside(&room, move |room| {
                Box::pin(async move {
                    run(&tree, room, model).await;
                })
            })
            .await;
            let rows = room.rows(List::new()).await.into_iter();
            let rows: Rows =
                rows.map(|(key, value)| (key, String::from_utf8(value).unwrap())).collect();
            assert_eq!(rows, scope.rows(), "what is stored at the end");
        });
    }
}
