use partykit_runtime_tokio::Runtime;

use crate::{
    support::{eventually, serve},
    witness::{Echo, Witness},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_06_slow_consumer() {
    let site = serve(Runtime::builder().party::<Echo>("echo")).await;
    let slow_clients = || site.handle.stats().parties["echo"].slow_clients;
    let mut witness = Witness::of(&site).await;
    let deaf = site.connect("/parties/echo/a").await;
    let mut talker = site.connect("/parties/echo/a").await;
    let attack = async {
        // More than fits into what the kernel buffers for the one and what we queue for it.
        for _ in 0..1000 {
            talker.send_bytes(vec![0; 512 << 10]).await;
            witness.take_bytes().await;
            if slow_clients() > 0 {
                break;
            }
            witness.echo_ten().await;
        }
    };
    attack.await;
    eventually(|| slow_clients() == 1).await;
    talker.close().await;
    drop(deaf);
    witness.is_alone().await;
    assert_eq!(slow_clients(), 1, "nobody else was too slow");
}
