//! The parties of the suite in `workerd`, and how they are controlled there.

use std::sync::Arc;

use async_trait::async_trait;
use partykit_conformance::{
    ANNEX, IN_MEMORY, PROBE, SMALL, STARTER, SWITCHBOARD,
    suite::{Control, RoomView, Target},
};
use partykit_workerd::{Project, Workerd};

pub(crate) fn start() -> Arc<Workerd> {
    Arc::new(Workerd::start(&project()).expect("`cargo xtask workerd` builds it first"))
}

/// The parties, which tell in the log what wakes them.
pub(crate) fn project() -> Project {
    Project::open(env!("CARGO_MANIFEST_DIR"))
        .expect("a project")
        .var("PARTYKIT_LOG", "debug")
        .party(PROBE, "Probes")
        .party(IN_MEMORY, "Memories")
        .party(STARTER, "Starter")
        .party(SMALL, "Small")
        .party(SWITCHBOARD, "Switchboard")
        .party(ANNEX, "Annex")
        .party("desk", "Desk")
        .party("members", "Members")
}

pub(crate) fn target(workerd: &Arc<Workerd>) -> Target {
    Target::with_control(&workerd.url(), Arc::new(Harness(workerd.clone())))
}

/// Evicts rooms, and reads in the log what they do.
struct Harness(Arc<Workerd>);

impl Harness {
    async fn run<T: Send + 'static>(
        &self,
        it: impl FnOnce(&Workerd) -> Result<T, partykit_workerd::Error> + Send + 'static,
    ) -> T {
        let workerd = self.0.clone();
        let done = tokio::task::spawn_blocking(move || it(&workerd));
        done.await.expect("an answer").expect("a harness that works")
    }
}

#[async_trait]
impl Control for Harness {
    async fn put_to_sleep(&self, party: &str, room: &str) {
        let (party, room) = (party.to_owned(), room.to_owned());
        self.run(move |workerd| workerd.evict(&party, &room)).await;
    }

    async fn stats(&self, party: &str, room: &str) -> Option<RoomView> {
        let (party, room) = (party.to_owned(), room.to_owned());
        let life = self.run(move |workerd| workerd.life(&party, &room)).await;
        let mut view = RoomView::default();
        view.asleep = life.is_asleep;
        view.connections = life.connections;
        view.wakes = life.wakes.len() as u64;
        view.last_wake = life.wakes.into_iter().next_back();
        Some(view)
    }
}
