//! What one handler does side by side, with `join!` and `select!`: no write is lost that was said to be
//! done, and none is kept that was undone.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use futures_channel::oneshot;
use futures_util::future::join;
use partykit_core::{List, Room, StorageError};

use crate::script::{inside, test};

type Done = Result<(), StorageError>;

/// An error of a transaction that is to fail.
fn failure() -> StorageError {
    StorageError::InvalidKey(0)
}

/// Goes on as far as it can; whether that is not to the end.
async fn is_pending(future: &mut Pin<&mut impl Future>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// A transaction that writes, waits for the gate, and ends like this.
async fn transact(room: &Room, key: &str, gate: oneshot::Receiver<()>, end: Done) -> Done {
    let work = room.storage().transaction(async |tx| {
        tx.put(key, "before")?;
        let _ = gate.await;
        tx.put(&format!("{key}2"), "after")?;
        end
    });
    work.await
}

async fn keys(room: &Room) -> Vec<String> {
    let rows = room.storage().list_bytes(List::new()).await.unwrap();
    rows.into_iter().map(|(key, _)| key).collect()
}

#[test]
fn transactions_beside_one_another_keep_each_what_it_wrote() {
    for (first, second, kept) in [
        (true, true, vec!["a", "a2", "b", "b2"]),
        (false, true, vec!["b", "b2"]),
        (true, false, vec!["a", "a2"]),
        (false, false, vec![]),
    ] {
        // Whichever gate opens first: the one that began first ends first.
        for order in [[0, 1], [1, 0]] {
            test(async |stage| {
                let room = stage.room();
                let found = inside(&room, move |room| {
                    Box::pin(async move {
                        let (gate_a, opened_a) = oneshot::channel();
                        let (gate_b, opened_b) = oneshot::channel();
                        let mut gates = [Some(gate_a), Some(gate_b)];
                        let end = |ok: bool| if ok { Ok(()) } else { Err(failure()) };
                        let a = transact(room, "a", opened_a, end(first));
                        let b = transact(room, "b", opened_b, end(second));
                        let mut both = pin!(join(a, b));
                        assert!(is_pending(&mut both).await);
                        for gate in order {
                            gates[gate].take().unwrap().send(()).unwrap();
                            let ends = gates.iter().all(Option::is_none);
                            assert_eq!(is_pending(&mut both).await, !ends);
                        }
                        keys(room).await
                    })
                })
                .await;
                assert_eq!(found, kept, "{first} {second} {order:?}");
                let rows = room.rows(List::new()).await;
                let stored: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
                assert_eq!(stored, kept, "{first} {second} {order:?}");
            });
        }
    }
}

#[test]
fn a_write_beside_a_transaction_is_the_handlers_and_unseen_is_what_may_be_undone() {
    for keeps in [true, false] {
        test(async |stage| {
            let room = stage.room();
            inside(&room, move |room| {
                Box::pin(async move {
                    let (gate, opened) = oneshot::channel();
                    let end = if keeps { Ok(()) } else { Err(failure()) };
                    let a = transact(room, "a", opened, end);
                    let beside = async {
                        assert_eq!(keys(room).await, Vec::<String>::new(), "not kept yet");
                        room.storage().put("beside", "x").unwrap();
                        let _ = gate.send(());
                    };
                    let (ended, ()) = join(a, beside).await;
                    assert_eq!(ended.is_ok(), keeps);
                })
            })
            .await;
            let rows = room.rows(List::new()).await;
            let stored: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
            let kept = if keeps { vec!["a", "a2", "beside"] } else { vec!["beside"] };
            assert_eq!(stored, kept);
        });
    }
}

#[test]
fn a_delete_all_beside_a_transaction_takes_nothing_of_it() {
    test(async |stage| {
        let room = stage.room();
        room.request(crate::script::told("put:old=x")).await.unwrap();
        inside(&room, move |room| {
            Box::pin(async move {
                let (gate, opened) = oneshot::channel();
                let a = transact(room, "a", opened, Ok(()));
                let beside = async {
                    room.storage().delete_all();
                    let _ = gate.send(());
                };
                join(a, beside).await.0.unwrap();
            })
        })
        .await;
        let rows = room.rows(List::new()).await;
        let stored: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
        assert_eq!(stored, ["a", "a2"]);
    });
}

#[test]
fn a_transaction_that_is_dropped_half_way_undoes_what_it_wrote_and_nothing_else() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async move {
                room.storage().put("before", "x").unwrap();
                {
                    let (_gate, opened) = oneshot::channel();
                    let mut a = pin!(transact(room, "a", opened, Ok(())));
                    assert!(is_pending(&mut a).await);
                    room.storage().put("beside", "x").unwrap();
                }
                room.storage().put("after", "x").unwrap();
            })
        })
        .await;
        let rows = room.rows(List::new()).await;
        let stored: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
        assert_eq!(stored, ["after", "before", "beside"]);
    });
}

#[test]
fn a_sync_waits_for_the_transaction_beside_it_and_stores_it_whole() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async move {
                let (gate, opened) = oneshot::channel();
                let a = transact(room, "a", opened, Ok(()));
                let synced = async { room.storage().sync().await };
                let mut both = pin!(join(a, synced));
                assert!(is_pending(&mut both).await);
                let _ = gate.send(());
                let (ended, synced) = both.await;
                ended.unwrap();
                synced.unwrap();
            })
        })
        .await;
        let rows = room.rows(List::new()).await;
        assert_eq!(rows.len(), 2);
    });
}

#[test]
fn nested_ones_belong_to_the_one_around_them_whichever_storage_they_use() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async move {
                let outer = room.storage().transaction(async |tx| {
                    let inner = async |key: &'static str| {
                        room.storage().transaction(async |inner| inner.put(key, "x")).await
                    };
                    let (a, b) =
                        join(inner("a"), tx.transaction(async |tx| tx.put("b", "x"))).await;
                    a.and(b)?;
                    assert_eq!(keys(room).await, ["a", "b"]);
                    Err::<(), _>(failure())
                });
                outer.await.unwrap_err();
                assert_eq!(keys(room).await, Vec::<String>::new());
            })
        })
        .await;
        assert!(room.rows(List::new()).await.is_empty());
    });
}

#[test]
fn three_thousand_transactions_cost_what_they_write() {
    test(async |stage| {
        let room = stage.room();
        inside(&room, |room| {
            Box::pin(async move {
                for n in 0..3000_u32 {
                    let key = format!("{n:04}");
                    let done = room.storage().transaction(async |tx| tx.put(&key, "x"));
                    done.await.unwrap();
                }
            })
        })
        .await;
        assert_eq!(room.rows(List::new()).await.len(), 3000);
    });
}
