//! What the engine of the store says of its own doings is not in the server's log.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use partykit_core::{Backend, Batch, RoomAddress, RoomId};
use partykit_runtime_tokio::store::{DiskBackend, Durability};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_first_start_and_a_second_one_log_no_line_of_the_engine() {
    let log = Log::default();
    let writer = log.clone();
    // With what passes on the lines of the crate `log`, as servers have it.
    tracing_subscriber::fmt().with_writer(move || writer.clone()).init();
    log::info!("this line is passed on");
    let directory = tempfile::tempdir().unwrap();
    let room = RoomAddress::new("main", RoomId::new("a").unwrap());
    for value in ["1", "2"] {
        let store = DiskBackend::open(directory.path(), Durability::Durable).unwrap();
        let epoch = store.claim(&room).await.unwrap().epoch;
        let writes = [("k".into(), Some(value.into()))].into();
        store.commit(&room, epoch, Batch { writes, ..Batch::default() }).await.unwrap();
        store.close().await;
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("passed on"), "{log}");
    assert!(!log.contains("LSM") && !log.contains("lsm_tree"), "{log}");
}
