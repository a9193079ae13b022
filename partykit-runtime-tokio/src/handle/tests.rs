use std::collections::HashSet;

use partykit_core::{
    Request, Response, Result, Room, RoomAddress, RoomId, Server,
    runtime::{Chain, Host},
};

use crate::Runtime;

#[derive(Default)]
struct Still;

impl Server for Still {
    async fn on_request(&mut self, _: &Room, _: Request) -> Result<Response> {
        Ok(Response::default())
    }
}

#[tokio::test]
async fn rooms_of_a_party_share_its_name() {
    let runtime = Runtime::builder().party::<Still>("still").in_memory().build().unwrap();
    let handle = runtime.handle();
    for room in ["a", "b", "c"] {
        // As the front has it from a URL.
        let address = RoomAddress::new("still".to_owned(), RoomId::new(room).unwrap());
        handle.host.call(address, Request::default(), Chain::new()).await.unwrap();
    }
    let rooms = handle.host.registry().all();
    let names: HashSet<_> = rooms.iter().map(|room| room.address().party().as_ptr()).collect();
    assert_eq!((rooms.len(), names.len()), (3, 1));
}
