use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{LIFE, Place, address_of};

/// Stands before the server, and cuts each connection through it after a while: what is under way is lost.
#[derive(Debug)]
pub(super) struct Proxy {
    place: Place,
    cuts: Arc<AtomicU64>,
}

impl Proxy {
    pub(super) async fn start(server: Place, mut random: fastrand::Rng) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let place: SocketAddr = listener.local_addr()?;
        let cuts = Arc::new(AtomicU64::new(0));
        let counted = cuts.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let life = Duration::from_millis(random.u64(LIFE));
                tokio::spawn(pass(client, address_of(&server), life, counted.clone()));
            }
        });
        Ok(Self { place: Arc::new(Mutex::new(place)), cuts })
    }

    /// Where it listens.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    pub(super) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, life: Duration, cuts: Arc<AtomicU64>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    if timeout(life, copy_bidirectional(&mut client, &mut server)).await.is_err() {
        cuts.fetch_add(1, Ordering::Relaxed);
    }
}
