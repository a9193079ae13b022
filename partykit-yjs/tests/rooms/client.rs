use partykit_core::{
    Server,
    testing::{TestConnection, TestRoom},
};
use std::collections::BTreeMap;
use yrs::{
    ClientID, Doc, GetString, OffsetKind, Options, ReadTxn, StateVector, Text, Transact, Update,
    encoding::{
        read::{Cursor, Read},
        write::Write,
    },
    updates::{decoder::Decode, encoder::Encode},
};

/// A client of Yjs as the providers are: it answers what it is asked, and repeats the awareness it hears.
pub(crate) struct Client {
    pub(crate) connection: TestConnection,
    pub(crate) doc: Doc,
    /// Who is where, as this client believes.
    pub(crate) others: BTreeMap<u64, (u32, String)>,
    clock: u32,
    /// How many frames have arrived.
    pub(crate) heard: usize,
    pub(crate) synced: bool,
}

impl Client {
    pub(crate) async fn new<S: Server>(room: &TestRoom<S>, id: &str, number: u64) -> Self {
        let options = Options {
            offset_kind: OffsetKind::Utf16,
            ..Options::with_client_id(ClientID::new(number))
        };
        Self::with(room, id, Doc::with_options(options), 0).await
    }

    /// Comes back with the document that it had.
    pub(crate) async fn again<S: Server>(self, room: &TestRoom<S>, id: &str) -> Self {
        Self::with(room, id, self.doc, self.clock).await
    }

    async fn with<S: Server>(room: &TestRoom<S>, id: &str, doc: Doc, clock: u32) -> Self {
        let connection = room.connect(id).await;
        let mut client =
            Self { connection, doc, others: BTreeMap::new(), clock, heard: 0, synced: false };
        let vector = client.doc.transact().state_vector().encode_v1();
        client.connection.send(sync(0, &vector)).await;
        client.move_to("{}").await;
        client.hear().await;
        client
    }

    pub(crate) fn number(&self) -> u64 {
        self.doc.client_id().get()
    }

    pub(crate) fn text(&self) -> String {
        self.doc.get_or_insert_text("t").get_string(&self.doc.transact())
    }

    pub(crate) async fn insert(&mut self, at: u32, text: &str) {
        let update = self.edit(|doc| {
            let shared = doc.get_or_insert_text("t");
            let mut txn = doc.transact_mut();
            shared.insert(&mut txn, at, text);
            txn.encode_update_v1()
        });
        self.connection.send(sync(2, &update)).await;
    }

    pub(crate) fn edit(&self, edit: impl FnOnce(&Doc) -> Vec<u8>) -> Vec<u8> {
        edit(&self.doc)
    }

    /// What typing would send, without sending it.
    pub(crate) async fn say_update(&self, update: &[u8]) {
        self.connection.send(sync(2, update)).await;
    }

    pub(crate) async fn move_to(&mut self, state: &str) {
        self.clock += 1;
        let frame = awareness(&[(self.number(), self.clock, state)]);
        self.connection.send(frame).await;
    }

    /// Takes what has arrived, until nothing more does.
    pub(crate) async fn hear(&mut self) {
        loop {
            let messages = self.connection.received();
            if messages.is_empty() {
                return;
            }
            for message in messages {
                self.heard += 1;
                let Some(answer) = self.take(message.as_bytes()) else { continue };
                self.connection.send(answer).await;
            }
        }
    }

    fn take(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut cursor = Cursor::new(frame);
        match cursor.read_u8().unwrap() {
            0 => {
                let step = cursor.read_u8().unwrap();
                let payload = cursor.read_buf().unwrap();
                if step == 0 {
                    let vector = StateVector::decode_v1(payload).unwrap();
                    let missing = self.doc.transact().encode_state_as_update_v1(&vector);
                    return Some(sync(1, &missing));
                }
                self.synced |= step == 1;
                let update = Update::decode_v1(payload).unwrap();
                self.doc.transact_mut().apply_update(update).unwrap();
                None
            }
            1 => {
                let payload = cursor.read_buf().unwrap().to_vec();
                let mut cursor = Cursor::new(&payload);
                let count: u32 = cursor.read_var().unwrap();
                let mut news = Vec::new();
                for _ in 0..count {
                    let number: u64 = cursor.read_var().unwrap();
                    let clock: u32 = cursor.read_var().unwrap();
                    let state = cursor.read_string().unwrap().to_owned();
                    let known = self.others.get(&number);
                    let is_news = known.is_none_or(|(at, _)| clock > *at)
                        || state == "null"
                            && known.is_some_and(|(at, was)| clock == *at && was != "null");
                    if is_news {
                        self.others.insert(number, (clock, state.clone()));
                        news.push((number, clock, state));
                    }
                }
                let news: Vec<_> = news.iter().map(|(n, c, s)| (*n, *c, &**s)).collect();
                (!news.is_empty()).then(|| awareness(&news))
            }
            3 => {
                let own = self.others.get(&self.number())?;
                Some(awareness(&[(self.number(), own.0, &own.1)]))
            }
            other => panic!("a frame of kind {other}"),
        }
    }

    /// The states of the clients that it believes are there.
    pub(crate) fn sees(&self) -> Vec<(u64, &str)> {
        let here = self.others.iter().filter(|(_, (_, state))| state != "null");
        here.map(|(number, (_, state))| (*number, &**state)).collect()
    }
}

/// All take what has arrived, until nobody has anything left.
pub(crate) async fn settle(clients: &mut [Client]) {
    loop {
        let before: usize = clients.iter().map(|client| client.heard).sum();
        for client in clients.iter_mut() {
            client.hear().await;
        }
        if clients.iter().map(|client| client.heard).sum::<usize>() == before {
            return;
        }
    }
}

pub(crate) fn sync(step: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, step];
    frame.write_buf(payload);
    frame
}

pub(crate) fn awareness(entries: &[(u64, u32, &str)]) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.write_var(entries.len());
    for (number, clock, state) in entries {
        payload.write_var(*number);
        payload.write_var(*clock);
        payload.write_string(state);
    }
    let mut frame = vec![1];
    frame.write_buf(payload);
    frame
}
