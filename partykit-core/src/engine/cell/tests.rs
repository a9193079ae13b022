//! What a room is while it sleeps, and which handles are made when it wakes.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use futures_executor::block_on;

use crate::{
    Body, Close, Connection, Message, Options, Request, Result, Room, RoomPhase, Server,
    testing::{TestConnection, TestRoom, TestRoomBuilder},
};

use super::{RoomCell, State};

/// Keeps the sender of "keep", and does with a crowd what needs no handles, or some.
#[derive(Default)]
struct Hall {
    kept: Arc<Mutex<Option<Connection>>>,
}

impl Server for Hall {
    fn options() -> Options {
        Options::new().hibernate(true)
    }

    fn connection_tags(&mut self, _: &Room, id: &str, _: &Request) -> Result<Vec<String>> {
        Ok(if id.ends_with('7') { vec!["seven".to_owned()] } else { Vec::new() })
    }

    async fn on_message(&mut self, room: &Room, sender: &Connection, message: Message) -> Result {
        match message.as_text().unwrap_or_default() {
            "shout" => room.broadcast(room.count().to_string()).except(sender).send(),
            "sevens" => room.broadcast("seven").tag("seven").send(),
            "whisper" => room.connection("guest 3").ok_or("no such guest")?.send("psst"),
            "each" => room.connections().for_each(|connection| connection.send("you")),
            "keep" => *self.kept.lock().unwrap() = Some(sender.clone()),
            "is it me" => {
                let kept = self.kept.lock().unwrap();
                #[allow(clippy::mutable_key_type, reason = "its hash is that of its socket")]
                let known: HashSet<_> = kept.iter().collect();
                sender.send((known.contains(sender), sender.state::<u32>()?).0.to_string());
            }
            _ => {}
        }
        Ok(())
    }
}

async fn crowd<S: Server>(room: &TestRoom<S>, count: usize) -> Vec<TestConnection> {
    let mut all = Vec::new();
    for n in 0..count {
        let request = Request::new(Body::empty());
        all.push(room.begin_connect(&format!("guest {n}"), request).unwrap());
        if n % 200 == 0 {
            room.settle().await;
        }
    }
    room.settle().await;
    all
}

fn live(cell: &RoomCell) -> usize {
    cell.with_records(|records| records.live())
}

fn is_data(cell: &RoomCell) -> bool {
    matches!(&*cell.lock(), State::Asleep(_))
}

fn heard(all: &[TestConnection]) -> usize {
    all.iter().map(|client| client.received().len()).sum()
}

#[test]
fn a_message_to_a_sleeping_crowd_of_10_000_makes_one_handle() {
    block_on(async {
        let room = TestRoom::<Hall>::new();
        let all = crowd(&room, 10_000).await;
        let cell = room.cell().clone();
        assert_eq!(live(&cell), 10_000);
        room.hibernate().await.unwrap();
        assert_eq!((live(&cell), is_data(&cell), room.stats().connections), (0, true, 10_000));

        all[5].send("shout").await;
        assert_eq!((live(&cell), heard(&all)), (1, 9_999));
        all[5].send("sevens").await;
        assert_eq!((live(&cell), heard(&all)), (1, 1_000));
        all[5].send("whisper").await;
        assert_eq!((live(&cell), heard(&all)), (2, 1));
        room.hibernate().await.unwrap();
        assert_eq!((live(&cell), is_data(&cell)), (0, true));
        all[9].send("each").await;
        assert_eq!((live(&cell), heard(&all)), (10_000, 10_000));
    });
}

#[test]
fn what_is_done_to_a_sleeping_room_wakes_it_not_and_makes_no_handle() {
    block_on(async {
        let room = TestRoom::<Hall>::new();
        let all = crowd(&room, 40).await;
        let cell = room.cell().clone();
        room.hibernate().await.unwrap();
        let wakes = room.stats().account.wakes();

        // Looked at after each step: an input that comes later may make data of everything again.
        let is_still = |what: &str| assert_eq!((live(&cell), is_data(&cell)), (0, true), "{what}");
        cell.broadcast("news".into(), None).unwrap();
        cell.broadcast("for some".into(), Some("seven")).unwrap();
        room.settle().await;
        is_still("broadcasts");
        assert_eq!(heard(&all), 44);
        let close = Close::new(4000, "enough").unwrap();
        assert_eq!(cell.disconnect_id("guest 3", &close), 1);
        assert_eq!(cell.disconnect(Some("seven"), &close), 4);
        cell.hang_up(crate::runtime::ConnectionKey::new(1), close.clone());
        room.settle().await;
        is_still("closes");
        assert_eq!(all.iter().filter(|client| client.closed().is_some()).count(), 6);
        assert_eq!((cell.sockets().len(), room.stats().connections), (34, 34));
        is_still("statistics");
        let page = cell.list_connections(Some(3), 3);
        let page: Vec<&str> = page.iter().map(|listing| &*listing.id).collect();
        assert_eq!(page, ["guest 4", "guest 5", "guest 6"]);
        is_still("a list");
        assert_eq!(cell.id_of(crate::runtime::ConnectionKey::new(2)).as_deref(), Some("guest 1"));
        assert_eq!(cell.records().len(), 40, "with those whose answer is awaited");
        is_still("an id, and the records");
        cell.slow_client();
        assert_eq!(room.stats().account.slow_clients, 1);
        is_still("a slow client");
        assert_eq!((room.stats().account.wakes(), room.stats().phase), (wakes, RoomPhase::Asleep));
        assert_eq!(cell.connections().len(), 34);
        assert_eq!((live(&cell), is_data(&cell)), (34, true), "a test has asked for them");
    });
}

#[test]
fn a_handle_that_somebody_holds_is_the_same_one_over_sleep() {
    block_on(async {
        let kept: Arc<Mutex<Option<Connection>>> = Arc::default();
        let hall = kept.clone();
        let room = TestRoomBuilder::new(move |_| Hall { kept: hall.clone() }).build();
        let all = crowd(&room, 3).await;
        let cell = room.cell().clone();
        all[1].send("keep").await;
        room.hibernate().await.unwrap();
        assert_eq!((live(&cell), is_data(&cell)), (1, true));

        // It works on the sleeping room.
        let held = kept.lock().unwrap().clone().unwrap();
        held.set_state(&7).unwrap();
        held.send("from outside");
        room.settle().await;
        assert!(held.is_open() && is_data(&cell));
        assert_eq!(heard(&all), 1);
        all[1].send("is it me").await;
        all[2].send("is it me").await;
        let answers = |client: &TestConnection| {
            client.received().iter().map(|it| it.as_text().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (answers(&all[1]), answers(&all[2])),
            (vec!["true".into()], vec!["false".into()])
        );

        // Nobody has it any more: its state is in its record.
        (*kept.lock().unwrap(), _) = (None, drop(held));
        room.hibernate().await.unwrap();
        assert_eq!(live(&cell), 0);
        let back = cell.connections()[1].clone();
        assert_eq!((back.id(), back.state::<u32>().unwrap()), ("guest 1", Some(7)));
        assert_eq!(&back, all[1].connection());
    });
}

#[test]
fn those_that_leave_are_gone_and_the_others_keep_their_order() {
    block_on(async {
        let room = TestRoom::<Hall>::new();
        let all = crowd(&room, 60).await;
        let cell = room.cell().clone();
        for (n, client) in all.iter().enumerate() {
            if n % 4 != 1 {
                client.vanish().await;
            }
            if n == 30 {
                room.hibernate().await.unwrap();
            }
        }
        let ids: Vec<String> = cell.connections().iter().map(|it| it.id().to_owned()).collect();
        let rest: Vec<String> =
            (0..60).filter(|n| n % 4 == 1).map(|n| format!("guest {n}")).collect();
        assert_eq!(ids, rest);
        all[1].send("shout").await;
        assert_eq!(heard(&all), 14);
        for client in all.iter().skip(1).step_by(4) {
            client.vanish().await;
        }
        room.hibernate().await.unwrap();
        assert!(cell.is_vacant() && is_data(&cell));
    });
}

/// With its two counts it fits into a usual size of allocators.
#[test]
fn a_cell_of_a_sleeping_room_is_small() {
    let cell = 2 * size_of::<usize>() + size_of::<RoomCell>();
    assert!(cell <= 160, "{cell} bytes");
}
