use tokio::{sync::watch, task::JoinHandle};

use super::{Client, Frame, Room, Target};

/// What a page with a connect button does: the click changes what is intended, at once; a task makes
/// what is actual follow, one step at a time, and looks again what is intended after each.
pub(super) struct Clicker<'a> {
    target: &'a Target,
    /// The number of the click, and what was clicked.
    intended: watch::Sender<(u32, bool)>,
    /// The number of the click that was followed, and how many connections are open since.
    actual: watch::Receiver<(u32, usize)>,
    task: JoinHandle<()>,
}

impl<'a> Clicker<'a> {
    pub(super) fn start(target: &'a Target, room: &Room<'_>) -> Self {
        let (intended, mut wanted) = watch::channel((0, false));
        let (report, actual) = watch::channel((0, 0));
        let (own, party, id) = (target.clone(), room.party(), room.id().to_owned());
        let task = tokio::spawn(async move {
            let room = Room::new(&own, party, id);
            let mut connections: Vec<Client> = Vec::new();
            loop {
                let (click, want) = *wanted.borrow_and_update();
                let is_open = !connections.is_empty();
                if want == is_open {
                    report.send_replace((click, connections.len()));
                    if wanted.changed().await.is_err() {
                        return;
                    }
                } else if want {
                    connections.push(room.connect("spammer").await);
                } else if let Some(mut open) = connections.pop() {
                    open.close(Some((1000, ""))).await;
                    while open.next().await != Frame::End {}
                }
            }
        });
        Self { target, intended, actual, task }
    }

    pub(super) fn intend(&self, connected: bool) {
        self.intended
            .send_modify(|(click, intended)| (*click, *intended) = (*click + 1, connected));
    }

    pub(super) fn intent(&self) -> bool {
        self.intended.borrow().1
    }

    /// Waits until what is actual is what is intended; says how many connections are open.
    pub(super) async fn settled(&self) -> usize {
        let mut actual = self.actual.clone();
        let (last, _) = *self.intended.borrow();
        let settled = actual.wait_for(|(followed, _)| *followed == last);
        let settled = self.target.expect("client that has done as it was told", settled).await;
        settled.expect("the client lives").1
    }
}

impl Drop for Clicker<'_> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
